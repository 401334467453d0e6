"""The compiled loops behind `compiled`: Numba functions on C-contiguous [B, N] arrays of one dtype.

A row is read twice, for its dot product and for the result. The second time it comes from cache, if probs and
grad_output of a row fit into it (of two rows, if rows are streamed); then 3*B*N*s bytes move. Nothing checks shapes:
all arrays of a call must have the same shape.
"""

import platform
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

# A working set (probs, grad_output and out) of at least this size does not fit into the caches: results go past them.
STREAMED_BYTES = 1 << 26
# A row of probs and grad_output longer than this fills a first-level cache. Two threads that wait for memory then gain
# by reading the next row ahead. Measured: 1.1 times as fast.
LONG_ROW_BYTES = 1 << 15
LINE_BYTES = 64  # of a cache line
DOT_ITEMS = 512  # summed in SIMD lanes; the sums of such chunks are added with compensation
# A thread gets at least this much of probs. Measured: for 128 KiB, one thread is as fast as two that must be woken.
SHARE_BYTES = 1 << 16
SEGMENT_ITEMS = 1 << 16  # longer rows are split if there are fewer of them than threads need
# The lanes of a sum may be added in any order, a product and a sum may be fused, and a zero may change its sign. All
# else is IEEE arithmetic.
LANES = {"reassoc", "contract", "nsz"}
HAS_MXCSR = platform.machine() in ("x86_64", "AMD64")
FLUSH_TO_ZERO = 0x8040  # MXCSR's bits: subnormal results become 0 (0x8000), subnormal operands count as 0 (0x0040)


@numba.njit(fastmath=LANES, error_model="numpy", inline="never")  # type: ignore[untyped-decorator]
def _chunk_dot(probs: Any, grad_output: Any) -> Any:
    total = probs.dtype.type(0)
    for item in range(probs.size):
        total += probs[item] * grad_output[item]
    return total


@numba.njit(error_model="numpy", inline="never")  # type: ignore[untyped-decorator]
def _added(total: Any, lost: Any, chunk: Any) -> Any:
    """One addition of Neumaier's compensated sum: the new sum, and all that rounding has lost so far."""
    added = total + chunk
    if abs(total) >= abs(chunk):
        return added, lost + ((total - added) + chunk)
    return added, lost + ((chunk - added) + total)


@numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]
def _long_dot(probs: Any, grad_output: Any) -> Any:
    """The sum of p[k] g[k] over a long row or a part of one, [n] and [n], in float64.

    A chunk is summed in dozens of lanes, so its error grows with its length over their number. The chunks are added by
    Neumaier's compensated sum, so the length of the row does not add to the error; ``LANES`` would undo the
    compensation, so this is compiled without.
    """
    total, lost = 0.0, 0.0
    for start in range(0, probs.size, DOT_ITEMS):
        part = slice(start, start + DOT_ITEMS)
        total, lost = _added(total, lost, float(_chunk_dot(probs[part], grad_output[part])))
    return total + lost


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _dot(probs: Any, grad_output: Any) -> Any:
    """The sum of p[k] g[k] over a row, in its dtype; a short row is summed in lanes if the caller has ``LANES``."""
    if probs.size > DOT_ITEMS:
        return probs.dtype.type(_long_dot(probs, grad_output))
    total = probs.dtype.type(0)
    for item in range(probs.size):
        total += probs[item] * grad_output[item]
    return total


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _scale(probs: Any, grad_output: Any, dot: Any, out: Any) -> None:
    for item in range(probs.size):
        out[item] = (grad_output[item] - dot) * probs[item]  # p[j] * (g[j] - sum_k g[k] p[k])


@intrinsic  # type: ignore[untyped-decorator]
def _scale_lines(typing_context: Any, probs: Any, grad_output: Any, dot: Any, out: Any) -> Any:
    """Like `_scale`, a cache line at a time and past the caches; ``out`` must consist of whole cache lines.

    An ordinary store first reads the line that it will overwrite. These stores (LLVM's nontemporal ones) do not.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        item_bytes = probs.dtype.bitwidth // 8
        lanes = LINE_BYTES // item_bytes
        line = ir.VectorType(context.get_data_type(probs.dtype), lanes)
        given = ((probs, arguments[0]), (grad_output, arguments[1]), (out, arguments[3]))
        arrays = [context.make_array(kind)(context, builder, value) for kind, value in given]
        starts = [builder.bitcast(array.data, line.as_pointer()) for array in arrays]
        dots = ir.Constant(line, ir.Undefined)
        for lane in range(lanes):
            dots = builder.insert_element(dots, arguments[2], ir.IntType(32)(lane))
        nontemporal = builder.module.add_metadata([ir.IntType(32)(1)])
        lines = builder.udiv(builder.extract_value(arrays[2].shape, 0), ir.IntType(64)(lanes))
        with cgutils.for_range(builder, lines) as loop:
            p, g, place = (builder.gep(start, [loop.index]) for start in starts)
            difference = builder.fsub(builder.load(g, align=item_bytes), dots)
            product = builder.fmul(difference, builder.load(p, align=item_bytes))
            builder.store(product, place, align=LINE_BYTES).set_metadata("nontemporal", nontemporal)
        return context.get_dummy_value()

    return numba.void(probs, grad_output, dot, out), generate


@intrinsic  # type: ignore[untyped-decorator]
def _fence(typing_context: Any) -> Any:
    """Wait until every thread can see the stores past the caches. Only x86 needs it: later stores may overtake them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if HAS_MXCSR:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.sfence"), [])
        return context.get_dummy_value()

    return numba.void(), generate


@numba.njit(error_model="numpy", inline="never")  # type: ignore[untyped-decorator]
def _streamed(probs: Any, grad_output: Any, out: Any, past_caches: Any) -> None:
    """The gradient into ``out``, each row scaled while the next row is read; [B, N] each, B at least 1.

    Memory limits the speed here. Reading a whole row and then writing its result would keep memory busy with only one
    of the two at a time, so they alternate: a chunk of this row is written, then a chunk of the next row is read.

    To be called from compiled code, which inlines it. On its own it counts references to the slices of its arguments
    with locked instructions, which wait for all stores, and is half as fast.
    """
    batch, features = probs.shape
    dot = probs.dtype.type(_long_dot(probs[0], grad_output[0]))
    for row in range(batch):
        p, g, result = probs[row], grad_output[row], out[row]
        following = min(row + 1, batch - 1)  # the last row is summed twice
        next_p, next_g = probs[following], grad_output[following]
        first = last = 0  # out[first:last] consists of whole cache lines
        if past_caches:
            first = min(features, (-result.ctypes.data % LINE_BYTES) // probs.itemsize)
            last = features - (features - first) * probs.itemsize % LINE_BYTES // probs.itemsize
            _scale(p[:first], g[:first], dot, result[:first])
            _scale(p[last:], g[last:], dot, result[last:])
        total, lost = 0.0, 0.0
        for start in range(0, features, DOT_ITEMS):
            stop = start + DOT_ITEMS
            if past_caches:
                begin, end = min(first + start, last), min(first + stop, last)
                _scale_lines(p[begin:end], g[begin:end], dot, result[begin:end])
            else:
                _scale(p[start:stop], g[start:stop], dot, result[start:stop])
            total, lost = _added(total, lost, float(_chunk_dot(next_p[start:stop], next_g[start:stop])))
        dot = probs.dtype.type(total + lost)
    _fence()


@numba.njit(nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def multiply_past_caches(left: Any, right: Any, out: Any, passes: int) -> None:
    """The product of two arrays into a third, so many times over, past the caches; each consists of whole cache lines.

    No softmax: the fastest way to move these bytes where they do not fit the caches, for comparison.
    """
    for _ in range(passes):
        _scale_lines(left, right, left.dtype.type(0), out)  # (right - 0) * left
    _fence()


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _is_streamed(probs: Any, out: Any) -> Any:
    """Whether memory limits the speed, rows are too long for the processor to read ahead, and items are aligned."""
    return 3 * probs.nbytes >= STREAMED_BYTES and probs.shape[1] > DOT_ITEMS and out.ctypes.data % out.itemsize == 0


@numba.njit(nogil=True, fastmath=LANES, error_model="numpy")  # type: ignore[untyped-decorator]
def fused(probs: Any, grad_output: Any, out: Any) -> Any:
    """The gradient row by row into ``out``, which is returned; [B, N] each."""
    if _is_streamed(probs, out):
        _streamed(probs, grad_output, out, True)
        return out
    for row in range(len(probs)):
        # Both are inlined: calling them for each row would cost more than a row of ten items.
        _scale(probs[row], grad_output[row], _dot(probs[row], grad_output[row]), out[row])
    return out


@numba.njit(parallel=True, fastmath=LANES, error_model="numpy")  # type: ignore[untyped-decorator]
def fused_parallel(probs: Any, grad_output: Any, out: Any, threads: int) -> Any:
    """The gradient into ``out``, with rows or parts of long rows spread over the threads; [B, N] each.

    One thread does all if more threads would have too little to do.
    """
    if threads == 1 or probs.nbytes < threads * SHARE_BYTES:
        return fused(probs, grad_output, out)
    numba.set_num_threads(threads)
    batch, features = probs.shape
    if features < SEGMENT_ITEMS or batch >= 4 * threads:
        large = _is_streamed(probs, out)
        if batch >= 4 * threads and (large or 2 * features * probs.itemsize > LONG_ROW_BYTES):
            for share in numba.prange(threads):
                rows = slice(batch * share // threads, batch * (share + 1) // threads)
                _streamed(probs[rows], grad_output[rows], out[rows], large)
            return out
        for row in numba.prange(batch):
            _scale(probs[row], grad_output[row], _dot(probs[row], grad_output[row]), out[row])
        return out
    segments = -(-features // SEGMENT_ITEMS)  # of each row
    dots = np.empty((batch, segments))
    for part in numba.prange(batch * segments):
        row, start = part // segments, part % segments * SEGMENT_ITEMS
        stop = start + SEGMENT_ITEMS
        dots[row, part % segments] = _long_dot(probs[row, start:stop], grad_output[row, start:stop])
    for part in numba.prange(batch * segments):
        row, start = part // segments, part % segments * SEGMENT_ITEMS
        stop = start + SEGMENT_ITEMS
        dot = probs.dtype.type(dots[row].sum())
        _scale(probs[row, start:stop], grad_output[row, start:stop], dot, out[row, start:stop])
    return out


@numba.njit(nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def fused_flushing(probs: Any, grad_output: Any, out: Any) -> Any:
    """Like `fused`, with subnormal numbers taken as 0 while it runs."""
    before = _exchange_mxcsr(FLUSH_TO_ZERO)
    fused(probs, grad_output, out)
    _set_mxcsr(before)
    return out


@intrinsic  # type: ignore[untyped-decorator]
def _exchange_mxcsr(typing_context: Any, bits: Any) -> Any:
    """Set bits of the thread's floating-point control register; returns its old value. Does nothing except on x86."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        if not HAS_MXCSR:
            return ir.Constant(word, 0)
        before = _mxcsr(builder, "llvm.x86.sse.stmxcsr", None)
        more = builder.trunc(arguments[0], word) if arguments[0].type.width > 32 else arguments[0]
        _mxcsr(builder, "llvm.x86.sse.ldmxcsr", builder.or_(before, more))
        return before

    return numba.uint32(bits), generate


@intrinsic  # type: ignore[untyped-decorator]
def _set_mxcsr(typing_context: Any, value: Any) -> Any:
    """Set the thread's floating-point control register. Does nothing except on x86."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if HAS_MXCSR:
            _mxcsr(builder, "llvm.x86.sse.ldmxcsr", arguments[0])
        return context.get_dummy_value()

    return numba.void(numba.uint32), generate


def _mxcsr(builder: Any, name: str, value: Any) -> Any:
    """Store the register to memory, or load it from ``value``; returns the word in memory."""
    word = ir.IntType(32)
    place = cgutils.alloca_once(builder, word)
    if value is not None:
        builder.store(value, place)
    pointer = ir.IntType(8).as_pointer()
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), [pointer]), name)
    builder.call(function, [builder.bitcast(place, pointer)])
    return builder.load(place)
