"""A sitting: one process that measures a part of a run, case by case, each of which becomes one row."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from threadpoolctl import ThreadpoolController

from ..implementations import NUMPY
from ..instruments import bandwidth
from ..instruments.clock import minor_faults, time_call
from ..instruments.memory import memory_limit, read_peak
from ..operations import operations
from ..operations.cases import Case
from ..storage.results import Row, Run, SittingTimes, load_rows, open_rows, write_run
from .budget import implausible, memory_budget_bytes, predict, reason_to_skip
from .selection import unique

# Before a case of several threads is timed, a working set of this size must stream at this share of the ceiling. A
# sitting waits PATIENCE_S for that in all. After that it times the cases nevertheless and adds a note to their rows.
STEADY_BYTES = 1 << 20
STEADY_SHARE = 0.7
PATIENCE_S = 30.0
PAUSE_S = 0.1


class Sitting:
    """The part of a run that this process measures: the table open for appending, and what its cases share."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run = run
        self.folder = folder
        write_run(run, folder)
        self.table = open_rows(folder)  # cuts a torn row off, so that the rest can be read
        self.rows = {row.case: row for row in load_rows(folder)}
        self.measuring_s = 0.0
        self._patience_s = PATIENCE_S
        self._open = True
        self._started = time.perf_counter()
        self._threads = ThreadpoolController()
        self._shared: tuple[object, Any, Any] | None = None

    def record(self, case: Case, benchmark: BenchmarkFixture) -> Row:
        """Measure a case and store its row; whatever the case raises becomes a row ``failed``.

        Raises:
            UserError: the row cannot be stored.
        """
        row = self._row(case, benchmark)
        self.table.append(row)
        self.rows[case] = row
        return row

    def _row(self, case: Case, benchmark: BenchmarkFixture) -> Row:
        prediction = predict(case, self.run.options.stream_bytes_per_s)
        budget_bytes = memory_budget_bytes(self.run.options.max_bytes)
        predicted_peak_bytes = None if case.spec.guessed else prediction.peak_bytes
        row = partial(Row, self.run.run_id, **dataclasses.asdict(case), predicted_peak_bytes=predicted_peak_bytes)
        reason = reason_to_skip(case, prediction, budget_bytes, self.run.options.max_call_s)
        if reason:
            return row(status="skipped", reason=reason)
        try:
            with self._threads.limit(limits=case.threads):
                return self._measure(case, benchmark, row, budget_bytes)
        except Exception as error:
            return row(status="failed", reason=f"{type(error).__name__}: {error}")

    def _measure(self, case: Case, benchmark: BenchmarkFixture, row: Callable[..., Row], budget_bytes: int) -> Row:
        inputs, reference = self._inputs(case)
        zeros = int((inputs.probs == 0).sum()) if case.spec.divides_by_probs else 0
        if zeros:
            return row(status="skipped", reason=f"divides by probabilities, and {zeros} of {inputs.probs.size} are 0")
        started = time.perf_counter()
        call = case.spec.bind(inputs, case.threads)
        with self._measuring(budget_bytes):
            result = call()  # warms up, too: buffers that stay are allocated, new memory is touched
        first_call_s = time.perf_counter() - started
        lenience = {"flushes_subnormals": True} if case.spec.flushes_subnormals else {}
        verdict = operations()[case.operation].judge(result, reference, **lenience)
        del result
        row = partial(row, max_error_ulp=verdict.max_error_ulp, first_call_s=first_call_s)
        if not verdict.right:
            return row(status="wrong", reason=verdict.reason)
        slowed = self._await_processors(case.threads)
        with self._measuring(budget_bytes):
            started = time.perf_counter()
            timing = time_call(benchmark, call)
            timing_wall_s = time.perf_counter() - started
            faults = minor_faults(call)
            peak = read_peak(call)
        measured = row(
            status="measured",
            reason="; ".join(filter(None, [slowed, peak.note, "" if timing else "not timed: --benchmark-disable"])),
            peak_bytes=peak.peak_bytes,
            minor_faults=faults,
            **(dataclasses.asdict(timing) if timing else {}),
        )
        impossible = implausible(measured, case, timing_wall_s, self.run.machine["memory_bytes"])
        return dataclasses.replace(measured, status="failed", reason=impossible) if impossible else measured

    def _await_processors(self, threads: int) -> str:
        """Wait until so many threads stream as they did for the ceiling; a note if that is more than one can wait."""
        steady = (threads, STEADY_BYTES)
        point = next((p for p in self.run.ceiling if (p.threads, p.working_set_bytes) == steady), None)
        if threads == 1 or point is None:
            return ""
        while (share := bandwidth.stream_share(point)) < STEADY_SHARE:
            if self._patience_s <= 0.0:
                return f"{threads} threads just before streamed at {share:.0%} of the ceiling"
            time.sleep(PAUSE_S)
            self._patience_s -= PAUSE_S
        return ""

    @contextlib.contextmanager
    def _measuring(self, budget_bytes: int) -> Iterator[None]:
        """A block that calls what is measured: its time is counted, its memory limited."""
        started = time.perf_counter()
        try:
            with memory_limit(budget_bytes):
                yield
        finally:
            self.measuring_s += time.perf_counter() - started

    def _inputs(self, case: Case) -> tuple[Any, Any]:
        """The inputs and their reference, kept while consecutive cases share them."""
        key = (case.operation, case.batch, case.features, case.dtype, case.logits)
        if self._shared is None or self._shared[0] != key:
            self._shared = None  # the old arrays go before the new ones come
            operation = operations()[case.operation]
            inputs = operation.make_inputs(case, self.run.seed)
            self._shared = (key, inputs, operation.make_reference(inputs, self.run.seed))
        return self._shared[1:]

    def close(self) -> None:
        """Store how long this sitting took, of which measuring, and let go of the table; once is enough."""
        if not self._open:
            return
        self._open = False
        times = SittingTimes(round(time.perf_counter() - self._started, 3), round(self.measuring_s, 3))
        self.run = dataclasses.replace(self.run, sittings=[*self.run.sittings, times])
        write_run(self.run, self.folder)
        self.table.close()


def sitting_of(case: Case) -> str:
    """The sitting that measures a case, as in 'torch:2'; empty for NumPy's cases, which share one.

    Other libraries start pools of threads that would compete, and some size theirs once, when they start. Each
    library has a process of its own for each number of threads.
    """
    return f"{case.spec.library}:{case.threads}" if case.spec.library != NUMPY else ""


def sittings_of(cases: list[Case]) -> list[str]:
    """The sittings of these cases beside NumPy's, in order."""
    return unique(filter(None, map(sitting_of, cases)))


CURRENT = pytest.StashKey[Sitting]()  # where pytest's configuration keeps the sitting of its process
