from pathlib import Path

import pytest
from softmax_bench.loading import load
from softmax_bench.verification.calling.convention import Options
from softmax_bench.verification.process.subject import Local
from softmax_bench.verification.verdict import Report, examine

FILE = Path(__file__).parent / "targets" / "models.py"
MODELS: tuple[tuple[str, str, str, str], ...] = load(f"{FILE}:MODELS")[0]


def report_on(name: str) -> Report:
    return examine(Local.load(f"{FILE}:{name}"), name, Options())


@pytest.mark.parametrize(("name", "words", "mistake", "said"), MODELS, ids=[model[0] for model in MODELS])
def test_a_model_is_judged_by_the_gradient_of_its_softmax(name: str, words: str, mistake: str, said: str) -> None:
    report = report_on(name)
    assert report.words == words, report
    assert (report.diagnosis.name if report.diagnosis else "") == mistake
    assert said in "\n".join((report.called_as, *report.limits, *report.problems, *report.notes))
