from pathlib import Path

import numpy as np
import pytest
from softmax_bench.errors import UserError
from softmax_bench.loading import load
from softmax_bench.regression.targets import Verifying, verified
from softmax_bench.verification.calling.convention import Options
from softmax_bench.verification.process.isolation import Isolated
from softmax_bench.verification.process.subject import Local
from softmax_bench.verification.verdict import examine, verify

TARGETS = Path(__file__).parent / "targets"
Expected = tuple[str, str, str, str]
MODELS: tuple[Expected, ...] = load(f"{TARGETS / 'models.py'}:MODELS")[0]
NETWORKS: tuple[Expected, ...] = load(f"{TARGETS / 'networks.py'}:NETWORKS")[0]
WHOLE: tuple[tuple[str, str, str], ...] = load(f"{TARGETS / 'whole_networks.py'}:NETWORKS")[0]
HANDED: tuple[tuple[str, str, str], ...] = load(f"{TARGETS / 'handed_parameters.py'}:NETWORKS")[0]
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


@pytest.mark.slow
@pytest.mark.parametrize(("name", "words", "said"), WHOLE, ids=[each[0] for each in WHOLE])
def test_a_whole_network_is_judged_by_all_its_gradients(name: str, words: str, said: str) -> None:
    check("whole_networks.py", name, words, "", said)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "words", "said"), HANDED, ids=[each[0] for each in HANDED])
def test_a_network_is_handed_its_parameters_or_the_gradient_of_its_loss(name: str, words: str, said: str) -> None:
    check("handed_parameters.py", name, words, "", said)


def test_a_network_has_no_cost_and_draws_from_a_state_of_its_own() -> None:
    with Isolated(f"{TARGETS / 'whole_networks.py'}:LayersOfItsOwn") as subject:
        report = examine(subject, "LayersOfItsOwn", Options(), with_cost=True)
    assert (report.words, report.operation, report.cost) == ("right", "network", None)
    before = np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002 - what its authors draw from
    assert verify(load(f"{TARGETS / 'whole_networks.py'}:Letters")[0]).words == "right"
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index] # noqa: NPY002


def test_the_arrays_of_a_module_are_as_before() -> None:
    function, module = load(f"{TARGETS / 'whole_networks.py'}:loss_of_letters")
    before = {name: module[name].copy() for name in ("Wxh", "Whh", "Why", "bh", "by")}
    assert verify(function).words == "right"
    for name, array in before.items():
        np.testing.assert_array_equal(module[name], array)


def test_a_network_is_not_timed() -> None:
    name = f"{TARGETS / 'whole_networks.py'}:LayersOfItsOwn"
    with pytest.raises(UserError, match="is a network with .* softmax-bench verify judges it, and nothing times it"):
        verified(name, Verifying())
