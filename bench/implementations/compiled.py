"""Softmax's backward compiled by Numba: one pass over the rows, each row's second reading from cache.

If the three arrays have 64 MiB or more together, the result is stored past the caches. Whatever reads it next reads it
from memory, which is where most of it would have been in any case.

Compiling takes seconds and happens before the first call is timed. The loops, and how they sum, are in `_kernels`.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from . import FloatArray, implementation

Call = Callable[[], FloatArray]


@implementation(
    "softmax",
    library="numba",
    workspace="B*N*s",
    traffic="3*B*N*s",
    source="loop fusion of the article's formula",
)
def fused(probs: FloatArray, grad_output: FloatArray) -> Call:
    """One compiled pass, row by row: the dot product, then the result while the row is in cache."""
    from . import _kernels  # noqa: PLC0415 - an extra, and slow to import

    # The allocation of the result is part of the call, and so of what is measured.
    return lambda: _kernels.fused(probs, grad_output, np.empty_like(probs))


@implementation(
    "softmax",
    library="numba",
    workspace="512",
    traffic="3*B*N*s",
    source="loop fusion of the article's formula",
)
def fused_out(probs: FloatArray, grad_output: FloatArray, *, out: FloatArray) -> Call:
    """One compiled pass into a given array."""
    from . import _kernels  # noqa: PLC0415

    return partial(_kernels.fused, probs, grad_output, out)


@implementation(
    "softmax",
    library="numba",
    workspace="B*N*s if B*N*s < 262144 else 512",
    traffic="3*B*N*s",
    source="loop fusion with a pool of results; new memory costs a page fault for each page of it",
    reuses_memory=True,
)
def fused_reused(probs: FloatArray, grad_output: FloatArray) -> Call:
    """One compiled pass; a result of 256 KiB or more reuses the memory of an earlier result.

    It takes the memory of a result that nothing refers to any longer. Up to two results stay allocated for that.
    """
    from . import _kernels  # noqa: PLC0415
    from ._memory import ReusedMemory  # noqa: PLC0415

    memory = ReusedMemory()
    return lambda: _kernels.fused(probs, grad_output, memory.empty_like(probs))


@implementation(
    "softmax",
    library="numba",
    workspace="512",
    traffic="3*B*N*s",
    source="the flush-to-zero and denormals-are-zero bits of MXCSR, Intel 64 manual, volume 1, section 10.2.3",
    flushes_subnormals=True,
)
def fused_flushing_out(probs: FloatArray, grad_output: FloatArray, *, out: FloatArray) -> Call:
    """One compiled pass into a given array; the processor is set to take subnormal numbers as 0 (x86 only)."""
    from . import _kernels  # noqa: PLC0415

    return partial(_kernels.fused_flushing, probs, grad_output, out)


@implementation(
    "softmax",
    library="numba",
    workspace="B*N*s",
    traffic="3*B*N*s",
    source="loop fusion of the article's formula",
)
def fused_parallel(probs: FloatArray, grad_output: FloatArray, *, threads: int) -> Call:
    """The compiled pass with the rows, or parts of few long rows, over all threads; one thread does small arrays."""
    from . import _kernels  # noqa: PLC0415

    return lambda: _kernels.fused_parallel(probs, grad_output, np.empty_like(probs), threads)


@implementation(
    "softmax",
    library="numba",
    workspace="1024",
    traffic="3*B*N*s",
    source="loop fusion of the article's formula",
)
def fused_parallel_out(probs: FloatArray, grad_output: FloatArray, *, out: FloatArray, threads: int) -> Call:
    """The compiled pass over all threads, like `fused_parallel`, into a given array."""
    from . import _kernels  # noqa: PLC0415

    return partial(_kernels.fused_parallel, probs, grad_output, out, threads)
