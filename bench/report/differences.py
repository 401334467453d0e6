"""Two stored runs compared: what is unlike about them, and which cases differ beyond the intervals of both.

A time differs where its two intervals do not overlap, neither as they are nor at one pace: a processor's clock depends
on what else its machine does, and the loop beside every visit shows how fast it was in each run. A peak differs where
its readings in one run lie further from those in the other than the interpreter's bookkeeping explains. An error
differs if it is more than ``ERROR_FACTOR`` times the other and the larger one is above ``LEAST_ERROR_ULP``: the inputs
follow from the run's seed, so the same code has the same error with one seed, but another version of a library may
round in another order. Runs with unlike seeds have other inputs, and their errors are not compared.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Self

from ..instruments.memory import TOLERANCE_BYTES
from ..operations.cases import Case
from ..storage.frames import ratio_with_interval
from ..storage.results import Row, Run

ABSENT = "absent"  # the version of a library that is not installed
ERROR_FACTOR = 2.0
LEAST_ERROR_ULP = 1.0


class Measure(StrEnum):
    """What of a case differs."""

    STATUS = "status"
    TIME = "time"
    PEAK = "peak"
    ERROR = "error"


class Ratio(NamedTuple):
    """A ratio with its interval; NaN where a part of it is missing."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


NO_RATIO = Ratio()


@dataclass(frozen=True)
class StoredRun:
    """A run as it is compared: the name by which it is shown, its description and its rows; ``pace_s`` may be NaN."""

    name: str
    run: Run
    rows: Sequence[Row]
    pace_s: float = math.nan

    @property
    def by_case(self) -> dict[Case, Row]:
        """The row of each case."""
        return {row.case: row for row in self.rows}


def short_names(folders: Sequence[Path]) -> list[str]:
    """A name for each run's folder: its last part, or the whole path where two of them end alike."""
    short = len({folder.name for folder in folders}) == len({folder.resolve() for folder in folders})
    return [folder.name if short else str(folder) for folder in folders]


@dataclass(frozen=True)
class Unlike:
    """What is unlike about two runs: phrases on machine, versions and seed, and the names of source files."""

    machine: list[str]
    versions: list[str]
    code: list[str]
    seed: list[str]

    @classmethod
    def between(cls, old: Run, new: Run) -> Self:
        """What is unlike.

        A library that is installed in one of the runs only does not make them unlike: its cases are not compared.
        """
        versions = [
            {library: version for library, version in run.versions.items() if version != ABSENT} for run in (old, new)
        ]
        common = versions[0].keys() & versions[1].keys()
        return cls(
            machine=_phrases(old.machine, new.machine),
            versions=_phrases(*({library: its[library] for library in common} for its in versions)),
            code=_changed(old.code, new.code),
            seed=_phrases({"seed": old.seed}, {"seed": new.seed}),
        )

    @property
    def surroundings(self) -> list[str]:
        """The phrases on machine and versions. Where there are any, no case is slower or faster than another."""
        return [
            *(f"machine: {phrase}" for phrase in self.machine),
            *(f"versions: {phrase}" for phrase in self.versions),
        ]


@dataclass(frozen=True)
class Difference:
    """A measure of a case that differs; ``ratio`` is the new value over the old one.

    ``settled`` is whether all times that it rests on are settled; only a time rests on any.
    """

    measure: Measure
    old: Row
    new: Row
    ratio: Ratio = NO_RATIO
    settled: bool = True

    @property
    def case(self) -> Case:
        """The case that differs."""
        return self.new.case


@dataclass(frozen=True)
class Comparison:
    """What two runs say side by side about the cases that both have.

    ``pace`` is what the loop took in the new run over what it took in the old one. ``measured`` is how many of the
    cases both runs measured, ``untimed`` are those of them whose time has no interval in one of the runs.
    """

    old: StoredRun
    new: StoredRun
    unlike: Unlike
    pace: float
    compared: list[Case]
    measured: int
    differences: list[Difference]  # whatever settled first, then the largest ratio
    untimed: list[Case]
    only_old: list[Case]
    only_new: list[Case]

    @property
    def beyond(self) -> list[Difference]:
        """The differences that rest on no unsettled time."""
        return [difference for difference in self.differences if difference.settled]

    @property
    def unsettled(self) -> list[Difference]:
        """The differences in a time that is not settled in one of the runs."""
        return [difference for difference in self.differences if not difference.settled]

    @property
    def alike(self) -> int:
        """How many cases differ in nothing."""
        return len(self.compared) - len({difference.case for difference in self.differences})


def compare(old: StoredRun, new: StoredRun) -> Comparison:
    """The comparison of two runs."""
    unlike = Unlike.between(old.run, new.run)
    pace = 1.0 if unlike.surroundings else pace_ratio(old.pace_s, new.pace_s)
    of_old, of_new = old.by_case, new.by_case
    pairs = [(of_old[case], row) for case, row in of_new.items() if case in of_old]
    measured = [pair for pair in pairs if _measured(*pair)]
    differences = [
        difference
        for pair in pairs
        for difference in _differences(*pair, pace)
        if difference.measure is not Measure.ERROR or not unlike.seed
    ]
    return Comparison(
        old=old,
        new=new,
        unlike=unlike,
        pace=pace,
        compared=[after.case for _, after in pairs],
        measured=len(measured),
        differences=sorted(differences, key=_place),
        untimed=[after.case for before, after in measured if not have_intervals(before, after)],
        only_old=[case for case in of_old if case not in of_new],
        only_new=[case for case in of_new if case not in of_old],
    )


def pace_ratio(old_s: float, new_s: float) -> float:
    """What the loop beside the visits took in the new run over what it took in the old one; 1 where that is unknown."""
    ratio = new_s / old_s
    return 1.0 if math.isnan(ratio) else ratio


def _differences(old: Row, new: Row, pace: float) -> Iterator[Difference]:
    if old.status != new.status:
        yield Difference(Measure.STATUS, old, new)
    if not _measured(old, new):
        return
    if lie_apart(old, new, pace=pace):
        yield Difference(Measure.TIME, old, new, time_ratio(new, old), settled=both_settled(old, new))
    if max(peak_growth(old, new), peak_growth(new, old)) > TOLERANCE_BYTES + new.case.peak_slack_bytes:
        yield Difference(Measure.PEAK, old, new, _peak_ratio(new, old))
    smaller, larger = sorted((old.max_error_ulp, new.max_error_ulp))
    if larger > LEAST_ERROR_ULP and larger > ERROR_FACTOR * smaller:
        yield Difference(Measure.ERROR, old, new, Ratio(_quotient(new.max_error_ulp, old.max_error_ulp)))


def _place(difference: Difference) -> tuple[bool, bool, float]:
    """Where a difference stands: the unsettled last, a status first, and then the largest ratio in either direction."""
    value = difference.ratio.value
    return not difference.settled, not math.isnan(value), 0.0 if not value > 0 else -abs(math.log(value))


def _measured(old: Row, new: Row) -> bool:
    return old.status == new.status == "measured"


def have_intervals(*rows: Row) -> bool:
    """Whether every row has a time with its interval; rows of earlier versions have none."""
    return not any(math.isnan(bound) for row in rows for bound in (row.time_s, row.time_low_s, row.time_high_s))


def both_settled(old: Row, new: Row) -> bool:
    """Whether the visits of both rows agree."""
    return old.settled == new.settled == 1


def lie_apart(old: Row, new: Row, margin: float = 0.0, pace: float = 1.0) -> bool:
    """Whether two times' intervals do not overlap, by more than a share of ``margin``; False if one is missing.

    They have to lie apart as they are, and also after the new one is divided by its ``pace`` over the old one's. A call
    that waits for memory is no slower where the processor is, so neither of the two alone would do.
    """
    reach = 1.0 + margin
    is_slower = new.time_low_s > reach * max(1.0, pace) * old.time_high_s
    return is_slower or old.time_low_s > reach * max(1.0, 1.0 / pace) * new.time_high_s


def time_ratio(above: Row, below: Row) -> Ratio:
    """The ratio of two independent times and its interval."""
    return Ratio(*map(float, ratio_with_interval(vars(above), vars(below))))


def peak_growth(old: Row, new: Row) -> int:
    """Bytes from the largest reading of the old peak to the smallest of the new one; 0 if either is missing."""
    if old.peak_bytes is None or new.peak_bytes is None:
        return 0
    return new.peak_bytes - largest_peak(old)


def largest_peak(row: Row) -> int:
    """The largest reading of the peak in bytes; tables of earlier versions keep one reading."""
    return (row.peak_bytes or 0) if row.peak_high_bytes is None else row.peak_high_bytes


def _peak_ratio(above: Row, below: Row) -> Ratio:
    smallest = [row.peak_bytes or 0 for row in (above, below)]
    largest = [largest_peak(row) for row in (above, below)]
    return Ratio(_quotient(*smallest), _quotient(smallest[0], largest[1]), _quotient(largest[0], smallest[1]))


def _quotient(above: float, below: float) -> float:
    return above / below if below else math.nan


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]


def _phrases(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [f"{key} was {old.get(key)}, is {new.get(key)}" for key in _changed(old, new)]
