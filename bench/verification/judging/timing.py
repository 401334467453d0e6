"""The time and the memory of a target that need not be trusted: every timed call is checked, and a lie is named.

The clock in the target's process is exact, but the target can tamper with it. The judge's own clock and the system's
count of processor time cannot be reached from there, but they include the handing over. So the first one is believed
where the others agree. What the handing over takes is known from a control: a process that gets inputs of the same
shapes and does nothing.
"""

import contextlib
import math
import secrets
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from ...implementations import FloatArray
from ...implementations.softmax import log_softmax, softmax
from ...instruments.bandwidth import FASTEST_CACHE_BYTES_PER_S
from ...instruments.memory import SMALL_BUFFER_BYTES
from ...operations.cases import Case, make_inputs
from ...operations.oracle import EXACT_ITEMS
from ...operations.precision import wide_type
from ...units import quantity
from ..calling.call import Inputs
from ..calling.conventions import Convention
from ..calling.roles import is_loss
from ..process.block import Made
from ..process.failures import Failure
from ..process.handover import Handover
from ..process.isolation import Isolated
from .limits import INEXACT
from .trials import UPSTREAM, Trial, right_gradient

BLOCKS = 5  # as many must be believed
PATIENCE = 3  # times as many are tried
BLOCK_S = 0.002  # of calls in a block
MAX_CALLS = 32
MAX_BLOCK_BYTES = 6 << 20  # of the arrays of a block, or of a single call if that has more
CHECKED_ITEMS = 1 << 17  # of the results of a block, in rows of every call that are drawn when the results are there
ARRAYS_MOVED = 3  # two are read and one is written
# The clocks agree if the judge's shows no more than this share of the control's overhead, or of the calls, beyond both.
# It is all that a lie can gain.
OVERHEAD_SHARE, CALLS_SHARE = 0.25, 0.05
# The same for the judge's own clock, which runs on while a process waits for a processor.
WAITING = 3.0
IDLE = "softmax_bench.verification.process.idle:idle"


@dataclass(frozen=True)
class Timed:
    """The time of one call at a case: seconds of the fastest and of the median believed block, divided by its calls.

    ``peak_bytes``: the peak of a call, None if it was not asked for. ``complaints``: why it is not believed, in words
    that follow the target's name; then the times are NaN. ``blocks_s``: the seconds of a call in each believed block.
    """

    fastest_s: float
    median_s: float
    calls: int = 0
    peak_bytes: int | None = None
    complaints: tuple[str, ...] = ()
    blocks_s: tuple[float, ...] = ()


class Timeable(Protocol):
    """A target that runs blocks of clocked calls, in this process or in another one."""

    def timed(
        self, convention: Convention, trials: Sequence[Inputs], made: Made | None = None, *, peaks: bool = False
    ) -> Handover | Failure:
        """A block of clocked calls, or of calls whose peak memory is read."""


class Timekeeper:
    """Times targets in blocks of calls; its control process is started when it is first needed."""

    def __init__(self) -> None:
        self._control: Isolated | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the control process."""
        if self._control is not None:
            self._control.__exit__(kind, error, at)

    def timed(
        self,
        subject: Timeable,
        convention: Convention,
        case: Case,
        *,
        inexact: bool = False,
        blocks: int = BLOCKS,
        block_s: float = BLOCK_S,
        peak: bool = True,
    ) -> Timed | Failure:
        """The time of a call at a case's shape, dtype and distribution of logits, and its peak memory.

        ``inexact``: the target is known to be right to fewer digits than usual, and is held to those.
        """
        sample = self.block(subject, convention, case, 1, inexact=inexact)
        if isinstance(sample, Failure):
            return sample
        calls = calls_of_block(case, sample.call_s, block_s)
        if convention.style == "pair" and not convention.owner:
            calls = 1  # one object, which keeps one forward at a time
        complaints = list(sample.complaints)
        believed: list[float] = []
        doubts: list[str] = []
        for _ in range(PATIENCE * blocks):
            if complaints or len(believed) == blocks:
                break
            block = self.block(subject, convention, case, calls, sample.made, inexact=inexact)
            if isinstance(block, Failure):
                return block
            complaints += block.complaints
            if block.doubt:
                doubts.append(block.doubt)
            else:
                believed.append(block.call_s)
        if not believed and not complaints:
            complaints.append(doubts[-1])
        if complaints:
            return Timed(math.nan, math.nan, complaints=tuple(dict.fromkeys(complaints)))
        peak_bytes = None
        if peak:
            reading = self._peak(subject, convention, case, sample.made, inexact=inexact)
            if isinstance(reading, Failure):
                return reading
            peak_bytes, complaints = reading
        return Timed(
            min(believed),
            statistics.median(believed),
            calls * len(believed),
            peak_bytes,
            tuple(complaints),
            tuple(believed),
        )

    def block(
        self,
        subject: Timeable,
        convention: Convention,
        case: Case,
        calls: int,
        made: Made | None = None,
        *,
        inexact: bool = False,
    ) -> "Judged | Failure":
        """One block of so many calls, each with inputs of its own, all results checked, its clock compared with ours.

        ``made`` is that of an earlier block of the same case; without it there is a warm call before.
        """
        drawn = fresh_inputs(convention, case, calls + 1)
        trials = _split(drawn, calls + 1)
        handover = subject.timed(convention, trials if made is None else trials[1:], made)
        if isinstance(handover, Failure):
            return handover
        complaints = list(_complaints(handover, convention, case, drawn, inexact=inexact))
        call_s = math.fsum(handover.claimed_s) / calls
        if len(handover.claimed_s) != calls and not complaints:
            complaints.append("does not say how long each call took")
        doubt = (
            self._doubt(handover, convention, trials[1:]) if isinstance(subject, Isolated) and not complaints else ""
        )
        return Judged(call_s, tuple(complaints), doubt, handover.made)

    def _doubt(self, handover: Handover, convention: Convention, trials: Sequence[Inputs]) -> str:
        """Why the clock of a target's process is not believed; empty if it is."""
        calls = len(handover.results)
        claimed_s = math.fsum(handover.claimed_s)
        control = self._idle(convention, trials)
        overhead_s = control.witnessed_s - math.fsum(control.claimed_s)
        waiting_s = control.elapsed_s - math.fsum(control.claimed_s)
        beyond_s = handover.witnessed_s - claimed_s - (1.0 + OVERHEAD_SHARE) * overhead_s
        waited_s = handover.elapsed_s - claimed_s - WAITING * waiting_s
        if max(beyond_s, waited_s) <= CALLS_SHARE * claimed_s:
            return ""
        own, ours = claimed_s / calls, (claimed_s + max(beyond_s, waited_s)) / calls
        return f"its clock does not agree with ours: a call took {quantity(own, 's')} and {quantity(ours, 's')}"

    def _idle(self, convention: Convention, trials: Sequence[Inputs]) -> Handover:
        """What a block of the same shapes takes in the control process."""
        if self._control is None:
            self._control = Isolated(IDLE)
        logits = trials[0]["logits"]
        container = convention.container if convention.container != "torch" else "array"
        idle = Convention(
            "softmax", "function", ("probs", "grad_output"), layout=convention.layout, container=container
        )
        handover = self._control.timed(idle, trials, Made(logits.shape, logits.dtype.str))
        if isinstance(handover, Failure):
            raise RuntimeError(f"the control process {handover.summary}")  # noqa: TRY004 - no error of a caller's
        return handover

    def _peak(
        self, subject: Timeable, convention: Convention, case: Case, made: Made, *, inexact: bool
    ) -> tuple[int, list[str]] | Failure:
        """The peak of one call in bytes, the smaller of two, and complaints."""
        calls = 1 if convention.style == "pair" and not convention.owner else 2
        drawn = fresh_inputs(convention, case, calls + 1)
        handover = subject.timed(convention, _split(drawn, calls + 1)[1:], made, peaks=True)
        if isinstance(handover, Failure):
            return handover
        complaints = list(_complaints(handover, convention, case, drawn, inexact=inexact))
        peak_bytes = min(handover.peaks, default=-1)
        result = handover.results[0].nbytes
        if not complaints and peak_bytes < (result if result >= SMALL_BUFFER_BYTES and not convention.is_single else 0):
            complaints.append(f"its peak of {max(0, peak_bytes)} bytes is below the {result} of its result")
        return peak_bytes, complaints


@dataclass(frozen=True)
class Judged:
    """One block: the seconds of a call by the target's clock, what is wrong with it, and why the clock is doubted."""

    call_s: float
    complaints: tuple[str, ...]
    doubt: str
    made: Made


def calls_of_block(case: Case, call_s: float, block_s: float) -> int:
    """How many calls fit into a block, by time and by memory."""
    by_memory = MAX_BLOCK_BYTES // max(1, ARRAYS_MOVED * case.array_bytes)
    return max(1, min(MAX_CALLS, by_memory, int(block_s / max(call_s, 1e-7))))


def fresh_inputs(convention: Convention, case: Case, count: int) -> dict[str, Any]:
    """Inputs that nobody can foresee, of so many calls one below another: arrays [count * B, N] by role."""
    rows = Case(case.operation, "", count * case.batch, case.features, case.dtype, case.logits)
    made = make_inputs(rows, secrets.randbits(63))
    labels = np.random.default_rng(secrets.randbits(63)).integers(0, case.features, size=rows.batch)
    drawn: dict[str, Any] = {"logits": made.logits, "probs": made.probs, "grad_output": made.grad_output}
    drawn |= {"labels": labels, "upstream": UPSTREAM}
    if is_loss(convention.operation):
        drawn["targets"] = np.zeros_like(made.probs)
        drawn["targets"][np.arange(rows.batch), labels] = 1.0
    if "log_probs" in convention.roles:
        drawn["log_probs"] = log_softmax(made.logits)
    return drawn


def _split(drawn: Inputs, count: int) -> list[dict[str, Any]]:
    """The inputs of each call."""
    batch = len(drawn["labels"]) // count
    return [
        {
            role: value[batch * call : batch * (call + 1)] if role != "upstream" else value
            for role, value in drawn.items()
        }
        for call in range(count)
    ]


def _complaints(handover: Handover, convention: Convention, case: Case, drawn: Inputs, *, inexact: bool) -> list[str]:
    """What is wrong with a block, in words that follow the target's name."""
    complaints = list(handover.oddities)
    if handover.overwritten:
        complaints.append(f"overwrites its input: {', '.join(handover.overwritten)}")
    wrong = _wrong(handover, convention, case, drawn, inexact=inexact)
    if wrong:
        complaints.append(wrong)
    floor_s = ARRAYS_MOVED * case.array_bytes / FASTEST_CACHE_BYTES_PER_S
    if handover.claimed_s and math.fsum(handover.claimed_s) < floor_s * len(handover.claimed_s):
        claimed = quantity(math.fsum(handover.claimed_s) / len(handover.claimed_s), "s")
        complaints.append(
            f"says that a call took {claimed}, and moving the arrays takes {quantity(floor_s, 's')} at the least"
        )
    return complaints


def _wrong(handover: Handover, convention: Convention, case: Case, drawn: Inputs, *, inexact: bool) -> str:
    """What is wrong with the results of a block, compared with gradients that are worked out only now."""
    if handover.results[0].shape not in {(case.batch, case.features), (case.batch, case.features, case.features)}:
        return f"returns shape {list(handover.results[0].shape)} while it is timed"
    got = np.concatenate(handover.results)
    rows = {role: value[case.batch :] if role != "upstream" else value for role, value in drawn.items()}
    most = EXACT_ITEMS if wide_type(np.dtype(case.dtype)) is Fraction else CHECKED_ITEMS
    kept = max(1, most // max(1, handover.results[0][0].size * len(handover.results)))  # rows of each call
    if kept < case.batch:
        rng = np.random.default_rng(secrets.randbits(63))
        chosen = np.concatenate(
            [call * case.batch + rng.choice(case.batch, kept, replace=False) for call in range(len(handover.results))]
        )
        got = got[chosen]
        rows = {role: value[chosen] if role != "upstream" else value for role, value in rows.items()}
    if convention.temperature != 1.0:
        rows["probs"] = softmax(rows["logits"] / rows["probs"].dtype.type(convention.temperature))
    rows.setdefault("targets", rows["probs"])
    right = right_gradient(convention.operation, "sum", rows, convention.temperature)
    trial = Trial(convention.operation, len(got), case.features, case.dtype, case.logits, rows, **right._asdict())
    value = got * _factor(trial, got, convention, case.batch)
    errors = trial.errors(value, convention.recomputes)
    allowed = np.full(errors.shape, trial.allowed_ulp)
    if inexact:
        scale = float(trial.unit.max(initial=0.0)) / np.finfo(case.dtype).eps
        allowed = INEXACT * scale / trial.unit.astype(np.float64)
    if (errors <= allowed).all():
        return ""
    place = tuple(int(index) for index in np.argwhere(errors > allowed)[0])
    shown = f"{float(value[place]):.6g}, expected {float(trial.expected[place]):.6g}"
    return f"returns a wrong result while it is timed: an element is {shown}"


def _factor(trial: Trial, got: FloatArray, convention: Convention, batch: int) -> float:
    """What makes a result comparable: the incoming gradient divided out, and a mean over the batch turned to a sum."""
    incoming = (
        UPSTREAM
        if "upstream" in convention.roles or (convention.style == "node" and is_loss(convention.operation))
        else 1.0
    )
    if not is_loss(convention.operation):
        return 1.0 / incoming
    with contextlib.suppress(ZeroDivisionError):
        size, right = float(np.abs(got).sum()) / incoming, float(np.abs(trial.expected).sum())
        if abs(size * batch - right) < abs(size - right):
            return batch / incoming
    return 1.0 / incoming
