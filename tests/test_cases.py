import os

import numpy as np
import pytest
from softmax_bench.errors import UserError
from softmax_bench.operations import operations
from softmax_bench.operations.cases import PEAKED_STD, Case, known_as, make_inputs
from softmax_bench.sweep.selection import GRIDS, Selection


def case_of(logits: str, dtype: str = "float64", batch: int = 64, features: int = 512) -> Case:
    return Case("softmax", "vectorized", batch, features, dtype, logits)


@pytest.mark.parametrize("grid", GRIDS)
def test_every_grid_holds_the_articles_case(grid: str) -> None:
    cases = Selection(grid=grid).cases()
    for name in ("explicit_jacobian", "vectorized"):
        assert Case("softmax", name, 32, 512, "float64", "uniform") in cases
    assert len(set(map(str, cases))) == len(cases)


def test_default_grid_is_the_product_of_its_axes_and_the_articles_case() -> None:
    softmax = Selection(operation=("softmax",)).cases()
    competitors = {(case.implementation, case.threads) for case in softmax}
    single = [name for name, threads in competitors if threads == 1]
    # Several threads have the 10 shapes of half a mebibyte and more, and the article's.
    assert len(softmax) == (5 * 6 + 1 + 2) * len(single) + (10 + 1) * (len(competitors) - len(single))
    assert sorted({case.array_bytes for case in softmax if case.threads > 1})[:2] == [32 * 512 * 8, 8 * 8192 * 8]
    assert {threads for name, threads in competitors if name == "vectorized"} == {1}
    assert {threads for name, threads in competitors if name == "row_blocks_threads"} == {1, os.cpu_count()}
    loss = Selection(operation=("softmax_cross_entropy",)).cases()
    assert {case.batch for case in loss} == {32}
    assert len(loss) == 5 * len({case.implementation for case in loss})


def test_who_asks_for_threads_or_shapes_gets_them_for_small_arrays_too() -> None:
    assert {case.array_bytes for case in Selection(threads=(2,), batch=(1,), features=(10,)).cases()} == {80}
    chosen = Selection(implementation=("row_blocks_threads",)).cases()
    assert {case.threads for case in chosen if case.features == 10} == {1, os.cpu_count()}


def test_case_id() -> None:
    case = Case("softmax", "explicit_jacobian", 32, 512, "float64", "normal")
    assert str(case) == "softmax-explicit_jacobian-B32-N512-float64-normal"
    assert str(Case("softmax", "vectorized", 1, 2, "float32", "peaked", 2)).endswith("-float32-peaked-T2")


def test_a_case_knows_its_bytes() -> None:
    double, single = (Case("softmax", "vectorized", 3, 5, dtype, "normal") for dtype in ("float64", "float32"))
    assert (double.itemsize, double.array_bytes, double.peak_slack_bytes) == (8, 120, 0)
    assert (single.itemsize, single.array_bytes, single.peak_slack_bytes) == (4, 60, 0)
    threaded = Case("softmax", "row_blocks_threads", 3, 5, "float32", "normal", threads=3)
    assert threaded.peak_slack_bytes == 2 * 8192 * 4  # a buffer of NumPy's for each further thread


def test_an_own_implementation_is_known_without_its_folders() -> None:
    assert known_as("some/folder/mine.py:backward") == "mine.py:backward"
    assert known_as("vectorized") == "vectorized"


@pytest.mark.parametrize("grid", GRIDS)
def test_small_shapes_come_first(grid: str) -> None:
    cases = Selection(grid=grid).cases()
    assert {case.operation for case in cases} == set(operations())
    for operation in operations():
        items = [case.batch * case.features for case in cases if case.operation == operation]
        assert items == sorted(items)
        assert items[0] < items[-1]


def test_options_replace_whole_axes() -> None:
    cases = Selection(implementation=("row_loop",), batch=(3, 5), features=(7,), dtype=("float32",)).cases()
    assert [(case.batch, case.features, case.dtype) for case in cases] == [(3, 7, "float32"), (5, 7, "float32")]
    assert {case.implementation for case in cases} == {"row_loop"}


def test_threads_multiply_the_cases() -> None:
    cases = Selection(implementation=("vectorized",), batch=(3,), features=(7,), threads=(1, 2)).cases()
    assert [case.threads for case in cases] == [1, 2]


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        (Selection(implementation=("fast",)), "--implementation fast: unknown; one of explicit_jacobian,"),
        (Selection(batch=(-3,)), "--batch -3: must be at least 1"),
        (Selection(features=(0,)), "--features 0: must be at least 1"),
        (Selection(threads=(0,)), "--threads 0: must be at least 1"),
        (Selection(dtype=("float16",)), "--dtype float16: unknown; one of float32, float64"),
        (Selection(logits=("spiky",)), "--logits spiky: unknown"),
        (Selection(operation=("relu",)), "--operation relu: unknown"),
        (Selection(grid="huge"), "--grid huge: unknown; one of quick, default, full"),
    ],
)
def test_bad_selection_is_reported_in_one_line(selection: Selection, said: str) -> None:
    with pytest.raises(UserError) as caught:
        selection.cases()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_inputs_come_from_seed_shape_and_distribution_alone() -> None:
    first, again = make_inputs(case_of("normal"), 1), make_inputs(case_of("normal"), 1)
    np.testing.assert_array_equal(first.logits, again.logits)
    np.testing.assert_array_equal(first.grad_output, again.grad_output)
    assert not np.array_equal(first.logits, make_inputs(case_of("normal"), 2).logits)
    assert not np.array_equal(first.logits, make_inputs(case_of("uniform"), 1).logits)


@pytest.mark.parametrize("logits", ["normal", "uniform", "peaked", "masked"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_probabilities_have_the_dtype_of_their_case_and_sum_to_one(logits: str, dtype: str) -> None:
    inputs = make_inputs(case_of(logits, dtype), 3)
    for array in (inputs.logits, inputs.probs, inputs.grad_output, inputs.out):
        assert array.dtype == dtype
        assert array.shape == (64, 512)
    np.testing.assert_allclose(inputs.probs.sum(axis=1), 1.0, rtol=1e-5)
    assert len(np.unique(inputs.grad_output)) > 0.99 * inputs.grad_output.size


@pytest.mark.parametrize("dtype", PEAKED_STD)
def test_peaked_logits_give_subnormal_probabilities(dtype: str) -> None:
    probs = make_inputs(case_of("peaked", dtype), 3).probs
    subnormal = (probs > 0) & (probs < np.finfo(dtype).tiny)
    assert 0.03 < subnormal.mean() < 0.3


def test_half_of_masked_logits_give_zeros() -> None:
    probs = make_inputs(case_of("masked"), 3).probs
    assert 0.4 < (probs == 0).mean() < 0.6


@pytest.mark.parametrize("features", [1, 2, 3])
def test_no_row_of_masked_logits_is_empty(features: int) -> None:
    inputs = make_inputs(case_of("masked", features=features), 3)  # so few that half of the rows could be
    assert np.isfinite(inputs.probs).all()
    assert np.isfinite(inputs.logits).any(axis=1).all()
    assert np.isneginf(inputs.logits).any() == (features > 1)
