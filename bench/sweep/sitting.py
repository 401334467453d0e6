"""One run of the sweep: which run is written, and how one case becomes one row."""

import contextlib
import dataclasses
import datetime
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from threadpoolctl import ThreadpoolController

from ..errors import UserError
from ..implementations import NUMPY, registered
from ..instruments import bandwidth, host
from ..instruments.clock import minor_faults, time_call
from ..instruments.memory import memory_limit, read_peak
from ..operations import operations
from ..operations.cases import Case
from ..storage.results import RUN_ID, Row, Run, SittingTimes, find_run, load_rows, load_run, open_rows, write_run
from .budget import MEMORY_SHARE, implausible, predict, reason_to_skip
from .selection import Selection, unique

# Calls of a case beside those within --benchmark-max-time: check, calibration, faults, three peak readings, the last
# call that pytest-benchmark makes for its result.
CALLS_BESIDE_TIMING = 7

# Before a case of several threads is timed, a working set of this size must stream at this share of the ceiling. What a
# sitting waits for that is limited: afterwards cases are timed all the same, with a note.
STEADY_BYTES = 1 << 20
STEADY_SHARE = 0.7
PATIENCE_S = 30.0
PAUSE_S = 0.1


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a user may set about a sweep beside its cases."""

    results: Path
    seed: int
    max_call_s: float
    max_bytes: int | None
    benchmark: dict[str, float]  # pytest-benchmark's options that shape a timing

    def stored(self) -> dict[str, Any]:
        """The settings as run.json keeps them."""
        return {"max_call_s": self.max_call_s, "max_bytes": self.max_bytes, "benchmark": self.benchmark}


class Sweep:
    """A run being written: its folder, its table, and what is shared between cases."""

    def __init__(self, run: Run, folder: Path, settings: Settings) -> None:
        self.run = run
        self.folder = folder
        self.settings = settings
        write_run(run, folder)
        self.table = open_rows(folder)  # cuts a torn row off, so that the rest can be read
        self.rows = {row.case: row for row in load_rows(folder)}
        self.measuring_s = 0.0
        self.missing = 0  # cases of this sitting still to be recorded
        self._patience_s = PATIENCE_S
        self._open = True
        self._started = time.perf_counter()
        self._threads = ThreadpoolController()
        self._stream_bytes_per_s = float(run.options["stream_bytes_per_s"])
        self._shared: tuple[object, Any, Any] | None = None

    def record(self, case: Case, benchmark: BenchmarkFixture) -> Row:
        """Measure a case and store its row; whatever the case raises becomes a row ``failed``.

        Raises:
            UserError: the row cannot be stored.
        """
        prediction = predict(case, self._stream_bytes_per_s)
        budget = self._memory_budget_bytes()
        predicted_peak_bytes = None if case.spec.guessed else prediction.peak_bytes
        row = partial(Row, self.run.run_id, **dataclasses.asdict(case), predicted_peak_bytes=predicted_peak_bytes)
        reason = reason_to_skip(case, prediction, budget, self.settings.max_call_s)
        if reason:
            return self._store(case, row(status="skipped", reason=reason))
        try:
            with self._threads.limit(limits=case.threads):
                measured = self._measure(case, benchmark, row, budget)
        except Exception as error:
            measured = row(status="failed", reason=f"{type(error).__name__}: {error}")
        return self._store(case, measured)

    def expected_s(self, case: Case) -> float:
        """About how long the case will take, for the estimate of the time left."""
        prediction = predict(case, self._stream_bytes_per_s)
        if reason_to_skip(case, prediction, self._memory_budget_bytes(), self.settings.max_call_s):
            return 0.0
        options = self.settings.benchmark
        timing_s = max(options["max_time"], options["min_rounds"] * prediction.call_s)
        return timing_s + CALLS_BESIDE_TIMING * prediction.call_s

    def _memory_budget_bytes(self) -> int:
        return self.settings.max_bytes or int(host.available_bytes() * MEMORY_SHARE)

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
        point = next((one for one in self.run.ceiling if (one.threads, one.working_set_bytes) == steady), None)
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

    def _store(self, case: Case, row: Row) -> Row:
        self.table.append(row)
        self.rows[case] = row
        self.missing -= 1
        return row

    def close(self) -> None:
        """Store how long this sitting took, of which measuring, and let go of the table; once is enough."""
        if not self._open:
            return
        self._open = False
        times = SittingTimes(round(time.perf_counter() - self._started, 3), round(self.measuring_s, 3))
        self.run = dataclasses.replace(self.run, sittings=[*self.run.sittings, times])
        write_run(self.run, self.folder)
        self.table.close()


def sittings(folder: Path) -> list[str]:
    """What a stored run still misses that wants a process of its own: library and threads, as in 'torch:2'.

    NumPy's cases are measured in the process of the sweep. Other libraries bring pools of threads that would fight, and
    some size theirs once, when they start.
    """
    selection = Selection.restored(load_run(folder).selection)
    done = {row.case for row in load_rows(folder)}
    missing = [case for case in selection.cases() if case not in done]
    return unique(sitting for case in missing if (sitting := sitting_of(case)))


def sitting_of(case: Case) -> str:
    """The sitting of a case that needs a process of its own; empty for NumPy's."""
    return f"{case.spec.library}:{case.threads}" if case.spec.library != NUMPY else ""


CURRENT = pytest.StashKey[Sweep]()  # where a pytest session keeps its run


def begin(selection: Selection, settings: Settings, run_id: str | None) -> Sweep:
    """A new run in its own folder.

    Raises:
        UserError: the run exists already, its name cannot be a folder's, or the folder cannot be written.
    """
    run = describe(selection, settings, run_id or datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S"))
    folder = settings.results / run.run_id
    if folder.exists():
        raise UserError(f"{folder}: exists already; resume it (RESUME={run.run_id}) or choose another name")
    return Sweep(dataclasses.replace(run, ceiling=_ceiling(selection.cases())), folder, settings)


def _ceiling(cases: list[Case]) -> list[bandwidth.CeilingPoint]:
    """The ceiling for the cases, at each of their numbers of threads."""
    largest = max(operations()[case.operation].arrays_moved * case.array_bytes for case in cases)
    threads = unique(case.threads for case in cases)
    return [point for count in threads for point in bandwidth.stream_ceiling(count, largest)]


def resume(name: str, settings: Settings) -> Sweep:
    """A stored run, to be completed.

    Raises:
        UserError: there is no such run, or it was made on another machine, with other versions or other code.
    """
    folder = find_run(name, settings.results)
    stored = load_run(folder)
    differences = stored.differences(describe(Selection(), settings, stored.run_id))
    if differences:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        raise UserError(f"{folder} cannot be resumed: {differences[0]}{more}; start a new run")
    return Sweep(stored, folder, settings)


def describe(selection: Selection, settings: Settings, run_id: str) -> Run:
    """The description of a run that starts now, here, its ceiling still to be measured.

    Raises:
        UserError: the run's name cannot be a folder's.
    """
    if not RUN_ID.fullmatch(run_id):
        raise UserError(f"--run-id {run_id!r}: letters, digits, '.', '_' and '-' only, the first a letter or digit")
    return Run(
        run_id=run_id,
        started=host.now_utc(),
        seed=settings.seed,
        selection=dataclasses.asdict(selection),
        options={**settings.stored(), "stream_bytes_per_s": round(bandwidth.fresh_stream_bytes_per_s())},
        machine=host.machine(),
        versions=host.versions(),
        code=host.code_hashes(),
        not_installed=selection.not_installed(),
        implementations=[
            {
                "operation": spec.operation,
                "name": spec.name,
                "summary": spec.summary,
                "workspace": str(spec.workspace),
                "source": spec.source,
                "library": spec.library,
            }
            for spec in registered().values()
        ],
    )
