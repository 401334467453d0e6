"""One session of each tool: fresh processes that measure the tool's cases once, with all options at its defaults.

Every tool states one number for a case. What it states as its interval differs, and is judged as an interval all the
same, for users read it as one.
"""

import itertools
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..implementations import is_installed
from ..instruments.agreement import Moment, run_pace_s
from ..instruments.scratch import temporary_folder
from ..regression.quality.usual_tools import (
    asv_results,
    commit_all,
    make_asv_project,
    run_asv,
    run_pytest_benchmark,
)
from ..storage.results import load_rows, load_visits
from .shared_cases import SHARED_CASES

OURS, EVERY_ROUND = "softmax-bench", "softmax-bench --every-round"
PYTEST, TIMEIT, ASV, PYPERF = "pytest-benchmark", "timeit", "asv", "pyperf"
NEEDS = {ASV: ("asv", "asv"), PYPERF: ("pyperf", "others")}  # the package that a tool needs, and the extra that has it
SWEEP = ("--grid=quick", "--library=numpy", "--operation=softmax")  # its time box is the grid's
STATES = {  # the number and the interval of each tool, in words
    OURS: "estimate, its 95 % interval",
    PYTEST: "median, quartiles of the rounds",
    TIMEIT: "best of five, no interval",
    ASV: "median, 99 % confidence interval",
    PYPERF: "mean ± standard deviation",
}

PYTEST_SCRIPT = """
import pytest
from softmax_bench.repeatability.shared_cases import call_of

@pytest.mark.parametrize("label", {labels!r})
def test_case(benchmark, label):
    benchmark(call_of(label))
"""
# What `python -m timeit` does for each case.
TIMEIT_SCRIPT = """
import json
import timeit
from softmax_bench.repeatability.shared_cases import call_of

best = {{}}
for label in {labels!r}:
    timer = timeit.Timer(call_of(label))
    number, _ = timer.autorange()
    best[label] = min(timer.repeat(repeat=5, number=number)) / number
print(json.dumps(best))
"""
ASV_BENCHMARK = """
from softmax_bench.repeatability.shared_cases import call_of

class Cases:
    params = [{labels!r}]

    def setup(self, label):
        self.call = call_of(label)

    def time_case(self, label):
        self.call()
"""
PYPERF_SCRIPT = """
import pyperf
from softmax_bench.repeatability.shared_cases import call_of

runner = pyperf.Runner()
for label in {labels!r}:
    runner.bench_func(label, call_of(label))
"""


@dataclass(frozen=True)
class Reading:
    """What a tool says of a case: seconds of a call, the stated interval (NaN: none), and whether it is settled.

    ``settled`` is None where a tool does not say so.
    """

    time_s: float
    low_s: float = math.nan
    high_s: float = math.nan
    settled: int | None = None


Readings = dict[str, Reading]  # by the case's id


@dataclass(frozen=True)
class Measured:
    """One session: its readings, its seconds for each case, and the visits of each case of a sweep, in time order."""

    readings: Readings
    seconds_a_case: float
    visits: dict[str, list[Moment]]

    @property
    def pace_s(self) -> float:
        """The pace of a sweep's visits; NaN for other tools."""
        return run_pace_s(itertools.chain(*self.visits.values()))


def missing_tools() -> dict[str, str]:
    """The tools that are not installed, each with the extra that has it."""
    return {tool: extra for tool, (package, extra) in NEEDS.items() if not is_installed(package)}


def measure_with(tool: str, labels: Sequence[str] = tuple(SHARED_CASES)) -> Measured:
    """A session of a tool; the sweep measures its grid, the others the shared cases with these ids.

    Raises:
        UserError: the tool did not measure.
    """
    visits: dict[str, list[Moment]] = {}
    started = time.perf_counter()
    with temporary_folder() as folder:
        try:
            if tool in (OURS, EVERY_ROUND):
                readings, visits = sweep(folder, *(["--every-round"] if tool == EVERY_ROUND else []))
            else:
                readings = USUAL_TOOLS[tool](folder, list(labels))
        except RuntimeError as error:
            raise UserError(f"{tool} did not measure: {error}") from None
    if not readings:
        raise UserError(f"{tool} measured no case")
    return Measured(readings, (time.perf_counter() - started) / len(readings), visits)


def sweep(folder: Path, *options: str) -> tuple[Readings, dict[str, list[Moment]]]:
    """The suite's own sweep of the quick grid, or of what the options narrow it to, and the visits of each case."""
    run_id = "session"
    where = (f"--results={folder}", f"--run-id={run_id}", "--no-charts")
    _run(folder, "-m", "softmax_bench.cli", "run", *SWEEP, *where, *options, fine=(0, 1))
    rows = [row for row in load_rows(folder / run_id) if row.status == "measured" and not math.isnan(row.time_s)]
    visits: dict[str, list[Moment]] = {str(row.case): [] for row in rows}
    for visit in sorted(load_visits(folder / run_id), key=lambda visit: visit.when_s):
        if visit.case in visits:
            visits[visit.case].append(visit.moment)
    return {str(row.case): Reading(row.time_s, row.time_low_s, row.time_high_s, row.settled) for row in rows}, visits


def pytest_benchmark(folder: Path, labels: list[str]) -> Readings:
    """The median of pytest-benchmark's rounds, with their quartiles; it states no interval of the median."""
    found = run_pytest_benchmark(folder, PYTEST_SCRIPT.format(labels=labels))
    return {label: Reading(stats["median"], stats["q1"], stats["q3"]) for label, stats in found.items()}


def timeit_best(folder: Path, labels: list[str]) -> Readings:
    """The best of timeit's five."""
    found = json.loads(_run(folder, "-c", TIMEIT_SCRIPT.format(labels=labels)))
    return {label: Reading(best_s) for label, best_s in found.items()}


def asv_run(folder: Path, labels: list[str]) -> Readings:
    """The result of ``asv run`` on one commit, with its 99 % confidence interval."""
    commit_all(make_asv_project(folder, ASV_BENCHMARK.format(labels=labels)), "cases")
    said = run_asv(folder, "run")
    tables = asv_results(folder)
    if not tables:
        raise RuntimeError(f"{said.splitlines()[-1:]}")
    table = tables[0]
    found = dict(zip(table["result_columns"], table["results"]["cases.Cases.time_case"], strict=False))
    columns = (found[name] for name in ("result", "stats_ci_99_a", "stats_ci_99_b"))
    readings = {}
    for name, *values in zip(found["params"][0], *columns, strict=True):
        time_s, low_s, high_s = (math.nan if value is None else float(value) for value in values)
        readings[name.strip("'")] = Reading(time_s, low_s, high_s)  # asv names a parameter by its repr
    return readings


def pyperf_run(folder: Path, labels: list[str]) -> Readings:
    """The mean that pyperf prints over its processes, with the standard deviation beside it."""
    import pyperf  # noqa: PLC0415 - an extra

    script, output = folder / "cases.py", folder / "out.json"
    script.write_text(PYPERF_SCRIPT.format(labels=labels), encoding="utf-8")
    _run(folder, str(script), "--quiet", "-o", str(output))
    found = {one.get_name(): (one.mean(), one.stdev()) for one in pyperf.BenchmarkSuite.load(str(output))}
    return {label: Reading(mean, mean - deviation, mean + deviation) for label, (mean, deviation) in found.items()}


USUAL_TOOLS: dict[str, Callable[[Path, list[str]], Readings]] = {
    PYTEST: pytest_benchmark,
    TIMEIT: timeit_best,
    ASV: asv_run,
    PYPERF: pyperf_run,
}
TOOLS = (OURS, *USUAL_TOOLS)


def _run(folder: Path, *arguments: str, fine: Sequence[int] = (0,)) -> str:
    """What a fresh interpreter prints when it is run in a folder.

    Raises:
        RuntimeError: its exit status is not ``fine``; the message is the last line that it printed.
    """
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in fine:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"exit status {done.returncode}")
    return done.stdout
