"""The trials of a function that claims to be a gradient: the inputs of each, and the right gradient for them."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...implementations import FloatArray
from ...implementations.softmax import log_softmax, softmax
from ...operations.cases import Case, make_inputs
from ...operations.cross_entropy import exact_gradient
from ...operations.oracle import TOLERANCES, high_precision_vjp
from ...operations.precision import Rounded, rounded, wide_type, widen
from ..calling.attention import log_sums_of
from ..calling.roles import LOG_LOSS_GRADIENT, LOSS_GRADIENT

SEED = 42
EXTREME = 1000.0  # beyond the logarithm of float64's largest number, 709.8
UPSTREAM = 4.0  # the gradient passed into a loss that takes one; it is not 1, so that ignoring it shows
OPERATIONS = {
    "softmax": "probs * (grad_output - sum(grad_output * probs))",
    "log_softmax": "grad_output - probs * sum(grad_output)",
    "jacobian": "probs[:, :, None] * (eye(features) - probs[:, None, :])",
    "softmax_cross_entropy": "(probs - targets) / batch",
    "cross_entropy": "-targets / probs / batch",
}
ELEMENTS = "mean over all elements"  # of a loss, as a reduction: that of its author, where its value says so
ASCENT = "log-probability"  # instead of a reduction: not a loss to go down, but what a policy gradient climbs
# (batch, features, dtype, logits). The first is the most informative, so it comes first.
SHAPES = (
    (3, 5, "float64", "normal"),
    (4, 4, "float64", "normal"),
    (1, 6, "float64", "normal"),
    (6, 1, "float64", "normal"),
    (3, 5, "float32", "normal"),
    (16, 130, "float64", "uniform"),
    (5, 40, "float64", "peaked"),
    (5, 40, "float32", "peaked"),
    (4, 6, "float64", "extreme"),
    (0, 5, "float64", "normal"),
)
PROBING = SHAPES[:3]  # enough to find out how a function must be called


@dataclass(frozen=True, eq=False)
class Trial:
    """Inputs by name, each [B, N] except for the integer ``labels`` [B] and the scalar ``upstream``; and what is right.

    The exact gradient is ``expected + remainder``, as in `Rounded`.
    """

    operation: str
    batch: int
    features: int
    dtype: str
    logits: str
    inputs: Mapping[str, Any]
    expected: FloatArray
    remainder: FloatArray
    unit: FloatArray

    @property
    def label(self) -> str:
        """The trial in words, such as '3 × 5' or '5 × 40 float32 peaked'."""
        unusual = [value for value, usual in ((self.dtype, "float64"), (self.logits, "normal")) if value != usual]
        return " ".join([f"{self.batch} × {self.features}", *unusual])

    @functools.cached_property
    def mistaken(self) -> dict[str, FloatArray | None]:
        """What known mistakes compute here, by name, None where one fails; filled as they are asked for."""
        return {}

    @property
    def telling(self) -> bool:
        """Whether a right result says anything: the gradient has an element that is not 0."""
        return bool(self.expected.any())

    @property
    def optional(self) -> bool:
        """Whether a failure deserves only a remark: with no rows, nothing is computed wrongly."""
        return self.batch == 0

    @property
    def largest_term(self) -> float:
        """The largest term of the right gradient. Rounding errors are relative to it, because terms may cancel."""
        return float(self.unit.max(initial=0.0)) / float(np.finfo(self.dtype).eps)

    def errors(self, got: FloatArray, recomputed: bool) -> FloatArray:
        """The error of each element in ulp of its terms; inf for a NaN.

        ``recomputed``: the function computes the probabilities itself. It may lose one ulp of them for each unit of the
        largest logit, and all digits of those that are subnormal.
        """
        unit = self.unit.astype(np.float64)
        if recomputed:
            scale = 1.0 + np.abs(self.inputs["grad_output"]).max(initial=1.0)
            unit = unit * (1.0 + np.abs(self.inputs["logits"]).max(initial=0.0)) + np.finfo(self.dtype).tiny * scale
        with np.errstate(all="ignore"):
            errors: FloatArray = np.abs((got - self.expected) - self.remainder).astype(np.float64) / unit
        errors[np.isnan(errors)] = np.inf
        return errors

    @property
    def allowed_ulp(self) -> float:
        """The largest error of a right result."""
        return TOLERANCES[self.dtype].terms_ulp


def trials(
    operation: str,
    reduction: str = "mean",
    shapes: tuple[tuple[int, int, str, str], ...] = SHAPES,
    temperature: float = 1.0,
) -> list[Trial]:
    """The trials of an operation, in the order of ``shapes``; ``temperature`` divides the logits."""
    # If a probability underflows to 0, cross-entropy of probabilities has no gradient.
    kinds = ("normal", "uniform") if operation == "cross_entropy" else ("normal", "uniform", "peaked", "extreme")
    cases = [Case("softmax", "", *shape) for shape in shapes if shape[3] in kinds]
    return [make_trial(operation, reduction, case, temperature) for case in cases]


@functools.cache
def make_trial(operation: str, reduction: str, case: Case, temperature: float = 1.0) -> Trial:
    """A trial of the given shape; a loss is the ``mean``, the ``sum`` or another reduction of the rows' losses."""
    if case.logits == "extreme":
        logits = extreme_logits(case)
        probs = softmax(logits)
        grad_output = make_inputs(dataclasses.replace(case, logits="normal"), SEED).grad_output
    else:
        made = make_inputs(case, SEED)
        logits, probs, grad_output = made.logits, made.probs, made.grad_output
    labels = np.random.default_rng(SEED).integers(0, case.features, size=case.batch)
    labels[-1:] = case.features - 1  # some code takes the highest label for the last class
    targets = np.eye(case.features, dtype=probs.dtype)[labels]  # one-hot, [B, N]
    if temperature != 1.0:
        probs = softmax(logits / probs.dtype.type(temperature))
    inputs = {
        "logits": logits,
        "probs": probs,
        "log_probs": log_softmax(logits),
        "grad_output": grad_output,
        "targets": targets,
        LOSS_GRADIENT: loss_gradient(probs, targets),
        LOG_LOSS_GRADIENT: -targets,
        "labels": labels,
        "upstream": UPSTREAM,
        **log_sums_of(logits),
    }
    return Trial(
        operation=operation,
        batch=case.batch,
        features=case.features,
        dtype=case.dtype,
        logits=case.logits,
        inputs=inputs,
        **right_gradient(operation, reduction, inputs, temperature)._asdict(),
    )


def loss_gradient(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The gradient [B, N] of the sum of the rows' cross-entropies with respect to the probabilities [B, N]."""
    return -targets / np.maximum(probs, np.finfo(probs.dtype).tiny)


def extreme_logits(case: Case) -> FloatArray:
    """Standard normal, half of the rows moved up by 1000 and half down: probabilities as usual, but exp overflows."""
    moderate = make_inputs(dataclasses.replace(case, logits="normal"), SEED).logits
    moderate[::2] += EXTREME
    moderate[1::2] -= EXTREME
    return moderate


def right_gradient(operation: str, reduction: str, inputs: Mapping[str, Any], temperature: float = 1.0) -> Rounded:
    """The gradient [B, N] (``jacobian``: [B, N, N]), evaluated in a wide type from the inputs as rounded."""
    probs = inputs["probs"]
    wide = wide_type(probs.dtype)
    if operation == "softmax":
        scaled = probs.dtype.type(1.0 / temperature)
        return high_precision_vjp(probs, inputs["grad_output"] * scaled, wide)
    divisor = {"mean": max(1, len(probs)), ELEMENTS: max(1, probs.size)}.get(reduction, 1)
    p, t, g = (widen(inputs[name], wide) for name in ("probs", "targets", "grad_output"))
    if operation == "jacobian":
        outer = p[:, :, None] * p[:, None, :]  # [B, N, N]
        diagonal = p[:, :, None] * widen(np.eye(probs.shape[1], dtype=probs.dtype), wide)
        exact, terms = diagonal - outer, diagonal + outer
    elif operation == "log_softmax":
        exact, terms = g - p * g.sum(axis=1, keepdims=True), abs(g) + p * abs(g).sum(axis=1, keepdims=True)
    elif operation == "softmax_cross_entropy":
        slope = divisor * temperature * (-1 if reduction == ASCENT else 1)
        exact, terms = exact_gradient(p, t, slope), (p + t) / abs(slope)
    else:  # cross_entropy alone, with respect to probs
        exact = -t / p / divisor
        terms = abs(exact)
    return rounded(exact, terms.astype(probs.dtype) * np.finfo(probs.dtype).eps, probs.dtype, wide)


def patterns() -> Iterator[tuple[str, Callable[[Trial], bool]]]:
    """What the trials that are right may have in common, in words that follow 'right only'."""
    yield "when batch equals features", lambda trial: trial.batch == trial.features
    yield "for a single row (batch 1)", lambda trial: trial.batch == 1
    yield "when batch equals features or is 1", lambda trial: trial.batch in (1, trial.features)
    yield "in float64", lambda trial: trial.dtype == "float64"
    yield "in float32", lambda trial: trial.dtype == "float32"
    yield "for moderate logits", lambda trial: trial.logits in ("normal", "uniform")
    yield "where no logit is beyond the logarithm of the largest float", lambda trial: trial.logits != "extreme"
