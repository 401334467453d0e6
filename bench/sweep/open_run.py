"""A run open for measuring: its tables, its processes, and how each of its cases becomes a row."""

import dataclasses
import functools
import itertools
import math
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..implementations import NUMPY
from ..instruments.agreement import AGREEMENT, Moment, best_pace_s
from ..instruments.bandwidth import Stream, streams_of
from ..instruments.clock import LONG_CALL_S, Timing, VisitSettings
from ..operations import operations
from ..operations.cases import Case
from ..storage.files import make_folder
from ..storage.results import Row, Run, SittingTimes, Visit, load_rows, load_visits, open_rows, open_visits, write_run
from ..verification.competitor import Competitor
from .budget import examination_s
from .measuring import Settings
from .rounds import Rounds, Subject
from .selection import unique
from .sitting import COMPILER, MeasuringError, Sitting, SittingHungError, SittingLostError, sitting_of
from .table import store_times

# How long a process may take before it is ended: a start with the import of a library and its compiling, and this many
# times what was predicted.
PATIENCE_S, PATIENCE = 60.0, 50.0
PLUGIN_PATIENCE_S = 15.0  # in place of the first, for what a user's module registers
# Processes of a sitting that take turns, where that is not one. Calls of a few microseconds differ by 1 to 3 % between
# processes, with the layout of the interpreter's memory: what one process finds, the next run would not find again. A
# library's process compiles for seconds and has to do.
PROCESSES = {NUMPY: 4}


def settings_of(run: Run) -> Settings:
    """What the processes of a run must know of it."""
    options = run.options
    timing = options.benchmark
    visit = VisitSettings(timing["max_time"], timing["min_time"]) if timing else None
    return Settings(run.run_id, run.seed, options.max_call_s, options.max_bytes, options.stream_bytes_per_s, visit)


class Observer:
    """Whoever follows a run; this one does nothing."""

    def begun(self, run: "OpenRun") -> None:
        """The run is open, and nothing is measured yet."""

    def examining(self, case: Case) -> None:
        """A case is about to be examined."""

    def examined(self, row: Row) -> None:
        """A case has its row, its time still to come."""

    def visiting(self, rounds: Rounds) -> None:
        """A visit is about to be made."""

    def visited(self, visit: Visit) -> None:
        """A visit was made and is stored."""

    def reported(self, row: Row) -> None:
        """All is measured, and this is what the case's benchmark reported."""

    def said(self, text: str) -> None:
        """Something is to be shown as it is."""


class OpenRun:
    """A run open for measuring.

    Raises:
        UserError: the tables cannot be written, or another process writes them.
    """

    def __init__(
        self, run: Run, folder: Path, competitors: Sequence[Competitor] = (), modules: Sequence[str] = ()
    ) -> None:
        self.run = run
        self.folder = folder
        make_folder(folder)
        # Nobody else writes the run from here on. A torn row is cut off, so that the rest can be read.
        self.table = open_rows(folder)
        write_run(run, folder)
        self._visits_table = open_visits(folder)
        self.rows = {row.case: row for row in load_rows(folder)}
        self.visits: dict[str, list[Moment]] = defaultdict(list)
        self._costs_s: dict[str, float] = {}  # of each subject's cheapest visit
        self._examinations_s: dict[Case, float] = {}
        self._last_round = 0
        for visit in load_visits(folder):
            self.visits[visit.case].append(visit.moment)
            self._note_cost(visit)
            self._last_round = max(self._last_round, visit.round)
        latest_s = max((moment.when_s for moments in self.visits.values() for moment in moments), default=None)
        # A resumed run goes on where it stopped. Its next visits are of another moment, however soon they follow.
        self._begins_at_s = 0.0 if latest_s is None else latest_s + AGREEMENT.apart_s
        self._start_clock()
        minutes = run.options.minutes
        self._deadline_s = math.inf if minutes is None else 60.0 * minutes
        self._rng = random.Random(f"{run.seed} {self._last_round}")  # noqa: S311 - orders and places, not secrets
        self._settings = settings_of(self.run)
        self._measuring_s = 0.0
        self._competitors, self._modules = competitors, modules
        self._sittings: dict[tuple[str, int], Sitting] = {}
        self._hung: dict[str, Case] = {}  # the case at which the sitting of a user's own implementation hung
        self._open = True

    def _start_clock(self) -> None:
        self._started = time.perf_counter()
        self._origin_s = self._started - self._begins_at_s

    def now_s(self) -> float:
        """Seconds since the run began, without those in which nothing measured it."""
        return time.perf_counter() - self._origin_s

    @property
    def time_is_up(self) -> bool:
        """Whether the run has used up its time box."""
        return self.now_s() >= self._deadline_s

    @functools.cached_property
    def pace_s(self) -> float:
        """The best pace of all visits, asked for when all are made."""
        return best_pace_s(itertools.chain(*self.visits.values()))

    def measure(self, cases: Sequence[Case], observer: Observer) -> None:
        """Examine each of the cases that has no row yet, then visit them until they agree or the time is up.

        Raises:
            UserError: a row cannot be stored.
        """
        self._start_clock()  # anew: the machine may have been waited for
        self.run = dataclasses.replace(self.run, ended=False)
        write_run(self.run, self.folder)
        for case in cases:
            if case not in self.rows and not self.time_is_up:
                observer.examining(case)
                self._examine(case, observer)
                observer.examined(self.rows[case])
        if self._settings.visit is not None:
            self._visit_rounds([case for case in cases if self._is_measured(case)], observer)
            for case in cases:
                if self._is_measured(case) and case.spec.of_plugin:
                    self._recheck(case)
        self.run = dataclasses.replace(self.run, ended=True)

    def close(self) -> None:
        """End the processes, store the times that follow from the visits, and let go of the tables; once is enough."""
        if not self._open:
            return
        self._open = False
        for sitting in self._sittings.values():
            sitting.close()
        self.table.close()
        self._visits_table.close()
        times = SittingTimes(round(time.perf_counter() - self._started, 3), round(self._measuring_s, 3))
        write_run(dataclasses.replace(self.run, sittings=[*self.run.sittings, times]), self.folder)
        store_times(self.folder, [row for row in self.rows.values() if row.status in ("wrong", "failed")])

    def _is_measured(self, case: Case) -> bool:
        return case in self.rows and self.rows[case].status == "measured"

    def _compiled(self, case: Case) -> bool:
        """Whether the first call may have taken long by compiling."""
        return case.spec.library != NUMPY and self.rows[case].first_call_s >= LONG_CALL_S

    def _examine(self, case: Case, observer: Observer) -> None:
        """Store the row of a case without its time, and its first visit unless its first call may have compiled."""
        try:
            row: Row = self._ask("examine", case)
        except (SittingLostError, MeasuringError) as error:
            row = Row(self.run.run_id, **dataclasses.asdict(case), status="failed", reason=str(error))
        self.table.append(row)
        self.rows[case] = row
        if row.status != "measured" or self._settings.visit is None:
            return
        if not self._compiled(case) and (first := self._visit(case, 0, observer)):
            self.visits[str(case)].append(first)

    def _visit_rounds(self, cases: list[Case], observer: Observer) -> None:
        subjects: list[Subject] = [*cases, *self._streams(cases)]
        known = {subject: self._costs_s[str(subject)] for subject in subjects if str(subject) in self._costs_s}
        rounds = Rounds(
            subjects=subjects,
            visits=self.visits,
            deadline_s=self._deadline_s,
            now=self.now_s,
            rng=self._rng,
            number=self._last_round,
            every=self.run.options.every_round,
            costs_s=defaultdict(float, known),
        )
        for subject in rounds.upcoming():
            observer.visiting(rounds)
            started = time.perf_counter()
            moment = self._visit(subject, rounds.number, observer)
            rounds.record(subject, moment, time.perf_counter() - started)

    def _visit(self, subject: Subject, number: int, observer: Observer) -> Moment | None:
        """Make a visit and store it; None where it failed, and then the case's row says why."""
        # The machine's clock comes first: a break between the two readings then shortens the visit's span in
        # `began_s` and `took_s`, and it never seems to overlap the next.
        began_s, when_s = time.time(), self.now_s()
        try:
            timing: Timing = self._ask("visit", subject, self._rng.getrandbits(32), number=number)
        except (SittingLostError, MeasuringError) as error:
            if isinstance(subject, Case):
                self._refute(subject, f"in round {number}", error)
            return None
        return self._stored(subject, number, when_s, began_s, timing, observer)

    def _recheck(self, case: Case) -> None:
        """Let a user's own implementation show once more, after its last visit, that it is right."""
        try:
            self._ask("recheck", case)
        except (SittingLostError, MeasuringError) as error:
            self._refute(case, "after its last visit", error)

    def _refute(self, case: Case, when: str, error: SittingLostError | MeasuringError) -> None:
        status = error.status if isinstance(error, MeasuringError) else "failed"
        self.rows[case] = dataclasses.replace(self.rows[case], status=status, reason=f"{when}: {error}")

    def _stored(
        self, subject: Subject, number: int, when_s: float, began_s: float, timing: Timing, observer: Observer
    ) -> Moment:
        visit = Visit(
            str(subject),
            number,
            round(when_s, 4),
            timing.calls,
            timing.fastest_s,
            timing.median_s,
            began_s=round(began_s, 4),
            took_s=round(self.now_s() - when_s, 4),
            pace_s=float(f"{timing.pace_s:.3g}"),
        )
        self._visits_table.append(visit)
        self._note_cost(visit)
        observer.visited(visit)
        return visit.moment

    def _note_cost(self, visit: Visit) -> None:
        """Keep what the visit took, where that is known: runs of earlier versions did not store it."""
        if not math.isnan(visit.took_s):
            self._costs_s[visit.case] = min(visit.took_s, self._costs_s.get(visit.case, math.inf))

    def _ask(self, method: str, subject: Subject, *arguments: object, number: int = 0) -> Any:
        """What one of the subject's processes answers; each of them has its turn, by the number of the round."""
        name = sitting_of(subject)
        if name in self._hung:
            raise SittingLostError(f"not tried: it hung at {self._hung[name]}")
        process = name, number % PROCESSES.get(name, 1)
        if process not in self._sittings:
            self._sittings[process] = Sitting(name, self._settings, self._competitors, self._modules)
            self._sittings[process].ask("ready", limit_s=PATIENCE_S)
        expected_s = self._expected_s(subject) if isinstance(subject, Case) else 0.0
        of_plugin = isinstance(subject, Case) and subject.spec.of_plugin
        limit_s = (PLUGIN_PATIENCE_S if of_plugin else PATIENCE_S) + PATIENCE * expected_s
        started = time.perf_counter()
        try:
            return self._sittings[process].ask(method, subject, *arguments, limit_s=limit_s)
        except SittingHungError:
            if isinstance(subject, Case) and of_plugin:
                self._hung[name] = subject
            raise
        finally:
            self._measuring_s += time.perf_counter() - started

    def _expected_s(self, case: Case) -> float:
        """About how long it takes to examine a case; asked once, for to ask takes as long as a part of a visit."""
        if case not in self._examinations_s:
            self._examinations_s[case] = examination_s(case, self.run.options)
        return self._examinations_s[case]

    def _streams(self, cases: Sequence[Case]) -> list[Stream]:
        """The streams of the ceiling: at the working set and the number of threads of each case."""
        compilers = {sitting_of(case) for case in cases if case.spec.library == COMPILER}
        points = unique((case.threads, operations()[case.operation].arrays_moved * case.array_bytes) for case in cases)
        return unique(
            stream
            for threads, size in points
            for stream in streams_of(threads, size, past_caches=f"{COMPILER}:{threads}" in compilers)
        )
