"""A user's own backward as one more implementation in the sweep, named as for ``verify``: ``path.py:attribute``.

It states no formulas for its time and memory. They are guessed from measurements at a few small shapes, in a process
of its own. The guess only decides which cases are skipped; it is never stored as a prediction.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import UserError
from ..implementations import FloatArray, Formula, Implementation, enlist, registered
from ..instruments.bandwidth import fresh_stream_bytes_per_s
from ..operations.cases import ALIKE, is_own, is_target, known_as
from .calling.convention import Convention, Options
from .cost import BATCH, COMPARED_CONVENTION, FEATURES, QUADRATIC, CostRow, measure_target
from .growth import growth
from .judging.search import probe
from .judging.timing import Timekeeper
from .process.isolation import Isolated, TargetFailedError
from .verdict import examine

SAFETY = 2.0  # factor on every guessed coefficient


@dataclass(frozen=True)
class Competitor:
    """A user's own implementation, with all that another process needs to register it without asking again."""

    target: str
    convention: Convention
    workspace: str  # formulas
    traffic: str
    inexact: bool = False  # right to fewer digits than usual


def competitors_of(names: Iterable[str]) -> tuple[Competitor, ...]:
    """The user's own among these names of implementations, examined, and ``ALIKE`` if there are any; all registered.

    Raises:
        UserError: one of them does not exist, cannot be called, or is wrong.
    """
    targets = list(filter(is_target, names))
    found = [found_competitor(target) for target in targets if is_own(target)]
    if targets:
        spec = registered()["softmax", "vectorized"]
        found.append(Competitor(ALIKE, COMPARED_CONVENTION, str(spec.workspace), str(spec.traffic)))
    for competitor in found:
        enlist_competitor(competitor)
    return tuple(found)


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
            if report.complaints:
                verdict = f"is not believed: it {report.complaints[0]}"
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
    return Competitor(target, convention, str(workspace), str(traffic), bool(report.limits))


def enlist_competitor(competitor: Competitor) -> None:
    """Register a competitor as an implementation of softmax, if it is not yet; its name leaves folders out."""
    if ("softmax", known_as(competitor.target)) in registered():
        return
    enlist(
        Implementation(
            name=known_as(competitor.target),
            operation="softmax",
            function=_elsewhere,
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


def _elsewhere(*_: FloatArray) -> FloatArray:
    """Stand for a target, which is called in a process of its own only."""
    raise RuntimeError("a user's own implementation is not called in this process")
