"""What people would use instead: PyTorch, JAX and NumExpr, each as its own documentation calls it.

Arrays are shared with NumPy if the library allows it; if not, they are converted before the clock starts. A call waits
for the work that its library does in the background. Results come back as NumPy arrays, without a copy.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from . import FloatArray, implementation

Call = Callable[[], FloatArray]


@implementation(
    "softmax",
    library="torch",
    workspace="B*N*s",
    traffic="3*B*N*s",
    source="aten::_softmax_backward_data of PyTorch",
)
def torch_kernel(probs: FloatArray, grad_output: FloatArray, *, threads: int) -> Call:
    """PyTorch's own kernel, the one its autograd calls, into a new tensor."""
    torch, probs_, grad_output_ = _tensors(threads, probs, grad_output)
    kernel = torch.ops.aten._softmax_backward_data
    return lambda: kernel(grad_output_, probs_, 1, probs_.dtype).numpy()


@implementation(
    "softmax",
    library="torch",
    workspace="1024",
    traffic="3*B*N*s",
    source="aten::_softmax_backward_data.out of PyTorch",
)
def torch_kernel_out(probs: FloatArray, grad_output: FloatArray, *, out: FloatArray, threads: int) -> Call:
    """PyTorch's own kernel into a given tensor."""
    torch, probs_, grad_output_, out_ = _tensors(threads, probs, grad_output, out)
    kernel = torch.ops.aten._softmax_backward_data.out

    def call() -> FloatArray:
        kernel(grad_output_, probs_, 1, probs_.dtype, grad_input=out_)
        return out

    return call


@implementation(
    "softmax",
    library="torch",
    workspace="2*B*N*s",
    traffic="6*B*N*s",
    source="torch.softmax and torch.autograd.grad",
)
def torch_autograd(logits: FloatArray, grad_output: FloatArray, *, threads: int) -> Call:
    """PyTorch end to end: softmax of the logits is recorded, then autograd; the time includes the forward."""
    torch, logits_, grad_output_ = _tensors(threads, logits, grad_output)
    logits_.requires_grad_()

    def call() -> FloatArray:
        (gradient,) = torch.autograd.grad(torch.softmax(logits_, dim=1), logits_, grad_output_)
        result: FloatArray = gradient.numpy()
        return result

    return call


@implementation(
    "softmax",
    library="torch",
    workspace="B*N*s",
    traffic="3*B*N*s",
    source="torch.compile with its default backend",
)
def torch_compiled(probs: FloatArray, grad_output: FloatArray, *, threads: int) -> Call:
    """The article's one-liner through torch.compile, compiled for each shape before its first call is timed."""
    _, probs_, grad_output_ = _tensors(threads, probs, grad_output)
    compiled = _one_liner_of((threads, probs.dtype.str, *probs.shape))
    return lambda: compiled(probs_, grad_output_).numpy()


@functools.cache
def _one_liner_of(kind: tuple[object, ...]) -> Callable[[Any, Any], Any]:
    """The one-liner for one kind of arrays (threads, dtype, shape), compiled at its first call."""
    import torch  # noqa: PLC0415

    def one_liner(probs: Any, grad_output: Any) -> Any:
        return (grad_output - (grad_output * probs).sum(dim=1, keepdim=True)) * probs

    # PyTorch keeps what it has compiled with the code object, and falls back to eager code after eight shapes of one.
    one_liner.__code__ = one_liner.__code__.replace(co_name="_".join(map(str, ("one_liner", *kind))))
    compiled: Callable[[Any, Any], Any] = torch.compile(one_liner, dynamic=False)
    return compiled


@implementation(
    "softmax",
    library="jax",
    workspace="4*B*N*s",
    traffic="12*B*N*s",
    source="jax.vjp and jax.nn.softmax",
    flushes_subnormals=True,
)
def jax_vjp(logits: FloatArray, grad_output: FloatArray, *, threads: int) -> Call:
    """JAX end to end, operation by operation: jax.vjp of softmax and its pullback; the time includes the forward.

    XLA sets the processor to take subnormal numbers as 0.
    """
    logits_, grad_output_ = _jax_arrays(threads, logits, grad_output)
    return lambda: np.asarray(_jax_pullback(logits_, grad_output_).block_until_ready())


@implementation(
    "softmax",
    library="jax",
    workspace="B*N*s + min(B*N*s, 160000)",
    traffic="6*B*N*s",
    source="jax.jit, jax.vjp and jax.nn.softmax",
    flushes_subnormals=True,
)
def jax_vjp_jit(logits: FloatArray, grad_output: FloatArray, *, threads: int) -> Call:
    """JAX end to end, compiled by XLA: jax.jit of jax.vjp of softmax; the time includes the forward.

    XLA sets the processor to take subnormal numbers as 0.
    """
    logits_, grad_output_ = _jax_arrays(threads, logits, grad_output)
    compiled = _jax_compiled()
    return lambda: np.asarray(compiled(logits_, grad_output_).block_until_ready())


@implementation(
    "softmax",
    library="numexpr",
    workspace="B*s + 16384",
    traffic="5*B*N*s",
    source="numexpr.evaluate in the article's formula",
)
def numexpr_out(probs: FloatArray, grad_output: FloatArray, *, out: FloatArray, threads: int) -> Call:
    """NumExpr into a given array, block by block: one expression sums the products, another does the rest."""
    import numexpr  # noqa: PLC0415 - an extra

    numexpr.set_num_threads(threads)

    named = {"probs": probs, "grad_output": grad_output}

    def call() -> FloatArray:
        dots = numexpr.evaluate("sum(grad_output * probs, axis=1)", named)[:, None]  # [B, 1]
        numexpr.evaluate("(grad_output - dots) * probs", {**named, "dots": dots}, out=out)
        return out

    return call


def _tensors(threads: int, *arrays: FloatArray) -> tuple[Any, ...]:
    """PyTorch, its number of threads set, and the arrays as tensors on the same memory."""
    import torch  # noqa: PLC0415 - an extra, and slow to import

    torch.set_num_threads(threads)
    return torch, *map(torch.from_numpy, arrays)


def _jax_pullback(logits: Any, grad_output: Any) -> Any:
    """(logits, grad_output) -> grad_logits by jax.vjp, on arrays of JAX."""
    import jax  # noqa: PLC0415 - an extra, and slow to import

    _, pull = jax.vjp(jax.nn.softmax, logits)
    return pull(grad_output)[0]


@functools.cache
def _jax_compiled() -> Callable[[Any, Any], Any]:
    """The pullback compiled by XLA, once for each shape and dtype."""
    import jax  # noqa: PLC0415

    compiled: Callable[[Any, Any], Any] = jax.jit(_jax_pullback)
    return compiled


def _jax_arrays(threads: int, *arrays: FloatArray) -> tuple[Any, ...]:
    """The arrays as arrays of JAX in their own dtype.

    When JAX starts, it makes a thread for each processor that its process may use. The caller must have limited those.

    Raises:
        RuntimeError: the process may use more processors than ``threads``.
    """
    import jax  # noqa: PLC0415

    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else threads
    if processors > threads:
        raise RuntimeError(f"JAX would run a thread on each of {processors} processors, not {threads}")
    jax.config.update("jax_enable_x64", val=True)  # without this, float64 arrays become float32
    return tuple(map(jax.numpy.asarray, arrays))
