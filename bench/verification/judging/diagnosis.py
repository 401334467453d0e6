"""The name of the mistake in a wrong gradient: the results of a target compared with those of each known mistake."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...implementations import FloatArray
from ...mistakes import MISTAKES, Mistake, mistakes_of
from .trials import OPERATIONS, Trial

# Two ways to compute one formula differ by at most some hundreds of ulp; two formulas differ by much more.
SAME = {"float32": 1e-4, "float64": 1e-11}
SINGLE_PRECISION = 1e-5  # the largest error, relative to the largest element, that float32 explains
ROUND = 1e-6  # a factor that is this near to a pattern, relatively, is taken for the pattern

# The factors that are known by name; any other has to be the same for every shape.
FACTORS: dict[str, Callable[[Trial], float]] = {
    "1 / batch": lambda trial: 1 / trial.batch,
    "batch": lambda trial: trial.batch,
    "1 / features": lambda trial: 1 / trial.features,
    "features": lambda trial: trial.features,
    "batch / features": lambda trial: trial.batch / trial.features,
    "1 / (batch * features)": lambda trial: 1 / (trial.batch * trial.features),
}

Results = Sequence[tuple[Trial, FloatArray | None]]  # what a target returned in each trial, None where it failed


@dataclass(frozen=True)
class Diagnosis:
    """A named mistake: a sentence, the formula that it computes and the right one, and the factor on it if any."""

    name: str
    explanation: str
    computes: str
    should: str
    factor: str = ""
    is_limit: bool = False  # whether the gradient is right, within a limit

    @property
    def title(self) -> str:
        """The name in words, with the factor."""
        words = self.name.replace("_", " ")
        return f"{words}, times {self.factor}" if self.factor and self.name != "scaled" else words


def diagnose(operation: str, results: Results, should: str) -> Diagnosis | None:
    """The known mistake that gives these results, None if there is none; ``should`` is the right formula.

    If several give them, it is the one that agrees in the most trials.
    """
    mistakes = mistakes_of(operation)
    by_value = [mistake for mistake in mistakes if mistake.seen_by in ("value", "range")]
    if not by_value:
        return None
    agreed, best = max(((_agreement(mistake, results), mistake) for mistake in by_value), key=lambda pair: pair[0])
    if agreed:
        return _named(best, should)
    for mistake in mistakes:
        if mistake.seen_by == "precision" and _is_single_precision(results):
            return _named(mistake, should)
    return _with_factor(mistakes, results, should)


def known(operation: str, name: str) -> Diagnosis:
    """The diagnosis of a known mistake that was not found by its values."""
    return _named(MISTAKES[operation, name], OPERATIONS[operation])


def input_is_overwritten(operation: str, role: str) -> Diagnosis:
    """The diagnosis of a right gradient that changes the array of a role, other than softmax's grad_output."""
    explanation = f"The result is right, but the caller's {role} is changed, which others may still need."
    return Diagnosis(f"overwrites_{role}", explanation, "the right gradient, and a new input", OPERATIONS[operation])


def buffer_is_shared(operation: str) -> Diagnosis:
    """The diagnosis of a function that returns the same array at every call."""
    explanation = "Every call returns the same array: the result of a call is gone when the next call has been made."
    return Diagnosis(
        "shared_buffer", explanation, "the right gradient, in one array for all calls", OPERATIONS[operation]
    )


def state_is_kept(operation: str) -> Diagnosis:
    """The diagnosis of a function whose result depends on the calls before."""
    explanation = "Something is kept from one call to the next: the same inputs give another result later."
    return Diagnosis("state_kept", explanation, "the right gradient, at the first call only", OPERATIONS[operation])


def penalty_is_wrong(operation: str) -> Diagnosis:
    """The diagnosis of a classifier's right gradient to which the penalty adds what is not its gradient, or nothing."""
    explanation = "The penalty has to add a multiple of the weights, as the gradient of the sum of their squares is."
    computes = f"{OPERATIONS[operation]} + something else, or nothing"
    return Diagnosis("wrong_penalty", explanation, computes, f"{OPERATIONS[operation]} + penalty * weights")


def bias_is_wrong(operation: str) -> Diagnosis:
    """The diagnosis of a model that has the right gradient of its weights, and not of its bias."""
    explanation = "The bias is added to each row: its gradient is the sum over the rows, of one element a class."
    return Diagnosis("wrong_bias", explanation, "another gradient of the bias", f"sum({OPERATIONS[operation]}, rows)")


def _named(mistake: Mistake, should: str, factor: str = "") -> Diagnosis:
    return Diagnosis(mistake.name, mistake.explanation, mistake.formula, should, factor, mistake.is_limit)


def _agreement(mistake: Mistake, results: Results) -> int:
    """The number of trials in which the target and the mistake agree; 0 if the target does not make this mistake.

    In every trial where neither fails and that is not optional, their values must be the same. At least one of these
    values must be wrong, and there may not be more trials in which only one of the two fails. If all values are right,
    the two must fail in exactly the same trials, in at least one.
    """
    same = wrong = both_failed = one_failed = 0
    for trial, result in results:
        value = _value_of(mistake, trial)
        if result is None and value is None:
            both_failed += 1
        elif result is None or value is None:
            one_failed += 1
        elif _is_same(result, value, trial):
            same += 1
            wrong += not _is_same(value, trial.expected, trial)
        elif not trial.optional:
            return 0
    if (wrong and one_failed <= same) or (same and both_failed and not one_failed):
        return same + both_failed
    return 0


def _value_of(mistake: Mistake, trial: Trial) -> FloatArray | None:
    """What a mistake computes in a trial, None if it fails. It is computed once: many readings are compared with it."""
    if mistake.name not in trial.mistaken:
        trial.mistaken[mistake.name] = _computed(mistake, trial)
    return trial.mistaken[mistake.name]


def _computed(mistake: Mistake, trial: Trial) -> FloatArray | None:
    inputs = {name: trial.inputs[name].copy() for name in mistake.arguments}
    try:
        with np.errstate(all="ignore"):
            return mistake.function(**inputs)
    except Exception:
        return None


def _is_same(result: FloatArray, value: FloatArray, trial: Trial) -> bool:
    """Whether two results are the same up to rounding, axes of length 1, and which elements of a row are not finite."""
    if result.shape != value.shape:
        # A sum over the batch may keep its axis. A result with an axis too many is a mistake of its own.
        same_axes = result.squeeze().shape == value.squeeze().shape
        if result.size != value.size or not same_axes or max(result.ndim, value.ndim) > 2:
            return False
        result = result.reshape(value.shape)
    result, value = np.atleast_1d(result.astype(np.float64)), np.atleast_1d(value.astype(np.float64))
    finite = np.isfinite(result).all(axis=-1)  # [B], a row each
    if not np.array_equal(finite, np.isfinite(value).all(axis=-1)):
        return False
    result, value = result[finite], value[finite]
    scale = max(float(np.abs(value).max(initial=0.0)), trial.largest_term)
    return bool(np.abs(result - value).max(initial=0.0) <= SAME[trial.dtype] * scale)


def _is_single_precision(results: Results) -> bool:
    """Whether every result has float32's digits and no more, and is right to that precision."""
    errors = []
    wide = [result for trial, result in results if trial.dtype == "float64" and result is not None]
    if not all(np.array_equal(result, result.astype(np.float32), equal_nan=True) for result in wide):
        return False
    for trial, result in results:
        if result is None or result.shape != trial.expected.shape:
            if trial.optional:
                continue
            return False
        scale = trial.largest_term
        error = float(np.abs(result - trial.expected).max(initial=0.0))
        if not error <= SINGLE_PRECISION * scale:  # also if it is NaN
            return False
        if scale and trial.dtype == "float64":
            errors.append(error / scale)
    return bool(errors) and max(errors) > SAME["float64"]


def _with_factor(mistakes: list[Mistake], results: Results, should: str) -> Diagnosis | None:
    """The right gradient, or a known mistake, times a factor that is constant or depends on the shape alone."""
    values = [(trial, result) for trial, result in results if result is not None and trial.telling]
    scaled = next(mistake for mistake in mistakes if mistake.seen_by == "factor")
    for mistake in (scaled, *(mistake for mistake in mistakes if mistake.seen_by == "value")):
        factors: list[tuple[Trial, float]] = []
        for trial, result in values:
            value = trial.expected if mistake is scaled else _value_of(mistake, trial)
            factor = _factor(result, value, trial)
            if factor is None:
                break
            factors.append((trial, factor))
        else:
            words = _factor_in_words(factors)
            if words and not (words == "1" and mistake is scaled):
                return _named(mistake, should, "" if words == "1" else words)
    return None


def _factor(result: FloatArray, value: FloatArray | None, trial: Trial) -> float | None:
    """The number by which ``value`` is multiplied in ``result``, None if there is none."""
    if value is None or result.shape != value.shape or not (np.isfinite(result).all() and np.isfinite(value).all()):
        return None
    result, value = result.astype(np.float64), value.astype(np.float64)
    power = float((value * value).sum())
    factor = float((result * value).sum()) / power if power else 0.0  # least squares
    return factor if factor and _is_same(result, factor * value, trial) else None


def _factor_in_words(factors: list[tuple[Trial, float]]) -> str:
    """The factor as a formula of the shape or a number; empty if it is neither, or if a single shape leaves it open."""
    if len({(trial.batch, trial.features) for trial, _ in factors}) < 2:
        return ""
    first = factors[0][1]
    constant: dict[str, Callable[[Trial], float]] = {f"{abs(first):.6g}": lambda _: abs(first)}
    for words, size in (FACTORS | constant).items():
        if all(
            abs(factor / math.copysign(size(trial), first) - 1.0) < ROUND
            for trial, factor in factors
            if trial.dtype == "float64"
        ):
            return f"-{words}" if first < 0 else words
    return ""
