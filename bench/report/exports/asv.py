"""The run as results of airspeed velocity, version 2, which ``asv publish`` and ``asv show`` read."""

import itertools
import json
import math
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ...errors import UserError
from ...storage.files import make_folder, replace_file
from ...storage.results import Run
from .exported import Exported

AXES = ("batch", "features", "dtype", "logits", "threads")  # the parameters of a benchmark, in this order
BENCHMARKS, MACHINE = "benchmarks.json", "machine.json"
BENCHMARKS_VERSION, RESULTS_VERSION, MACHINE_VERSION = 2, 2, 1  # of the files' formats
VERSION = "1"  # of a benchmark: asv joins results of one version into one line
SHOWN_OF_COMMIT = 8  # characters, in a file's name
TO_99 = 2.576 / 1.960  # asv has room for a 99 % interval; the run's are of 95 %, taken as normal in the logarithm
COLUMNS = (
    *("result", "params", "version", "started_at", "duration"),
    *("stats_ci_99_a", "stats_ci_99_b", "stats_q_25", "stats_q_75", "stats_number", "stats_repeat"),
)


class Measure(NamedTuple):
    """What asv calls a kind of benchmark: its prefix, type and unit, and the column of the value."""

    prefix: str
    kind: str
    unit: str
    column: str


MEASURES = (
    Measure("time_", "time", "seconds", "time_s"),
    Measure("peakmem_", "peakmemory", "bytes", "peak_bytes"),
)


def export_asv(exported: Exported, path: Path) -> Path:
    """Add the run to a folder of asv's results, made if need be. Returns the folder.

    Each implementation has one benchmark of time and one of peak memory, with the parameters ``AXES``. Their results
    are in the order of the parameters' product: NaN where a case was not measured, which asv shows as n/a, and null
    where it was wrong or failed. What the folder holds already is kept.

    Raises:
        UserError: no case was measured, there is no such commit, or the folder cannot be written.
    """
    frame = exported.frame
    rows = frame[frame.index.isin(exported.measured.index) | frame["status"].isin(["wrong", "failed"])]
    commit, date_ms = _commit_of(exported)
    machine = _machine_of(exported.run)
    folder = path / str(machine["machine"])
    make_folder(folder)
    benchmarks = _benchmarks_of(rows, _benchmarks_in(path / BENCHMARKS))
    environment = f"existing-py{exported.run.versions['python']}-{exported.run.run_id}"
    results = {
        "commit_hash": commit,
        "env_name": environment,
        "date": date_ms,
        "params": {**machine, "python": exported.run.versions["python"], "numpy": exported.run.versions["numpy"]},
        "python": exported.run.versions["python"],
        "requirements": {"numpy": exported.run.versions["numpy"]},
        "env_vars": {},
        "result_columns": list(COLUMNS),
        "results": {
            name: _result_of(mine, measure, benchmarks[name]["params"], exported.run)
            for name, measure, mine in _groups_of(rows)
        },
        "durations": {},
        "version": RESULTS_VERSION,
    }
    _write(path / BENCHMARKS, {**benchmarks, "version": BENCHMARKS_VERSION})
    _write(folder / MACHINE, {**machine, "version": MACHINE_VERSION})
    _write(folder / f"{commit[:SHOWN_OF_COMMIT]}-{environment}.json", results)
    return path


def _write(path: Path, content: Mapping[str, Any]) -> None:
    replace_file(path, json.dumps(content, indent=1))  # with NaN, as asv writes it


def _commit_of(exported: Exported) -> tuple[str, int]:
    """The hash of the commit to file the run under, and when it was made, in milliseconds since 1970.

    Raises:
        UserError: git does not find it.
    """
    until = [] if exported.commit else [f"--before={exported.run.started}"]
    listed = ["git", "rev-list", "--max-count=1", "--no-commit-header", "--format=%H %ct", *until]
    listed += ["--end-of-options", exported.commit or "HEAD", "--"]
    try:
        found = subprocess.run(listed, capture_output=True, text=True, check=False)
    except OSError:
        raise UserError("asv files results under commits, and git is not installed") from None
    if found.returncode or not found.stdout.strip():
        wanted = exported.commit or f"one from before the run began ({exported.run.started})"
        raise UserError(f"asv files results under commits; the repository here has no {wanted}: give --commit=REVISION")
    commit, seconds = found.stdout.split()
    return commit, 1000 * int(seconds)


def _machine_of(run: Run) -> dict[str, str]:
    """The machine in asv's words, all texts."""
    system, _, architecture = run.machine["system"].partition(" ")
    return {
        "machine": re.sub(r"[^A-Za-z0-9._-]+", "-", run.machine["cpu"]).strip("-") or "machine",
        "os": system,
        "arch": architecture,
        "cpu": run.machine["cpu"],
        "num_cpu": str(run.machine["cores"]),
        "ram": str(run.machine["memory_bytes"]),
    }


def _groups_of(rows: pd.DataFrame) -> list[tuple[str, Measure, pd.DataFrame]]:
    """The benchmarks' names, each with what it measures and its rows."""
    groups = rows.groupby(["operation", "implementation"], sort=False)
    return [
        (f"{operation}.{measure.prefix}{implementation}", measure, mine)
        for (operation, implementation), mine in groups
        for measure in MEASURES
        if mine[measure.column].notna().any()
    ]


def _benchmarks_in(file: Path) -> dict[str, Any]:
    """The benchmarks that the folder lists already.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as asv's list of benchmarks ({error})") from None
    return {name: entry for name, entry in found.items() if name != "version"}


def _benchmarks_of(rows: pd.DataFrame, listed: Mapping[str, Any]) -> dict[str, Any]:
    """What benchmarks.json says of each benchmark: its type, unit and parameters; those listed are kept."""
    described = dict(listed)
    for name, measure, mine in _groups_of(rows):
        before = listed.get(name, {}).get("params", [[]] * len(AXES))
        described[name] = {
            "name": name,
            "code": "",
            "type": measure.kind,
            "unit": measure.unit,
            "version": VERSION,
            "param_names": list(AXES),
            "params": [_values(mine[axis], known) for axis, known in zip(AXES, before, strict=True)],
            "timeout": 60.0,
        }
    return described


def _values(column: pd.Series, known: Sequence[str]) -> list[str]:
    """A parameter's values as asv writes them, numbers by size; with those known from other runs."""
    values = {_written(value) for value in column} | set(known)
    return sorted(values, key=lambda text: (int(text) if text.isdigit() else 0, text))


def _written(value: object) -> str:
    return repr(str(value)) if isinstance(value, str) else str(value)


def _result_of(rows: pd.DataFrame, measure: Measure, params: Sequence[Sequence[str]], run: Run) -> list[Any]:
    """A benchmark's results in the order of ``COLUMNS``; lists of values in the order of the parameters' product."""
    by_case = {tuple(_written(row[axis]) for axis in AXES): row for _, row in rows.iterrows()}
    ordered = [by_case.get(combination) for combination in itertools.product(*params)]

    def listed(column: str) -> list[float | None]:
        return [None if row is None or math.isnan(row[column]) else float(row[column]) for row in ordered]

    missing = [math.nan if row is None or row["status"] == "measured" else None for row in ordered]
    results = [other if value is None else value for value, other in zip(listed(measure.column), missing, strict=True)]
    started_ms = int(1000 * datetime.fromisoformat(run.started).timestamp())
    begin = [results, [list(values) for values in params], VERSION, started_ms, None]
    if measure.column != "time_s":
        return begin
    bounds = [[_widened(row, side) for row in ordered] for side in ("time_low_s", "time_high_s")]
    calls = [None if row is None else 1 for row in ordered]
    return [*begin, *bounds, listed("time_q1_s"), listed("time_q3_s"), calls, listed("visits")]


def _widened(row: pd.Series | None, side: str) -> float | None:
    """A bound of the 99 % interval from that of the 95 % interval; None where it is missing."""
    if row is None or math.isnan(row[side]):
        return None
    return float(row["time_s"] * (row[side] / row["time_s"]) ** TO_99)
