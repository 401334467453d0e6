"""The stored run, written and read back.

run.json describes the machine, the versions and the options; cases.csv has one row a case; visits.csv has one row a
visit, from which the times in cases.csv follow.
"""

import dataclasses
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from ..errors import UserError
from ..implementations import former_names, registered
from ..instruments.agreement import Moment, run_pace_s
from ..instruments.bandwidth import CeilingPoint
from ..operations import operations
from ..operations.cases import DISTRIBUTIONS, DTYPES, Case, is_target
from .checks import below_floor, incomplete_run, missing, out_of_order, unknown_name
from .descriptions import FILE, is_described, load_description, store_description
from .kinds import Bytes, Count, Elapsed, Error, Factor, Flag, Rate, Seconds, Size, UnixTime
from .tables import Table, columns_of, load_table

# Tables of earlier versions have a skipped row for each case whose library was not there; its reason began so.
FORMERLY_NOT_INSTALLED = "not installed: "
STATUSES = ("measured", "skipped", "wrong", "failed")
IDENTITY = [axis.name for axis in dataclasses.fields(Case)]
# Columns of earlier tables that say nothing any longer: how often a case was called in the one window in which it was
# timed. Its median is taken for its time when such a table is loaded.
FORMER_COLUMNS = ("rounds", "iterations")
NEW_RUN = "make bench stores a new run"
CASES, VISITS = "cases.csv", "visits.csv"
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # a folder's name
RunId = Annotated[str, Meta(pattern=f"^{RUN_ID.pattern}$")]
# Columns whose numbers grow from left to right.
ORDERS = (
    ("time_low_s", "time_s", "time_high_s"),
    ("time_min_s", "time_s"),
    ("time_min_s", "time_q1_s", "time_median_s", "time_q3_s"),
    ("peak_bytes", "peak_high_bytes"),
)
VISIT_SECONDS = ("when_s", "fastest_s", "median_s")
MOST_ARRAY_BYTES = 1 << 56  # of a case: sums over its arrays stay exact


@dataclass(frozen=True)
class Row:
    """One row of the table. The columns are these fields in this order; missing is NaN or None, empty when stored.

    ``machine`` is part of what a row is of: empty in a run of one machine, otherwise the id of the machine. ``attempt``
    names the visits from which its time follows: a share of cases may be begun on a machine more than once.
    """

    run_id: str
    operation: str
    implementation: str
    batch: Size
    features: Size
    dtype: str
    logits: str
    threads: Size
    machine: str = field(default="", kw_only=True)
    attempt: str = field(default="", kw_only=True)
    status: str
    reason: str = ""
    time_s: Seconds = math.nan  # of an undisturbed call: see `instruments.agreement`
    time_low_s: Seconds = math.nan
    time_high_s: Seconds = math.nan
    visits: Count | None = None
    settled: Flag | None = None  # 1 if the visits agree, otherwise 0
    disturbed: Factor = math.nan  # time of a call in the typical visit over that of an undisturbed call
    time_min_s: Seconds = math.nan  # fastest call of any visit
    time_q1_s: Seconds = math.nan  # quartiles over visits of each visit's median call
    time_median_s: Seconds = math.nan
    time_q3_s: Seconds = math.nan
    peak_bytes: Bytes | None = None
    peak_high_bytes: Bytes | None = None  # the largest of the readings, where peak_bytes is the smallest
    predicted_peak_bytes: Bytes | None = None
    minor_faults: Count | None = None
    max_error_ulp: Error = math.nan
    first_call_s: Seconds = math.nan  # preparing and the first call: conversion, compilation, new memory

    @property
    def case(self) -> Case:
        """The case that the row reports."""
        return Case(**{name: getattr(self, name) for name in IDENTITY})


COLUMNS = columns_of(Row)


@dataclass(frozen=True)
class Visit:
    """One row of visits.csv: a short timing of a case, or of a stream of the ceiling."""

    case: str  # the case's id, or the stream's
    round: Count  # 0: just after the case was examined
    when_s: Elapsed  # since the run began, time in which nothing was measured left out
    calls: Size
    fastest_s: Seconds  # of one call
    median_s: Seconds
    machine: str = ""  # of a run on several machines, as a row's
    attempt: str = ""
    began_s: UnixTime = math.nan  # by the machine's clock
    took_s: Elapsed = math.nan  # with the copying of inputs and the warm call
    pace_s: Elapsed = math.nan  # of a loop beside it, whose work is always the same

    @property
    def moment(self) -> Moment:
        """What agreement looks at."""
        return Moment(self.when_s, self.fastest_s, self.median_s, self.pace_s)


@dataclass(frozen=True)
class SittingTimes:
    """How long a run, or what was resumed of it, took, and how much of that time its processes were measuring."""

    wall_s: Elapsed
    measuring_s: Elapsed


@dataclass(frozen=True)
class RunOptions:
    """What decided how a run's cases were timed and which were skipped."""

    max_call_s: Seconds
    max_bytes: Bytes | None
    benchmark: dict[str, Elapsed]  # pytest-benchmark's options that shape a visit
    stream_bytes_per_s: Rate  # of new memory, from which times were predicted
    minutes: Seconds | None = None  # of the time box
    every_round: bool = False  # whether cases that had settled were visited still


@dataclass(frozen=True)
class Run:
    """What run.json holds: when, where, with what and for which cases the run was made."""

    run_id: RunId
    started: str  # ISO 8601, UTC
    seed: Count
    selection: dict[str, Any]
    options: RunOptions
    machine: dict[str, Any]
    versions: dict[str, str]
    code: dict[str, str]
    implementations: list[dict[str, Any]]
    sittings: list[SittingTimes] = field(default_factory=list)
    ceiling: list[CeilingPoint] = field(default_factory=list)
    not_installed: dict[str, Count] = field(default_factory=dict)  # cases left out, by the library that they need
    commit: str = ""  # of the suite's repository, with -dirty where files were changed; empty outside one
    machine_id: str = ""  # empty in runs of earlier versions, and of several machines
    fleet: dict[str, Any] = field(default_factory=dict)  # how a run of several machines is shared out; empty for one
    ended: bool = True  # whether its visits came to their end; False while it is measured, and where that was stopped

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
    return Table(folder / CASES, Row)


def of_one_machine(rows: list[Row], folder: Path) -> list[Row]:
    """The rows as they are, if one machine measured them all: what compares cases must not mix machines.

    Raises:
        UserError: several machines did.
    """
    if len({row.machine for row in rows}) > 1:
        hint = f"softmax-bench diff {folder.name} compares them, softmax-bench part takes one of them out"
        raise UserError(f"{folder}: a table of several machines; {hint}")
    return rows


def open_visits(folder: Path) -> Table[Visit]:
    """A run's visits.csv open for appending.

    Raises:
        UserError: the file cannot be opened, or another process holds it.
    """
    return Table(folder / VISITS, Visit)


def write_run(run: Run, folder: Path) -> None:
    """Store run.json, whole.

    Raises:
        UserError: the folder cannot be written.
    """
    store_description(folder, run)


def find_run(name: str, results: Path) -> Path:
    """The folder of a run given by its id, or by the path of its folder.

    Raises:
        UserError: there is no such run.
    """
    for folder in (results / name, Path(name)):
        if name and is_described(folder):
            return folder
    known = sorted(path.parent.name for path in results.glob(f"*/{FILE}"))
    raise UserError(f"no run {name!r} in {results}; there is {', '.join(known) or 'none yet: make bench'}")


def load_run(folder: Path) -> Run:
    """The contents of run.json, a renamed implementation under today's name.

    Raises:
        UserError: the file is missing or is not one.
    """
    run = load_description(folder, Run, NEW_RUN, renamed={"sessions": "sittings"})
    if oddity := incomplete_run(run):
        raise UserError(f"{folder / FILE}: not a run ({oddity}); {NEW_RUN}")
    today = former_names()
    renamed = []
    for spec in run.implementations:
        name = today.get((spec.get("operation", ""), spec.get("name", "")))
        renamed.append({**spec, "name": name} if name else spec)
    return dataclasses.replace(run, implementations=renamed)


def load_rows(folder: Path) -> list[Row]:
    """The rows of cases.csv in order, a renamed implementation under today's name.

    Raises:
        UserError: the file is missing, foreign or damaged; the message names file, line and column.
    """
    rows: list[Row] = []
    seen: dict[tuple[Case, str], str] = {}
    hint = f"resume the run to repair it: RESUME={folder.name}"
    today = former_names()
    run = load_run(folder) if is_described(folder) else None
    known = _known_names(run)
    for where, stored in load_table(folder / CASES, Row, hint, FORMER_COLUMNS):
        name = today.get((stored.operation, stored.implementation), stored.implementation)
        row = dataclasses.replace(stored, implementation=name)
        if math.isnan(row.time_s) and row.visits is None:
            row = dataclasses.replace(row, time_s=row.time_median_s)
        if row.status == "skipped" and row.reason.startswith(FORMERLY_NOT_INSTALLED):
            continue
        if oddity := _oddity(row, known, run or row):
            raise UserError(f"{where}: {oddity}")
        key = row.case, row.machine
        if key in seen:
            raise UserError(f"{where}: the same case as {seen[key]}: {row.case} {row.machine}".rstrip())
        seen[key] = where
        rows.append(row)
    return rows


def _known_names(run: Run | None) -> dict[str, dict[str, Collection[str]]]:
    """The names that a row's columns may have, by operation.

    An implementation is one of today's, or was one when the run was made.
    """
    made_with = [(spec["operation"], spec["name"]) for spec in run.implementations] if run else []
    implementations = dict.fromkeys([*registered(), *made_with])
    return {
        operation: {
            "status": STATUSES,
            "dtype": DTYPES,
            "logits": DISTRIBUTIONS,
            "implementation": [name for its_operation, name in implementations if its_operation == operation],
        }
        for operation in operations()
    }


def _oddity(row: Row, known: Mapping[str, Mapping[str, Collection[str]]], of: Run | Row) -> str:
    """What a row of a run cannot say, as in 'column 'status': ...'; empty if it says nothing of that kind."""
    if row.operation not in known:
        return f"column 'operation': {row.operation!r} is not one of {', '.join(known)}"
    names = dict(known[row.operation])
    if is_target(row.implementation) and "/" not in row.implementation:
        del names["implementation"]  # a user's own, file.py:function, without the folders
    if row.run_id != of.run_id:
        return f"column 'run_id': {row.run_id!r} is another run than {of.run_id!r}"
    if oddity := unknown_name(row, names) or out_of_order(row, ORDERS):
        return oddity
    if row.case.array_bytes > MOST_ARRAY_BYTES:
        return f"column 'features': no memory holds {row.batch} × {row.features}"
    memory_bytes = of.machine["memory_bytes"] if isinstance(of, Run) else math.inf
    if row.peak_bytes is not None and row.status == "measured" and row.peak_bytes > memory_bytes:
        return f"column 'peak_bytes': {row.peak_bytes} is more than the machine's {memory_bytes} bytes"
    moved_bytes = operations()[row.operation].arrays_moved * row.case.array_bytes
    return below_floor(row, ("time_min_s", "time_s"), moved_bytes, row.threads) if row.status == "measured" else ""


def load_pace_s(folder: Path) -> float:
    """The pace of a run, from its visits; NaN where they have none, as in runs of earlier versions.

    Raises:
        UserError: visits.csv is damaged.
    """
    return run_pace_s(visit.moment for visit in load_visits(folder))


def load_visits(folder: Path) -> list[Visit]:
    """The rows of visits.csv in order; none where a run has no such table, as runs of earlier versions.

    Raises:
        UserError: the file is damaged; the message names file, line and column.
    """
    visits: dict[Visit, str] = {}
    if not (folder / VISITS).exists():
        return []
    for where, visit in load_table(folder / VISITS, Visit, f"resume the run: RESUME={folder.name}"):
        if oddity := missing(visit, VISIT_SECONDS) or out_of_order(visit, [("fastest_s", "median_s")]):
            raise UserError(f"{where}: {oddity}")
        if visit in visits:
            raise UserError(f"{where}: the same visit as {visits[visit]}")
        visits[visit] = where
    return list(visits)
