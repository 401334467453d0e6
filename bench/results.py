"""The stored run: run.json (the machine, versions, options) and cases.csv (one row a case), written and read back."""

import dataclasses
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from .cases import Case
from .errors import UserError
from .files import replace_file
from .operations import operations
from .tables import Table, columns_of, load_table

STATUSES = ("measured", "skipped", "wrong", "failed")
IDENTITY = [axis.name for axis in dataclasses.fields(Case)]
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Row:
    """One row of the table. The columns are these fields in this order; missing is NaN or None, empty when stored."""

    run_id: str
    operation: str
    implementation: str
    batch: int
    features: int
    dtype: str
    logits: str
    threads: int
    status: str
    reason: str = ""
    time_min_s: float = math.nan
    time_q1_s: float = math.nan
    time_median_s: float = math.nan
    time_q3_s: float = math.nan
    rounds: int | None = None
    iterations: int | None = None
    peak_bytes: int | None = None
    predicted_peak_bytes: int | None = None
    minor_faults: int | None = None
    max_error_ulp: float = math.nan

    @property
    def case(self) -> Case:
        """The case that the row reports."""
        return Case(**{name: getattr(self, name) for name in IDENTITY})


COLUMNS = columns_of(Row)


@dataclass(frozen=True)
class Run:
    """What run.json holds: when, where, with what and for which cases the run was made."""

    run_id: str
    started: str  # ISO 8601, UTC
    seed: int
    selection: dict[str, Any]
    options: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str]
    code: dict[str, str]
    implementations: list[dict[str, Any]]
    sessions: list[dict[str, float]] = field(default_factory=list)  # wall_s and measuring_s of each sitting

    def differences(self, other: "Run") -> list[str]:
        """What keeps measurements of two runs from standing in one table, each in a phrase."""
        found = []
        for part in ("machine", "versions", "code"):
            mine, theirs = getattr(self, part), getattr(other, part)
            for key in sorted({*mine, *theirs}):
                if mine.get(key) != theirs.get(key):
                    detail = "changed" if part == "code" else f"was {mine.get(key)}, is {theirs.get(key)}"
                    found.append(f"{part}: {key} {detail}")
        return found


def open_rows(folder: Path) -> Table[Row]:
    """A run's cases.csv open for appending.

    Raises:
        UserError: the file cannot be opened, or another process holds it.
    """
    return Table(folder / "cases.csv", Row)


def write_run(run: Run, folder: Path) -> None:
    """Store run.json, whole.

    Raises:
        UserError: the folder cannot be written.
    """
    replace_file(folder / "run.json", json.dumps(dataclasses.asdict(run), indent=1) + "\n")


def find_run(name: str, results: Path) -> Path:
    """The folder of a run given by its id, or by the path of its folder.

    Raises:
        UserError: there is no such run.
    """
    for folder in (results / name, Path(name)):
        if name and (folder / "run.json").is_file():
            return folder
    known = sorted(path.parent.name for path in results.glob("*/run.json"))
    raise UserError(f"no run {name!r} in {results}; there is {', '.join(known) or 'none yet: make bench'}")


def load_run(folder: Path) -> Run:
    """The contents of run.json.

    Raises:
        UserError: the file is missing or is not one.
    """
    path = folder / "run.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a run (expected an object)")
    for part in dataclasses.fields(Run):
        if part.name not in content:
            raise UserError(f"{path}: not a run (no {part.name!r})")
    return Run(**{part.name: content[part.name] for part in dataclasses.fields(Run)})


def load_rows(folder: Path) -> list[Row]:
    """The rows of cases.csv in order.

    Raises:
        UserError: the file is missing, foreign or damaged; the message names file, line and column.
    """
    rows: list[Row] = []
    seen: dict[Case, str] = {}
    hint = f"resume the run to repair it: RESUME={folder.name}"
    for where, row in load_table(folder / "cases.csv", Row, hint):
        if row.status not in STATUSES:
            raise UserError(f"{where}: column 'status': {row.status!r} is not one of {', '.join(STATUSES)}")
        if row.operation not in operations():
            known = ", ".join(operations())
            raise UserError(f"{where}: column 'operation': {row.operation!r} is not one of {known}")
        if row.case in seen:
            raise UserError(f"{where}: the same case as {seen[row.case]}: {row.case}")
        seen[row.case] = where
        rows.append(row)
    return rows


def to_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows as a data frame, missing as NaN, with three derived columns, NaN where either part is missing.

    ``speedup``: the median time of the operation's baseline at the same shape, dtype, logits and threads, over this
    row's;
    ``memory_ratio``: likewise of peak bytes; ``predicted_memory_ratio``: likewise of its predicted peak over this
    row's measured one, for shapes at which it does not fit.
    """
    frame = pd.DataFrame([dataclasses.asdict(row) for row in rows], columns=list(COLUMNS))
    numeric = [column for column, kind in COLUMNS.items() if kind is not str]
    frame[numeric] = frame[numeric].apply(pd.to_numeric)
    shape = ["operation", "batch", "features", "dtype", "logits", "threads"]
    measured = frame.where(frame["status"] == "measured")[["time_median_s", "peak_bytes"]]
    baselines = {operation.name: operation.baseline for operation in operations().values()}
    is_baseline = frame["implementation"] == frame["operation"].map(baselines)
    baseline = frame[[*shape, "predicted_peak_bytes"]].join(measured)[is_baseline]
    against = frame[shape].merge(baseline, on=shape, how="left").set_index(frame.index)
    frame["speedup"] = against["time_median_s"] / measured["time_median_s"]
    peaks = measured["peak_bytes"].where(measured["peak_bytes"] > 0)  # 0: served from NumPy's cache of small buffers
    frame["memory_ratio"] = against["peak_bytes"] / peaks
    frame["predicted_memory_ratio"] = against["predicted_peak_bytes"] / peaks
    return frame
