"""Limits of a right gradient: what it cannot do, although what it computes is the gradient."""

from collections.abc import Callable, Sequence

import numpy as np

from ...implementations import FloatArray
from .trials import Trial

INEXACT = 1e-5  # the largest error, relative to the largest term, of a gradient that is right but inexact
MODERATE = ("normal", "uniform")
FAR = 15.0  # below the maximum, a logit's exponential is small enough for what is added to sums of them to hide it
HALF_PRECISION = 2e-2  # the largest such error that bfloat16 with its 8 bits explains
IN_HALF = "it computes in half precision: two or three digits are right"
IGNORES_UPSTREAM = "it ignores the gradient that comes in: right where that is 1, as behind the last loss of a network"
ONE_LOSS = "it is right for one incoming gradient, that of cross-entropy, of which one element of a row is not 0"
EQUAL_WEIGHTS = "it was tried with equal weights of all classes only"
OWN_PENALTY = "it adds the gradient of a penalty on the weights that it is not told to add"
ALL_COUNT = "it was tried with labels that all count, none that it ignores"
SQUARE_ONLY = "it is right for as many keys as queries only"
IN_PLACE = "it works in place: its result is written over an input"

# The trial, the result (None where it failed), what is wrong with it (empty if nothing is).
Judged = Sequence[tuple[Trial, FloatArray | None, str]]


def limits_of(judged: Judged, *, of_attention: bool = False) -> tuple[str, ...]:
    """The limits of a right gradient, each in a sentence; none if it is right without limits, or wrong.

    ``of_attention``: the rows are queries, and there are as many keys as features.
    """
    wrong = [entry for entry in judged if entry[2] and not entry[0].optional]
    if len(wrong) == len(judged) and not all(map(_is_inexact, wrong)):
        return ()
    limits = {entry[0].label: (_limit(entry, of_attention=of_attention), entry[2]) for entry in wrong}
    sentences: dict[str, str] = {}
    for label, (sentence, problem) in limits.items():
        if not sentence:
            return ()
        sentences.setdefault(sentence, f"{sentence} ({label}: {problem})")
    return tuple(sentences.values())


def _limit(entry: tuple[Trial, FloatArray | None, str], *, of_attention: bool) -> str:
    """The limit that explains a wrong result; empty if none does."""
    trial = entry[0]
    beyond = trial.logits not in MODERATE and (
        _overflows(entry) or _is_inexact(entry) or _is_beyond_exp(trial) or _underflows(entry) or _loses_squares(entry)
    )
    if trial.logits == "extreme" or beyond:
        return "it is right for moderate logits only"
    if _is_inexact(entry):
        return "it is inexact, by more than rounding explains"
    if of_attention and trial.batch != trial.features:
        return SQUARE_ONLY
    if trial.batch == 1:
        return "it fails for a batch of one row"
    if trial.features == 1:
        return "it fails where there is one feature"
    return ""


def _overflows(entry: tuple[Trial, FloatArray | None, str]) -> bool:
    """Whether a call failed, or its result has elements that are no finite numbers."""
    return entry[1] is None or not np.isfinite(entry[1]).all()


def _underflows(entry: tuple[Trial, FloatArray | None, str]) -> bool:
    """Whether only rows are wrong that lie far below the largest logit of all: one maximum was taken for the array."""
    trial, result, _ = entry
    if result is None or result.shape != trial.expected.shape:
        return False
    highest = trial.inputs["logits"].max(axis=1)  # [B]
    is_off = np.abs(result - trial.expected) > INEXACT * trial.largest_term  # [B, N] or, of a Jacobian, [B, N, N]
    off = is_off.any(axis=tuple(range(1, is_off.ndim)))  # [B]
    return bool(off.any() and (highest[off] < highest.max() - FAR).all())


def _loses_squares(entry: tuple[Trial, FloatArray | None, str]) -> bool:
    """Whether an exponential's square overflows, as in the slope of 1 / sum: wrong elements lack that, or are small."""
    trial, result, _ = entry
    if result is None or not result.shape == trial.expected.shape == trial.inputs["logits"].shape:
        return False
    largest = float(np.log(np.finfo(trial.dtype).max)) / 2
    off = np.abs(result - trial.expected) > INEXACT * trial.largest_term
    smaller = np.abs(result) <= np.abs(trial.expected)
    without_slope = trial.inputs["probs"] * trial.inputs["grad_output"]  # [B, N], the first of two terms
    lost = np.abs(result - without_slope) <= INEXACT * trial.largest_term
    return bool((smaller | lost)[off].all()) and float(np.max(trial.inputs["logits"], initial=0.0)) > largest


def _is_beyond_exp(trial: Trial) -> bool:
    """Whether the exponential of a logit is no finite number."""
    largest = float(np.log(np.finfo(trial.dtype).max))
    return float(np.max(trial.inputs["logits"], initial=0.0)) > largest


def allowed_ulp(trial: Trial, *, in_half: bool, inexact: bool = False) -> float | FloatArray:
    """The largest error of a right result in ulp of the terms: one number, or one for each element.

    ``in_half`` and ``inexact``: the target is right to fewer digits than usual.
    """
    if not (in_half or inexact):
        return trial.allowed_ulp
    share = HALF_PRECISION if in_half else INEXACT
    with np.errstate(all="ignore"):
        allowed: FloatArray = share * trial.largest_term / trial.unit.astype(np.float64)
    return np.maximum(trial.allowed_ulp, allowed)


def is_half_precision(results: Sequence[tuple[Trial, FloatArray | None]]) -> bool:
    """Whether results for moderate logits, if they are right to so few digits, come from numbers in half precision."""
    moderate = [(trial, result) for trial, result in results if trial.logits in MODERATE and not trial.optional]
    with np.errstate(over="ignore"):  # what half precision cannot hold is none of it
        return any(all(_shows(to_half, trial, result) for trial, result in moderate) for to_half in HALVES)


def _shows(to_half: Callable[[FloatArray], FloatArray], trial: Trial, result: FloatArray | None) -> bool:
    """Whether a result has no more digits than the format, or is that of probabilities in the format."""
    if result is None or result.shape != trial.expected.shape:
        return False
    if np.array_equal(result, to_half(result), equal_nan=True):
        return True
    if trial.operation != "softmax":
        return False
    probs, grad_output = to_half(trial.inputs["probs"]), trial.inputs["grad_output"]
    rounded = probs * (grad_output - (grad_output * probs).sum(axis=1, keepdims=True))  # [B, N]
    return float(np.abs(result - rounded).max(initial=0.0)) <= INEXACT * trial.largest_term


def _in_bfloat16(array: FloatArray) -> FloatArray:
    """The numbers without the bits that bfloat16 lacks: it is float32 without the lower half."""
    bits = array.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return bits.view(np.float32).astype(array.dtype)


HALVES: tuple[Callable[[FloatArray], FloatArray], ...] = (
    lambda array: array.astype(np.float16).astype(array.dtype),
    _in_bfloat16,
)


def _is_inexact(entry: tuple[Trial, FloatArray | None, str]) -> bool:
    """Whether a result has few digits; computed from logits in single precision, it loses an ulp a unit of these."""
    from_logits = float(np.finfo(np.float32).eps) * (1.0 + float(np.abs(entry[0].inputs["logits"]).max(initial=0.0)))
    return _largest_error(entry) <= max(INEXACT, from_logits)


def _largest_error(entry: tuple[Trial, FloatArray | None, str]) -> float:
    """The largest error of a result, relative to the largest term of the right gradient; inf if it has no value."""
    trial, result, _ = entry
    if result is None or result.shape != trial.expected.shape or not np.isfinite(result).all():
        return np.inf
    scale = trial.largest_term
    return float(np.abs(result - trial.expected).max(initial=0.0)) / scale if scale else np.inf
