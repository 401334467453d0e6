"""What a right gradient costs: its time and peak memory on a small grid compared with the suite's, growth, advice."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..implementations import FloatArray
from ..implementations.softmax import explicit_jacobian, vectorized
from ..operations.cases import Case
from .calling.attention import VALUES
from .calling.convention import Convention
from .growth import Growth, growth
from .judging.timing import Timekeeper
from .judging.trials import Trial, make_trial
from .process.failures import Failure
from .process.isolation import Isolated
from .process.subject import Local, Subject

# The grid is two lines of shapes, one along features and one along batch, that cross at this shape.
BATCH, FEATURES = 16, 128
BATCHES = (4, 16, 64, 256)
FEATURE_COUNTS = (32, 128, 512, 2048)
# A line ends before a shape that would exceed one of these if growth were quadratic in features.
SLOWEST_S = 0.25
LARGEST_BYTES = 1 << 29
QUADRATIC = 1.5  # a larger exponent counts as quadratic growth
LINEAR = 0.5  # a larger exponent counts as linear growth
STEPPING = (4, 16)  # the two sizes at which Python instructions are counted
COMPARED = {"explicit_jacobian": explicit_jacobian, "vectorized": vectorized}
COMPARED_CONVENTION = Convention("softmax", "function", ("probs", "grad_output"))


@dataclass(frozen=True)
class CostRow:
    """One implementation at one shape: seconds and peak bytes of one call."""

    implementation: str
    batch: int
    features: int
    time_s: float
    peak_bytes: int


@dataclass(frozen=True)
class CostReport:
    """The measured rows, the target's growth, advice, and in ``stopped`` the failure that ended a line of the grid.

    ``complaints`` say why a time is not believed, each with its shape; such a shape has no row.
    """

    rows: tuple[CostRow, ...]
    growth: dict[str, Growth]  # keys: "time by batch", "time by features", "peak by batch", "peak by features"
    advice: tuple[str, ...]
    stopped: str = ""
    complaints: tuple[str, ...] = ()


def measure_cost(subject: Subject, name: str, convention: Convention, *, inexact: bool = False) -> CostReport:
    """The cost of a target in the given convention; for softmax also the cost of two of the suite's implementations.

    These run where the target runs, here or in processes of their own, and are timed in the same way. ``inexact``: the
    target is right to fewer digits than usual.
    """
    with Timekeeper() as keeper:
        measured = measure_target(subject, name, convention, keeper, inexact=inexact)
        rows = list(measured.rows)
        if convention.operation == "softmax" and not measured.complaints:
            for compared_name, function in COMPARED.items():
                with _beside(subject, function) as compared:
                    rows += measure_target(compared, compared_name, COMPARED_CONVENTION, keeper, trusted=True).rows
    mine = [row for row in rows if row.implementation == name]
    by_batch = [row for row in mine if row.features == FEATURES]
    by_features = [row for row in mine if row.batch == BATCH]
    fits = {
        "time by batch": growth([row.batch for row in by_batch], [row.time_s for row in by_batch]),
        "time by features": growth([row.features for row in by_features], [row.time_s for row in by_features]),
        "peak by batch": growth([row.batch for row in by_batch], [row.peak_bytes for row in by_batch]),
        "peak by features": growth([row.features for row in by_features], [row.peak_bytes for row in by_features]),
    }
    found = {label: fit for label, fit in fits.items() if fit is not None}
    advice = () if measured.complaints else tuple(_advice(subject, convention, mine, found))
    return CostReport(tuple(rows), found, advice, measured.stopped, measured.complaints)


@contextlib.contextmanager
def _beside(subject: Subject, function: Callable[..., FloatArray]) -> Iterator[Subject]:
    """One of the suite's functions as a subject of the same kind as the target."""
    if isinstance(subject, Local):
        yield Local(function)
        return
    with Isolated(f"{function.__module__}:{function.__name__}") as isolated:
        yield isolated


@dataclass(frozen=True)
class Measured:
    """The rows of one implementation, the failure that ended a line of the grid, and why a time is not believed."""

    rows: tuple[CostRow, ...]
    stopped: str
    complaints: tuple[str, ...]


def measure_target(
    subject: Subject,
    name: str,
    convention: Convention,
    keeper: Timekeeper,
    *,
    inexact: bool = False,
    trusted: bool = False,
) -> Measured:
    """Both lines of the grid, up to shapes that are too slow or too large, or up to the first complaint."""
    rows: dict[tuple[int, int], CostRow] = {}
    stopped = ""
    for line in ([(BATCH, count) for count in FEATURE_COUNTS], [(batch, FEATURES) for batch in BATCHES]):
        last: CostRow | None = None
        for shape in line:
            if last is not None and _too_much(last, shape):
                break
            if shape not in rows:
                case = Case("softmax", "", *shape, "float64", "normal")
                timed = keeper.timed(subject, convention, case, inexact=inexact, trusted=trusted)
                if isinstance(timed, Failure):
                    stopped = f"{shape[0]} × {shape[1]}: {timed.summary}"
                    break
                if timed.complaints:
                    complaints = tuple(f"at {shape[0]} × {shape[1]} it {each}" for each in timed.complaints)
                    return Measured(tuple(rows.values()), stopped, complaints)
                rows[shape] = CostRow(name, *shape, timed.fastest_s, timed.peak_bytes or 0)
            last = rows[shape]
    return Measured(tuple(rows.values()), stopped, ())


def _too_much(last: CostRow, shape: tuple[int, int]) -> bool:
    """Whether the next shape of a line would need too much if growth were quadratic in features."""
    ratio = (shape[0] / last.batch) * (shape[1] / last.features) ** 2
    return last.time_s * ratio > SLOWEST_S or last.peak_bytes * ratio > LARGEST_BYTES


def _trial(convention: Convention, batch: int, features: int) -> Trial:
    return make_trial(convention.operation, "mean", Case("softmax", "", batch, features, "float64", "normal"))


def _advice(subject: Subject, convention: Convention, rows: list[CostRow], fits: dict[str, Growth]) -> Iterator[str]:
    formula = (
        "probs * (grad_output - (grad_output * probs).sum(axis=1, keepdims=True)) needs two arrays [batch, features]"
    )
    by_features, by_batch = fits.get("peak by features"), fits.get("peak by batch")
    quadratic = by_features is not None and by_features.exponent > QUADRATIC
    if quadratic and VALUES not in convention.roles:  # the gradient of attention's keys is of that size
        largest = max(rows, key=lambda row: row.peak_bytes)
        per_batch = by_batch is not None and by_batch.exponent > LINEAR
        shape = "[batch, features, features]" if per_batch else "[features, features]"
        arrays = largest.peak_bytes / ((largest.batch if per_batch else 1) * largest.features**2 * 8)
        yield (
            f"It builds arrays of shape {shape}: at {largest.batch} × {largest.features} its peak is "
            f"{arrays:.1f} times the size of one. The Jacobian is never needed: {formula}."
        )
    for axis, advice in (
        ("batch", "NumPy computes all rows at once in arrays [batch, features]."),
        ("features", "NumPy's operations on whole arrays loop in compiled code."),
    ):
        steps = _steps_per_item(subject, convention, axis)
        if steps > 1 and not convention.is_single:
            item = "row" if axis == "batch" else "feature"
            yield f"It loops in Python over the {axis}: {steps:.0f} Python instructions for each {item}. {advice}"


def _steps_per_item(subject: Subject, convention: Convention, axis: str) -> float:
    """How many more Python instructions one more row or feature takes; 0 if a call fails."""
    few, many = STEPPING
    shapes = ((few, 8), (many, 8)) if axis == "batch" else ((3, few), (3, many))
    counts = [subject.steps(convention, _trial(convention, *shape).inputs) for shape in shapes]
    if isinstance(counts[0], Failure) or isinstance(counts[1], Failure):
        return 0.0
    return (counts[1] - counts[0]) / (many - few)
