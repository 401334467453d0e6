"""The measuring of a user's own implementation: by a process that the code under measurement cannot reach.

The sitting's process holds the inputs, the references and the tables' figures. The target runs in another one, which
gets fresh inputs for every call: see ``verification/judging/timing``.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial

from ..instruments.clock import Timing
from ..operations.cases import Case
from ..storage.results import Row
from ..verification.competitor import Competitor
from ..verification.judging.timing import Block, Timekeeper, calls_at_once, calls_of_block, helped, patiently
from ..verification.process.block import Made
from ..verification.process.failures import Failure
from ..verification.process.isolation import CALL_S, Isolated
from .budget import memory_budget_bytes, predict, reason_to_skip
from .measuring import Settings

FAULTS_S = 0.002  # of calls, over which page faults are counted


class NotBelievedError(Exception):
    """The target failed, gave a wrong result or tampered with its time; the message says what."""


class GuestMeasurer:
    """The measuring of one user's own implementation; it answers what ``Measurer`` answers."""

    def __init__(self, settings: Settings, competitor: Competitor) -> None:
        self._settings = settings
        self._competitor = competitor
        max_bytes = memory_budget_bytes(settings.max_bytes)
        self._subject = Isolated(competitor.target, call_s=CALL_S + settings.max_call_s, max_bytes=max_bytes)
        self._keeper = Timekeeper()
        self._call_s: dict[Case, float] = {}  # of one call, as the latest block found it
        self._made: dict[Case, Made] = {}

    def close(self) -> None:
        """End the target's process and the control's."""
        self._subject.__exit__()
        self._keeper.__exit__(None, None, None)

    def ready(self) -> None:
        """Nothing, as `Measurer.ready`."""

    def examine(self, case: Case) -> Row:
        """The row of a case without its time."""
        row = partial(Row, self._settings.run_id, **dataclasses.asdict(case), predicted_peak_bytes=None)
        prediction = predict(case, self._settings.stream_bytes_per_s)
        budget_bytes = memory_budget_bytes(self._settings.max_bytes)
        reason = reason_to_skip(case, prediction, budget_bytes, self._settings.max_call_s)
        if reason:
            return row(status="skipped", reason=reason)
        try:
            return self._examined(case, row)
        except NotBelievedError as error:
            return row(status="wrong", reason=str(error))

    def visit(self, case: Case, seed: int) -> Timing:  # noqa: ARG002 - places and inputs are not to be foreseen
        """One visit: a block of calls that are all checked, each with inputs of its own at places of its own.

        Raises:
            NotBelievedError: the target failed, gave a wrong result or tampered with its time.
        """
        if self._settings.visit is None:
            raise ValueError("visits are not timed in this run")
        calls = self._calls(case, self._settings.visit.visit_s)
        self._block(case, 1, trusted=True)  # a warm call, as in `time_visit`
        doubt = ""
        for _ in patiently(1):
            block = self._block(case, calls)
            if helpers := self._subject.helpers():
                raise NotBelievedError(f"it {helped(helpers)}")
            doubt = block.doubt
            if not doubt:
                return Timing(calls, block.call_s, block.call_s)
        raise NotBelievedError(doubt)

    def _examined(self, case: Case, row: Callable[..., Row]) -> Row:
        first = self._block(case, 1, trusted=True)
        made, checked = first.handover.made, first.checked
        row = partial(row, max_error_ulp=checked.max_error_ulp, first_call_s=first.handover.warm_s)
        if made.dtype != case.dtype:
            return row(status="wrong", reason=f"returned dtype {made.dtype}, expected {case.dtype}")
        peak = self._keeper.peak(
            self._subject, self._competitor.convention, case, made, inexact=self._competitor.inexact
        )
        if isinstance(peak, Failure):
            raise NotBelievedError(peak.summary)
        peaks, complaints = peak
        if complaints:
            raise NotBelievedError(f"it {complaints[0]}")
        return row(
            status="measured",
            reason="" if self._settings.visit else "not timed: --benchmark-disable",
            peak_bytes=min(peaks),
            peak_high_bytes=max(peaks),
            minor_faults=self._faults(case),
        )

    def _faults(self, case: Case) -> int | None:
        """Page faults of one call, the mean over a block's calls; None where the system does not count them."""
        calls = self._calls(case, FAULTS_S)
        handover = self._block(case, calls, trusted=True).handover
        return None if math.isnan(handover.faults) else math.floor(handover.faults / calls)

    def _calls(self, case: Case, block_s: float) -> int:
        wanted = calls_of_block(case, self._call_s.get(case, 0.0), block_s)
        return calls_at_once(self._competitor.convention, wanted)

    def _block(self, case: Case, calls: int, *, trusted: bool = False) -> Block:
        """A block of calls, after a warm call if it is the first of its case; ``trusted``: nobody looks at its time."""
        block = self._keeper.block(
            self._subject,
            self._competitor.convention,
            case,
            calls,
            self._made.get(case),
            inexact=self._competitor.inexact,
            trusted=trusted,
        )
        if isinstance(block, Failure):
            self._made.clear()  # the next block is that of a new process
            raise NotBelievedError(block.summary)
        if block.checked.complaints:
            raise NotBelievedError(f"it {block.checked.complaints[0]}")
        self._call_s[case], self._made[case] = block.call_s, block.handover.made
        return block
