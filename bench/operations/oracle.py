"""The verdict on an implementation: its result is compared with a high-precision gradient and two witnesses.

A result must pass three checks, at the case's own shape and dtype:

1. Every element agrees with the formula evaluated in higher precision. The error is counted in ulp (units in the last
   place) of the element's *terms*, ``eps * p[j] * (|g[j]| + sum_k |g[k]| p[k])``. The difference g[j] - sum_k g[k] p[k]
   may cancel, so no method that starts from rounded probabilities can be more exact than its terms.
2. Along a random direction of the logits, it agrees with central differences of the forward. This check does not use
   the formula.
3. It agrees with PyTorch's autograd, if PyTorch is installed.

The second and third check start from the logits. Their bound is coarser, because it includes the forward's rounding.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from ..implementations import FloatArray, is_installed
from ..implementations.softmax import softmax
from .cases import Inputs
from .precision import Rounded, rounded, row_chunks, wide_type, widen


@dataclass(frozen=True)
class Tolerance:
    """How far a right result of one dtype may be off."""

    terms_ulp: float  # from the high-precision gradient, in ulp of the terms
    witness: float  # from central differences and autograd, relative to the row's largest |grad_output|


TOLERANCES = {
    "float32": Tolerance(terms_ulp=256.0, witness=1e-5),
    "float64": Tolerance(terms_ulp=256.0, witness=1e-8),
}

STEP = 1e-5  # of the central differences, in float64: truncation ~ STEP**2 = 1e-10, rounding ~ eps / STEP = 2e-11
EXACT_ITEMS = 1 << 14  # items that are checked with rational numbers if no wider float exists


@dataclass(frozen=True)
class Reference:
    """What a right result is for given inputs; the exact gradient is ``expected + remainder``, as in `Rounded`."""

    rows: slice | npt.NDArray[np.intp]  # of the next three: all, or a sample if high precision is expensive
    expected: FloatArray  # [len(rows), N]
    remainder: FloatArray  # [len(rows), N]
    unit: FloatArray  # [len(rows), N]
    direction: npt.NDArray[np.int8]  # [B, N] of +1 and -1
    slope: FloatArray  # [B], the forward's central difference along the direction
    autograd: FloatArray | None  # [B, N], PyTorch's gradient
    grad_scale: FloatArray  # [B], largest |grad_output| of the row


@dataclass(frozen=True)
class Verdict:
    """Whether a result is right, its largest error in ulp of its terms (NaN: not comparable), and what is wrong."""

    right: bool
    max_error_ulp: float
    reason: str = ""


def make_reference(inputs: Inputs, seed: int, *, ask_pytorch: bool = True) -> Reference:
    """The reference for ``inputs``, the same for all implementations; ``seed`` draws its direction."""
    logits, probs, grad_output = inputs.logits, inputs.probs, inputs.grad_output
    wide = wide_type(probs.dtype)
    rows = sample_rows(*probs.shape) if wide is Fraction else slice(None)
    expected, remainder, unit = high_precision_vjp(probs[rows], grad_output[rows], wide)
    direction = random_direction(probs.shape, seed)
    return Reference(
        rows=rows,
        expected=expected,
        remainder=remainder,
        unit=unit,
        direction=direction,
        slope=_central_difference(logits, grad_output, direction),
        autograd=_autograd(logits, grad_output) if ask_pytorch and is_installed("torch") else None,
        grad_scale=np.abs(grad_output).max(axis=1, initial=0.0),
    )


def judge(grad_logits: object, reference: Reference, *, flushes_subnormals: bool = False) -> Verdict:
    """The verdict on whatever an implementation has returned.

    An implementation that flushes subnormal numbers may lose a result below the smallest normal number. It may also
    lose the share of probabilities below that number, at most 2 max |g| times it. Such errors count as 0.
    """
    shape, dtype = reference.direction.shape, reference.expected.dtype
    if not isinstance(grad_logits, np.ndarray):
        return Verdict(False, np.nan, f"returned {type(grad_logits).__name__}, expected an array of shape {shape}")
    if grad_logits.shape != shape:
        return Verdict(False, np.nan, f"returned shape {grad_logits.shape}, expected {shape}")
    if grad_logits.dtype != dtype:
        return Verdict(False, np.nan, f"returned dtype {grad_logits.dtype}, expected {dtype}")
    tolerance = TOLERANCES[str(dtype)]
    got = grad_logits[reference.rows]
    distances = np.abs((got - reference.expected) - reference.remainder)
    errors = distances / reference.unit
    errors[np.isnan(errors)] = np.inf
    if flushes_subnormals:
        flushed = np.finfo(dtype).smallest_normal * (1.0 + 2.0 * reference.grad_scale[reference.rows, None])
        errors[distances <= flushed] = 0.0
    worst = float(errors.max(initial=0.0))
    if worst > tolerance.terms_ulp:
        row, column = np.unravel_index(errors.argmax(), errors.shape)
        named_row = np.arange(shape[0])[reference.rows][row]
        return Verdict(
            False,
            worst,
            f"wrong by {worst:.3g} ulp of its terms (allowed {tolerance.terms_ulp:g}) at [{named_row}, {column}]: "
            f"got {got[row, column]:.6g}, expected {reference.expected[row, column]:.6g}",
        )
    return _judge_by_witnesses(grad_logits, reference, tolerance, worst)


def _judge_by_witnesses(grad_logits: FloatArray, reference: Reference, tolerance: Tolerance, worst: float) -> Verdict:
    """The verdict of central differences and of autograd on a result with the largest error ``worst``."""
    allowed = tolerance.witness * reference.grad_scale  # [B]
    along = (grad_logits * reference.direction).sum(axis=1, dtype=np.float64)  # [B]
    off = ~(np.abs(along - reference.slope) <= allowed)
    if off.any():
        row = int(off.argmax())
        return Verdict(
            False,
            worst,
            f"differs from central differences of the forward in row {row}: "
            f"{along[row]:.9g} along a random direction, expected {reference.slope[row]:.9g}",
        )
    if reference.autograd is not None:
        off = ~(np.abs(grad_logits - reference.autograd).max(axis=1, initial=0.0) <= allowed)
        if off.any():
            return Verdict(False, worst, f"differs from PyTorch's autograd in row {int(off.argmax())}")
    return Verdict(True, worst)


def high_precision_vjp(probs: FloatArray, grad_output: FloatArray, wide: Any) -> Rounded:
    """The gradient evaluated in the type ``wide`` from probs and grad_output, each [B, N]."""
    eps = np.finfo(probs.dtype).eps
    expected, remainder, unit = np.empty_like(probs), np.empty_like(probs), np.empty_like(probs)
    for chunk in row_chunks(probs.shape):
        p, g = widen(probs[chunk], wide), widen(grad_output[chunk], wide)
        exact = p * (g - (g * p).sum(axis=1, keepdims=True))  # p[j] * (g[j] - sum_k g[k] p[k]), [rows, N]
        terms = p * (abs(g) + abs(g * p).sum(axis=1, keepdims=True))  # p[j] * (|g[j]| + sum_k |g[k]| p[k])
        expected[chunk], remainder[chunk], unit[chunk] = rounded(
            exact, terms.astype(probs.dtype) * eps, probs.dtype, wide
        )
    return Rounded(expected, remainder, unit)


def random_direction(shape: tuple[int, ...], seed: int) -> npt.NDArray[np.int8]:
    """An array of +1 and -1 drawn from ``seed``."""
    direction = np.random.default_rng(seed).integers(0, 2, size=shape, dtype=np.int8)
    direction *= 2
    direction -= 1
    return direction


def sample_rows(batch: int, features: int) -> npt.NDArray[np.intp]:
    """The first row, the last, and as many evenly spaced rows between them as ``EXACT_ITEMS`` allows."""
    count = min(batch, max(2, EXACT_ITEMS // max(1, features)))
    return np.unique(np.linspace(0, batch - 1, num=count).astype(np.intp)) if batch else np.empty(0, np.intp)


def _central_difference(logits: FloatArray, grad_output: FloatArray, direction: npt.NDArray[np.int8]) -> FloatArray:
    """(f(z + hu) - f(z - hu)) / 2h of each row's f(z) = sum_k g[k] softmax(z)[k], in float64: [B]."""
    slopes = np.empty(len(logits))
    for chunk in row_chunks(logits.shape):
        offset = STEP * direction[chunk]
        ahead, behind = softmax(logits[chunk] + offset), softmax(logits[chunk] - offset)
        slopes[chunk] = np.vecdot(ahead - behind, grad_output[chunk]) / (2 * STEP)
    return slopes


def _autograd(logits: FloatArray, grad_output: FloatArray) -> FloatArray:
    """PyTorch's gradient of the same forward with the same upstream gradient, [B, N]."""
    import torch  # noqa: PLC0415 - an extra, and slow to import

    leaf = torch.from_numpy(logits).requires_grad_()
    torch.softmax(leaf, dim=1).backward(torch.from_numpy(grad_output))
    gradient: FloatArray = leaf.grad.numpy()
    return gradient
