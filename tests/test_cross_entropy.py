import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from softmax_bench.implementations import registered
from softmax_bench.implementations.cross_entropy import BACKWARD, BOTH, FORWARD
from softmax_bench.operations import operations
from softmax_bench.operations.cases import Case
from softmax_bench.operations.cross_entropy import LossInputs, with_labels
from softmax_bench.storage.frames import to_frame
from softmax_bench.storage.results import load_rows, load_run

from tests.conftest import SIZES, UNTIMED, SoftmaxBench

NAMES = ("one_node", "one_node_integer_targets", "two_nodes_vectorized", "two_nodes_jacobian", "log_softmax")
ONE_HOT = [name for name in NAMES if name != "one_node_integer_targets"]


def inputs_of(batch: int = 4, features: int = 6, logits: str = "normal") -> LossInputs:
    inputs: LossInputs = operations()[BOTH].make_inputs(Case(BOTH, "one_node", batch, features, "float64", logits), 3)
    return inputs


def test_a_stored_run_shows_a_renamed_implementation_under_its_name_of_today(
    reference_run: Path, tmp_path: Path
) -> None:
    for file in ("cases.csv", "run.json"):
        text = (reference_run / file).read_text(encoding="utf-8")
        (tmp_path / file).write_text(text.replace("one_node", "fused"), encoding="utf-8")
    of_rows = {(row.operation, row.implementation) for row in load_rows(tmp_path)}
    of_run = {(spec["operation"], spec["name"]) for spec in load_run(tmp_path).implementations}
    for found in (of_rows, of_run):
        for operation in (BOTH, FORWARD, BACKWARD):
            assert {name for its_operation, name in found if its_operation == operation} == set(NAMES)
        assert ("softmax", "fused") in found  # the compiled kernel keeps its name


def verdict_of(operation: str, result: object, inputs: LossInputs) -> Any:
    return operations()[operation].judge(result, operations()[operation].make_reference(inputs, 3))


def test_all_five_come_as_forward_as_backward_and_as_both() -> None:
    for operation in (BOTH, FORWARD, BACKWARD):
        assert tuple(name for its_operation, name in registered() if its_operation == operation) == NAMES


def test_one_node_and_two_nodes_agree_at_moderate_logits() -> None:
    inputs = inputs_of(32, 10)
    results = {name: registered()[BOTH, name].bind(inputs)() for name in NAMES}
    for loss, grad_logits in results.values():
        assert loss == pytest.approx(results["one_node"][0], rel=1e-14)
        np.testing.assert_allclose(grad_logits, results["one_node"][1], rtol=1e-12, atol=1e-16)


def test_the_gradient_is_the_homeworks_formula() -> None:
    inputs = inputs_of()
    _, grad_logits = registered()[BOTH, "one_node"].bind(inputs)()
    np.testing.assert_allclose(grad_logits, (inputs.probs - inputs.targets) / 4, rtol=1e-14)


def test_targets_may_be_any_rows_that_sum_to_1() -> None:
    inputs = inputs_of()
    smoothed = dataclasses.replace(inputs, targets=0.9 * inputs.targets + 0.1 / 6)
    losses = {name: registered()[BOTH, name].bind(smoothed)() for name in ONE_HOT}
    expected = -(smoothed.targets * inputs.log_probs).sum() / 4
    for loss, grad_logits in losses.values():
        assert loss == pytest.approx(expected)
        np.testing.assert_allclose(grad_logits, (inputs.probs - smoothed.targets) / 4, atol=1e-15)


@pytest.mark.parametrize("name", ["one_node", "one_node_integer_targets", "log_softmax"])
def test_one_node_is_exact_where_the_labels_probability_is_zero_and_two_nodes_are_not(name: str) -> None:
    logits = np.array([[0.0, -2000.0, 3.0], [1.0, 2.0, 3.0]])
    probs = np.array([[0.04742587317756678, 0.0, 0.9525741268224334], [0.09003057, 0.24472847, 0.66524096]])
    inputs = with_labels(logits, probs, np.array([1, 0]))
    assert verdict_of(BOTH, registered()[BOTH, name].bind(inputs)(), inputs).right
    with np.errstate(all="ignore"):
        verdict = verdict_of(BOTH, registered()[BOTH, "two_nodes_vectorized"].bind(inputs)(), inputs)
    assert not verdict.right


@pytest.mark.parametrize("name", NAMES)
def test_masked_logits_give_a_finite_loss_where_nothing_is_divided_by_them(name: str) -> None:
    inputs = inputs_of(8, 12, "masked")
    spec = registered()[BOTH, name]
    if spec.divides_by_probs:
        with np.errstate(all="ignore"):
            assert np.isnan(spec.bind(inputs)()[1]).any()
    else:
        assert np.isfinite(spec.bind(inputs)()[0])


def bad_inputs() -> list[tuple[str, LossInputs, str]]:
    good = inputs_of()
    labels, targets, nan = good.labels.copy(), good.targets.copy(), good.logits.copy()
    labels[2] = 6
    targets[1] = 0.3
    nan[3, 4] = np.nan
    negative = good.labels.copy()
    negative[0] = -1
    replaced = dataclasses.replace
    return [
        ("labels", replaced(good, labels=labels), "labels: 6 in row 2, and there are features 0 to 5"),
        ("labels", replaced(good, labels=negative), "labels: -1 in row 0, and there are features 0 to 5"),
        ("labels", replaced(good, labels=good.labels[:3]), "labels of shape (3,) for (4, 6): must be [batch]"),
        ("labels", replaced(good, labels=good.labels.astype(float)), "labels are float64, and must be integers"),
        ("labels", replaced(good, logits=nan), "logits: NaN in row 3, column 4"),
        ("targets", replaced(good, targets=targets), "targets: row 1 sums to 1.8, and one-hot rows sum to 1"),
        ("targets", replaced(good, targets=good.targets[:, :5]), "targets of shape (4, 5) for (4, 6): both must be"),
        ("targets", replaced(good, targets=good.targets[0]), "targets of shape (6,) for (4, 6): both must be"),
        ("targets", replaced(good, logits=nan), "logits: NaN in row 3, column 4"),
    ]


@pytest.mark.parametrize("operation", [BOTH, FORWARD])
@pytest.mark.parametrize(("takes", "inputs", "said"), bad_inputs(), ids=lambda value: str(value)[:30])
def test_bad_input_is_reported_in_one_line(operation: str, takes: str, inputs: LossInputs, said: str) -> None:
    for name in NAMES:
        spec = registered()[operation, name]
        if takes in spec.arguments:
            with pytest.raises(ValueError, match="labels|targets|logits") as caught, np.errstate(all="ignore"):
                spec.bind(inputs)()
            assert said in str(caught.value)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("operation", "change", "said"),
    [
        (BOTH, lambda loss, grad: (2 * loss, grad), "loss wrong by"),
        (BOTH, lambda loss, grad: (loss, 2 * grad), "ulp of its terms"),
        (BOTH, lambda loss, grad: (np.nan, grad), "loss wrong by"),
        (BOTH, lambda loss, grad: grad, "returned ndarray, expected (loss, grad_logits)"),
        (BOTH, lambda loss, grad: (np.full(4, loss), grad), "loss is ndarray, expected one float"),
        (FORWARD, lambda loss, grad: (1.001 * loss, grad), "loss wrong by"),
        (BACKWARD, lambda loss, grad: grad * len(grad), "ulp of its terms"),
        (BACKWARD, lambda loss, grad: -grad, "ulp of its terms"),
    ],
)
def test_a_wrong_result_is_reported(operation: str, change: Any, said: str) -> None:
    inputs = inputs_of()
    verdict = verdict_of(operation, change(*registered()[BOTH, "one_node"].bind(inputs)()), inputs)
    assert not verdict.right
    assert said in verdict.reason


def test_labels_are_drawn_from_the_probabilities() -> None:
    inputs = inputs_of(4000, 3)
    counted = np.bincount(inputs.labels, minlength=3) / 4000
    np.testing.assert_allclose(counted, inputs.probs.mean(axis=0), atol=0.03)
    assert (inputs_of(512, 64, "masked").probs[np.arange(512), inputs_of(512, 64, "masked").labels] > 0).all()


def test_the_sweep_measures_the_loss_and_leaves_out_divisions_by_zero(
    softmax_bench: SoftmaxBench, tmp_path: Path
) -> None:
    chosen = [f"--operation={BOTH}", f"--operation={BACKWARD}", "--logits=normal", "--logits=masked"]
    done = softmax_bench("run", f"--results={tmp_path}", "--run-id=loss", *SIZES, *chosen, *UNTIMED)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "softmax and cross-entropy, backward" in done.stdout
    assert "article" not in done.stdout
    rows = load_rows(tmp_path / "loss")
    assert len(rows) == 2 * 2 * 2 * len(NAMES)
    for row in rows:
        divides = row.implementation.startswith("two_nodes") and row.logits == "masked"
        assert row.status == ("skipped" if divides else "measured"), row.reason
        assert row.reason.startswith("divides by probabilities, and ") == divides
    frame = to_frame(rows).query("implementation == 'one_node' and operation == @BACKWARD and logits == 'normal'")
    assert frame["memory_ratio"].max() > 2  # at 4 × 16 the result comes from NumPy's cache: no peak, no ratio
