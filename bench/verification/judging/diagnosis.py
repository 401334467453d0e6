"""The name of the mistake in a wrong gradient: what each known mistake would give, compared with what was given."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...implementations import FloatArray
from ...mistakes import MISTAKES, Mistake
from .trials import OPERATIONS, Trial

# Two ways to compute one formula differ by some hundreds of ulp at the most; two formulas by much more.
SAME = {"float32": 1e-4, "float64": 1e-11}
SINGLE_PRECISION = 1e-5  # the largest error, relative to the largest element, that float32 explains
ROUND = 1e-6  # factors this near to a pattern are the pattern

Given = Sequence[tuple[Trial, FloatArray | None]]  # what a target gave in each trial, None where it failed


@dataclass(frozen=True)
class Diagnosis:
    """A named mistake: its name, one sentence, the formula it computes and the one it should, a factor if there is."""

    name: str
    explanation: str
    computes: str
    should: str
    factor: str = ""

    @property
    def title(self) -> str:
        """The name in words, with the factor."""
        words = self.name.replace("_", " ")
        return f"{words}, times {self.factor}" if self.factor and self.name != "scaled" else words


def diagnose(operation: str, given: Given, should: str | None = None) -> Diagnosis | None:
    """The known mistake that computes what was given, None where none does.

    A mistake matches if it gives the same values wherever both give any, in one trial at least not the right ones; or
    if it is right and fails in the very same trials. The one that agrees in the most trials is named.
    """
    mistakes = [mistake for (of, _), mistake in MISTAKES.items() if of == operation]
    best: tuple[int, Mistake] | None = None
    for mistake in mistakes:
        agreed = _agreement(mistake, given) if mistake.seen_by == "value" else 0
        if agreed > (best[0] if best else 0):
            best = (agreed, mistake)
    formula = should or OPERATIONS[operation]
    if best is not None:
        return _named(best[1], formula)
    for mistake in mistakes:
        if mistake.seen_by == "precision" and _single_precision(given):
            return _named(mistake, formula)
    return _with_factor(mistakes, given, formula)


def known(operation: str, name: str) -> Diagnosis:
    """A known mistake that was seen in another way than by its values."""
    return _named(MISTAKES[operation, name], OPERATIONS[operation])


def _named(mistake: Mistake, should: str, factor: str = "") -> Diagnosis:
    return Diagnosis(mistake.name, mistake.explanation, mistake.formula, should, factor)


def _agreement(mistake: Mistake, given: Given) -> int:
    """In how many trials the mistake and what was given agree; 0 where the mistake is another one."""
    agreed = telling = failed_together = 0
    failed_alone = False
    for trial, got in given:
        would = value_of(mistake, trial)
        if got is None or would is None:
            failed_together += got is would
            failed_alone |= got is not would
        elif same(got, would, trial):
            agreed += 1
            telling += not same(would, trial.expected, trial)
        elif not trial.optional:
            return 0
    if telling or (agreed and failed_together and not failed_alone):
        return agreed + failed_together
    return 0


def value_of(mistake: Mistake, trial: Trial) -> FloatArray | None:
    """What a mistake computes in a trial, None where it fails."""
    inputs = {name: trial.inputs[name].copy() for name in mistake.arguments}
    try:
        with np.errstate(all="ignore"):
            return mistake.function(**inputs)
    except Exception:
        return None


def same(got: FloatArray, would: FloatArray, trial: Trial) -> bool:
    """Whether two results are the same but for rounding, axes of length 1 and where exactly a row turns NaN."""
    if got.shape != would.shape:
        # A result summed over the batch may have kept its axis; one with an axis too many is another mistake.
        if got.size != would.size or got.squeeze().shape != would.squeeze().shape or max(got.ndim, would.ndim) > 2:
            return False
        got = got.reshape(would.shape)
    got, would = np.atleast_1d(got.astype(np.float64)), np.atleast_1d(would.astype(np.float64))
    lost = ~np.isfinite(got).all(axis=-1)
    if not np.array_equal(lost, ~np.isfinite(would).all(axis=-1)):
        return False
    got, would = got[~lost], would[~lost]
    scale = max(float(np.abs(would).max(initial=0.0)), _terms(trial))
    return bool(np.abs(got - would).max(initial=0.0) <= SAME[trial.dtype] * scale)


def _terms(trial: Trial) -> float:
    """The largest term of the right gradient: what its rounding errors are relative to, as the terms may cancel."""
    return float(trial.unit.max(initial=0.0)) / float(np.finfo(trial.dtype).eps)


def _single_precision(given: Given) -> bool:
    """Whether every result is right to float32's digits, and wrong in float64 alone."""
    errors = []
    for trial, got in given:
        if got is None or got.shape != trial.expected.shape:
            if trial.optional:
                continue
            return False
        scale = _terms(trial)
        error = float(np.abs(got - trial.expected).max(initial=0.0))
        if not error <= SINGLE_PRECISION * scale:
            return False
        if scale and trial.dtype == "float64":
            errors.append(error / scale)
    return bool(errors) and max(errors) > SAME["float64"]


def _with_factor(mistakes: list[Mistake], given: Given, formula: str) -> Diagnosis | None:
    """The right gradient or a known mistake times a factor that depends on the shape alone."""
    told = [(trial, got) for trial, got in given if got is not None and trial.telling]
    scaled = next(mistake for mistake in mistakes if mistake.seen_by == "factor")
    for base in (scaled, *(mistake for mistake in mistakes if mistake.seen_by == "value")):
        factors: list[tuple[Trial, float]] = []
        for trial, got in told:
            would = trial.expected if base is scaled else value_of(base, trial)
            factor = _factor(got, would, trial)
            if factor is None:
                break
            factors.append((trial, factor))
        else:
            words = _factor_in_words(factors)
            if words:
                return _named(base, formula, words)
    return None


def _factor(got: FloatArray, would: FloatArray | None, trial: Trial) -> float | None:
    """The number that ``would`` must be multiplied by to give ``got``, None where there is none."""
    if would is None or got.shape != would.shape or not np.isfinite(got).all() or not np.isfinite(would).all():
        return None
    left, right = got.astype(np.float64), would.astype(np.float64)
    power = float((right * right).sum())
    factor = float((left * right).sum()) / power if power else 0.0
    return factor if factor and same(left, factor * right, trial) else None


def _factor_in_words(factors: list[tuple[Trial, float]]) -> str:
    if len({(trial.batch, trial.features) for trial, _ in factors}) < 2:
        return ""
    for words, pattern in _factor_patterns(factors[0][1]):
        if all(abs(factor / pattern(trial) - 1.0) < ROUND for trial, factor in factors if trial.dtype == "float64"):
            return words
    return ""


def _factor_patterns(first: float) -> Iterator[tuple[str, Callable[[Trial], float]]]:
    for sign, mark in ((1.0, ""), (-1.0, "-")):
        yield f"{mark}1 / batch", lambda trial, sign=sign: sign / trial.batch  # type: ignore[misc]
        yield f"{mark}batch", lambda trial, sign=sign: sign * trial.batch  # type: ignore[misc]
        yield f"{mark}1 / features", lambda trial, sign=sign: sign / trial.features  # type: ignore[misc]
        yield f"{mark}features", lambda trial, sign=sign: sign * trial.features  # type: ignore[misc]
        yield f"{mark}1 / (batch * features)", lambda trial, sign=sign: sign / (trial.batch * trial.features)  # type: ignore[misc]
    yield f"{first:.6g}", lambda _: first
