import re
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from softmax_bench.implementations import FloatArray
from softmax_bench.implementations.softmax import vectorized
from softmax_bench.operations import oracle, precision
from softmax_bench.operations.cases import DTYPES, Case, Inputs, make_inputs
from softmax_bench.operations.oracle import Reference, high_precision_vjp, judge, make_reference, sample_rows
from softmax_bench.operations.precision import Rounded

SEED = 11


def inputs_of(batch: int = 6, features: int = 40, dtype: str = "float64", logits: str = "normal") -> Inputs:
    return make_inputs(Case("softmax", "vectorized", batch, features, dtype, logits), SEED)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("logits", ["normal", "peaked", "masked"])
def test_high_precision_agrees_with_rational_numbers(dtype: str, logits: str) -> None:
    inputs = inputs_of(4, 50, dtype, logits)
    wide = np.float64 if dtype == "float32" else np.longdouble
    expected, remainder, unit = high_precision_vjp(inputs.probs, inputs.grad_output, wide)
    exact, exact_remainder, _ = high_precision_vjp(inputs.probs, inputs.grad_output, Fraction)
    error = np.abs((expected - exact) + (remainder - exact_remainder)) / unit
    assert error.max() < 0.02


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (lambda p, g: p * (1 - p) * g, "ulp of its terms"),
        (lambda p, g: -vectorized(p, g), "ulp of its terms"),
        (lambda p, g: vectorized(p, g) / len(p), "ulp of its terms"),
        (lambda p, g: vectorized(p, g) * (1 + 1e-9), "ulp of its terms"),
        (lambda p, g: np.where(p == p.max(), np.nan, vectorized(p, g)), "got nan"),
        (lambda p, g: vectorized(p, g)[0], r"returned shape \(40,\), expected \(6, 40\)"),
        (lambda p, g: vectorized(p, g).astype(np.float32), "returned dtype float32, expected float64"),
        (lambda p, g: vectorized(p, g).tolist(), "returned list, expected an array"),
        (lambda p, g: None, "returned NoneType"),
    ],
    ids=["diagonal", "sign", "batch mean", "ninth digit", "nan", "shape", "dtype", "list", "none"],
)
def test_a_wrong_result_is_reported(mistake: Callable[[FloatArray, FloatArray], object], said: str) -> None:
    inputs = inputs_of()
    verdict = judge(mistake(inputs.probs, inputs.grad_output), make_reference(inputs, SEED))
    assert not verdict.right
    assert re.search(said, verdict.reason)


def test_the_element_that_is_wrong_is_named() -> None:
    inputs = inputs_of()
    result = vectorized(inputs.probs, inputs.grad_output)
    result[4, 17] += 1e-6
    verdict = judge(result, make_reference(inputs, SEED))
    assert "at [4, 17]" in verdict.reason
    assert verdict.max_error_ulp > 1e6


def test_central_differences_catch_a_wrong_formula_in_the_oracle_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def diagonal_only(probs: FloatArray, grad_output: FloatArray, wide: object) -> Rounded:
        expected: FloatArray = probs * (1 - probs) * grad_output
        return Rounded(expected, np.zeros_like(expected), np.full_like(expected, 1e-16))

    monkeypatch.setattr(oracle, "high_precision_vjp", diagonal_only)
    inputs = inputs_of()
    verdict = judge(inputs.probs * (1 - inputs.probs) * inputs.grad_output, make_reference(inputs, SEED))
    assert not verdict.right
    assert "central differences" in verdict.reason


def test_autograd_is_a_witness_if_pytorch_is_installed() -> None:
    pytest.importorskip("torch")
    inputs = inputs_of()
    reference = make_reference(inputs, SEED)
    assert reference.autograd is not None
    np.testing.assert_allclose(reference.autograd, vectorized(inputs.probs, inputs.grad_output), atol=1e-15)
    misled = Reference(**{**vars(reference), "autograd": reference.autograd + 1e-3})
    verdict = judge(vectorized(inputs.probs, inputs.grad_output), misled)
    assert "autograd" in verdict.reason


def test_without_a_wider_float_a_sample_of_rows_is_judged_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "WIDER_FLOAT_EXISTS", False)
    monkeypatch.setattr(oracle, "EXACT_ITEMS", 120)
    inputs = inputs_of(9, 40)
    reference = make_reference(inputs, SEED)
    result = vectorized(inputs.probs, inputs.grad_output)
    assert judge(result, reference).right
    result[8, 0] += 1e-9  # the last row is always in the sample
    assert "at [8, 0]" in judge(result, reference).reason


def test_sampled_rows_hold_the_first_and_the_last() -> None:
    rows = sample_rows(1000, 4096)
    assert rows[0] == 0
    assert rows[-1] == 999
    assert len(rows) == 4
    assert len(sample_rows(0, 10)) == 0


def test_an_empty_batch_is_right() -> None:
    inputs = inputs_of(0, 5)
    assert judge(vectorized(inputs.probs, inputs.grad_output), make_reference(inputs, SEED)).right
