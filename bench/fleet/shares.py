"""Shares: the cases of a run cut into parts, each of which one machine measures whole."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..operations.cases import Case
from ..storage.results import RunOptions
from ..sweep.budget import examination_s
from ..sweep.sitting import sittings_of

SHARE_MINUTES = 0.5  # of a share's visits, unless another length is given: a case needs seconds to settle
# A share may take so much longer than predicted, and a start with the import and compiling of libraries besides.
PATIENCE, PATIENCE_S = 3.0, 60.0
START_S = 2.0  # of a process that measures


@dataclass(frozen=True)
class Share:
    """Some of the cases, with all implementations of each of its shapes, and the minutes that their visits have."""

    number: int
    cases: tuple[Case, ...]
    minutes: float


@dataclass(frozen=True)
class Planned:
    """A row of plan.csv: a case and the number of its share."""

    share: int
    operation: str
    implementation: str
    batch: int
    features: int
    dtype: str
    logits: str
    threads: int
    minutes: float  # of the share

    @property
    def case(self) -> Case:
        """The case."""
        return Case(
            self.operation, self.implementation, self.batch, self.features, self.dtype, self.logits, self.threads
        )


def shares_of(cases: Sequence[Case], minutes: float, share_minutes: float = SHARE_MINUTES) -> list[Share]:
    """The cases as shares of about ``share_minutes``, of ``minutes`` for all of them.

    What a ratio compares stays together: all implementations and numbers of threads of one operation, shape, dtype and
    logits. Large and small shapes are dealt out like cards, so that shares take about as long.
    """
    groups: dict[tuple[object, ...], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.operation, case.batch, case.features, case.dtype, case.logits), []).append(case)
    count = min(max(1, round(minutes / share_minutes)), len(groups))
    dealt = [[case for group in list(groups.values())[place::count] for case in group] for place in range(count)]
    return [Share(place, tuple(its), minutes * len(its) / len(cases)) for place, its in enumerate(dealt)]


def planned(shares: Sequence[Share]) -> list[Planned]:
    """The shares as rows of plan.csv."""
    return [Planned(share.number, **vars(case), minutes=share.minutes) for share in shares for case in share.cases]


def restored(rows: Sequence[Planned]) -> list[Share]:
    """The shares that plan.csv keeps."""
    cases: dict[int, list[Case]] = {}
    minutes: dict[int, float] = {}
    for row in rows:
        cases.setdefault(row.share, []).append(row.case)
        minutes[row.share] = row.minutes
    return [Share(number, tuple(cases[number]), minutes[number]) for number in sorted(cases)]


def box_s(share: Share, options: RunOptions) -> float:
    """Seconds of the share's time box: its minutes, and what starting and examining its cases is predicted to take."""
    examining_s = math.fsum(examination_s(case, options) for case in share.cases)
    return 60.0 * share.minutes + START_S * len(sittings_of(share.cases)) + examining_s


def limit_s(share: Share, options: RunOptions, patience_s: float = PATIENCE_S) -> float:
    """Seconds after which the share's process hangs."""
    return patience_s + PATIENCE * box_s(share, options)
