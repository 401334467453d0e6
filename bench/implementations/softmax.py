"""Softmax over the last axis and its backward pass in NumPy: the explicit-Jacobian family and the vectorized family.

With probs p = softmax(logits) and the upstream gradient g, row by row,

    J[j, k] = d p[k] / d logits[j] = p[j] * (1[j = k] - p[k])        (symmetric, [N, N])
    grad_logits[j] = sum_k J[j, k] * g[k] = p[j] * (g[j] - sum_k g[k] * p[k])

The first family builds J; the second never does. "Article" below is 'Backpropagation through softmax layer'. Its
baseline and its one-liner are kept step for step.

NumPy's ufuncs add to a workspace: a buffer of up to 8192 items for a broadcast operand (U for [B, N] arrays), and an
iterator of about 1100 bytes.
"""

import functools
import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from . import FloatArray, implementation

DEFAULT_L2_BYTES = 1 << 20


def softmax(logits: FloatArray) -> FloatArray:
    """Softmax over the last axis, [B, N] -> [B, N]. The row's maximum is subtracted first so that exp cannot overflow.

    A logit of -inf gives probability 0. A row of -inf only has no softmax and gives NaN.
    """
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))  # [B, N]
    probs: FloatArray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probs


def log_softmax(logits: FloatArray) -> FloatArray:
    """Log-softmax over the last axis, z - max - log(sum(exp(z - max))), [B, N] -> [B, N]; takes no log of 0."""
    shifted: FloatArray = logits - logits.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def softmax_unshifted(logits: FloatArray) -> FloatArray:
    """Softmax over the last axis as the article writes it, without the maximum subtracted; [B, N] -> [B, N].

    A logit above log(largest float), 88.7 in float32 and 709.8 in float64, overflows to inf / inf = NaN, with NumPy's
    own warning.
    """
    exponentials = np.exp(logits)
    probs: FloatArray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probs


@implementation(
    "softmax",
    workspace="N*N*s + 2*B*N*N*s + min(8192, B*N*N)*s",
    traffic="N*N*s + 4*B*N*N*s",
    source="the article's baseline, its exact steps",
)
def explicit_jacobian(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """Jacobian as probs times (identity minus probs), broadcast to [B, N, N], then a batched matrix product."""
    identity = np.eye(probs.shape[1], dtype=probs.dtype)  # [N, N]
    jacobian = probs[:, :, None] * (identity[None, :, :] - probs[:, None, :])  # [B, N, N]; the bracket is another
    grad_logits: FloatArray = (jacobian @ grad_output[:, :, None]).squeeze(2)  # [B, N, N] @ [B, N, 1] -> [B, N]
    return grad_logits


@implementation(
    "softmax",
    workspace="B*N*N*s + B*N*s + 2*min(8192, B*N*N)*s",
    traffic="2*B*N*N*s",
    source="the same Jacobian without arrays for the identity and the bracket",
)
def jacobian_einsum(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """Jacobian as diagonal minus outer product, built in one [B, N, N] array and contracted with einsum."""
    jacobian = -probs[:, :, None] * probs[:, None, :]  # -outer(p, p), [B, N, N]
    np.einsum("bjj->bj", jacobian)[...] += probs  # the diagonal is a writeable view: + diag(p)
    grad_logits: FloatArray = np.einsum("bjk,bk->bj", jacobian, grad_output)
    return grad_logits


@implementation(
    "softmax",
    workspace="(3 if B > 1 else 2)*N*N*s + B*N*s + 2*min(8192, N*N)*s",
    traffic="6*B*N*N*s",
    source="the form that most textbooks print",
)
def row_loop(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """One [N, N] Jacobian at a time, diagflat minus outer, in a Python loop over the batch."""
    grad_logits = np.empty_like(grad_output)
    for row in range(len(probs)):
        jacobian = np.diagflat(probs[row]) - np.outer(probs[row], probs[row])  # diag(p) - p p^T, [N, N]
        grad_logits[row] = jacobian @ grad_output[row]
    return grad_logits


@implementation(
    "softmax",
    workspace="max(2*B*N*s if B*N*s < 262144 else 0, B*N*s + B*s + U) + 1100",
    traffic="9*B*N*s",
    source="the article's second version, exactly",
)
def vectorized(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The one-liner: the row's dot product is subtracted from grad_output, the difference is scaled by probs."""
    # NumPy reuses a temporary of 256 KiB or more as the result, so the workspace has two cases.
    grad_logits: FloatArray = (grad_output - (grad_output * probs).sum(axis=1, keepdims=True)) * probs  # [B, N]
    return grad_logits


@implementation(
    "softmax",
    workspace="B*N*s + B*s + U + 1100",
    traffic="7*B*N*s",
    source="NumPy's vecdot (2.0 and later) in the article's formula",
)
def vectorized_vecdot(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The one-liner with the row's dot product by vecdot, which needs no array for the products."""
    grad_logits: FloatArray = grad_output - np.vecdot(probs, grad_output)[:, None]  # g - sum_k g[k] p[k], [B, N]
    grad_logits *= probs
    return grad_logits


@implementation(
    "softmax",
    workspace="B*s + U + 1100",
    traffic="9*B*N*s",
    source="the article's formula with NumPy's out argument",
)
def vectorized_out(probs: FloatArray, grad_output: FloatArray, *, out: FloatArray) -> FloatArray:
    """The one-liner into a given array, which holds the products before it holds the result."""
    np.multiply(grad_output, probs, out=out)
    np.subtract(grad_output, out.sum(axis=1, keepdims=True), out=out)  # [B, N] - [B, 1]
    np.multiply(out, probs, out=out)
    return out


@implementation(
    "softmax",
    workspace="U + 1100",
    traffic="3*B*N*s",
    source="loop blocking (cache tiling) of the article's formula",
)
def row_blocks(probs: FloatArray, grad_output: FloatArray, *, out: FloatArray) -> FloatArray:
    """Into a given array, in blocks of as many rows as fit into the L2 cache, so that later passes read from cache."""
    rows = max(1, l2_bytes() // (3 * probs.itemsize * max(1, probs.shape[1])))  # three arrays share the cache
    for start in range(0, len(probs), rows):
        block = slice(start, start + rows)
        dots = np.vecdot(probs[block], grad_output[block])[:, None]  # [rows, 1]
        np.subtract(grad_output[block], dots, out=out[block])
        np.multiply(out[block], probs[block], out=out[block])
    return out


@implementation(
    "softmax",
    workspace="U + 8192",
    traffic="3*B*N*s",
    source="loop blocking of the article's formula, over a thread pool of the standard library",
)
def row_blocks_threads(probs: FloatArray, grad_output: FloatArray, *, out: FloatArray, threads: int) -> FloatArray:
    """The row blocks, with an equal share of the rows for each thread of a pool.

    NumPy 2.4 lets other threads run during subtract and multiply, but not during vecdot of 500 rows or fewer.
    """
    bounds = [len(probs) * share // threads for share in range(threads + 1)]
    mine, *others = (slice(*pair) for pair in itertools.pairwise(bounds))
    pool = _pool(threads)
    started = [pool.submit(row_blocks, probs[share], grad_output[share], out=out[share]) for share in others]
    row_blocks(probs[mine], grad_output[mine], out=out[mine])
    for share in started:
        share.result()
    return out


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)  # starts a thread when it first has work for it


@functools.cache
def l2_bytes() -> int:
    """Bytes of the second-level cache as the system reports them, or 1 MiB if it does not."""
    try:
        stated = os.sysconf("SC_LEVEL2_CACHE_SIZE")
    except (AttributeError, ValueError, OSError):
        stated = 0
    return stated if stated > 0 else DEFAULT_L2_BYTES
