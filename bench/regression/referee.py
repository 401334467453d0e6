"""Two targets timed against each other, each in an interpreter of its own, in turns; this process is the referee.

Each side imports its own modules, so that two versions of one package do not meet. The referee and its sides share one
processor. A round is a few short blocks of calls of each side in turn: noise that lasts longer than a round slows both
sides alike, and shorter noise misses at least one of the blocks, so the fastest block stays. The `Timekeeper` draws new
inputs for each block, checks every result, and believes no clock that others contradict. It knows only the whole of a
block, so the mean over its calls counts and not the fastest: a target could share out a block's time as it likes. As in
a duet, what differs between processes does not average out inside them, so a referee with its two processes gives one
value a case: the median over its rounds of ln(fastest block of work / fastest block of base).
"""

import contextlib
import math
import os
import random
import signal
import statistics
import sys
import time
from pathlib import Path

from ..verification.judging.timing import Timekeeper, calls_at_once, calls_of_block, helped, patiently
from ..verification.process.block import Made
from ..verification.process.failures import Failure
from ..verification.process.isolation import Isolated
from .duel import Duel, Effort, Side, Task, Value
from .duet import LONG_CALL_S, error_of_median

BLOCK_S = 0.00015  # of calls in a block: each call has inputs of its own, and making those takes longer than the call
BLOCKS_A_ROUND, LEAST_ROUNDS = 4, 4
# A longer call is a block, and a pair of blocks is a round, as in a duet.
LEAST_PAIRS = 12
# Where not even the least number of rounds fits into this many times the limit, there are fewer.
OVERTIME, FEWEST_ROUNDS = 4.0, 3
PATIENCE = 20  # blocks in a row whose clock is doubted, and more: on a busy machine that happens to honest ones, too


class SideWrongError(Exception):
    """A result of a side is wrong; ``role`` says which side."""

    def __init__(self, role: str, reason: str) -> None:
        super().__init__(reason)
        self.role = role


def perform(task: Task) -> list[Value]:
    """Do a task whose sides are targets."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the sides' processes are ended
    if task.processors:
        os.sched_setaffinity(0, task.processors)  # the sides inherit it
    rng = random.Random(task.seed)  # noqa: S311 - an order, not a secret
    duels = rng.sample(task.duels, len(task.duels))
    with contextlib.ExitStack() as stack:
        sides = Sides(stack)
        if task.effort is None:
            return [_examine(duel, sides) for duel in duels]
        return [_time(duel, sides, rng, task.effort) for duel in duels]


class DoubtedError(Exception):
    """No time of a side is believed. That says nothing about its results, and no verdict on its time is possible."""


class Sides:
    """The processes of sides, one for each side and role, which all its cases share; and who keeps their time."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._started: dict[tuple[str, Side], Isolated] = {}
        self.timekeeper = stack.enter_context(Timekeeper())

    def of(self, side: Side, role: str) -> Isolated:
        """The process of a side in a role."""
        if (role, side) not in self._started:
            root = Path(side.root) if side.root else None
            subject = Isolated.limited(side.target, side.timeout_s, side.max_bytes, root)
            self._started[role, side] = self._stack.enter_context(subject)
        return self._started[role, side]


class Turns:
    """The turns of one side at a case: blocks of calls in its process, every result checked."""

    def __init__(self, duel: Duel, role: str, sides: Sides) -> None:
        side: Side = getattr(duel, role)
        assert side.convention is not None  # noqa: S101 - a target's
        self._convention, self._side = side.convention, side
        self._case, self._role = duel.case, role
        self._timekeeper, self._subject = sides.timekeeper, sides.of(side, role)
        self._made: Made | None = None
        self.shortest_s = math.inf  # of a call, the mean over its block

    def call_s(self, calls: int) -> float:
        """Seconds of a call, the mean over a block of so many.

        Raises:
            SideWrongError: a result is wrong.
            DoubtedError: no time is believed.
        """
        doubt = ""
        for _ in patiently(PATIENCE):
            block = self._timekeeper.block(
                self._subject, self._convention, self._case, calls, self._made, inexact=self._side.limited
            )
            if isinstance(block, Failure):
                raise SideWrongError(self._role, _of_failure(block))
            if block.checked.complaints:
                raise SideWrongError(self._role, f"it {'; '.join(block.checked.complaints)}")
            self._made, doubt = block.handover.made, block.doubt
            if not doubt:
                self.shortest_s = min(self.shortest_s, block.call_s)
                return block.call_s
        raise DoubtedError(f"it {doubt}")

    def check_alone(self) -> None:
        """Check that nothing else works for the side.

        Raises:
            SideWrongError: it has other processes at work, whose time nobody sees.
        """
        if helpers := self._subject.helpers():
            raise SideWrongError(self._role, f"it {helped(helpers)}")

    def at_once(self, calls: int) -> int:
        """How many of so many calls fit into one block of this side."""
        return calls_at_once(self._convention, calls)

    def peaks(self) -> tuple[int, ...]:
        """The peak bytes of a few calls.

        Raises:
            SideWrongError: a result is wrong, or a peak is not to be believed.
        """
        self.call_s(1)
        assert self._made is not None  # noqa: S101 - by the call
        read = self._timekeeper.peak(
            self._subject, self._convention, self._case, self._made, inexact=self._side.limited
        )
        if isinstance(read, Failure):
            raise SideWrongError(self._role, _of_failure(read))
        peaks, complaints = read
        if complaints:
            raise SideWrongError(self._role, f"it {'; '.join(complaints)}")
        return peaks


def _of_failure(failure: Failure) -> str:
    return " at ".join(filter(None, [failure.summary, failure.culprit]))


def _time(duel: Duel, sides: Sides, rng: random.Random, effort: Effort) -> Value:
    started = time.perf_counter()
    ratios: list[float] = []
    try:
        turns = base, work = Turns(duel, "base", sides), Turns(duel, "work", sides)
        longer_s = max(each.call_s(1) for each in turns)
        calls = min(each.at_once(calls_of_block(duel.case, longer_s, BLOCK_S)) for each in turns)
        blocks, least = (1, LEAST_PAIRS) if longer_s > LONG_CALL_S else (BLOCKS_A_ROUND, LEAST_ROUNDS)
        while _goes_on(ratios, least, effort, time.perf_counter() - started):
            fastest_s = dict.fromkeys(turns, math.inf)
            for _ in range(blocks):
                for each in rng.sample(turns, 2):
                    fastest_s[each] = min(fastest_s[each], each.call_s(calls))
            ratios.append(math.log(fastest_s[work] / fastest_s[base]))
        for each in turns:
            each.check_alone()
    except DoubtedError as error:
        return Value(duel.label, failed=str(error))
    except SideWrongError as error:
        reason = str(error)
        return Value(duel.label, failed=reason) if error.role == "base" else Value(duel.label, work_wrong=reason)
    return Value(duel.label, log_ratio=statistics.median(ratios), base_s=base.shortest_s, work_s=work.shortest_s)


def _goes_on(ratios: list[float], least: int, effort: Effort, elapsed_s: float) -> bool:
    """Whether another round is timed."""
    if len(ratios) < FEWEST_ROUNDS:
        return True
    if len(ratios) < least:
        return elapsed_s < OVERTIME * effort.limit_s
    return elapsed_s < effort.limit_s and error_of_median(ratios) > effort.precision


def _examine(duel: Duel, sides: Sides) -> Value:
    """The peaks of both sides, of calls whose results are checked."""
    try:
        base, work = (Turns(duel, role, sides).peaks() for role in ("base", "work"))
    except DoubtedError as error:
        raise RuntimeError(f"{duel.label}: {error}") from None
    except SideWrongError as error:
        reason = str(error)
        return Value(duel.label, base_wrong=reason) if error.role == "base" else Value(duel.label, work_wrong=reason)
    return Value(duel.label, base_peak_bytes=max(base), work_peak_bytes=min(work))
