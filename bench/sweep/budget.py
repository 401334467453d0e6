"""What a case may cost: its peak memory and time predicted before it runs, and the bounds that its row must keep."""

from dataclasses import dataclass

from ..instruments.bandwidth import FASTEST_CACHE_BYTES_PER_S
from ..instruments.host import available_bytes
from ..instruments.memory import SMALL_BUFFER_BYTES
from ..operations import operations
from ..operations.cases import Case
from ..storage.results import Row, RunOptions
from ..units import quantity

# In addition to what the call allocates, a case holds its inputs (four arrays in every operation so far) and the
# oracle's reference (expected, remainder, unit, and the result that is judged with two temporaries).
HELD_ARRAYS = 10
MEMORY_SHARE = 0.5  # of the available memory, the rest is for everything else on the machine
DEFAULT_CALL_BUDGET_S = 0.25  # a longer call would not settle beside hundreds of others
CALLS_TO_EXAMINE = 2  # of a case whose calls are long: check and page faults, peak
OVERHEAD_S = 0.1  # of examining a case whose calls take no time: its reference, its check, the profiler


@dataclass(frozen=True)
class Prediction:
    """Predicted peak bytes and seconds of one call."""

    peak_bytes: int
    call_s: float


def predict(case: Case, stream_bytes_per_s: float) -> Prediction:
    """The prediction for a case on a machine that streams fresh memory at the given rate."""
    sizes = (case.batch, case.features, case.itemsize)
    return Prediction(case.spec.workspace(*sizes), case.spec.traffic(*sizes) / stream_bytes_per_s)


def memory_budget_bytes(max_bytes: int | None) -> int:
    """What a case may take in memory: the given limit, or else half of what is available now."""
    return max_bytes or int(available_bytes() * MEMORY_SHARE)


def examination_s(case: Case, options: RunOptions) -> float:
    """About how long it takes to examine a case in a run with these options."""
    prediction = predict(case, options.stream_bytes_per_s)
    if reason_to_skip(case, prediction, memory_budget_bytes(options.max_bytes), options.max_call_s):
        return 0.0
    return CALLS_TO_EXAMINE * prediction.call_s + OVERHEAD_S


def reason_to_skip(case: Case, prediction: Prediction, memory_budget_bytes: int, call_budget_s: float) -> str:
    """Why the case must not run, in a sentence with the predicted figure; empty if it may."""
    needed = prediction.peak_bytes + HELD_ARRAYS * case.array_bytes
    if needed > memory_budget_bytes:
        return (
            f"predicted peak {quantity(prediction.peak_bytes, 'B')} (with inputs {quantity(needed, 'B')}) "
            f"over the budget of {quantity(memory_budget_bytes, 'B')}"
        )
    if prediction.call_s > call_budget_s:
        return f"predicted {quantity(prediction.call_s, 's')} a call over the budget of {quantity(call_budget_s, 's')}"
    return ""


def implausible(row: Row, case: Case, memory_bytes: int) -> str:
    """What is arithmetically impossible about a measured row; empty if nothing is.

    The peak must be at least the result that the call allocates, unless that is small enough for NumPy's buffer cache,
    and at most the machine's memory. The time must be at least what moving the operation's arrays takes at the fastest
    cache's rate.
    """
    must_allocate = 0 if case.spec.writes_out or case.spec.reuses_memory else case.array_bytes
    if row.peak_bytes is not None:
        if must_allocate >= SMALL_BUFFER_BYTES and row.peak_bytes < must_allocate:
            return f"implausible: peak of {row.peak_bytes} bytes, and the result alone has {must_allocate}"
        if row.peak_bytes > memory_bytes:
            peak, memory = quantity(row.peak_bytes, "B"), quantity(memory_bytes, "B")
            return f"implausible: peak of {peak}, and the machine has {memory}"
    floor_s = operations()[case.operation].arrays_moved * case.array_bytes / FASTEST_CACHE_BYTES_PER_S / case.threads
    if row.time_min_s < floor_s:
        fastest, floor = quantity(row.time_min_s, "s"), quantity(floor_s, "s")
        return f"implausible: a call of {fastest}, and moving the arrays takes {floor} at the least"
    return ""
