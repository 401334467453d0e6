"""kill -9 at random moments of sweep, check, a run on many machines, pages and exports; then it is done again."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from softmax_bench.errors import UserError
from softmax_bench.fleet.store import DONE, load_attempts, load_plan
from softmax_bench.storage.results import Visit, load_rows, load_run, load_visits, write_run
from softmax_bench.storage.tables import write_table

from .conftest import ROOT, SMALL, TIMED, UNTIMED
from .fleet_cluster import ALL_CASES, SHORT
from .processes import Killed, more_files, more_lines
from .test_own_repository import QUICK, TARGET
from .test_own_repository import own_repository as own_repository  # noqa: PLC0414 - a fixture

KILLS = int(os.environ.get("SOFTMAX_BENCH_KILLS", "6"))  # of a sweep; `make faults` asks for 50
FEWER = max(2, KILLS // 10)  # of what takes longer to start
# What writes pages, charts and exports: a command, from the run's folder and the output's.
WRITERS: dict[str, Callable[[Path, Path], tuple[str, ...]]] = {
    "plot": lambda run, output: ("plot", f"{run}", f"--plots={output}"),
    "report": lambda run, output: ("report", f"{run}", f"--output={output / 'report.html'}"),
    "asv": lambda run, output: ("export", f"{run}", "--format=asv", "--commit=HEAD", f"--output={output}"),
    "bencher": lambda run, output: ("export", f"{run}", "--format=bencher", f"--output={output / 'bencher.json'}"),
}


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """A folder for temporary files, in which nothing else is."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def is_left(folder: Path) -> list[str]:
    """What is in a folder for temporary files besides the machine's lock, which stays, and Dask's own."""
    return [path.name for path in folder.iterdir() if path.suffix != ".lock" and "dask" not in path.name]


def more_left(folder: Path) -> Callable[[], bool]:
    """Whether a folder for temporary files has more folders in it than now.

    Files do not count: the first one is Python's, which tries whether it can write there, for a moment. A kill just
    then would leave what is not the suite's.
    """

    def folders() -> set[str]:
        return {name for name in is_left(folder) if (folder / name).is_dir()}

    before = folders()
    return lambda: not before.issuperset(folders())


def kill_at_random(killed: Killed, rng: random.Random, seconds: float, state: Callable[[], bool]) -> None:
    """Kill a command within so many seconds of its start, or when a state has come: either half of the times.

    The time alone would be over, on a busy machine, before the command has done anything.
    """
    if rng.random() < 0.5:
        killed.after(rng.uniform(0.1, seconds))
    else:
        killed.when(state)


@pytest.mark.faults
def test_a_run_that_is_killed_at_random_moments_has_every_case_and_visit_once(tmp_path: Path, temporary: Path) -> None:
    rng = random.Random(20)
    small = (*SMALL, "--implementation=vectorized", "--implementation=row_blocks")
    options = (f"--results={tmp_path}", "--no-charts")
    begun = ("run", *options, "--run-id=r", *small, "--minutes=10", "--every-round", *TIMED[1:])
    resumed = ("run", *options, "--resume=r")
    sweep = Killed(*begun, where=tmp_path, TMPDIR=str(temporary))
    visits_file = tmp_path / "r" / "visits.csv"
    known: list[Visit] = []
    for _ in range(KILLS):
        kill_at_random(sweep, rng, 2.0, more_lines(visits_file, rng.randrange(1, 40)))
        if (tmp_path / "r" / "run.json").exists():
            sweep.arguments = resumed
            with contextlib.suppress(UserError):  # a torn last row, which the next sitting cuts off
                visits = load_visits(tmp_path / "r")
                assert visits[: len(known)] == known
                known = visits
    done = sweep.to_its_end(*(sweep.arguments if sweep.arguments == resumed else begun[:-2]), "--minutes=0.1")
    assert done.returncode == 0, done.stderr
    rows, visits = load_rows(tmp_path / "r"), load_visits(tmp_path / "r")
    assert visits[: len(known)] == known
    assert len({(visit.case, visit.round) for visit in visits}) == len(visits)
    assert is_left(temporary) == []
    undisturbed = sweep.to_its_end("run", *options, "--run-id=whole", *small, *UNTIMED)
    assert undisturbed.returncode == 0
    assert {row.case for row in rows} == {row.case for row in load_rows(tmp_path / "whole")}
    assert len(rows) == 4
    assert {row.status for row in rows} == {"measured"}


def findings_in(file: Path) -> list[str]:
    return sorted(str(each["label"]) for each in json.loads(file.read_text(encoding="utf-8"))["findings"])


@pytest.mark.faults
@pytest.mark.parametrize(
    ("check", "seconds"),
    [
        (("compare", "vectorized", "row_blocks", "--batch=4", "--features=16"), 4.0),
        (("gate", f"--target={TARGET}", *QUICK), 6.0),
    ],
    ids=["compare", "gate"],
)
def test_a_check_that_is_killed_leaves_no_process_and_its_folders_to_the_next(
    own_repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
    check: tuple[str, ...],
    seconds: float,
) -> None:
    rng = random.Random(21)
    temporary = tmp_path_factory.mktemp("temporary")
    outcome = own_repository / "outcome.json"
    killed = Killed(*check, f"--json={outcome}", where=own_repository, TMPDIR=str(temporary))
    for _ in range(FEWER):
        kill_at_random(killed, rng, seconds, more_left(temporary))
        assert not outcome.exists() or findings_in(outcome)  # whole, where it had come to its end
    outcome.unlink(missing_ok=True)
    done = killed.to_its_end()
    assert done.returncode in (0, 2), done.stdout + done.stderr  # 2: the machine was too noisy
    assert findings_in(outcome)
    assert is_left(temporary) == []
    assert killed.left() == []


@pytest.fixture(scope="session")
def small_run(reference_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference run's cases of two implementations at two shapes, with their visits."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    rows = [
        row
        for row in load_rows(reference_run)
        if row.implementation in ("explicit_jacobian", "vectorized")
        and (row.batch, row.operation, row.dtype, row.logits) == (32, "softmax", "float64", "normal")
    ]
    cases = {str(row.case) for row in rows}
    assert len(cases) > 3
    write_run(dataclasses.replace(load_run(reference_run), run_id="small"), folder)
    write_table(folder / "cases.csv", [dataclasses.replace(row, run_id="small") for row in rows])
    write_table(folder / "visits.csv", [visit for visit in load_visits(reference_run) if visit.case in cases])
    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    """What a reader finds: all but unfinished files, whose names begin with a dot."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.faults
@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_killed_while_it_writes_leaves_whole_files_only(tmp_path: Path, small_run: Path, kind: str) -> None:
    rng = random.Random(22)
    whole, output = tmp_path / "whole", tmp_path / "output"
    began_s = time.monotonic()
    undisturbed = Killed(*WRITERS[kind](small_run, whole), where=ROOT).to_its_end()
    seconds = time.monotonic() - began_s
    assert undisturbed.returncode == 0, undisturbed.stderr
    expected = files_in(whole)
    killed = Killed(*WRITERS[kind](small_run, output), where=ROOT)
    for _ in range(FEWER):
        shutil.rmtree(output, ignore_errors=True)
        kill_at_random(killed, rng, seconds, more_files(output, rng.randrange(len(expected))))
        found = files_in(output)
        assert found == {name: expected[name] for name in found}
    assert killed.to_its_end().returncode == 0
    assert files_in(output) == expected
    assert [path.name for path in output.rglob(".*")] == []


@pytest.mark.faults
@pytest.mark.skipif(not importlib.util.find_spec("distributed"), reason="an extra: make's EXTRAS=fleet")
def test_a_driver_that_is_killed_at_random_moments_has_every_case_and_visit_once(
    tmp_path: Path, temporary: Path
) -> None:
    rng = random.Random(23)
    here = ("--workers=2", "--pretend")
    folder = tmp_path / "results" / "its"
    killed = Killed("fleet", "run", *here, *SHORT, "--run-id=its", where=tmp_path, TMPDIR=str(temporary))
    known: list[Visit] = []
    for _ in range(FEWER):
        kill_at_random(killed, rng, 8.0, more_lines(folder / "visits.csv", rng.randrange(1, 10)))
        if (folder / "run.json").exists():
            killed.arguments = ("fleet", "run", *here, "--resume=its", "--no-charts")
            with contextlib.suppress(UserError):  # a torn last row, which the next driver cuts off
                visits = load_visits(folder)
                assert visits[: len(known)] == known
                known = visits
    done = killed.to_its_end()
    assert done.returncode == 0, done.stdout + done.stderr
    rows, visits = load_rows(folder), load_visits(folder)
    assert visits[: len(known)] == known
    identities = [(visit.machine, visit.attempt, visit.case, visit.round) for visit in visits]
    assert len(identities) == len(set(identities))
    measured = sorted((row.machine, str(row.case)) for row in rows)
    assert measured == [(machine, case) for machine in ("local-1", "local-2") for case in ALL_CASES]
    attempts = [(each.share, each.machine) for each in load_attempts(folder) if each.ended == DONE]
    assert len(attempts) == len(set(attempts)) == 2 * len(load_plan(folder))
    assert [name for name in is_left(temporary) if list((temporary / name).iterdir())] == []  # of journals
