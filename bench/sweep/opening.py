"""A run opened for measuring: begun in a folder of its own, or a stored one resumed; and what it still misses."""

import dataclasses
import datetime
import math
from pathlib import Path

from ..errors import UserError
from ..implementations import registered
from ..instruments import bandwidth, host
from ..operations import operations
from ..operations.cases import Case
from ..storage.results import RUN_ID, Run, RunOptions, find_run, load_rows, load_run
from .options import Options
from .selection import Selection, unique
from .sitting import Sitting


def begin(options: Options, timing: dict[str, float]) -> Sitting:
    """The first sitting of a new run in its own folder; ``timing`` is how pytest-benchmark times a case.

    Raises:
        UserError: the run exists already, its name cannot be a folder's, or the folder cannot be written.
    """
    run = describe(options, timing, round(bandwidth.fresh_stream_bytes_per_s()))
    folder = options.results / run.run_id
    if folder.exists():
        raise UserError(f"{folder}: exists already; resume it (RESUME={run.run_id}) or choose another name")
    return Sitting(dataclasses.replace(run, ceiling=_ceiling(options.cases())), folder)


def resume(name: str, options: Options) -> Sitting:
    """Another sitting of a stored run.

    Raises:
        UserError: there is no such run, or it was made on another machine, with other versions or other code.
    """
    folder = find_run(name, options.results)
    stored = load_run(folder)
    differences = stored.differences(describe(dataclasses.replace(options, run_id=stored.run_id), {}, math.nan))
    if differences:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        raise UserError(f"{folder} cannot be resumed: {differences[0]}{more}; start a new run")
    return Sitting(stored, folder)


def missing_cases(folder: Path) -> list[Case]:
    """The selected cases that a stored run has no row of yet."""
    recorded = {row.case for row in load_rows(folder)}
    return [case for case in Selection.restored(load_run(folder).selection).cases() if case not in recorded]


def describe(options: Options, timing: dict[str, float], stream_bytes_per_s: float) -> Run:
    """The description of a run that starts now, here, its ceiling still to be measured.

    Raises:
        UserError: the run's name cannot be a folder's.
    """
    run_id = options.run_id or datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    if not RUN_ID.fullmatch(run_id):
        raise UserError(f"--run-id {run_id!r}: letters, digits, '.', '_' and '-' only, the first a letter or digit")
    return Run(
        run_id=run_id,
        started=host.now_utc(),
        seed=options.seed,
        selection=dataclasses.asdict(options.selection),
        options=RunOptions(options.max_call_s, options.max_bytes, timing, stream_bytes_per_s),
        machine=host.machine(),
        versions=host.versions(),
        code=host.code_hashes(),
        not_installed=options.not_installed(),
        implementations=[
            {
                "operation": spec.operation,
                "name": spec.name,
                "summary": spec.summary,
                "workspace": str(spec.workspace),
                "source": spec.source,
                "library": spec.library,
            }
            for spec in registered().values()
        ],
    )


def _ceiling(cases: list[Case]) -> list[bandwidth.CeilingPoint]:
    """The ceiling for the cases, at each of their numbers of threads."""
    largest = max(operations()[case.operation].arrays_moved * case.array_bytes for case in cases)
    threads = unique(case.threads for case in cases)
    return [point for count in threads for point in bandwidth.stream_ceiling(count, largest)]
