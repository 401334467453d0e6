"""What workers and driver send each other, as plain data: a task's order, what is measured meanwhile, the outcome."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from ..instruments.bandwidth import CeilingPoint
from ..storage.results import Row, Run, Visit
from .calibration import Look
from .shares import Share

Kind = TypeVar("Kind")

WAITING, BEGAN, RECORDS, OUTCOME, FAILED = "waiting", "began", "records", "outcome", "failed"


@dataclass(frozen=True)
class Order:
    """What a worker is told to measure: a share, the settings of the run, and which file of the user's it may load.

    ``competitors`` are the user's own implementations as plain data; their files were sent before.
    """

    run: Run
    share: Share
    limit_s: float
    topic: str
    competitors: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Records:
    """What an attempt has measured since its last message. The first row and visit are its so-many-th, from 0 on.

    So whoever gets a message twice, or gets one again from a journal, can tell.
    """

    attempt: str
    first_row: int
    rows: list[Row]
    first_visit: int
    visits: list[Visit]
    looks: list[Look]


@dataclass(frozen=True)
class Outcome:
    """A share measured to its end: its rows with their times, and how many of each record it has sent."""

    machine: str
    attempt: str
    rows: list[Row]
    ceiling: list[CeilingPoint]
    sent_rows: int
    sent_visits: int
    began_s: float  # Unix time by the machine's clock
    ended_s: float
    measuring_s: float


def to_plain(value: Any) -> Any:
    """A dataclass as dictionaries, lists, texts and numbers; a number that is NaN is left out, as it is by default."""
    if dataclasses.is_dataclass(value):
        named = {part.name: getattr(value, part.name) for part in dataclasses.fields(value)}
        return {name: to_plain(part) for name, part in named.items() if not _is_missing(part)}
    if isinstance(value, dict):
        return {name: to_plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(part) for part in value]
    return value


def _is_missing(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def from_plain(plain: Any, kind: type[Kind]) -> Kind:
    """The dataclass of plain data."""
    return msgspec.convert(plain, kind)


def settings_only(run: Run) -> Run:
    """The run as its workers need it: identity, seed and options."""
    return dataclasses.replace(
        run, selection={}, machine={"memory_bytes": 0}, versions={}, code={}, implementations=[], fleet={}, ceiling=[]
    )


@dataclass
class Outbox:
    """Records on their way to the driver, numbered."""

    attempt: str
    rows: list[Row] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    sent_rows: int = 0
    sent_visits: int = 0

    def emptied(self) -> Records:
        """All that has gathered, which from now on counts as sent."""
        records = Records(self.attempt, self.sent_rows, self.rows, self.sent_visits, self.visits, self.looks)
        self.sent_rows += len(self.rows)
        self.sent_visits += len(self.visits)
        self.rows, self.visits, self.looks = [], [], []
        return records
