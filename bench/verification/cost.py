"""What a right gradient costs: time and peak memory over a small grid beside the suite's, growth, advice."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..implementations.softmax import explicit_jacobian, vectorized
from ..operations.cases import Case
from .calling.conventions import Convention
from .growth import Growth, growth
from .judging.trials import Trial, make_trial
from .process.failures import Failure
from .process.subject import Local, Subject

BATCH, FEATURES = 16, 128  # where the two lines of the grid cross
BATCHES = (4, 16, 64, 256)
FEATURE_COUNTS = (32, 128, 512, 2048)
SLOWEST_S = 0.25  # a size that would take longer, were its growth quadratic, is left out
LARGEST_BYTES = 1 << 29  # a size that would need more, were its growth quadratic, is left out
QUADRATIC = 1.5  # exponents from here on are called quadratic
LINEAR = 0.5  # and from here on linear
STEPPING = (4, 16)  # batches and features whose numbers of Python instructions are compared
BESIDE = {"explicit_jacobian": explicit_jacobian, "vectorized": vectorized}
BESIDE_CONVENTION = Convention("softmax", "function", ("probs", "grad_output"))


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
    """The measured rows, the target's own exponents, advice, and what could not be measured in ``stopped``."""

    rows: tuple[CostRow, ...]
    growth: dict[str, Growth]  # by "time by batch", "peak by features" and so on
    advice: tuple[str, ...]
    stopped: str = ""


def measure_cost(subject: Subject, name: str, convention: Convention) -> CostReport:
    """The cost of a target called in the given convention, beside the suite's where it computes the same."""
    rows, stopped = measure_target(subject, name, convention)
    if convention.operation == "softmax":
        for beside, function in BESIDE.items():
            rows += measure_target(Local(function), beside, BESIDE_CONVENTION)[0]
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
    return CostReport(tuple(rows), found, tuple(_advice(subject, convention, mine, found)), stopped)


def measure_target(subject: Subject, name: str, convention: Convention) -> tuple[list[CostRow], str]:
    """The rows of both lines of the grid, each up to what is too slow or too large, and why measuring stopped."""
    rows: dict[tuple[int, int], CostRow] = {}
    stopped = ""
    for line in ([(BATCH, count) for count in FEATURE_COUNTS], [(batch, FEATURES) for batch in BATCHES]):
        last: CostRow | None = None
        for shape in line:
            if last is not None and _too_much(last, shape):
                break
            if shape not in rows:
                cost = subject.measure(convention, _trial(convention, *shape).inputs)
                if isinstance(cost, Failure):
                    stopped = f"{shape[0]} × {shape[1]}: {cost.summary}"
                    break
                rows[shape] = CostRow(name, *shape, cost.time_s, cost.peak_bytes)
            last = rows[shape]
    return list(rows.values()), stopped


def _too_much(last: CostRow, shape: tuple[int, int]) -> bool:
    """Whether the next shape of a line would need too much, were the growth quadratic in features."""
    ratio = (shape[0] / last.batch) * (shape[1] / last.features) ** 2
    return last.time_s * ratio > SLOWEST_S or last.peak_bytes * ratio > LARGEST_BYTES


def _trial(convention: Convention, batch: int, features: int) -> Trial:
    return make_trial(convention.operation, "mean", Case("softmax", "", batch, features, "float64", "normal"))


def _advice(subject: Subject, convention: Convention, rows: list[CostRow], fits: dict[str, Growth]) -> Iterator[str]:
    formula = "probs * (grad_output - (grad_output * probs).sum(axis=1, keepdims=True)) needs two of [batch, features]"
    by_features, by_batch = fits.get("peak by features"), fits.get("peak by batch")
    if by_features is not None and by_features.exponent > QUADRATIC:
        largest = max(rows, key=lambda row: row.peak_bytes)
        per_batch = by_batch is not None and by_batch.exponent > LINEAR
        shape = "[batch, features, features]" if per_batch else "[features, features]"
        arrays = largest.peak_bytes / ((largest.batch if per_batch else 1) * largest.features**2 * 8)
        yield (
            f"It builds arrays of shape {shape}: at {largest.batch} × {largest.features} its peak is that of "
            f"{arrays:.1f} of them. The Jacobian is never needed: {formula}."
        )
    for axis, advice in (
        ("batch", "NumPy does all rows at once where arrays stay [batch, features]."),
        ("features", "NumPy's operations on whole arrays do that in compiled code."),
    ):
        steps = _steps_an_item(subject, convention, axis)
        if steps > 1 and not convention.is_single:
            yield f"It loops in Python over the {axis}: {steps:.0f} instructions of Python for each. {advice}"


def _steps_an_item(subject: Subject, convention: Convention, axis: str) -> float:
    """How many more of Python's instructions one more row, or feature, takes; 0 where that cannot be counted."""
    few, many = STEPPING
    shapes = ((few, 8), (many, 8)) if axis == "batch" else ((3, few), (3, many))
    counts = [subject.steps(convention, _trial(convention, *shape).inputs) for shape in shapes]
    if isinstance(counts[0], Failure) or isinstance(counts[1], Failure):
        return 0.0
    return (counts[1] - counts[0]) / (many - few)
