"""One sweep on many machines. Each machine is a worker with an id of its own, in a cluster of real processes."""

import dataclasses
import importlib.util
import itertools
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from softmax_bench.cli import main
from softmax_bench.fleet.calibration import CALIBRATION_CASES, Look, disagreement, drift_of
from softmax_bench.fleet.messages import Outcome, Records
from softmax_bench.fleet.shares import planned, restored, shares_of
from softmax_bench.fleet.store import DONE, HUNG, LOST, FleetStore, load_attempts, load_looks, load_plan
from softmax_bench.instruments import host
from softmax_bench.instruments.machine_lock import hold, lock_path
from softmax_bench.storage.machines import APART, KEPT, LEFT_OUT, Machine, load_machines
from softmax_bench.storage.results import Row, Run, RunOptions, Visit, load_rows, load_run, load_visits, write_run
from softmax_bench.storage.tables import write_table
from softmax_bench.sweep.selection import Selection

from tests.conftest import SoftmaxBench
from tests.fleet_cluster import (
    ALL_CASES,
    CASES,
    ENDS_S,
    ONE_SHARE,
    SHORT,
    UNDER_WAY,
    Cluster,
    children_of,
    ended,
    kill,
)
from tests.processes import await_that

NOBODY = "tcp://127.0.0.1:1"  # where no scheduler listens
MACHINE = Machine("m", "a processor", 2, 1 << 30, "Linux", "0 1", "python 3.11.7, numpy 2.4.6", "c0de")
EVERYWHERE = {("a", case) for case in ALL_CASES} | {("b", case) for case in ALL_CASES}


CommandLine = Callable[..., tuple[int, str]]
needs_dask = pytest.mark.skipif(not importlib.util.find_spec("distributed"), reason="an extra: make's EXTRAS=fleet")


@pytest.fixture
def command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Runs the command line in this process, in an empty folder; the exit status and all that was said."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, list(arguments))
        return done.exit_code, done.output

    return run


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    pytest.importorskip("distributed")
    with Cluster(tmp_path) as opened:
        yield opened


def measured(folder: Path) -> list[tuple[str, str]]:
    """Machine and case of every row; each may be there once."""
    found = [(row.machine, str(row.case)) for row in load_rows(folder)]
    assert len(found) == len(set(found))
    return found


def check_visits(folder: Path) -> None:
    """Every visit is there once, and no two of a machine overlap."""
    visits = load_visits(folder)
    identities = [(visit.machine, visit.attempt, visit.case, visit.round) for visit in visits]
    assert len(identities) == len(set(identities))
    for machine in {visit.machine for visit in visits}:
        spans = sorted((visit.began_s, visit.began_s + visit.took_s) for visit in visits if visit.machine == machine)
        for before, after in itertools.pairwise(spans):
            assert after[0] >= before[1] - 0.001  # the clocks' times are stored to a tenth of a millisecond


# What a user sees of a whole run


@needs_dask
@pytest.mark.slow
def test_every_machine_measures_every_case(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    options = ("--workers=2", "--pretend", *CASES, "--minutes=0.02", "--run-id=its")
    done = softmax_bench("fleet", "run", *options, timeout_s=ENDS_S)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "results" / "its"
    assert set(measured(folder)) == {(f"local-{number}", case) for number in (1, 2) for case in ALL_CASES}
    check_visits(folder)
    rows = load_rows(folder)
    assert {row.status for row in rows} == {"measured"}
    for row in rows:
        assert row.visits == sum(
            (visit.machine, visit.case) == (row.machine, str(row.case)) for visit in load_visits(folder)
        )
    machines = load_machines(folder)
    assert {machine.machine: machine.kept for machine in machines} == {"local-1": KEPT, "local-2": KEPT}
    assert {machine.calibrations for machine in machines} == {2}  # one before its share and one after it
    assert {look.case for look in load_looks(folder)} == set(map(str, CALIBRATION_CASES))
    assert load_run(folder).ended
    assert "all machines say the same" in done.stdout
    assert (tmp_path / "plots" / "its" / "speedups_by_machine.png").is_file()
    refused = softmax_bench("plot", "its")
    assert refused.returncode == 2
    assert "a table of several machines; softmax-bench diff its compares them" in refused.stderr
    assert softmax_bench("part", "its", "local-2").returncode == 0
    assert {row.machine for row in load_rows(tmp_path / "results" / "local-2")} == {""}
    shown = softmax_bench("diff", "its", "--json=its.json")
    assert shown.returncode == 0, shown.stderr
    (compared, *_) = json.loads((tmp_path / "its.json").read_text(encoding="utf-8"))["cases"]
    assert {ratio["machine"] for ratio in compared["ratios"]} == {"local-1", "local-2"}


@pytest.mark.slow
def test_shares_are_measured_on_as_many_machines_as_asked_and_whole(cluster: Cluster) -> None:
    for machine in "abc":
        cluster.start_worker(machine)
    status, said = cluster.run(*SHORT, "--run-id=its", "--share", "--replicas=2")
    assert status == 0, said
    folder = cluster.folder / "results" / "its"
    rows = load_rows(folder)
    for share in load_plan(folder):
        machines = [{row.machine for row in rows if row.case == case} for case in share.cases]
        assert len(machines[0]) == 2
        assert machines.count(machines[0]) == len(machines)  # of one shape all implementations are on the same
    check_visits(folder)


@pytest.mark.slow
def test_two_workers_of_one_machine_measure_one_after_the_other(cluster: Cluster) -> None:
    cluster.start_worker("a")
    cluster.start_worker("a")
    status, said = cluster.run(*SHORT, "--run-id=its")
    assert status == 0, said
    folder = cluster.folder / "results" / "its"
    check_visits(folder)
    attempts = load_attempts(folder)
    assert len({attempt.worker for attempt in attempts}) == 2
    first, second = sorted((attempt.began_s, attempt.ended_s) for attempt in attempts)
    assert second[0] >= first[1]
    assert "a is held by share" in said


@pytest.mark.slow
def test_a_run_begins_when_as_many_machines_as_asked_are_there(cluster: Cluster) -> None:
    run = cluster.start_run(*ONE_SHARE, "--run-id=its", "--wait-for=2")
    assert run.stdout is not None
    assert run.stdout.readline() == "waiting for 2 machines; there: none yet\n"
    for _ in range(2):
        cluster.start_worker("a")  # two workers, one machine
    assert run.stdout.readline() == "waiting for 2 machines; there: a\n"
    cluster.await_workers()
    assert not (cluster.folder / "results").exists()
    cluster.start_worker("b")
    status, said = ended(run)
    assert status == 0, said
    assert "machines: a, b\n" in said.splitlines(keepends=True)[0]
    assert set(measured(cluster.folder / "results" / "its")) == EVERYWHERE


# What may die


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(cluster: Cluster) -> None:
    workers = {machine: cluster.start_worker(machine) for machine in "ab"}
    run = cluster.start_run(*UNDER_WAY, "--run-id=its")
    folder = cluster.folder / "results" / "its"
    await_that(lambda: len(visits_of(folder, "a")) > 1)
    before = visits_of(folder, "a")
    (worker,) = [
        child for child in psutil.Process(workers["a"].pid).children() if "spawn_main" in " ".join(child.cmdline())
    ]
    kill(worker.pid)
    status, said = ended(run)
    assert status == 0, said
    assert set(measured(folder)) == EVERYWHERE
    check_visits(folder)
    counted = {row.attempt for row in load_rows(folder)}
    assert {visit.attempt for visit in before} <= counted  # the share went on where it was


@pytest.mark.slow
def test_a_killed_driver_is_resumed(cluster: Cluster) -> None:
    for machine in "ab":
        cluster.start_worker(machine)
    run = cluster.start_run(*UNDER_WAY, "--run-id=its")
    folder = cluster.folder / "results" / "its"
    await_that(lambda: len(visits_of(folder, "a")) > 1)
    kill(run.pid)
    run.wait()
    before = visits_of(folder, "a")
    status, said = cluster.run("--resume=its", "--no-charts")
    assert status == 0, said
    assert set(measured(folder)) == EVERYWHERE
    check_visits(folder)
    assert set(before) <= set(visits_of(folder, "a"))
    assert not list(cluster.folder.glob(f"softmax-bench-*-{os.getuid()}/*"))  # journals of a run that is over


@pytest.mark.slow
def test_a_killed_scheduler_ends_the_run_with_a_line_and_it_is_resumed(cluster: Cluster) -> None:
    workers = [cluster.start_worker(machine) for machine in "ab"]
    run = cluster.start_run(*UNDER_WAY, "--run-id=its")
    folder = cluster.folder / "results" / "its"
    await_that(lambda: len(visits_of(folder, "a")) > 1)
    kill(cluster.scheduler.pid)
    status, said = ended(run)
    assert status == 2
    assert said.splitlines()[-1].startswith(
        "softmax-bench: the scheduler is gone; softmax-bench fleet run --resume=its"
    )
    for worker in workers:
        for pid in [*(child.pid for child in children_of(worker)), worker.pid]:
            kill(pid)
    cluster.start_scheduler()
    for machine in "ab":
        cluster.start_worker(machine)
    status, said = cluster.run("--resume=its", "--no-charts")
    assert status == 0, said
    assert set(measured(folder)) == EVERYWHERE
    check_visits(folder)


@pytest.mark.slow
def test_a_share_moves_whole_when_its_machine_is_gone(cluster: Cluster) -> None:
    workers = {machine: cluster.start_worker(machine) for machine in "abc"}
    run = cluster.start_run(*UNDER_WAY, "--run-id=its", "--share", "--replicas=2")
    folder = cluster.folder / "results" / "its"
    await_that(lambda: bool(visits_of(folder, "a")))  # the driver knows that its share is under way
    for pid in [workers["a"].pid, *(child.pid for child in children_of(workers["a"]))]:
        kill(pid)
    status, said = ended(run)
    assert status == 0, said
    for share in load_plan(folder):
        machines = [{row.machine for row in load_rows(folder) if row.case == case} for case in share.cases]
        assert machines.count(machines[0]) == len(machines)
        assert len(machines[0]) == 2
    assert LOST in {attempt.ended for attempt in load_attempts(folder)}


@pytest.mark.slow
def test_a_worker_that_hangs_is_noticed_and_its_share_moves(cluster: Cluster) -> None:
    workers = {machine: cluster.start_worker(machine) for machine in "abc"}
    run = cluster.start_run(*UNDER_WAY, "--run-id=its", "--share", "--replicas=2", "--patience-s=20")
    folder = cluster.folder / "results" / "its"
    await_that(lambda: bool(visits_of(folder, "a")))  # the driver knows that its share is under way
    for child in children_of(workers["a"]):
        if "softmax_bench.fleet.measuring" in child.cmdline():
            kill(child.pid, signal.SIGSTOP)
    status, said = ended(run)
    assert status == 0, said
    hung = [attempt for attempt in load_attempts(folder) if attempt.ended == HUNG]
    assert "a" in {attempt.machine for attempt in hung}
    assert "on a: hung, " in said
    for share in load_plan(folder):
        assert len({row.machine for row in load_rows(folder) if row.case in share.cases}) == 2


@pytest.mark.slow
def test_what_a_machine_measured_that_is_left_out_goes_to_another(cluster: Cluster) -> None:
    for machine in "ab":
        cluster.start_worker(machine)
    status, said = cluster.run(*ONE_SHARE, "--share", "--replicas=2", "--run-id=its")
    assert status == 0, said
    folder = cluster.folder / "results" / "its"
    slow_down(folder, "b")
    resumed = ("--resume=its", "--no-charts")
    status, said = cluster.run(*resumed, "--patience-s=5")
    assert status == 1, said
    assert "to be measured on another machine: share 0; b is left out: its calibration drifted by " in said
    assert "missing: share 0, for which no machine that counts and has not measured it yet is there; " in said
    assert f"{len(ALL_CASES)} cases are on fewer than 2 machines that are kept" in said
    assert not load_run(folder).ended
    run = cluster.start_run(*resumed)
    cluster.start_worker("c")
    status, said = ended(run)
    assert status == 0, said
    kept = {machine.machine for machine in load_machines(folder) if machine.kept == KEPT}
    assert kept == {"a", "c"}
    assert set(measured(folder)) == {(machine, case) for machine in "abc" for case in ALL_CASES}
    check_visits(folder)
    assert load_run(folder).ended


def slow_down(folder: Path, machine: str) -> None:
    """Add looks to a stored run by which a machine took twice as long at its end."""
    looks = load_looks(folder)
    mine = [look for look in looks if look.machine == machine]
    later = [
        dataclasses.replace(look, began_s=look.began_s + 1e4 * again, fastest_s=2.0 * look.fastest_s)
        for again in (1, 2)
        for look in mine
    ]
    write_table(folder / "calibrations.csv", [*looks, *later])


def visits_of(folder: Path, machine: str) -> list[Visit]:
    """The stored visits of a machine while the table is written."""
    path = folder / "visits.csv"
    if not path.exists() or not path.read_bytes().endswith(b"\n"):
        return []
    return [visit for visit in load_visits(folder) if visit.machine == machine]


# Whose rows may stand side by side


def python_that_has(folder: Path, package: str, version: str) -> str:
    """A PYTHONPATH with which Python finds another version of an installed package."""
    described = folder / f"{package}-{version}.dist-info"
    described.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
    (described / "METADATA").write_text(metadata, encoding="utf-8")
    return str(folder)


def blind_to(package: str) -> str:
    """A sitecustomize.py with which Python does not find a package."""
    return (
        "import sys\n"
        "class Blind:\n"
        "    def find_spec(self, name, *rest):\n"
        f"        if name.partition('.')[0] == {package!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blind())\n"
    )


@pytest.mark.slow
def test_a_machine_with_another_numpy_is_refused_or_kept_apart(cluster: Cluster) -> None:
    cluster.start_worker("a")
    cluster.start_worker("b")
    cluster.start_worker("z", PYTHONPATH=python_that_has(cluster.folder / "other", "numpy", "1.0"))
    status, said = cluster.run(*SHORT, "--run-id=no")
    assert status == 2
    assert said.splitlines()[-1].startswith("softmax-bench: z is unlike a: numpy is 1.0, elsewhere ")
    assert not (cluster.folder / "results" / "no").exists()
    status, said = cluster.run(*SHORT, "--minutes=0.01", "--run-id=its", "--keep-apart")
    assert status == 0, said
    folder = cluster.folder / "results" / "its"
    assert {machine.machine: machine.kept for machine in load_machines(folder)} == {"a": KEPT, "b": KEPT, "z": APART}
    assert {machine for machine, _ in measured(folder)} == {"a", "b", "z"}
    assert "z is kept apart: numpy is 1.0, elsewhere " in said


@pytest.mark.slow
def test_a_worker_without_the_extra_is_told_in_one_line(cluster: Cluster) -> None:
    folder = cluster.folder / "blind"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(blind_to("softmax_bench"), encoding="utf-8")
    cluster.start_worker("a", PYTHONPATH=str(folder))
    status, said = cluster.run(*SHORT, "--run-id=its")
    assert status == 2
    (line,) = said.splitlines()
    assert "No module named 'softmax_bench'" in line
    assert line.endswith("it needs this version of softmax-bench[fleet]")


@pytest.mark.slow
def test_another_version_of_dask_is_told_in_one_line(cluster: Cluster) -> None:
    cluster.start_worker("a", PYTHONPATH=python_that_has(cluster.folder / "older", "dask", "2020.1.0"))
    status, said = cluster.run(*SHORT, "--run-id=its")
    assert status == 2
    (line,) = said.splitlines()
    assert "has dask 2020.1.0, here is " in line


@pytest.mark.slow
def test_a_cluster_without_workers_is_told_in_one_line(cluster: Cluster) -> None:
    status, said = cluster.run(*SHORT, "--run-id=its")
    assert status == 2
    assert said == (
        "softmax-bench: the cluster has no worker; start one on each machine: dask worker SCHEDULER --nthreads 1\n"
    )


@pytest.mark.slow
def test_no_code_of_the_driver_is_sent(cluster: Cluster) -> None:
    """The driver is a program whose main module no worker has, and that defines a class of its own."""
    elsewhere = cluster.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "drive.py").write_text(
        "from softmax_bench.cli import main\nclass Mine: pass\nif __name__ == '__main__':\n    main()\n",
        encoding="utf-8",
    )
    cluster.start_worker("a")
    cluster.await_workers()
    command = [sys.executable, "drive.py", "fleet", "run", f"--scheduler={cluster.address}", *SHORT, "--run-id=its"]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False, timeout=ENDS_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(measured(elsewhere / "results" / "its")) == len(ALL_CASES)


@pytest.mark.slow
def test_a_file_of_the_users_is_sent_only_when_asked(cluster: Cluster) -> None:
    (cluster.folder / "homework.py").write_text(
        "def backward(probs, grad_output):\n"
        "    return probs * (grad_output - (grad_output * probs).sum(axis=1, keepdims=True))\n",
        encoding="utf-8",
    )
    away = cluster.folder / "away"
    away.mkdir()
    cluster.start_worker("a", f"--local-directory={away}")
    options = (*CASES, "--minutes=0.01", "--implementation=homework.py:backward", "--no-charts", "--run-id=its")
    status, said = cluster.run(*options)
    assert status == 2
    assert "homework.py:backward: your file runs on all machines only if you add --send" in said
    status, said = cluster.run(*options, "--send")
    assert status == 0, said
    assert "homework.py:backward" in {row.implementation for row in load_rows(cluster.folder / "results" / "its")}


# Bad input


def test_without_dask_a_line_says_what_to_install(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(blind_to("distributed"), encoding="utf-8")
    done = softmax_bench("fleet", "run")
    assert done.returncode == 2
    assert done.stderr == (
        "softmax-bench: fleet: Dask is not installed; make's EXTRAS=fleet, or pip's softmax-bench[fleet]\n"
    )


@needs_dask
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((f"--scheduler={NOBODY}", "--patience-s=0.5"), f"--scheduler {NOBODY}: no scheduler answers there ("),
        (("--workers=0",), "--workers 0: must be at least 1"),
        (("--replicas=0",), "--replicas 0: must be at least 1"),
        (("--wait-for=-1",), "--wait-for -1: must be at least 0"),
        (("--wait-for=2",), "--wait-for 2: there will be no more than 1; see --workers and --scheduler"),
        (("--wait-for=4", "--workers=3", "--slurm"), "--wait-for 4: there will be no more than 3"),
        (("--dry-run",), "--dry-run shows the job script of --slurm"),
        (
            ("--scheduler=tls://127.0.0.1:1",),
            "--scheduler tls://127.0.0.1:1: TLS needs --tls-ca, --tls-cert and --tls-key",
        ),
        (("--scheduler=tls://127.0.0.1:1", "--tls-ca=none.pem"), "--tls-ca none.pem: TLS needs a file for each of"),
    ],
)
def test_bad_input_is_one_line(command_line: CommandLine, arguments: tuple[str, ...], said: str) -> None:
    status, output = command_line("fleet", "run", *arguments)
    assert status == 2
    (line,) = output.splitlines()
    assert line.startswith(f"softmax-bench: {said}")


@needs_dask
def test_a_dry_run_shows_slurms_job_script(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    done = softmax_bench(
        "fleet", "run", "--slurm", "--dry-run", "--queue=rome", "--account=lab", "--walltime=00:30:00", "--cores=64",
        "--memory=120GB", "--directive=--constraint=rome",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    for expected in ("-p rome", "-A lab", "-t 00:30:00", "--cpus-per-task=64", "--exclusive", "--constraint=rome"):
        assert f"#SBATCH {expected}" in lines
    assert "--nthreads 1" in lines[-1]
    assert not (tmp_path / "results").exists()


@needs_dask
def test_tls_takes_all_of_its_files_or_none(tmp_path: Path) -> None:
    from softmax_bench.fleet.cluster import security_of  # noqa: PLC0415 - needs an extra

    assert security_of(None, None, None) is None
    files = [tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem")]
    for file in files:
        file.write_text("", encoding="utf-8")
    security = security_of(*files)
    assert security is not None
    assert security.require_encryption
    assert security.tls_client_key == str(files[2])


# The parts


def test_what_a_ratio_compares_stays_in_one_share() -> None:
    cases = Selection(library=("numpy",), dtype=("float64",)).cases()
    shares = shares_of(cases, minutes=4.0)
    assert len(shares) == 8
    assert sorted(map(str, itertools.chain.from_iterable(share.cases for share in shares))) == sorted(map(str, cases))
    share_of: dict[tuple[object, ...], int] = {}
    for share in shares:
        for case in share.cases:
            shape = case.operation, case.batch, case.features, case.dtype, case.logits
            assert share_of.setdefault(shape, share.number) == share.number
    assert math.isclose(sum(share.minutes for share in shares), 4.0)
    assert restored(planned(shares)) == shares


FACTS = {"cpu": "a processor", "cores": 2, "memory_bytes": 1 << 30, "system": "Linux"}
PYTHON = {"python": "3.11.7"}
RUN = Run(
    "its", "2026-01-01T00:00:00+00:00", 1, {}, RunOptions(0.5, None, {}, 1e10), FACTS, PYTHON, {}, [],
    fleet={"everywhere": True, "replicas": 1},
)  # fmt: skip


def row_of(features: int, machine: str, attempt: str, name: str = "vectorized", time_s: float = math.nan) -> Row:
    interval = {"time_s": time_s, "time_low_s": 0.99 * time_s, "time_high_s": 1.01 * time_s, "settled": 1}
    case = ("softmax", name, 4, features, "float64", "normal", 1)
    return Row("its", *case, machine=machine, attempt=attempt, status="measured", **interval)  # type: ignore[arg-type]


def records_of(machine: str, attempt: str, first: int, count: int) -> Records:
    rows = [row_of(1 + place, machine, attempt) for place in range(first, first + count)]
    visits = [Visit(str(row.case), 0, 0.0, 1, 1e-6, 1e-6, machine, attempt) for row in rows]
    return Records(attempt, first, rows, first, visits, [])


def outcome_of(machine: str, attempt: str, count: int) -> Outcome:
    rows = [row_of(1 + place, machine, attempt, time_s=1e-6) for place in range(count)]
    return Outcome(machine, attempt, rows, [], count, count, 0.0, 1.0, 1.0)


def test_what_arrives_twice_is_stored_once_and_what_is_lost_is_asked_for(tmp_path: Path) -> None:
    store = FleetStore(RUN, tmp_path)
    store.take(records_of("a", "0-x", 0, 2))
    store.take(records_of("a", "0-x", 0, 2))  # Dask has run the task again, and the journal was sent
    store.take(records_of("a", "0-x", 3, 1))  # the message before this one is lost
    assert [visit.case for visit in load_visits(tmp_path)] == [str(row_of(1 + place, "a", "").case) for place in (0, 1)]
    assert not store.finish(0, "tcp://", outcome_of("a", "0-x", 4))
    assert not load_rows(tmp_path)  # a share counts whole
    store.close()
    store = FleetStore(RUN, tmp_path)  # the driver was killed
    store.take(records_of("a", "0-x", 0, 4))
    assert store.finish(0, "tcp://", outcome_of("a", "0-x", 4))
    assert store.finish(0, "tcp://", outcome_of("a", "0-y", 4))  # by another replica of the task
    assert len(load_visits(tmp_path)) == len(load_rows(tmp_path)) == 4
    assert [attempt.ended for attempt in load_attempts(tmp_path)] == [DONE]
    store.close()


def test_rows_of_a_share_that_was_not_noted_as_done_go(tmp_path: Path) -> None:
    store = FleetStore(RUN, tmp_path)
    for share, attempt in ((0, "0-x"), (1, "1-x")):
        store.take(records_of("a", attempt, 0, 2))
        outcome = outcome_of("a", attempt, 2)
        moved = [dataclasses.replace(row, features=row.features + 10 * share) for row in outcome.rows]
        assert store.finish(share, "tcp://", dataclasses.replace(outcome, rows=moved))
    store.close()
    shares = tmp_path / "shares.csv"
    shares.write_text("".join(shares.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    store = FleetStore(RUN, tmp_path)
    assert store.done == {(0, "a")}
    store.close()
    assert {row.attempt for row in load_rows(tmp_path)} == {"0-x"}


def looks_of(*fastest_s: float) -> list[Look]:
    return [Look("a", "0-x", float(place), "case", value) for place, value in enumerate(fastest_s)]


def test_a_machine_that_slows_down_half_way_is_left_out(tmp_path: Path) -> None:
    steady = looks_of(1.00, 1.80, 1.02, 1.01, 1.70, 1.03)  # slow at moments only
    assert drift_of(steady) < 0.05
    assert disagreement(steady) == ""
    slowed = looks_of(1.00, 1.01, 1.02, 1.40, 1.41, 1.39)
    assert disagreement(slowed) == "its calibration drifted by 39%, and 20% is the limit"
    assert math.isnan(drift_of(looks_of(1.0, 2.0)))
    assert disagreement([]) == ""
    store = FleetStore(RUN, tmp_path)
    store.machines = {name: dataclasses.replace(MACHINE, machine=name) for name in "ab"}
    store.take(Records("0-x", 0, [], 0, [], slowed))
    store.describe(ended=True)
    store.close()
    kept, why = (
        {each.machine: getattr(each, column) for each in load_machines(tmp_path)} for column in ("kept", "reason")
    )
    assert kept == {"a": LEFT_OUT, "b": KEPT}
    assert why["a"].startswith("its calibration drifted by 39%")


def test_a_machine_that_is_slow_for_a_while_at_long_calls_is_left_out() -> None:
    # Three hogs on one core from half-way on: calls of microseconds fit between them, and each third has a quick look.
    names = ("short", "shorter", "long")
    long_s = (3.3, 3.2, 3.4, 4.0, 3.4, 3.4, 3.5, 13.5, 17.8, 17.6, 11.6, 15.8, 19.6, 3.5)
    hogged = [
        Look("a", "0-x", float(place), name, value if name == "long" else 1.0)
        for place, value in enumerate(long_s)
        for name in names
    ]
    assert drift_of(hogged) == 0.0
    assert disagreement(hogged) == "3 looks in a row at long took 4.2× as long as the fastest, and 1.5× is the limit"
    twice = [each for each in hogged if each.case != "long" or each.fastest_s < 4.0 or each.began_s in (7.0, 8.0)]
    assert disagreement(twice) == ""


def test_a_machine_is_held_by_one_process_and_the_other_is_told_by_whom() -> None:
    machine = f"test-{os.getpid()}"
    code = (
        "import sys\nfrom softmax_bench.instruments.machine_lock import hold\n"
        f"with hold({machine!r}, 'share 7', lambda other: True):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    told: list[str] = []

    def wait(holder: str) -> bool:
        told.append(holder)
        other.kill()  # the kernel lets go of its lock
        return True

    with hold(machine, "share 8", wait):
        assert lock_path(machine).read_text(encoding="utf-8") == "share 8\n"
    assert told == ["share 7"]
    other.communicate()
    lock_path(machine).unlink()


def test_a_machines_id_stays_and_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.machine_id() == host.machine_id()
    monkeypatch.setenv(host.MACHINE_VARIABLE, "rack 7/node 3")
    assert host.machine_id() == "rack-7-node-3"


@needs_dask
@pytest.mark.slow
def test_a_simulated_run_stores_every_case() -> None:
    from softmax_bench.fleet.simulation import simulate  # noqa: PLC0415 - needs an extra

    scale, samples = simulate(workers=8, cases=1500)
    assert scale.cases == 1500
    assert samples[-1].cases <= 1500
    assert 0.0 <= scale.not_measuring < 1.0


@needs_dask
@pytest.mark.slow
def test_a_scheduler_of_ours_keeps_few_messages_of_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask keeps so many that a scheduler grows for as long as a run goes on."""
    from softmax_bench.fleet.cluster import KEPT_MESSAGES, KEPT_VARIABLE, local_cluster  # noqa: PLC0415 - needs an extra

    monkeypatch.delenv(KEPT_VARIABLE, raising=False)
    with local_cluster(1, apart=False) as client:
        scheduler = client.cluster.scheduler
        streams = [*scheduler.stream_comms.values(), *scheduler.client_comms.values()]
        assert {stream.recent_message_log.maxlen for stream in streams} == {KEPT_MESSAGES}
        assert len(streams) == 2


# Runs that were made apart


def store_run(folder: Path, machine: str, times: dict[str, float], seed: int = 1, numpy: str = "2.4.6") -> None:
    """A stored run of one machine, with the given time for each implementation at 4 × 16."""
    versions = {**PYTHON, "numpy": numpy}
    run = dataclasses.replace(RUN, run_id=folder.name, seed=seed, machine_id=machine, versions=versions, fleet={})
    write_run(run, folder)
    rows = [row_of(16, "", "", name, time_s) for name, time_s in times.items()]
    write_table(folder / "cases.csv", [dataclasses.replace(row, run_id=folder.name) for row in rows])


TIMES = {"explicit_jacobian": 1e-4, "vectorized": 1e-6}


def test_runs_made_apart_become_one_table(command_line: CommandLine, tmp_path: Path) -> None:
    results = tmp_path / "results"
    for name, slowness in (("x", 1.0), ("y", 2.0), ("z", 1.0)):
        vectorized = 1e-6 * slowness * (2.0 if name == "z" else 1.0)
        store_run(results / f"job-{name}", name, {"explicit_jacobian": 1e-4 * slowness, "vectorized": vectorized})
    store_run(results / "more", "x", {**TIMES, "row_loop": 1e-5})
    status, output = command_line("merge", "job-x", "job-y", "job-z", "more", "--no-charts")
    assert status == 0, output
    rows = load_rows(results / "merged")
    assert [row.machine for row in rows].count("x") == 3
    assert "duplicate: softmax-vectorized-B4-N16-float64-normal on x, in job-x and more" in output
    assert "y misses 1 cases that others have: softmax-row_loop-B4-N16-float64-normal." in output
    assert "z disagrees with all others in 1 of 1 cases." in output  # ratios are of one machine each: y agrees


@pytest.mark.parametrize(
    ("second", "options", "status", "said"),
    [
        ({"machine": "x", "times": {**TIMES, "vectorized": 2e-6}}, (), 1, "conflict: softmax-vectorized-B4-N16"),
        ({"machine": "x", "times": {**TIMES, "vectorized": 2e-6}}, ("--apart",), 0, "4 measured on 2 machines"),
        ({"machine": "y", "times": TIMES, "seed": 2}, (), 2, "job-2 has seed 2, job-1 has 1: their inputs are unlike"),
        ({"machine": "y", "times": TIMES, "numpy": "2.0.0"}, (), 2, "y is unlike x: numpy is 2.0.0, elsewhere 2.4.6"),
        ({"machine": "y", "times": TIMES, "numpy": "2.0.0"}, ("--keep-apart",), 0, "y is kept apart: numpy is 2.0.0"),
        ({"machine": "x", "times": TIMES, "numpy": "2.0.0"}, (), 2, "x in job-2 is not what it was: numpy is 2.0.0"),
    ],
)
def test_runs_that_do_not_fit_are_told(
    command_line: CommandLine,
    tmp_path: Path,
    second: dict[str, object],
    options: tuple[str, ...],
    status: int,
    said: str,
) -> None:
    store_run(tmp_path / "results" / "job-1", "x", TIMES)
    store_run(tmp_path / "results" / "job-2", **second)  # type: ignore[arg-type]
    ended_with, output = command_line("merge", "job-1", "job-2", "--no-charts", *options)
    assert ended_with == status, output
    assert said in " ".join(output.split())
    if status == 2:
        assert not (tmp_path / "results" / "merged").exists()
