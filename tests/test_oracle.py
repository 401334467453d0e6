import dataclasses
import re
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from softmax_bench.implementations import FloatArray
from softmax_bench.implementations.softmax import vectorized
from softmax_bench.operations import oracle, precision
from softmax_bench.operations.cases import DTYPES, Case, Inputs, make_inputs
from softmax_bench.operations.oracle import Reference, Verdict, high_precision_vjp, judge, make_reference, sample_rows
from softmax_bench.operations.precision import Rounded, row_chunks

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
    np.testing.assert_array_equal(np.arange(9)[reference.rows], [0, 4, 8])  # as many as have 120 items
    exact, remainder, _ = high_precision_vjp(inputs.probs, inputs.grad_output, Fraction)
    np.testing.assert_array_equal(reference.expected, exact[[0, 4, 8]])
    np.testing.assert_array_equal(reference.remainder, remainder[[0, 4, 8]])
    result = vectorized(inputs.probs, inputs.grad_output)
    assert judge(result, reference).right
    result[3, 0] += 1e-9  # too little for the witnesses, which look at every row
    assert judge(result, reference).right
    result[3, 0] += 1e-6
    assert "central differences of the forward in row 3" in judge(result, reference).reason
    result[8, 0] += 1e-9  # the last row is always in the sample
    assert "at [8, 0]" in judge(result, reference).reason


@pytest.mark.skipif(not precision.WIDER_FLOAT_EXISTS, reason="this machine has no float wider than float64")
def test_with_a_wider_float_every_row_is_judged_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "EXACT_ITEMS", 120)  # of rows that are judged with rational numbers
    inputs = inputs_of(9, 40)
    reference = make_reference(inputs, SEED)
    assert reference.expected.shape == (9, 40)
    exact, remainder, _ = high_precision_vjp(inputs.probs, inputs.grad_output, Fraction)
    error = np.abs((reference.expected - exact) + (reference.remainder - remainder))
    assert (error / reference.unit).max() < 0.02
    assert np.abs(reference.remainder).max() > 0.2 * reference.unit.min()  # what float64 itself cannot say


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_reference_is_the_same_in_chunks_of_rows(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = inputs_of(7, 40, dtype)
    whole = make_reference(inputs, SEED)
    monkeypatch.setattr(precision, "CHUNK_ITEMS", 80)
    assert [range(7)[rows] for rows in row_chunks((7, 40))] == [range(2), range(2, 4), range(4, 6), range(6, 7)]
    chunked = make_reference(inputs, SEED)
    for name in ("expected", "remainder", "unit", "slope"):
        np.testing.assert_array_equal(getattr(chunked, name), getattr(whole, name))


def test_a_chunk_is_at_least_a_row() -> None:
    assert list(row_chunks((2, precision.CHUNK_ITEMS + 1))) == [slice(0, 1), slice(1, 2)]
    assert [range(3)[rows] for rows in row_chunks((3, 0))] == [range(3)]


def test_the_error_is_counted_in_ulp_of_the_terms() -> None:
    inputs = inputs_of(1, 4)
    inputs.probs[:] = [[0.5, 0.25, 0.125, 0.125]]
    inputs.grad_output[:] = [[1.0, -2.0, 4.0, 0.0]]
    _, _, unit = high_precision_vjp(inputs.probs, inputs.grad_output, Fraction)
    terms = inputs.probs * (np.abs(inputs.grad_output) + 1.5)  # 1.5 = 0.5 * 1 + 0.25 * 2 + 0.125 * 4
    np.testing.assert_array_equal(unit, np.finfo(np.float64).eps * terms)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_error_is_the_distance_from_the_exact_gradient(dtype: str) -> None:
    inputs = inputs_of(1, 40, dtype)
    reference = make_reference(inputs, SEED, ask_pytorch=False)
    p, g = ([Fraction(float(number)) for number in array[0]] for array in (inputs.probs, inputs.grad_output))
    dot = sum(map(Fraction.__mul__, p, g))
    exact = [p[j] * (g[j] - dot) for j in range(40)]
    for towards in (-np.inf, np.inf):
        result = np.nextafter(reference.expected, inputs.probs.dtype.type(towards))
        errors = [
            abs(Fraction(float(result[0, j])) - exact[j]) / Fraction(float(reference.unit[0, j])) for j in range(40)
        ]
        assert judge(result, reference).max_error_ulp == pytest.approx(float(max(errors)), rel=1e-3)


@pytest.mark.parametrize(("ulp", "right"), [(250.0, True), (262.0, False)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_error_of_256_ulp_of_its_terms_is_allowed(dtype: str, ulp: float, *, right: bool) -> None:
    inputs = inputs_of(dtype=dtype)
    reference = make_reference(inputs, SEED, ask_pytorch=False)
    result = vectorized(inputs.probs, inputs.grad_output)
    result[2, 3] = reference.expected[2, 3] + ulp * reference.unit[2, 3]
    verdict = judge(result, reference)
    assert verdict.max_error_ulp == pytest.approx(ulp, rel=0.02)
    assert ("(allowed 256)" in verdict.reason) is not right
    assert verdict.right is right


@pytest.mark.parametrize(("dtype", "share"), [("float32", 1e-5), ("float64", 1e-8)])
def test_witnesses_allow_a_share_of_the_row_s_largest_gradient(dtype: str, share: float) -> None:
    inputs = inputs_of(dtype=dtype)
    reference = make_reference(inputs, SEED, ask_pytorch=False)
    np.testing.assert_array_equal(reference.grad_scale, np.abs(inputs.grad_output).max(axis=1))
    coarse = dataclasses.replace(reference, unit=np.full_like(reference.unit, np.inf))  # the first check passes all
    for off, right in ((0.7, True), (-0.7, True), (1.5, False), (-1.5, False)):
        shift = off * share * reference.grad_scale[4]
        result = vectorized(inputs.probs, inputs.grad_output)
        result[4, 1] += shift - (result[4] @ reference.direction[4] - reference.slope[4]) * reference.direction[4, 1]
        verdict = judge(result, coarse)
        assert verdict.right is right, (off, verdict)
        assert verdict.right or "central differences of the forward in row 4" in verdict.reason


def test_central_differences_are_the_slope_of_the_forward() -> None:
    inputs = inputs_of()
    reference = make_reference(inputs, SEED)
    assert set(np.unique(reference.direction)) == {-1, 1}
    along = (vectorized(inputs.probs, inputs.grad_output) * reference.direction).sum(axis=1)
    np.testing.assert_allclose(reference.slope, along, atol=1e-9)
    other = make_reference(inputs, SEED + 1)
    assert (other.direction != reference.direction).any()


def test_what_flushes_subnormals_may_lose_what_is_below_the_smallest_normal_number() -> None:
    inputs = inputs_of(1, 3)
    tiny = float(np.finfo(np.float64).smallest_normal)
    inputs.logits[:] = [[0.0, -709.0, -709.0]]
    inputs.probs[:] = [[1.0, 0.5 * tiny, 0.5 * tiny]]
    inputs.grad_output[:] = [[0.0, 1.0, 0.0]]
    reference = make_reference(inputs, SEED, ask_pytorch=False)
    flushed = np.zeros((1, 3))
    assert not judge(flushed, reference).right
    assert judge(flushed, reference, flushes_subnormals=True) == Verdict(True, 0.0)
    for times, right in ((2.9, True), (3.5, False)):  # 1 + 2 max |g| times the smallest normal number
        off = np.array([[0.0, 0.5 * tiny + times * tiny, 0.0]])
        assert judge(off, reference, flushes_subnormals=True).right is right


def test_sampled_rows_hold_the_first_and_the_last() -> None:
    rows = sample_rows(1000, 4096)
    assert rows[0] == 0
    assert rows[-1] == 999
    assert len(rows) == 4
    assert len(sample_rows(0, 10)) == 0


def test_an_empty_batch_is_right() -> None:
    inputs = inputs_of(0, 5)
    assert judge(vectorized(inputs.probs, inputs.grad_output), make_reference(inputs, SEED)).right
