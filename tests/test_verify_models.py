from pathlib import Path

import pytest
from softmax_bench.loading import load
from softmax_bench.verification.calling.convention import Options
from softmax_bench.verification.process.subject import Local
from softmax_bench.verification.verdict import examine

TARGETS = Path(__file__).parent / "targets"
Expected = tuple[str, str, str, str]
MODELS: tuple[Expected, ...] = load(f"{TARGETS / 'models.py'}:MODELS")[0]
NETWORKS: tuple[Expected, ...] = load(f"{TARGETS / 'networks.py'}:NETWORKS")[0]
NUMBERS: tuple[Expected, ...] = load(f"{TARGETS / 'number_graphs.py'}:NUMBERS")[0]


def check(file: str, name: str, words: str, mistake: str, said: str) -> None:
    report = examine(Local.load(f"{TARGETS / file}:{name}"), name, Options())
    assert report.words == words, report
    assert (report.diagnosis.name if report.diagnosis else "") == mistake
    assert said in "\n".join((report.called_as, report.thing, *report.limits, *report.problems, *report.notes))


@pytest.mark.parametrize(("name", "words", "mistake", "said"), MODELS, ids=[model[0] for model in MODELS])
def test_a_model_is_judged_by_the_gradient_of_its_softmax(name: str, words: str, mistake: str, said: str) -> None:
    check("models.py", name, words, mistake, said)


@pytest.mark.parametrize(("name", "words", "mistake", "said"), NETWORKS, ids=[each[0] for each in NETWORKS])
def test_a_backward_gets_what_its_forward_left_or_returned(name: str, words: str, mistake: str, said: str) -> None:
    check("networks.py", name, words, mistake, said)


@pytest.mark.parametrize(("name", "words", "mistake", "said"), NUMBERS, ids=[each[0] for each in NUMBERS])
def test_graphs_of_numbers_and_layers_for_tensors_of_elsewhere(name: str, words: str, mistake: str, said: str) -> None:
    check("number_graphs.py", name, words, mistake, said)
