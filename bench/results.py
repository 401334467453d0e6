"""The stored run: run.json (the machine, versions, options) and cases.csv (one row a case), written and read back.

A row is appended whole, in one write, and synced to the disk: what is interrupted loses at most the case in hand.
"""

import csv
import dataclasses
import fcntl
import io
import json
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd

from .cases import Case
from .errors import UserError

STATUSES = ("measured", "skipped", "wrong", "failed")
IDENTITY = [axis.name for axis in dataclasses.fields(Case)]
BASELINE = "explicit_jacobian"  # what speed-ups and memory ratios refer to
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

    def to_csv(self) -> str:
        """The row as one line of CSV."""
        return _csv_line(self._stored(column.name) for column in dataclasses.fields(self))

    def _stored(self, column: str) -> str:
        value = getattr(self, column)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ""
        return " ".join(str(value).split()) if isinstance(value, str) else repr(value)


COLUMNS = {column.name: column.type for column in dataclasses.fields(Row)}


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


class Table:
    """A run's cases.csv open for appending; one process at a time may hold it.

    Raises:
        UserError: the file cannot be opened, or another process holds it.

    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "cases.csv"
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another process is writing this run; wait for it or end it") from None
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from None
        _drop_torn_tail(self.path)
        if self.path.stat().st_size == 0:
            self._write(_csv_line(COLUMNS))

    def append(self, row: Row) -> None:
        """Append a row; it is on the disk when this returns."""
        self._write(row.to_csv())

    def _write(self, line: str) -> None:
        data = line.encode()
        if os.write(self._file, data) != len(data):
            raise OSError(f"{self.path}: the disk is full")
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file and let others hold it."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _csv_line(values: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _drop_torn_tail(path: Path) -> None:
    """Cut off a last line without its newline: a row whose write was interrupted, to be measured again."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)


def write_run(run: Run, folder: Path) -> None:
    """Store run.json whole: written beside, synced, renamed.

    Raises:
        UserError: the folder cannot be written.

    """
    beside = folder / ".run.json.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with beside.open("w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(run), file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(folder / "run.json")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from None


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
    path = folder / "cases.csv"
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text in UTF-8 (byte {error.start})") from None
    if text and not text.endswith("\n"):
        line = text.count("\n") + 1
        raise UserError(f"{path}:{line}: the last row is cut off; resume the run to repair it: RESUME={folder.name}")
    lines = csv.reader(io.StringIO(text))
    header = next(lines, [])
    for column in COLUMNS:
        if column not in header:
            raise UserError(f"{path}:1: column {column!r} is missing")
    for column in header:
        if column not in COLUMNS:
            raise UserError(f"{path}:1: column {column!r} is unknown")
    rows: list[Row] = []
    seen: dict[Case, int] = {}
    for values in lines:
        where = f"{path}:{lines.line_num}"
        if len(values) != len(header):
            raise UserError(f"{where}: {len(values)} values where the header has {len(header)} columns")
        row = Row(**{column: _parse(where, column, value) for column, value in zip(header, values, strict=True)})
        if row.case in seen:
            raise UserError(f"{where}: the same case as line {seen[row.case]}: {row.case}")
        seen[row.case] = lines.line_num
        rows.append(row)
    return rows


def _parse(where: str, column: str, value: str) -> Any:
    kind = COLUMNS[column]
    if kind is str:
        if column == "status" and value not in STATUSES:
            raise UserError(f"{where}: column 'status': {value!r} is not one of {', '.join(STATUSES)}")
        return value
    if value == "" and kind is not int:
        return math.nan if kind is float else None
    try:
        return float(value) if kind is float else _natural(value)
    except ValueError:
        expected = "a number" if kind is float else "a whole number, 0 or more"
        raise UserError(f"{where}: column {column!r}: {value!r} is not {expected}") from None


def _natural(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(text)
    return int(text)


def to_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows as a data frame, missing as NaN, with three derived columns, NaN where either part is missing.

    ``speedup``: the median time of explicit_jacobian at the same shape, dtype, logits and threads over this row's;
    ``memory_ratio``: likewise of peak bytes; ``predicted_memory_ratio``: likewise of its predicted peak over this
    row's measured one, for shapes at which it does not fit.
    """
    frame = pd.DataFrame([dataclasses.asdict(row) for row in rows], columns=list(COLUMNS))
    numeric = [column for column, kind in COLUMNS.items() if kind is not str]
    frame[numeric] = frame[numeric].apply(pd.to_numeric)
    shape = ["operation", "batch", "features", "dtype", "logits", "threads"]
    measured = frame.where(frame["status"] == "measured")[["time_median_s", "peak_bytes"]]
    baseline = frame[[*shape, "predicted_peak_bytes"]].join(measured)[frame["implementation"] == BASELINE]
    against = frame[shape].merge(baseline, on=shape, how="left").set_index(frame.index)
    frame["speedup"] = against["time_median_s"] / measured["time_median_s"]
    frame["memory_ratio"] = against["peak_bytes"] / measured["peak_bytes"]
    frame["predicted_memory_ratio"] = against["predicted_peak_bytes"] / measured["peak_bytes"]
    return frame
