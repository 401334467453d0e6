"""The folder of a run on many machines, as its driver keeps it: every record stored when it arrives, and once.

Beside run.json, cases.csv and visits.csv, which every stored run has: plan.csv (the shares), examined.csv (rows as they
arrive, without times), shares.csv (how each attempt at a share ended), calibrations.csv and machines.csv. A row is in
cases.csv when all of its share is measured: what is compared comes from one machine and one attempt.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..storage.files import make_folder
from ..storage.machines import KEPT, LEFT_OUT, Machine, load_machines, store_machines
from ..storage.results import CASES, VISITS, Row, Run, Visit, load_rows, load_visits, write_run
from ..storage.tables import Table, load_table, write_table
from ..sweep.table import highest
from .calibration import Look, disagreement, drift_of
from .machines import in_words, left_out
from .messages import Outcome, Records
from .shares import Planned, Share, planned, restored

PLAN, EXAMINED, SHARES, CALIBRATIONS = "plan.csv", "examined.csv", "shares.csv", "calibrations.csv"
DONE, LOST, HUNG, FAILED = "done", "lost", "hung", "failed"
HINT = "softmax-bench fleet run stores a new run"


@dataclass(frozen=True)
class Attempt:
    """A row of shares.csv: how an attempt at a share ended on a machine: DONE, LOST, HUNG or FAILED."""

    share: int
    machine: str
    worker: str  # its address
    attempt: str
    ended: str
    reason: str = ""
    rows: int = 0
    visits: int = 0
    began_s: float = float("nan")  # Unix time by the machine's clock
    ended_s: float = float("nan")
    measuring_s: float = float("nan")


class FleetStore:
    """The tables of a run, open for what arrives.

    Raises:
        UserError: the folder cannot be written, or another process writes it.
    """

    def __init__(self, run: Run, folder: Path) -> None:
        make_folder(folder)
        self.run, self.folder = run, folder
        write_run(run, folder)
        self._cases = Table(folder / CASES, Row)
        self._examined = Table(folder / EXAMINED, Row)
        self._visits = Table(folder / VISITS, Visit)
        self._looks = Table(folder / CALIBRATIONS, Look)
        self._attempts = Table(folder / SHARES, Attempt)
        self.machines: dict[str, Machine] = {}
        self._ceiling = list(run.ceiling)
        self.done = {(each.share, each.machine) for each in load_attempts(folder) if each.ended == DONE}
        self._sent: dict[str, list[int]] = defaultdict(lambda: [0, 0])  # of attempts under way: rows, visits
        self.statuses: dict[str, int] = defaultdict(int)
        self._continue()

    def _continue(self) -> None:
        """Take up a stored run: what its attempts under way have sent, and rows whose share was not noted as done."""
        ended = {each.attempt for each in load_attempts(self.folder) if each.ended == DONE}
        rows = load_rows(self.folder)
        whole = [row for row in rows if row.attempt in ended]
        if len(whole) < len(rows):
            self._cases.close()
            if whole:
                write_table(self.folder / CASES, whole)
            else:
                (self.folder / CASES).unlink()
            self._cases = Table(self.folder / CASES, Row)
        for row in whole:
            self.statuses[row.status] += 1
        for _, row in load_table(self.folder / EXAMINED, Row, HINT):
            self._sent[row.attempt][0] += row.attempt not in ended
        for visit in load_visits(self.folder):
            self._sent[visit.attempt][1] += visit.attempt not in ended
        self.machines = {machine.machine: machine for machine in load_machines(self.folder)}

    def take(self, *arrived: Records) -> None:
        """Store those of the records that are not stored yet; what follows a gap is passed over, and asked for again.

        Raises:
            UserError: they cannot be stored.
        """
        rows: list[Row] = []
        visits: list[Visit] = []
        looks: list[Look] = []
        for records in arrived:
            sent = self._sent[records.attempt]
            new_rows = records.rows[sent[0] - records.first_row :] if records.first_row <= sent[0] else []
            new_visits = records.visits[sent[1] - records.first_visit :] if records.first_visit <= sent[1] else []
            rows += new_rows
            visits += new_visits
            looks += records.looks
            sent[0] += len(new_rows)
            sent[1] += len(new_visits)
        for table, new in ((self._examined, rows), (self._visits, visits), (self._looks, looks)):
            if new:
                table.append(*new)

    def finish(self, share: int, worker: str, outcome: Outcome) -> bool:
        """Store a share that is measured, unless its machine has done it before; False where records of it are missing.

        Raises:
            UserError: it cannot be stored.
        """
        if (share, outcome.machine) in self.done:
            return True
        sent = self._sent[outcome.attempt]
        if sent[0] < outcome.sent_rows or sent[1] < outcome.sent_visits:
            return False
        del self._sent[outcome.attempt]
        if outcome.rows:
            self._cases.append(*outcome.rows)
        for row in outcome.rows:
            self.statuses[row.status] += 1
        self._ceiling = highest([*self._ceiling, *outcome.ceiling])
        self.note(
            Attempt(
                *(share, outcome.machine, worker, outcome.attempt, DONE, ""),
                *(outcome.sent_rows, outcome.sent_visits),
                *(outcome.began_s, outcome.ended_s, outcome.measuring_s),
            )
        )
        self.done.add((share, outcome.machine))
        return True

    def note(self, attempt: Attempt) -> None:
        """Store how an attempt ended."""
        self._attempts.append(attempt)

    def describe(self, *, ended: bool) -> None:
        """Store machines.csv and run.json as they are now: ceilings, calibrations, and which machines are kept."""
        looks: dict[str, list[Look]] = defaultdict(list)
        for each in load_looks(self.folder):
            looks[each.machine].append(each)
        machines = [self._judged(machine, looks[machine.machine]) for machine in self.machines.values()]
        if machines:
            self.machines = {machine.machine: machine for machine in machines}
            store_machines(machines, self.folder)
            self.run = dataclasses.replace(self.run, machine=in_words(machines))
        self.run = dataclasses.replace(self.run, ceiling=self._ceiling, ended=ended)
        write_run(self.run, self.folder)

    def _judged(self, machine: Machine, looks: Sequence[Look]) -> Machine:
        points = [point for point in self._ceiling if point.machine == machine.machine]
        largest = max((point.working_set_bytes for point in points), default=0)
        rates = [point.bytes_per_s for point in points if point.working_set_bytes == largest]
        drift = drift_of(looks)
        machine = dataclasses.replace(
            machine,
            ceiling_bytes_per_s=max(rates, default=float("nan")),
            calibrations=len({each.began_s for each in looks}),
            drift=float(f"{drift:.4g}"),
        )
        reason = disagreement(looks)
        return left_out(machine, LEFT_OUT, reason) if reason and machine.kept == KEPT else machine

    def close(self) -> None:
        """Let go of the tables."""
        for table in (self._cases, self._examined, self._visits, self._looks, self._attempts):
            table.close()


def load_attempts(folder: Path) -> list[Attempt]:
    """How the attempts at shares ended, in that order.

    Raises:
        UserError: the table is missing or damaged.
    """
    return [attempt for _, attempt in load_table(folder / SHARES, Attempt, HINT)]


def load_looks(folder: Path) -> list[Look]:
    """All looks at the calibration's cases, in the order in which they arrived.

    Raises:
        UserError: the table is missing or damaged.
    """
    return [each for _, each in load_table(folder / CALIBRATIONS, Look, HINT)]


def store_plan(shares: Sequence[Share], folder: Path) -> None:
    """Store the shares of a run.

    Raises:
        UserError: they cannot be written.
    """
    write_table(folder / PLAN, planned(shares))


def load_plan(folder: Path) -> list[Share]:
    """The shares of a stored run.

    Raises:
        UserError: the table is missing or damaged.
    """
    return restored([row for _, row in load_table(folder / PLAN, Planned, HINT)])
