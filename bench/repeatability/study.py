"""The repeatability study: sessions of every tool under every load, all in the same hour, and their stored tables.

A session measures the cases of one tool once, in fresh processes. Its rows are stored when it has ended, so that the
study can be stopped at any time and goes on with what is missing.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import UserError
from ..instruments import host
from ..instruments.agreement import AGREEMENT
from ..storage.descriptions import FILE, load_description, store_description
from ..storage.files import make_folder
from ..storage.kinds import Count, Elapsed, Flag, Seconds
from ..storage.tables import Table, columns_of, load_table, write_table
from ..sweep.selection import GRIDS
from .loads import LOADS, load_machine
from .rules import Replay, replayed
from .shared_cases import SHARED_CASES
from .tools import ASV, EVERY_ROUND, NEEDS, OURS, PYPERF, PYTEST, TIMEIT, Measured, measure_with

SESSIONS, RULES = "sessions.csv", "rules.csv"
HINT = "make repeatability adds sessions, and repairs it"
PLAN = {  # sessions of each tool under each load, in the order of LOADS
    OURS: (10, 10, 10),
    PYTEST: (10, 4, 4),
    TIMEIT: (10, 4, 4),
    ASV: (5, 3, 3),
    PYPERF: (2, 2, 2),
    EVERY_ROUND: (2, 2, 2),  # for the rules
}
ABSENT = "absent"  # the version of what is not installed


@dataclass(frozen=True)
class Planned:
    """A session to be made: its tool, its load, and its number, which counts from 1."""

    tool: str
    load: str
    session: int


@dataclass(frozen=True)
class Row:
    """What a tool said of a case in one session; a row of sessions.csv. Missing is NaN or None, empty when stored."""

    started: str  # of the session: ISO 8601, UTC
    tool: str
    load: str
    session: Count
    case: str
    time_s: Seconds
    low_s: Elapsed  # of the interval that the tool states
    high_s: Seconds
    settled: Flag | None  # 1 or 0; None where the tool does not say
    seconds: Elapsed  # the session's, shared among its cases
    pace_s: Elapsed = math.nan  # of the processor in the session, where the tool says so


@dataclass(frozen=True)
class Study:
    """What run.json holds: where and with what the sessions were made. Sessions of one study share all of it."""

    started: str  # ISO 8601, UTC
    machine: dict[str, Any]
    versions: dict[str, str]
    rule: dict[str, float]  # of agreement
    sweep_minutes: float
    shared_cases: list[str]


def described() -> Study:
    """The study as it would be made now."""
    return Study(
        started=host.now_utc(),
        machine=host.machine(),
        versions=host.versions(tuple(package for package, _ in NEEDS.values())),
        rule=dataclasses.asdict(AGREEMENT),
        sweep_minutes=GRIDS["quick"].minutes,
        shared_cases=list(SHARED_CASES),
    )


def open_study(folder: Path) -> Table[Row]:
    """The table of sessions open for appending; makes the folder, and describes the study beside it.

    Raises:
        UserError: the folder cannot be written, or its sessions were made on another machine, with other versions or
            another rule.
    """
    make_folder(folder)
    now = described()
    if (folder / FILE).exists():
        stored = load_study(folder)
        if unlike := differences(stored, now):
            raise UserError(f"{folder}: its sessions are not of one study with new ones ({unlike[0]}); move it away")
        # What has been installed since, such as a tool, is added.
        versions = {**now.versions, **{name: found for name, found in stored.versions.items() if found != ABSENT}}
        now = dataclasses.replace(stored, versions=versions)
    table = Table(folder / SESSIONS, Row)
    store_description(folder, now)
    return table


def differences(stored: Study, now: Study) -> list[str]:
    """What keeps sessions of two studies apart, each in a phrase; what only one of them has installed does not."""
    found = []
    for field in dataclasses.fields(Study):
        was, is_now = getattr(stored, field.name), getattr(now, field.name)
        if field.name == "versions":
            both = [name for name in was if ABSENT not in (was[name], is_now.get(name, ABSENT))]
            was, is_now = ({name: versions[name] for name in both} for versions in (was, is_now))
        if field.name != "started" and was != is_now:
            found.append(f"{field.name}: {_first_difference(was, is_now)}")
    return found


def _first_difference(was: object, is_now: object) -> str:
    if isinstance(was, dict) and isinstance(is_now, dict):
        key = next(key for key in {**was, **is_now} if was.get(key) != is_now.get(key))
        return f"{key} was {was.get(key)}, is {is_now.get(key)}"
    return f"was {was}, is {is_now}"


def load_study(folder: Path) -> Study:
    """The description of the stored study.

    Raises:
        UserError: it is missing or is not one.
    """
    return load_description(folder, Study, HINT)


def load_sessions(folder: Path) -> pd.DataFrame:
    """The stored sessions.

    Raises:
        UserError: the table is missing or damaged.
    """
    rows = [row for _, row in load_table(folder / SESSIONS, Row, HINT)]
    frame = pd.DataFrame([dataclasses.asdict(row) for row in rows], columns=list(columns_of(Row)))
    return frame.astype(
        {"time_s": float, "low_s": float, "high_s": float, "settled": float, "seconds": float, "pace_s": float}
    )


def load_rules(folder: Path) -> pd.DataFrame:
    """The stored replays of other rules; none where no session was made for them yet.

    Raises:
        UserError: the table is damaged.
    """
    return pd.DataFrame(_replays(folder), columns=list(columns_of(Replay)))


def _replays(folder: Path) -> list[Replay]:
    path = folder / RULES
    return [row for _, row in load_table(path, Replay, HINT)] if path.exists() else []


def next_session(sessions: pd.DataFrame, missing: Collection[str] = ()) -> Planned | None:
    """The session whose tool and load lack the largest share of their plan; None if the plan is complete.

    The tools that are ``missing`` are left out.
    """
    lacking: dict[Planned, float] = {}
    for tool, numbers in PLAN.items():
        for load, planned in zip(LOADS, numbers, strict=True):
            made = sessions.loc[(sessions["tool"] == tool) & (sessions["load"] == load), "session"]
            if tool not in missing and made.nunique() < planned:
                latest = 0 if made.empty else int(made.max())
                lacking[Planned(tool, load, latest + 1)] = made.nunique() / planned
    return min(lacking, key=lambda planned: lacking[planned], default=None)


def make_session(planned: Planned, folder: Path, table: Table[Row]) -> Measured:
    """Make a session and store it.

    Raises:
        UserError: the tool did not measure, or the session cannot be stored.
    """
    started = host.now_utc()
    with load_machine(planned.load, f"{planned.tool} {planned.session}"):
        measured = measure_with(planned.tool)
    if planned.tool == EVERY_ROUND:
        # Before the session counts as made: a session that was stopped here is made again under the same number.
        others = [row for row in _replays(folder) if (row.load, row.session) != (planned.load, planned.session)]
        write_table(folder / RULES, [*others, *replayed(planned.load, planned.session, measured.visits)])
    for row in rows_of(planned, measured, started):
        table.append(row)
    return measured


def rows_of(planned: Planned, measured: Measured, started: str) -> list[Row]:
    """A session as rows of the table."""
    return [
        Row(
            started=started,
            **dataclasses.asdict(planned),
            case=case,
            **{name: _rounded(value) for name, value in dataclasses.asdict(reading).items()},
            seconds=round(measured.seconds_a_case, 3),
            pace_s=_rounded(measured.pace_s),
        )
        for case, reading in measured.readings.items()
    ]


def _rounded(value: float | None) -> Any:
    """Six digits of a number; whole numbers and what is missing as they are."""
    return float(f"{value:.6g}") if isinstance(value, float) and math.isfinite(value) else value


def progress_of(sessions: pd.DataFrame) -> Mapping[str, str]:
    """How many sessions of each tool are stored, as in '3 of 30'."""
    made = sessions.groupby(["tool", "load"])["session"].nunique().groupby("tool").sum()
    return {tool: f"{int(made.get(tool, 0))} of {sum(numbers)}" for tool, numbers in PLAN.items()}
