"""One table of several machines: does a speed-up hold on all of them, which machine disagrees, and what is missing.

Only machines that are kept are compared. A case's speed-up is of one machine each; its spread is the largest over the
smallest. A machine disagrees about a case if its interval overlaps with that of no other machine.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from ..errors import UserError
from ..operations import operations
from ..operations.cases import Case
from ..storage.frames import to_frame
from ..storage.machines import KEPT, Machine, load_machines
from ..storage.results import Row, Run, load_rows, load_run


@dataclass(frozen=True)
class Ratio:
    """A machine's speed-up in a case, with its interval."""

    machine: str
    value: float
    low: float
    high: float
    settled: float  # 1 if both of its times have settled, otherwise 0

    def overlaps(self, other: "Ratio") -> bool:
        """Whether the two intervals have a number in common."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class CaseAcross:
    """A case's speed-ups on two or more machines, the largest first."""

    case: Case
    ratios: Sequence[Ratio]

    @property
    def spread(self) -> float:
        """The largest over the smallest."""
        return self.ratios[0].value / self.ratios[-1].value

    @property
    def holds(self) -> bool:
        """Whether all machines say the same: faster than the baseline, or slower, with all of their intervals."""
        return all(ratio.low > 1.0 for ratio in self.ratios) or all(ratio.high < 1.0 for ratio in self.ratios)

    @property
    def disagreeing(self) -> list[str]:
        """The machines whose interval overlaps with no other."""
        return [
            mine.machine
            for mine in self.ratios
            if not any(mine.overlaps(other) for other in self.ratios if other is not mine)
        ]


@dataclass(frozen=True)
class Across:
    """A stored table of several machines, and what it says about each case that two or more of them measured."""

    folder: Path
    run: Run
    machines: Sequence[Machine]
    frame: pd.DataFrame
    cases: Sequence[CaseAcross]  # the largest spread first
    missing: dict[str, list[str]]  # ids of cases that a kept machine has no row of, by machine; or see `short`
    short: list[str]  # ids of cases that are on fewer machines than asked for, where cases were shared out

    @property
    def kept(self) -> list[Machine]:
        """The machines that are compared."""
        return [machine for machine in self.machines if machine.kept == KEPT]


def load_across(folder: Path) -> Across:
    """The stored table.

    Raises:
        UserError: the run cannot be read, or it is of one machine.
    """
    run, machines = load_run(folder), load_machines(folder)
    if not machines:
        raise UserError(f"diff: give two runs or more, the oldest first; {folder} is of one machine")
    rows = load_rows(folder)
    frame = to_frame(rows, run.ceiling)
    kept = [machine.machine for machine in machines if machine.kept == KEPT]
    cases = {str(row.case): row.case for row in rows}
    compared = [CaseAcross(cases[case], ratios) for case, ratios in _ratios_of(frame, kept) if len(ratios) > 1]
    return Across(
        folder=folder,
        run=run,
        machines=machines,
        frame=frame,
        cases=sorted(compared, key=lambda case: -case.spread),
        missing=_missing(rows, kept) if run.fleet.get("everywhere", True) else {},
        short=[] if run.fleet.get("everywhere", True) else _short(rows, kept, run.fleet["replicas"]),
    )


def _ratios_of(frame: pd.DataFrame, kept: Sequence[str]) -> Iterable[tuple[str, list[Ratio]]]:
    baselines = {operation.name: operation.baseline for operation in operations().values()}
    shown = frame[
        (frame["status"] == "measured")
        & frame["machine"].isin(kept)
        & frame["speedup"].notna()
        & (frame["implementation"] != frame["operation"].map(baselines))
    ]
    for case, its in shown.groupby("case", sort=False):
        columns = its[["machine", "speedup", "speedup_low", "speedup_high", "speedup_settled"]]
        ratios = [Ratio(*values) for values in columns.itertuples(index=False, name=None)]
        yield str(case), sorted(ratios, key=lambda ratio: -ratio.value)


def _missing(rows: Sequence[Row], kept: Sequence[str]) -> dict[str, list[str]]:
    """For each machine the cases that another kept machine has a row of and it has not."""
    of: dict[str, set[str]] = {machine: set() for machine in kept}
    for row in rows:
        if row.machine in of:
            of[row.machine].add(str(row.case))
    everything = sorted(set().union(*of.values()))
    return {
        machine: lacking for machine in kept if (lacking := [case for case in everything if case not in of[machine]])
    }


def _short(rows: Sequence[Row], kept: Sequence[str], replicas: int) -> list[str]:
    """The cases that fewer kept machines than ``replicas`` have a row of."""
    count: dict[str, int] = {}
    for row in rows:
        count[str(row.case)] = count.get(str(row.case), 0) + (row.machine in kept)
    return [case for case, machines in count.items() if machines < replicas]


def machines_json(across: Across) -> str:
    """What is compared, as JSON; missing numbers are null."""
    content: dict[str, Any] = {
        "run": across.run.run_id,
        "machines": [dataclasses.asdict(machine) for machine in across.machines],
        "ceilings": [dataclasses.asdict(point) for point in across.run.ceiling],
        "cases": [
            {
                "case": str(each.case),
                "holds": each.holds,
                "spread": each.spread,
                "disagreeing": each.disagreeing,
                "ratios": [dataclasses.asdict(ratio) for ratio in each.ratios],
            }
            for each in across.cases
        ],
        "missing": across.missing,
        "short": across.short,
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=1).decode() + "\n"
