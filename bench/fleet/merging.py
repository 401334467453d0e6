"""Runs that were made apart, on machines of one's own or of others, as one table in which each row has its machine."""

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from ..storage.files import make_folder
from ..storage.machines import APART, FACTS, Machine, load_machines, store_machines
from ..storage.results import CASES, RUN_ID, VISITS, Row, Run, Visit, load_rows, load_run, load_visits, write_run
from ..storage.tables import write_table
from ..sweep.table import highest
from .machines import differences, digest, in_words, left_out, reference_of, versions_text


@dataclass
class Part:
    """A stored run, with its machines named in its rows and visits."""

    name: str
    run: Run
    machines: list[Machine]
    rows: list[Row]
    visits: list[Visit]


@dataclass
class Merged:
    """The parts as one table, and what was found twice: the same, or not the same."""

    run: Run
    machines: list[Machine]
    rows: list[Row]
    visits: list[Visit]
    duplicates: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)


def load_part_of(folder: Path, *, apart: bool) -> Part:
    """A stored run, of one machine or several; with ``apart`` its machine is named for the run.

    Raises:
        UserError: the run cannot be read.
    """
    run, rows, visits = load_run(folder), load_rows(folder), load_visits(folder)
    machines = load_machines(folder)
    if machines:
        return Part(run.run_id, run, machines, rows, visits)
    name = run.run_id if apart else _id_of(run)
    run = dataclasses.replace(run, ceiling=[dataclasses.replace(point, machine=name) for point in run.ceiling])
    return Part(
        name=run.run_id,
        run=run,
        machines=[_machine_of(run, name)],
        # The times of a run's visits count from its own beginning: those of another run are of another attempt.
        rows=[dataclasses.replace(row, machine=name, attempt=run.run_id) for row in rows],
        visits=[dataclasses.replace(visit, machine=name, attempt=run.run_id) for visit in visits],
    )


def _id_of(run: Run) -> str:
    """The machine's id; runs of earlier versions keep none, and get one from what their machine is."""
    if run.machine_id:
        return run.machine_id
    cpu = re.sub(r"[^A-Za-z0-9]+", "-", str(run.machine["cpu"])).strip("-")
    return f"{cpu}-{hashlib.sha256(repr(sorted(run.machine.items())).encode()).hexdigest()[:8]}"


def _machine_of(run: Run, name: str) -> Machine:
    largest = max(run.ceiling, key=lambda point: (point.working_set_bytes, point.bytes_per_s), default=None)
    return Machine(
        machine=name,
        **{column: run.machine[column] for column in FACTS if column in run.machine},
        processors="",
        versions=versions_text(run.versions),
        code=digest(run.code),
        ceiling_bytes_per_s=largest.bytes_per_s if largest else float("nan"),
    )


def merge_parts(parts: Sequence[Part], run_id: str, *, keep_apart: bool) -> Merged:
    """The parts as one table. Of what is there twice the first part's counts.

    Raises:
        UserError: the inputs are unlike, or machines are and may not be kept apart.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.run.seed != first.run.seed:
            raise UserError(
                f"{part.name} has seed {part.run.seed}, {first.name} has {first.run.seed}: their inputs are unlike"
            )
    machines = _merged_machines(parts, keep_apart=keep_apart)
    merged = Merged(_merged_run(parts, machines, run_id), machines, [], [])
    found: dict[tuple[str, str], tuple[str, Row]] = {}
    for part in parts:
        for row in part.rows:
            key = str(row.case), row.machine
            if key not in found:
                found[key] = part.name, row
                merged.rows.append(dataclasses.replace(row, run_id=run_id))
                continue
            other, its = found[key]
            kind = merged.duplicates if _same(row, its) else merged.conflicts
            kind.append(f"{key[0]} on {key[1]}, in {other} and {part.name}")
    counted = {(row.machine, row.attempt) for row in merged.rows}
    seen: set[tuple[str, str, str, int]] = set()
    for visit in itertools.chain.from_iterable(part.visits for part in parts):
        identity = visit.machine, visit.attempt, visit.case, visit.round
        if (visit.machine, visit.attempt) in counted and identity not in seen:
            seen.add(identity)
            merged.visits.append(visit)
    return merged


def _same(row: Row, other: Row) -> bool:
    """Whether two rows are of the same measurement, whatever run and attempt they are named for."""
    return repr(_measured(row)) == repr(_measured(other))


def _measured(row: Row) -> Row:
    return dataclasses.replace(row, run_id="", attempt="")


def _merged_machines(parts: Sequence[Part], *, keep_apart: bool) -> list[Machine]:
    found: dict[str, Machine] = {}
    for part in parts:
        for machine in part.machines:
            known = found.setdefault(machine.machine, machine)
            if changed := differences(machine, known):
                raise UserError(
                    f"{machine.machine} in {part.name} is not what it was: {changed[0]}; --apart names it for the run"
                )
    reference = reference_of(list(found.values()))
    judged = []
    for machine in found.values():
        unlike = differences(machine, reference)
        if unlike and not keep_apart:
            raise UserError(
                f"{machine.machine} is unlike {reference.machine}: {'; '.join(unlike)}; --keep-apart takes it in, apart"
            )
        judged.append(left_out(machine, APART, "; ".join(unlike)) if unlike else machine)
    return judged


def _merged_run(parts: Sequence[Part], machines: Sequence[Machine], run_id: str) -> Run:
    runs = [part.run for part in parts]
    implementations = {(spec["operation"], spec["name"]): spec for run in runs for spec in run.implementations}
    return dataclasses.replace(
        runs[0],
        run_id=run_id,
        started=min(run.started for run in runs),
        machine=in_words(machines),
        machine_id="",
        implementations=list(implementations.values()),
        sittings=[sitting for run in runs for sitting in run.sittings],
        ceiling=highest(point for run in runs for point in run.ceiling),
        not_installed={},
        fleet={
            "merged": [run.run_id for run in runs],
            "everywhere": all(run.fleet.get("everywhere", True) for run in runs),
        },
        ended=all(run.ended for run in runs),
    )


def part_of(part: Part, machine: str, run_id: str) -> Merged:
    """What one machine of a table measured, as a run of its own.

    Raises:
        UserError: the machine is not in it.
    """
    its = {each.machine: each for each in part.machines}.get(machine)
    if its is None:
        known = ", ".join(each.machine for each in part.machines)
        raise UserError(f"{part.name} has no machine {machine}; it has {known}")
    points = [dataclasses.replace(point, machine="") for point in part.run.ceiling if point.machine == machine]
    run = dataclasses.replace(
        part.run, run_id=run_id, machine=its.facts, machine_id=machine, versions=its.installed, ceiling=points, fleet={}
    )
    rows = [row for row in part.rows if row.machine == machine]
    counted = {row.attempt for row in rows}
    visits = [visit for visit in part.visits if visit.machine == machine and visit.attempt in counted]
    return Merged(
        run,
        [],
        [dataclasses.replace(row, run_id=run_id, machine="", attempt="") for row in rows],
        [dataclasses.replace(visit, machine="", attempt="") for visit in visits],
    )


def store_merged(merged: Merged, results: Path) -> Path:
    """Store a table as a run of its own; its folder.

    Raises:
        UserError: there is such a run, there is no row, or the folder cannot be written.
    """
    run_id = merged.run.run_id
    if not RUN_ID.fullmatch(run_id):
        raise UserError(f"--run-id {run_id!r}: letters, digits, '.', '_' and '-' only, the first a letter or digit")
    folder = results / run_id
    if folder.exists():
        raise UserError(f"{folder}: exists already; choose another name with --run-id")
    if not merged.rows:
        raise UserError("there is no row to store")
    make_folder(folder)
    write_table(folder / CASES, merged.rows)
    if merged.visits:
        write_table(folder / VISITS, merged.visits)
    if merged.machines:
        store_machines(merged.machines, folder)
    write_run(merged.run, folder)
    return folder
