"""The time and the memory of a target that need not be trusted: every timed call is checked, and a lie is named.

The clock in the target's process is exact, but the target can tamper with it. The judge's own clock and the system's
count of processor time cannot be reached from there, but they include the handing over. So the first one is believed
where the others agree. What the handing over takes is known from a control: a process that gets inputs of the same
shapes and does nothing.
"""

import itertools
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from ...instruments.memory import SMALL_BUFFER_BYTES
from ...operations.cases import Case
from ...units import quantity
from ..calling.call import Inputs
from ..calling.convention import Convention
from ..process.block import Made
from ..process.failures import Failure
from ..process.handover import Handover
from ..process.isolation import Isolated
from .checking import ARRAYS_MOVED, Checked, check, fresh_inputs, split

BLOCKS = 5  # as many must be believed
PATIENCE = 3  # times as many are tried, and more for some seconds if none is believed: a slow phase of the machine
PATIENCE_S = 3.0  # makes honest clocks differ, too
BLOCK_S = 0.002  # of calls in a block
MAX_CALLS = 32
MAX_BLOCK_BYTES = 6 << 20  # of the arrays of a block, or of a single call if that has more
PEAK_CALLS = 2
LONG_S = 0.05  # of calls: two blocks are enough then
# The clocks agree if the judge's shows no more than this share of the control's overhead, or of the calls, beyond both.
# It is all that a lie can gain.
OVERHEAD_SHARE, CALLS_SHARE = 0.25, 0.05
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
        trusted: bool = False,
    ) -> Timed | Failure:
        """The time of a call at a case's shape, dtype and distribution of logits, and its peak memory.

        ``inexact``: the target is known to be right to fewer digits than usual, and is held to those. ``trusted``: it
        is the suite's own, and its clock is believed.
        """
        sample = self.block(subject, convention, case, 1, inexact=inexact, trusted=True)
        if isinstance(sample, Failure):
            return sample
        calls = calls_at_once(convention, calls_of_block(case, sample.call_s, block_s))
        complaints = list(sample.checked.complaints)
        believed: list[float] = []
        doubt = ""
        most = PATIENCE * blocks
        for tried in patiently(most):
            if complaints or len(believed) == blocks or (believed and tried >= most):
                break
            if len(believed) > 1 and math.fsum(believed) * calls > LONG_S:
                break
            block = self.block(subject, convention, case, calls, sample.handover.made, inexact=inexact, trusted=trusted)
            if isinstance(block, Failure):
                return block
            complaints += block.checked.complaints
            doubt = block.doubt or doubt
            if not block.doubt:
                believed.append(block.call_s)
        if isinstance(subject, Isolated) and not trusted and not complaints and (helpers := subject.helpers()):
            complaints.append(helped(helpers))
        peak_bytes = None
        if peak and believed and not complaints:
            reading = self.peak(subject, convention, case, sample.handover.made, inexact=inexact)
            if isinstance(reading, Failure):
                return reading
            peaks, found = reading
            peak_bytes = min(peaks, default=None)
            complaints += found
        if complaints or not believed:
            return Timed(math.nan, math.nan, complaints=tuple(dict.fromkeys(complaints or [doubt])))
        median_s = statistics.median(believed)
        return Timed(min(believed), median_s, calls * len(believed), peak_bytes, (), tuple(believed))

    def block(
        self,
        subject: Timeable,
        convention: Convention,
        case: Case,
        calls: int,
        made: Made | None = None,
        *,
        inexact: bool = False,
        trusted: bool = False,
    ) -> "Block | Failure":
        """One block of so many calls, each with inputs of its own, all results checked, its clock compared with ours.

        ``made`` is that of an earlier block of the same case; without it there is a warm call before.
        """
        drawn = fresh_inputs(convention, case, calls + 1)
        trials = split(drawn, calls + 1)
        handover = subject.timed(convention, trials if made is None else trials[1:], made)
        if isinstance(handover, Failure):
            return handover
        checked = check(handover, convention, case, trials[1:], inexact=inexact)
        told = isinstance(subject, Isolated) and not trusted and not checked.complaints
        doubt = self._doubt(handover, convention, trials[1:]) if told else ""
        return Block(math.fsum(handover.claimed_s) / calls, checked, doubt, handover)

    def peak(
        self, subject: Timeable, convention: Convention, case: Case, made: Made, *, inexact: bool = False
    ) -> tuple[tuple[int, ...], tuple[str, ...]] | Failure:
        """The peak of each of a few calls in bytes, and complaints."""
        trials = split(fresh_inputs(convention, case, PEAK_CALLS), PEAK_CALLS)[: calls_at_once(convention, PEAK_CALLS)]
        handover = subject.timed(convention, trials, made, peaks=True)
        if isinstance(handover, Failure):
            return handover
        complaints = check(handover, convention, case, trials, inexact=inexact).complaints
        if len(handover.peaks) != len(trials):
            return (), (*complaints, "does not say what the peak of each call was")
        peak_bytes, result = min(handover.peaks), handover.results[0].nbytes
        plain = convention.style == "function" and convention.container == "array" and not convention.is_single
        if plain and not made.writes_out and not complaints and SMALL_BUFFER_BYTES <= result > peak_bytes:
            complaints = (f"says that its peak is {peak_bytes} bytes, and its result alone has {result}",)
        return handover.peaks, complaints

    def _doubt(self, handover: Handover, convention: Convention, trials: Sequence[Inputs]) -> str:
        """Why the clock of a target's process is not believed; empty if it is."""
        calls, claimed_s = len(handover.results), math.fsum(handover.claimed_s)
        hidden_s = handover.beyond_s - (1.0 + OVERHEAD_SHARE) * self._idle(convention, trials).beyond_s
        if hidden_s <= CALLS_SHARE * claimed_s:
            return ""
        own, ours = claimed_s / calls, (claimed_s + hidden_s) / calls
        return (
            f"has a clock that does not agree with ours: {quantity(own, 's')} a call, and {quantity(ours, 's')} by ours"
        )

    def _idle(self, convention: Convention, trials: Sequence[Inputs]) -> Handover:
        """What a block of the same shapes takes in the control process."""
        if self._control is None:
            self._control = Isolated(IDLE)
        logits = trials[0]["logits"]
        container = "list" if convention.container == "list" else "array"
        idle = Convention(
            "softmax", "function", ("probs", "grad_output"), layout=convention.layout, container=container
        )
        handover = self._control.timed(idle, trials, Made(logits.shape, logits.dtype.name))
        if isinstance(handover, Failure):
            raise RuntimeError(f"the control process {handover.summary}")  # noqa: TRY004 - no error of a caller's
        return handover


@dataclass(frozen=True)
class Block:
    """One block: the seconds of a call by the target's clock, what is wrong with it, and why the clock is doubted."""

    call_s: float
    checked: Checked
    doubt: str
    handover: Handover


def patiently(least: int) -> Iterator[int]:
    """The numbers of tries to find a block whose clock is believed: so many of them, and more for some seconds."""
    end = time.perf_counter() + PATIENCE_S
    for tried in itertools.count():
        if tried >= least and time.perf_counter() > end:
            return
        yield tried


def calls_of_block(case: Case, call_s: float, block_s: float) -> int:
    """How many calls fit into a block, by time and by memory."""
    by_memory = MAX_BLOCK_BYTES // max(1, ARRAYS_MOVED * case.array_bytes)
    return max(1, min(MAX_CALLS, by_memory, int(block_s / max(call_s, 1e-7))))


def calls_at_once(convention: Convention, calls: int) -> int:
    """How many calls can be prepared before the first of them is made: an object has one forward at a time."""
    return 1 if convention.style == "pair" and not convention.owner else calls


def helped(processes: int) -> str:
    """The complaint about processes that a target has at work, in words that follow 'it'."""
    return f"has {processes} more process{'es' if processes > 1 else ''} at work, whose time is not seen"
