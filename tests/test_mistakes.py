import subprocess
import sys

import numpy as np
import pytest
import softmax_bench
from softmax_bench.implementations import FloatArray, Implementation, registered
from softmax_bench.implementations.cross_entropy import BOTH, FORWARD
from softmax_bench.implementations.softmax import vectorized
from softmax_bench.mistakes import MISTAKES, Mistake


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=lambda mistake: f"{mistake.operation}-{mistake.name}")
def test_each_mistake_is_recognised_as_itself_and_as_no_other(mistake: Mistake) -> None:
    report = softmax_bench.verify(mistake.function, operation=mistake.operation, axis=1, reduction="mean")
    assert report.status == (0 if mistake.is_limit else 1)
    assert bool(report.limits) is mistake.is_limit
    assert report.diagnosis is not None
    assert report.diagnosis.name == mistake.name
    assert report.diagnosis.explanation == mistake.explanation
    assert report.diagnosis.computes == mistake.formula


# Row by row by hand: what the shown formula gives.
WORKED = [
    (
        "softmax",
        "diagonal_only",
        "probs * (1 - probs) * grad_output",
        {"probs": [[0.2, 0.3, 0.5]], "grad_output": [[1.0, 2.0, 3.0]]},
        [[0.2 * 0.8 * 1.0, 0.3 * 0.7 * 2.0, 0.5 * 0.5 * 3.0]],
    ),
    (
        "softmax",
        "dot_product_added",
        "probs * (grad_output + sum(grad_output * probs))",
        {"probs": [[0.2, 0.8], [0.5, 0.5]], "grad_output": [[1.0, 2.0], [4.0, 0.0]]},
        [[0.2 * (1.0 + 1.8), 0.8 * (2.0 + 1.8)], [0.5 * (4.0 + 2.0), 0.5 * (0.0 + 2.0)]],
    ),
    (
        "softmax_cross_entropy",
        "softmax_applied_again",
        "probs * (gradient - sum(gradient * probs)) with gradient = (probs - targets) / batch",
        {"probs": [[0.2, 0.8], [0.5, 0.5]], "targets": [[0.0, 1.0], [1.0, 0.0]]},
        [[0.2 * (0.1 + 0.06), 0.8 * (-0.1 + 0.06)], [0.5 * -0.25, 0.5 * 0.25]],
    ),
]


@pytest.mark.parametrize(("operation", "name", "formula", "inputs", "value"), WORKED, ids=[row[1] for row in WORKED])
def test_the_shown_formula_is_what_is_computed(
    operation: str, name: str, formula: str, inputs: dict[str, list[list[float]]], value: list[list[float]]
) -> None:
    mistake = MISTAKES[operation, name]
    assert mistake.formula == formula
    assert mistake.arguments == tuple(inputs)
    computed = mistake.function(**{array: np.array(rows) for array, rows in inputs.items()})
    np.testing.assert_allclose(computed, value, rtol=1e-14)


# A forward returns a loss, not a gradient.
GRADIENTS = [
    spec
    for spec in registered().values()
    if spec.operation != FORWARD
    and not spec.divides_by_probs
    and spec.library == "numpy"  # others return a call, not a gradient
    and not spec.runs_threads
]


@pytest.mark.parametrize("spec", GRADIENTS, ids=lambda spec: f"{spec.operation}-{spec.name}")
def test_every_implementation_of_the_suite_is_right(spec: Implementation) -> None:
    report = softmax_bench.verify(spec.function)
    assert report.right
    assert report.diagnosis is None
    assert not report.problems
    assert report.max_error_ulp < 16


def test_two_nodes_are_right_but_where_a_probability_is_zero() -> None:
    report = softmax_bench.verify(registered()[BOTH, "two_nodes_vectorized"].function)
    assert report.words == "right, with a limit"
    assert report.diagnosis is None
    assert all("peaked: element [0, 0] is nan" in problem for problem in report.problems)


def test_mistakes_are_never_measured() -> None:
    assert not {mistake.function for mistake in MISTAKES.values()} & {spec.function for spec in registered().values()}


@pytest.mark.parametrize(
    ("factor", "words"),
    [(3.0, "3"), (-0.125, "-0.125")],
)
def test_a_constant_factor_is_named(factor: float, words: str) -> None:
    report = softmax_bench.verify(lambda p, g: factor * p * (g - (g * p).sum(axis=1, keepdims=True)))
    assert report.diagnosis is not None
    assert (report.diagnosis.name, report.diagnosis.factor) == ("scaled", words)


def test_a_known_mistake_times_a_factor_of_the_shape_is_named_with_the_factor() -> None:
    report = softmax_bench.verify(lambda probs, grad_output: probs * (1 - probs) * grad_output / len(probs))
    assert report.diagnosis is not None
    assert report.diagnosis.title == "diagonal only, times 1 / batch"


def test_an_unknown_mistake_is_described_by_what_it_breaks() -> None:
    report = softmax_bench.verify(lambda probs, grad_output: probs**2 * np.tanh(grad_output))
    assert report.status == 1
    assert report.diagnosis is None
    assert any("element [0, 0] is" in problem for problem in report.problems)
    broken = "\n".join(report.broken)
    assert "each row of grad_logits sums to 0" in broken
    assert "does not double when grad_output doubles" in broken


def test_rows_that_influence_each_other_are_reported() -> None:
    report = softmax_bench.verify(
        lambda probs, grad_output: probs * grad_output * np.roll(probs, 1, axis=0) ** 2,
        signature=("probs", "grad_output"),
        axis=1,
    )
    assert any("rows are independent" in problem for problem in report.broken)


def test_the_worked_row_shows_expected_and_given_numbers() -> None:
    report = softmax_bench.verify(lambda probs, grad_output: probs * grad_output)
    assert any("0.2 × (1 - 0.3) = 0.14" in line for line in report.worked)
    assert report.worked[-1].split() == ["yours", "0.2,", "0.6,", "-0.5"]


def test_shapes_for_which_alone_it_is_right_are_reported() -> None:
    def eye_of_batch(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
        jacobian = probs[:, :, None] * (np.eye(len(probs)) - probs[:, None, :])
        grad_logits: FloatArray = np.einsum("bjk,bk->bj", jacobian, grad_output)
        return grad_logits

    report = softmax_bench.verify(eye_of_batch)
    assert report.right_only == "when batch equals features"


def test_the_package_does_no_work_at_import() -> None:
    code = (
        "import softmax_bench, sys; print('numpy' in sys.modules, sorted(softmax_bench.__all__)); softmax_bench.verify"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False ['assert_vjp', 'load_run', 'vectorized', 'verify']"


def test_assert_vjp_passes_what_is_right_and_names_the_mistake_otherwise() -> None:
    softmax_bench.assert_vjp(
        lambda probs, grad_output: probs * (grad_output - (grad_output * probs).sum(1, keepdims=True))
    )
    with pytest.raises(AssertionError, match=r"wrong, diagonal only\n.*Jacobian's diagonal"):
        softmax_bench.assert_vjp(lambda probs, grad_output: probs * (1 - probs) * grad_output)


def test_an_upcast_is_reported_and_not_wrong() -> None:
    def upcasts(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
        return vectorized(probs.astype(np.float64), grad_output.astype(np.float64))

    report = softmax_bench.verify(upcasts)
    assert report.right
    assert any("upcasts" in note for note in report.notes)


@pytest.mark.parametrize(
    "name", ["diagonal_only", "wrong_sign", "divided_by_batch", "scaled", "fused_gradient_averaged"]
)
def test_a_mistake_is_recognised_in_either_order_of_arguments_without_names(name: str) -> None:
    function = MISTAKES["softmax", name].function
    for order in ((0, 1), (1, 0)):
        report = softmax_bench.verify(lambda a, b, order=order: function(*((a, b)[place] for place in order)))
        assert report.diagnosis is not None
        assert report.diagnosis.name == name
