"""The run as pytest-benchmark's JSON, which its ``compare`` and its histogram read."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd
from pytest_benchmark.stats import Stats

from ...errors import UserError
from ...operations.cases import Case
from ...storage.files import replace_file
from ...storage.results import IDENTITY
from .exported import Exported

# A case has the name that it has in the file of a run with --benchmark-json, so that the two can be compared.
NAME, FILE = "bench_backward[{}]", "bench/bench_backward.py::"
FIGURES = ("time_s", "time_low_s", "time_high_s", "settled", "peak_bytes", "speedup", "memory_ratio")


def export_pytest_benchmark(exported: Exported, path: Path) -> Path:
    """Write a benchmark for each measured case; its rounds are the case's visits. Returns the path.

    A round's seconds are of the visit's fastest call. The estimate, its interval and the peak are in ``extra_info``.

    Raises:
        UserError: no case was measured, the run has no visits, or the file cannot be written.
    """
    rounds = defaultdict(list)
    for visit in exported.visits:
        rounds[visit.case].append(visit.fastest_s)
    benchmarks = [
        _benchmark(row, rounds[row["case"]]) for _, row in exported.measured.iterrows() if rounds[row["case"]]
    ]
    if not benchmarks:
        raise UserError(f"{exported.folder}: pytest-benchmark needs every visit's time, and the run has no visits.csv")
    run = exported.run
    content = {
        "machine_info": {
            "node": run.machine["cpu"],
            "system": run.machine["system"],
            "python_version": run.versions["python"],
            "cpu": {"brand_raw": run.machine["cpu"], "count": run.machine["cores"]},
        },
        "commit_info": {},
        "benchmarks": benchmarks,
        "datetime": run.started,
        "version": run.versions.get("pytest-benchmark", ""),
    }
    return replace_file(path, json.dumps(content, indent=1, allow_nan=False))


def _benchmark(row: pd.Series, seconds: list[float]) -> dict[str, Any]:
    """One benchmark with the statistics that pytest-benchmark itself computes."""
    stats = Stats()  # type: ignore[no-untyped-call]
    for value in seconds:
        stats.update(value)  # type: ignore[no-untyped-call]
    case = Case(**{name: row[name] for name in IDENTITY})
    name = NAME.format(case)
    return {
        "group": None,
        "name": name,
        "fullname": FILE + name,
        "params": {"case": str(case)},
        "param": str(case),
        "extra_info": {figure: float(row[figure]) for figure in FIGURES if pd.notna(row[figure])},
        "options": {},
        "stats": {**stats.as_dict(), "iterations": 1},  # type: ignore[no-untyped-call]
    }
