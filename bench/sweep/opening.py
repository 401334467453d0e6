"""How a run is opened for measuring: begun in a folder of its own, or a stored one resumed; what it still misses."""

import contextlib
import dataclasses
import datetime
import math
from dataclasses import dataclass
from pathlib import Path

from ..errors import BusyError, UserError
from ..implementations import registered
from ..instruments import bandwidth, host
from ..operations.cases import Case
from ..storage.descriptions import FILE
from ..storage.results import CASES, RUN_ID, VISITS, Run, RunOptions, find_run, load_rows, load_run
from ..verification.competitor import Competitor
from .open_run import OpenRun
from .options import Options
from .selection import Selection

BEGINNINGS = (f".{FILE}.partial", CASES, VISITS)  # the files of a run before it is described


@dataclass(frozen=True)
class Surroundings:
    """What a run's processes need besides its options: how a visit is timed, a user's own code, modules to import.

    ``timing`` are pytest-benchmark's options that shape a visit; it is empty if nothing is to be timed.
    """

    timing: dict[str, float]
    competitors: tuple[Competitor, ...] = ()
    modules: tuple[str, ...] = ()


def begin(options: Options, surroundings: Surroundings) -> OpenRun:
    """A new run in its own folder.

    Raises:
        UserError: the run exists already, its name cannot be a folder's, or the folder cannot be written.
    """
    run = describe(options, surroundings.timing, round(bandwidth.fresh_stream_bytes_per_s()))
    folder = options.results / run.run_id
    if _is_taken(folder):
        raise UserError(f"{folder}: exists already; resume it (RESUME={run.run_id}) or choose another name")
    is_new = not folder.exists()
    try:
        return OpenRun(run, folder, surroundings.competitors, surroundings.modules)
    except BusyError:
        raise
    except UserError:
        if is_new:
            _remove_beginnings(folder)
        raise


def _is_taken(folder: Path) -> bool:
    """Whether a folder holds anything but the beginnings of a run that nobody described."""
    if not folder.is_dir():
        return folder.exists()
    return (folder / FILE).exists() or any(path.name not in BEGINNINGS for path in folder.iterdir())


def _remove_beginnings(folder: Path) -> None:
    """Remove what a run that could not be opened has left, where nothing is measured yet: the name is free again."""
    with contextlib.suppress(OSError):
        for name in (FILE, *BEGINNINGS):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def resume(name: str, options: Options, surroundings: Surroundings) -> OpenRun:
    """A stored run opened again; ``options.minutes`` replaces its time box if it is given.

    Raises:
        UserError: there is no such run, or it was made on another machine, with other versions or other code.
    """
    folder = find_run(name, options.results)
    stored = load_run(folder)
    differences = stored.differences(describe(dataclasses.replace(options, run_id=stored.run_id), {}, math.nan))
    if differences:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        raise UserError(f"{folder} cannot be resumed: {differences[0]}{more}; start a new run")
    if options.minutes is not None:
        box = dataclasses.replace(stored.options, minutes=options.minutes)
        stored = dataclasses.replace(stored, options=box, ended=False)
    return OpenRun(stored, folder, surroundings.competitors, surroundings.modules)


def missing_cases(folder: Path) -> list[Case]:
    """The selected cases that a stored run has no row of yet, or no settled time if its visits were broken off.

    Raises:
        UserError: the run cannot be read, or selects what does not exist.
    """
    run = load_run(folder)
    try:
        selected = Selection.restored(run.selection).cases()
    except UserError as error:
        raise UserError(f"{folder / FILE}: selection: {error}") from None
    done = {row.case for row in load_rows(folder) if run.ended or row.status != "measured" or row.settled == 1}
    return [case for case in selected if case not in done]


def describe(options: Options, timing: dict[str, float], stream_bytes_per_s: float) -> Run:
    """The description of a run that starts now, here.

    Raises:
        UserError: the run's name cannot be a folder's.
    """
    run_id = options.run_id or datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    if not RUN_ID.fullmatch(run_id):
        rule = "letters, digits, '.', '_' and '-' only, at most 100, the first a letter or digit"
        raise UserError(f"--run-id {run_id!r}: {rule}")
    return Run(
        run_id=run_id,
        started=host.now_utc(),
        seed=options.seed,
        selection=dataclasses.asdict(options.selection),
        options=RunOptions(
            options.max_call_s,
            options.max_bytes,
            timing,
            stream_bytes_per_s,
            minutes=options.box_minutes,
            every_round=options.every_round,
        ),
        machine=host.machine(),
        machine_id=host.machine_id(),
        versions=host.versions(),
        code=host.code_hashes(),
        commit=host.commit(),
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
