"""A user's own backward as one more implementation in the sweep, named as for ``verify``: ``path.py:attribute``.

It states no formulas for its time and memory. They are guessed from measurements at a few small shapes, in a process
of its own. The guess only decides which cases are skipped; it is never stored as a prediction.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..implementations import FloatArray, Formula, Implementation, enlist, registered
from ..instruments.bandwidth import fresh_stream_bytes_per_s
from ..loading import import_folders, load
from ..operations.cases import known_as
from .calling.call import Call
from .calling.conventions import Convention, Options
from .cost import BATCH, FEATURES, QUADRATIC, CostRow, measure_target
from .growth import growth
from .judging.search import probe
from .judging.timing import Timekeeper
from .process.isolation import Isolated, TargetFailedError
from .verdict import examine

SAFETY = 2.0  # factor on every guessed coefficient


def is_target(name: str) -> bool:
    """Whether the name of an implementation names a user's own backward."""
    return ":" in name


@dataclass(frozen=True)
class Competitor:
    """A user's own implementation, with all that another process needs to register it without asking again."""

    target: str
    convention: Convention
    workspace: str  # formulas
    traffic: str


def found_competitor(target: str) -> Competitor:
    """The target as a competitor, examined in a process of its own.

    Raises:
        UserError: the target does not exist, cannot be called, or is wrong.
    """
    options = Options(operation="softmax")
    with Isolated(target) as subject:
        report = examine(subject, target, options)
        if not report.right:
            verdict = f"is wrong{f' ({report.diagnosis.title})' if report.diagnosis else ''}"
            if report.failure is not None:
                verdict = f"could not be called ({report.failure.summary})"
            raise UserError(f"--implementation {target}: {verdict}; see softmax-bench verify {target}")
        try:
            convention = probe(subject, options).answers.convention
        except TargetFailedError as error:
            raise UserError(f"--implementation {target}: {error}") from None
        with Timekeeper() as keeper:
            measured = measure_target(subject, target, convention, keeper, inexact=bool(report.limits))
    if measured.complaints:
        raise UserError(f"--implementation {target}: is not believed: {measured.complaints[0]}")
    rows = list(measured.rows)
    if not rows:
        raise UserError(f"--implementation {target}: too slow or too large to be measured at {BATCH} × {FEATURES}")
    workspace, traffic = guessed_formulas(rows, fresh_stream_bytes_per_s())
    return Competitor(target, convention, str(workspace), str(traffic))


def enlist_competitor(competitor: Competitor) -> None:
    """Register a competitor as an implementation of softmax, if it is not registered yet; its name leaves folders out.

    Raises:
        UserError: the target does not exist any longer.
    """
    if ("softmax", known_as(competitor.target)) in registered():
        return
    enlist(
        Implementation(
            name=known_as(competitor.target),
            operation="softmax",
            function=as_vjp(competitor.target, competitor.convention),
            summary=f"A user's own backward, called as {competitor.convention}",
            workspace=Formula(competitor.workspace),
            traffic=Formula(competitor.traffic),
            source=competitor.target,
            writes_out=False,
            guessed=True,
        )
    )


def guessed_formulas(rows: list[CostRow], stream_bytes_per_s: float) -> tuple[Formula, Formula]:
    """Workspace and traffic in bytes, with a margin of ``SAFETY``; traffic is what is moved at the given rate."""
    peaks = [float(row.peak_bytes) for row in rows]
    moved = [row.time_s * stream_bytes_per_s for row in rows]
    return _covering(rows, peaks), _covering(rows, moved)


def _covering(rows: list[CostRow], values: list[float]) -> Formula:
    """The formula that covers the rows' values: quadratic in features if they grew so, otherwise linear."""
    along_features = [(row.features, value) for row, value in zip(rows, values, strict=True) if row.batch == BATCH]
    fit = growth([size for size, _ in along_features], [value for _, value in along_features])
    quadratic = fit is None or fit.exponent > QUADRATIC
    shape, exponent = ("B*N*N*s", 2) if quadratic else ("B*N*s", 1)
    # The coefficient comes from the end of each line of the grid. At small shapes the constant cost of a call would
    # inflate it, so that is a term of its own.
    ends = {
        max(rows, key=lambda row: (row.features, row.batch)),
        max(rows, key=lambda row: (row.batch, row.features)),
    }
    coefficient = max(
        value / (row.batch * row.features**exponent * 8) for row, value in zip(rows, values, strict=True) if row in ends
    )
    return Formula(f"{SAFETY * coefficient:.3g}*{shape} + {min(values):.0f}")


def as_vjp(target: str, convention: Convention) -> Callable[[FloatArray, FloatArray], FloatArray]:
    """The target as ``vjp(probs, grad_output)``.

    A function of just these two is called as it is. Anything else is prepared the first time that it gets a pair of
    arrays, so that only its backward is measured. Its forward gets log(probs): the softmax of that is probs.
    """
    folders = list(map(str, import_folders(target)))
    sys.path[:0] = folders
    try:
        function, namespace = load(target)
    finally:
        del sys.path[: len(folders)]
    plain = convention.style == "function" and convention.layout == "rows" and convention.container == "array"
    if plain and not convention.forward and convention.arguments == ("probs", "grad_output"):
        vjp: Callable[[FloatArray, FloatArray], FloatArray] = function
        return vjp
    if plain and not convention.forward and convention.arguments == ("grad_output", "probs"):
        return lambda probs, grad_output: function(grad_output, probs)
    return Remembering(Call(function, namespace, convention))


class Remembering:
    """A target's backward, which is prepared once for each pair of arrays."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._arrays: tuple[FloatArray, FloatArray] | None = None
        self._backward: Callable[[], object] = lambda: None

    def __call__(self, probs: FloatArray, grad_output: FloatArray) -> FloatArray:
        """grad_logits [B, N]."""
        if self._arrays is None or self._arrays[0] is not probs or self._arrays[1] is not grad_output:
            self._arrays = None  # frees the old arrays before new ones are made
            self._backward = self._call.prepare(_inputs(probs, grad_output))
            self._arrays = probs, grad_output
        grad_logits: FloatArray = self._call.as_rows(self._backward(), probs.shape)
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
