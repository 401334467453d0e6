"""Limits of a right gradient: what it cannot do, although what it computes is the gradient."""

from collections.abc import Sequence

import numpy as np

from ...implementations import FloatArray
from .trials import Trial

INEXACT = 1e-5  # the largest error, relative to the largest term, of a gradient that is right but inexact
MODERATE = ("normal", "uniform")
IGNORES_UPSTREAM = "it ignores the gradient that comes in: right where that is 1, as behind the last loss of a network"

# The trial, the result (None where it failed), what is wrong with it (empty if nothing is).
Judged = Sequence[tuple[Trial, FloatArray | None, str]]


def limits_of(judged: Judged) -> tuple[str, ...]:
    """The limits of a right gradient, each in a sentence; none if it is right without limits, or wrong."""
    wrong = [entry for entry in judged if entry[2] and not entry[0].optional]
    if len(wrong) == len(judged) and not all(map(_is_inexact, wrong)):
        return ()
    limits = {entry[0].label: (_limit(entry), entry[2]) for entry in wrong}
    sentences: dict[str, str] = {}
    for label, (sentence, problem) in limits.items():
        if not sentence:
            return ()
        sentences.setdefault(sentence, f"{sentence} ({label}: {problem})")
    return tuple(sentences.values())


def _limit(entry: tuple[Trial, FloatArray | None, str]) -> str:
    """The limit that explains a wrong result; empty if none does."""
    trial = entry[0]
    if trial.logits == "extreme" or (trial.logits not in MODERATE and (_overflows(entry) or _is_inexact(entry))):
        return "it is right for moderate logits only"
    if _is_inexact(entry):
        return "it is inexact, by more than rounding explains"
    if trial.batch == 1:
        return "it fails for a batch of one row"
    if trial.features == 1:
        return "it fails where there is one feature"
    return ""


def _overflows(entry: tuple[Trial, FloatArray | None, str]) -> bool:
    """Whether a call failed, or its result has elements that are no finite numbers."""
    return entry[1] is None or not np.isfinite(entry[1]).all()


def _is_inexact(entry: tuple[Trial, FloatArray | None, str]) -> bool:
    return _largest_error(entry) <= INEXACT


def _largest_error(entry: tuple[Trial, FloatArray | None, str]) -> float:
    """The largest error of a result, relative to the largest term of the right gradient; inf if it has no value."""
    trial, result, _ = entry
    if result is None or result.shape != trial.expected.shape or not np.isfinite(result).all():
        return np.inf
    scale = float(trial.unit.max(initial=0.0)) / float(np.finfo(trial.dtype).eps)
    return float(np.abs(result - trial.expected).max(initial=0.0)) / scale if scale else np.inf
