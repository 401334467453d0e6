"""A user's own backward as one more competitor in the sweep, named as ``verify`` names it: ``path.py:attribute``.

It states no formulas, so how its time and memory grow is measured at a few small shapes, in a process of its own, and
guessed from there: the guess decides what is skipped and is never stored as a prediction.
"""

import sys
from collections.abc import Callable

import numpy as np

from ..errors import UserError
from ..implementations import FloatArray, Formula, Implementation, enlist, registered
from ..instruments.bandwidth import fresh_stream_bytes_per_s
from ..loading import import_folder, load
from ..operations.cases import known_as
from .calling.call import Call
from .calling.conventions import Convention, Options
from .cost import BATCH, FEATURES, QUADRATIC, CostRow, measure_target
from .growth import growth
from .judging.answers import find_convention
from .process.isolation import Isolated, TargetFailedError
from .verdict import CALL_S, LOAD_S, MAX_BYTES, RIGHT, examine

SAFETY = 2.0  # on every guessed coefficient


def is_target(name: str) -> bool:
    """Whether the name of an implementation is that of a user's own."""
    return ":" in name


def add_competitor(target: str) -> None:
    """Make the target an implementation of softmax under its own name, its folder left out; once is enough.

    Raises:
        UserError: it does not exist, cannot be called, or is wrong.
    """
    if ("softmax", known_as(target)) in registered():
        return
    with Isolated(target, CALL_S, LOAD_S, MAX_BYTES) as subject:
        report = examine(subject, target, Options(operation="softmax"))
        if report.status != RIGHT:
            verdict = f"is wrong{f' ({report.diagnosis.title})' if report.diagnosis else ''}"
            if report.failure is not None:
                verdict = f"could not be called ({report.failure.summary})"
            raise UserError(f"--implementation {target}: {verdict}; see softmax-bench verify {target}")
        try:
            convention = find_convention(subject, Options(operation="softmax"))
        except TargetFailedError as error:
            raise UserError(f"--implementation {target}: {error}") from None
        rows, _ = measure_target(subject, target, convention)
    if not rows:
        raise UserError(f"--implementation {target}: too slow or too large to be measured at {BATCH} × {FEATURES}")
    workspace, traffic = guessed_formulas(rows, fresh_stream_bytes_per_s())
    enlist(
        Implementation(
            name=known_as(target),
            operation="softmax",
            function=as_vjp(target, convention),
            summary=f"A user's own, called as {convention}",
            workspace=workspace,
            traffic=traffic,
            source=target,
            writes_out=False,
            guessed=True,
        )
    )


def guessed_formulas(rows: list[CostRow], stream_bytes_per_s: float) -> tuple[Formula, Formula]:
    """Workspace and traffic in bytes that cover every measured row, its time counted at the given rate, twofold."""
    peaks = [(row, float(row.peak_bytes)) for row in rows]
    moved = [(row, row.time_s * stream_bytes_per_s) for row in rows]
    return _covering(peaks), _covering(moved)


def _covering(measured: list[tuple[CostRow, float]]) -> Formula:
    """The formula through the largest measured values, quadratic in features where they grew so."""
    line = [(row.features, value) for row, value in measured if row.batch == BATCH]
    fit = growth([size for size, _ in line], [value for _, value in line])
    quadratic = fit is None or fit.exponent > QUADRATIC
    shape = "B*N*N*s" if quadratic else "B*N*s"
    coefficient = max(
        value / (row.batch * row.features ** (2 if quadratic else 1) * 8) for row, value in _largest(measured)
    )
    # What does not grow with the shape, a call's own cost, stands apart: small shapes would inflate the coefficient.
    return Formula(f"{SAFETY * coefficient:.3g}*{shape} + {min(value for _, value in measured):.0f}")


def _largest(measured: list[tuple[CostRow, float]]) -> list[tuple[CostRow, float]]:
    """The last row of each line of the grid."""
    ends = (
        max(measured, key=lambda one: (one[0].features, one[0].batch)),
        max(measured, key=lambda one: (one[0].batch, one[0].features)),
    )
    return list(ends)


def as_vjp(target: str, convention: Convention) -> Callable[[FloatArray, FloatArray], FloatArray]:
    """The target as ``vjp(probs, grad_output)``.

    A function of just these two is called as it is. Anything else is prepared when it is given arrays for the first
    time (its forward gets the logarithm of probs, whose softmax is probs), so that its backward alone is measured.
    """
    folder = str(import_folder(target))
    sys.path.insert(0, folder)
    try:
        function, namespace = load(target)
    finally:
        sys.path.remove(folder)
    plain = convention.style == "function" and convention.layout == "rows" and convention.container == "array"
    if plain and not convention.forward and convention.arguments == ("probs", "grad_output"):
        vjp: Callable[[FloatArray, FloatArray], FloatArray] = function
        return vjp
    if plain and not convention.forward and convention.arguments == ("grad_output", "probs"):
        return lambda probs, grad_output: function(grad_output, probs)
    return Remembering(Call(function, namespace, convention))


class Remembering:
    """A target's backward, prepared once for each pair of arrays."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._arrays: tuple[FloatArray, FloatArray] | None = None
        self._backward: Callable[[], object] = lambda: None

    def __call__(self, probs: FloatArray, grad_output: FloatArray) -> FloatArray:
        """The gradient [B, N] of the backward."""
        if self._arrays is None or self._arrays[0] is not probs or self._arrays[1] is not grad_output:
            self._arrays = None  # the old arrays go before the new ones come
            self._backward = self._call.prepare(_inputs(probs, grad_output))
            self._arrays = probs, grad_output
        grad_logits: FloatArray = self._call.laid_back(self._backward(), probs.shape)
        return grad_logits


def _inputs(probs: FloatArray, grad_output: FloatArray) -> dict[str, object]:
    with np.errstate(divide="ignore"):
        logits = np.log(probs)
    return {
        "logits": logits,
        "probs": probs,
        "log_probs": logits,
        "grad_output": grad_output,
        "targets": np.zeros_like(probs),
        "labels": np.zeros(len(probs), dtype=np.intp),
        "upstream": 1.0,
    }
