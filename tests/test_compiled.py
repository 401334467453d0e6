"""The compiled implementations: right at every shape and thread count, small, and as exact as the NumPy ones."""

import gc

import numpy as np
import pytest
from softmax_bench.implementations import Implementation, registered
from softmax_bench.implementations._memory import LEAST_BYTES, ReusedMemory
from softmax_bench.instruments.memory import read_peak
from softmax_bench.operations.cases import DISTRIBUTIONS, DTYPES, Case, Inputs, make_inputs
from softmax_bench.operations.oracle import judge, make_reference

COMPILED = [spec for spec in registered().values() if spec.library == "numba"]
SMALL_SHAPES = [(1, 1), (1, 10), (5, 2), (3, 513)]
SHARED_SHAPES = [(200, 501), (5, 20001), (9, 5000), (1, 131072), (3, 65537)]  # each way to share work among threads


def inputs_of(batch: int, features: int, dtype: str = "float64", logits: str = "normal") -> Inputs:
    return make_inputs(Case("softmax", "vectorized", batch, features, dtype, logits), 7)


@pytest.fixture(autouse=True)
def numba(request: pytest.FixtureRequest) -> None:
    if "spec" in request.fixturenames:
        pytest.importorskip("numba")


@pytest.mark.parametrize("spec", COMPILED, ids=lambda spec: spec.name)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("logits", DISTRIBUTIONS)
def test_right_at_every_shape_and_inputs_left_alone(spec: Implementation, dtype: str, logits: str) -> None:
    for batch, features in SMALL_SHAPES + SHARED_SHAPES:
        inputs = inputs_of(batch, features, dtype, logits)
        probs, grad_output = inputs.probs.copy(), inputs.grad_output.copy()
        reference = make_reference(inputs, 7, ask_pytorch=False)
        for threads in (1, 2) if spec.runs_threads else (1,):
            result = spec.bind(inputs, threads)()
            verdict = judge(result, reference, flushes_subnormals=spec.flushes_subnormals)
            assert verdict.right, f"{batch} x {features}, {threads} threads: {verdict.reason}"
            assert (result is inputs.out) == spec.writes_out
        np.testing.assert_array_equal(inputs.probs, probs)
        np.testing.assert_array_equal(inputs.grad_output, grad_output)


@pytest.mark.parametrize("spec", COMPILED, ids=lambda spec: spec.name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_long_row_is_summed_as_exactly_as_numpy_does(spec: Implementation, dtype: str) -> None:
    inputs = inputs_of(8, 131072, dtype)
    reference = make_reference(inputs, 7, ask_pytorch=False)
    of_numpy = judge(registered()["softmax", "vectorized"].bind(inputs)(), reference).max_error_ulp
    assert judge(spec.bind(inputs, 2)(), reference).max_error_ulp <= of_numpy + 0.5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("batch", "features"), [(1, 3), (1, 513), (2, 4096), (7, 5001), (3, 131072)])
@pytest.mark.parametrize("past_caches", [False, True])
def test_rows_that_are_streamed_are_right_and_as_exact(
    batch: int, features: int, dtype: str, *, past_caches: bool
) -> None:
    pytest.importorskip("numba")
    from softmax_bench.implementations import _kernels  # noqa: PLC0415 - an extra

    inputs = inputs_of(batch, features, dtype)
    reference = make_reference(inputs, 7, ask_pytorch=False)
    of_numpy = judge(registered()["softmax", "vectorized"].bind(inputs)(), reference)
    around = np.full(inputs.out.size + 2, np.nan, dtype)
    out = around[1:-1].reshape(batch, features)  # begins between two cache lines
    _kernels._streamed(inputs.probs, inputs.grad_output, out, past_caches)
    assert np.isnan(around[[0, -1]]).all()
    streamed = judge(out, reference)
    assert streamed.right, streamed.reason
    assert streamed.max_error_ulp <= of_numpy.max_error_ulp + 0.5


def test_a_large_array_whose_items_lie_across_cache_lines_is_filled_as_well() -> None:
    pytest.importorskip("numba")
    from softmax_bench.implementations import _kernels  # noqa: PLC0415 - an extra

    inputs = inputs_of(704, 4096)  # 66 MiB in all
    out = np.full(inputs.out.nbytes + 4, 255, dtype=np.uint8)[4:].view(np.float64).reshape(704, 4096)
    _kernels.fused(inputs.probs, inputs.grad_output, out)
    np.testing.assert_allclose(out, registered()["softmax", "vectorized"].bind(inputs)(), rtol=1e-10, atol=1e-18)


@pytest.mark.parametrize("spec", COMPILED, ids=lambda spec: spec.name)
def test_right_where_arrays_are_larger_than_caches(spec: Implementation) -> None:
    inputs = inputs_of(704, 4096)  # 66 MiB in all
    expected = registered()["softmax", "vectorized"].bind(inputs)().copy()
    for threads in (1, 2) if spec.runs_threads else (1,):
        inputs.out[...] = np.nan
        np.testing.assert_allclose(spec.bind(inputs, threads)(), expected, rtol=1e-10, atol=1e-18)


@pytest.mark.parametrize("spec", COMPILED, ids=lambda spec: spec.name)
def test_a_call_takes_no_more_than_its_result_and_64_kib(spec: Implementation) -> None:
    inputs = inputs_of(64, 8192)
    call = spec.bind(inputs, 2)
    call()
    allowed = 0 if spec.writes_out else inputs.probs.nbytes
    assert read_peak(call).peak_bytes <= allowed + (64 << 10)


@pytest.mark.parametrize("spec", [spec for spec in COMPILED if spec.flushes_subnormals], ids=lambda spec: spec.name)
def test_flushing_gives_zero_for_subnormal_numbers_and_ends_with_the_call(spec: Implementation) -> None:
    inputs = inputs_of(32, 512, "float32", "peaked")
    smallest = np.finfo(np.float32).smallest_normal
    exact = registered()["softmax", "vectorized"].bind(inputs)()
    assert ((exact != 0) & (np.abs(exact) < smallest)).sum() > 1000
    result = spec.bind(inputs)()
    assert not ((result != 0) & (np.abs(result) < smallest)).any()
    assert np.multiply(smallest, np.float32(0.5)) > 0  # the processor is as it was
    reference = make_reference(inputs, 7, ask_pytorch=False)
    assert judge(result, reference, flushes_subnormals=True).right
    assert not judge(result, reference).right  # it differs, and counts as wrong unless it is allowed


def test_memory_is_handed_out_again_once_nothing_refers_to_it() -> None:
    memory, like = ReusedMemory(), np.empty((2, LEAST_BYTES // 8))
    first = memory.empty_like(like)
    assert first.shape == like.shape
    assert first.dtype == like.dtype
    first[...] = 1.0
    address = first.ctypes.data
    corner = first[1:, 5:]
    del first
    gc.collect()
    second = memory.empty_like(like)
    second[...] = 2.0
    assert second.ctypes.data != address
    assert (corner == 1.0).all()  # a view keeps the whole array's memory from others
    del corner
    assert memory.empty_like(like).ctypes.data == address


def test_small_arrays_are_left_to_the_allocator() -> None:
    small = ReusedMemory().empty_like(np.empty(10, dtype=np.float32))
    assert small.base is None
    assert small.dtype == np.float32
