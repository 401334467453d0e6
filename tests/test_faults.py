"""Faults that are really caused: full disks, signals, kills, two measurements at once. docs/faults.md lists them."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from softmax_bench.instruments.host import machine_id
from softmax_bench.instruments.machine_lock import BESIDE, hold
from softmax_bench.instruments.scratch import PREFIX, SHARED_MEMORY, clear_leftovers
from softmax_bench.report.exports.command import FORMATS
from softmax_bench.storage.results import Visit, load_rows, load_run, load_visits, open_visits

from .conftest import COMMAND, ROOT, SMALL, TIMED, UNTIMED
from .processes import PATIENCE_S, await_that, check_gone, check_one_line, ended, family_of, lines_of

ONE = ("--implementation=vectorized", "--features=16")
LONG = (*SMALL, "--implementation=vectorized", "--implementation=explicit_jacobian", "--every-round", "--minutes=10")
SHORT_VISITS = TIMED[1:]


def test_every_fault_in_the_page_has_a_test_of_that_name() -> None:
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    named = re.findall(r"\| `(test_\w+)` \|$", page, flags=re.MULTILINE)
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| fault |")]
    assert len(named) == len(rows) >= 30
    defined = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    assert [name for name in named if f"def {name}(" not in defined] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB; mounting one needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, spare_bytes: int) -> Path:
    """Fill a file system but for some bytes; the file that does."""
    filler = folder / "filler"
    free = shutil.disk_usage(folder).free
    filler.write_bytes(bytes(max(0, free - spare_bytes)))
    return filler


@pytest.mark.faults
def test_a_disk_that_is_full_when_a_run_starts_leaves_nothing(small_disk: Path) -> None:
    filler = fill(small_disk, 0)
    run = ("run", f"--results={small_disk / 'results'}", "--run-id=r", *SMALL, *ONE, *UNTIMED)
    check_one_line(ended(*run), "cannot be written (No space left on device)")
    assert not (small_disk / "results" / "r").exists()
    filler.unlink()
    assert ended(*run).returncode == 0
    assert load_rows(small_disk / "results" / "r")


@pytest.mark.faults
def test_a_run_whose_start_was_cut_short_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".run.json.partial").write_text("{", encoding="utf-8")  # killed while it was written
    (tmp_path / "r" / "cases.csv").write_text("run_id,opera", encoding="utf-8")
    done = ended("run", f"--results={tmp_path}", "--run-id=r", *SMALL, *ONE, *UNTIMED)
    assert done.returncode == 0, done.stderr
    assert len(load_rows(tmp_path / "r")) == 2


@pytest.mark.slow
def test_a_disk_that_fills_up_in_mid_sweep_ends_the_run_with_2_and_it_is_resumed(small_disk: Path) -> None:
    filler = fill(small_disk, 64 << 10)  # for run.json, twice while it is replaced, and some pages of visits
    done = ended("run", f"--results={small_disk}", "--run-id=r", *LONG, "--no-charts", *SHORT_VISITS)
    check_one_line(done, "cannot be written (No space left on device)", "RESUME=r")
    rows, visits = load_rows(small_disk / "r"), load_visits(small_disk / "r")
    assert rows
    assert visits
    assert not load_run(small_disk / "r").ended
    filler.unlink()
    more = ended("run", f"--results={small_disk}", "--resume=r", "--minutes=0.02", "--no-charts")
    assert more.returncode == 0, more.stderr
    assert load_visits(small_disk / "r")[: len(visits)] == visits
    assert {row.status for row in load_rows(small_disk / "r")} == {"measured"}


# The tracer of `make coverage` writes a file at the end of each process, which may grow no more either.
traced = pytest.mark.skipif("COVERAGE_FILE" in os.environ, reason="the tracer's file does not fit either")


@traced
@pytest.mark.faults
def test_a_file_that_may_grow_no_more_ends_the_run_with_2_and_keeps_what_is_stored(tmp_path: Path) -> None:
    limit_bytes = 16_000  # run.json fits, visits.csv does not
    options = ("run", f"--results={tmp_path}", "--run-id=r", *LONG, "--no-charts", *SHORT_VISITS)
    done = ended(*options, limit_bytes=limit_bytes)
    if (tmp_path / "r").exists():
        check_one_line(done, "visits.csv: cannot be written", "RESUME=r")
        assert load_visits(tmp_path / "r")
        assert len(load_rows(tmp_path / "r")) == 4
    else:
        check_one_line(done, "run.json: cannot be written")


@traced
def test_no_part_of_a_row_stays_where_it_does_not_fit(tmp_path: Path) -> None:
    visit = Visit("a-case", 100, 0.5, 10, 1e-6, 1.1e-6)
    code = f"""
import resource, sys
from pathlib import Path
from softmax_bench.errors import UserError
from softmax_bench.storage.results import Visit, open_visits
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
with open_visits(Path({str(tmp_path)!r})) as table:
    for number in range(100):
        try:
            table.append(Visit("a-case", number, 0.5, 10, 1e-6, 1.1e-6))
        except UserError as error:
            sys.exit(f"{{number}} {{error}}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    number, _, said = done.stderr.strip().partition(" ")
    assert said.endswith("visits.csv: cannot be written (No space left on device)")
    assert [stored.round for stored in load_visits(tmp_path)] == list(range(int(number)))
    with open_visits(tmp_path) as table:
        table.append(visit)
    assert load_visits(tmp_path)[-1] == visit


@traced
@pytest.mark.faults
def test_charts_that_do_not_fit_are_one_line_and_no_part_of_a_file(tmp_path: Path, reference_run: Path) -> None:
    where = ("plot", str(reference_run), f"--plots={tmp_path}")
    check_one_line(ended(*where, limit_bytes=10_000), "cannot be written (File too large)")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.faults
@pytest.mark.parametrize(
    "written",
    [
        ("report", "--output={there}/page.html"),
        *(("export", f"--format={kind}", f"--output={{there}}/{kind}") for kind in FORMATS if kind != "asv"),
        ("export", "--format=asv", "--output={there}/asv", "--commit=HEAD"),
    ],
    ids=lambda words: words[1].removeprefix("--format=") if words[0] == "export" else words[0],
)
def test_pages_and_exports_that_do_not_fit_are_one_line_and_no_part_of_a_file(
    small_disk: Path, reference_run: Path, written: tuple[str, ...]
) -> None:
    if "--format=parquet" in written:
        pytest.importorskip("pyarrow")
    command, *options = (word.format(there=small_disk) for word in written)
    filler = fill(small_disk, 8 << 10)  # the beginning of a file fits
    done = ended(command, str(reference_run), *options, where=ROOT)
    check_one_line(done, f"softmax-bench: {small_disk}", "cannot be written (No space left on device)")
    assert [path for path in small_disk.rglob("*") if path.is_file() and path != filler] == []
    if command == "export":  # to make a page takes longer
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        assert ended(command, str(reference_run), *options, where=ROOT).returncode == 0


@pytest.mark.faults
def test_a_file_of_several_that_does_not_fit_leaves_those_before_it_whole(tmp_path: Path, reference_run: Path) -> None:
    asv = ("export", str(reference_run), "--format=asv", "--commit=HEAD", f"--output={tmp_path / 'asv'}")
    assert ended(*asv, where=ROOT).returncode == 0
    whole = {path.name: path.read_bytes() for path in tmp_path.rglob("*.json")}
    assert len(whole) == 3
    largest = max(map(len, whole.values()))
    check_one_line(ended(*asv, where=ROOT, limit_bytes=largest - 1), "cannot be written (File too large)")
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*.json")} == whole
    assert [path.name for path in tmp_path.rglob(".*")] == []


@pytest.mark.faults
def test_full_shared_memory_falsifies_no_peak_and_a_full_temporary_folder_is_said(small_disk: Path) -> None:
    command = [*COMMAND, "run", f"--results={small_disk.parent}", "--no-charts", *SMALL, *ONE]
    mounting = 'mount -t tmpfs -o size=8k tmpfs /dev/shm && exec "$@"'
    peaks: dict[str, list[object]] = {}
    for name, before, temporary in (
        ("roomy", [], "/tmp"),
        ("full", ["unshare", "--mount", "sh", "-c", mounting, "sh"], "/tmp"),
        ("nowhere", ["unshare", "--mount", "sh", "-c", mounting, "sh"], str(small_disk)),
    ):
        environment = {**os.environ, "TMPDIR": temporary}
        subprocess.run(
            [*before, *command, f"--run-id={name}", *UNTIMED], env=environment, check=False, timeout=PATIENCE_S
        )
        rows = load_rows(small_disk.parent / name)
        peaks[name] = [row.peak_bytes or row.reason for row in rows]
    assert peaks["full"] == peaks["roomy"]
    assert peaks["nowhere"] == [f"OSError: [Errno 28] No space left on device: '{small_disk}'"] * 2


@pytest.mark.faults
def test_a_full_output_is_one_line_and_no_traceback(reference_run: Path) -> None:
    for arguments in (["list"], ["list", "--cases", "--grid=full"], ["diff", str(reference_run), str(reference_run)]):
        with Path("/dev/full").open("w", encoding="utf-8") as full:
            done = subprocess.run(
                [*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE_S
            )
        assert done.returncode == 2
        assert done.stderr.strip().splitlines() == [
            "softmax-bench: the output cannot be written (No space left on device)"
        ]


def started(results: Path, *options: str) -> "subprocess.Popen[str]":
    """A sweep in the background, in a process group of its own as a terminal gives it."""
    command = [*COMMAND, "run", f"--results={results}", "--run-id=r", "--no-charts", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(other, marks=pytest.mark.faults) for other in (signal.SIGHUP, signal.SIGINT))],
)
def test_a_run_that_is_asked_to_end_ends_its_processes_and_closes_its_record(
    tmp_path: Path, number: signal.Signals
) -> None:
    running = started(tmp_path, *LONG)
    await_that(lambda: lines_of(tmp_path / "r" / "visits.csv") > 12)
    family = family_of(running)
    assert family
    running.send_signal(number)
    out, err = running.communicate(timeout=PATIENCE_S)
    assert (running.returncode, err) == (130, "")
    assert "4 cases are missing: make bench RESUME=r" in out
    assert len(load_run(tmp_path / "r").sittings) == 1
    assert all(row.time_s > 0 for row in load_rows(tmp_path / "r"))
    check_gone(family)


@pytest.mark.slow
def test_a_killed_run_takes_its_processes_with_it_and_the_next_clears_its_folders(tmp_path: Path) -> None:
    running = started(tmp_path, *LONG)
    await_that(lambda: lines_of(tmp_path / "r" / "visits.csv") > 12)
    family = family_of(running)
    running.kill()
    running.communicate()
    check_gone(family)
    left = SHARED_MEMORY / f"{PREFIX}left"
    left.mkdir(exist_ok=True)
    (left / "allocations").write_bytes(b"of a process that was killed")
    assert ended("run", f"--results={tmp_path}", "--run-id=s", *SMALL, *ONE, *UNTIMED).returncode == 0
    assert not left.exists()


@pytest.mark.parametrize("awaited", [False, True], ids=["while it starts", "at work"])
def test_what_ends_with_its_parent_is_not_left_behind_by_one_that_is_killed(tmp_path: Path, awaited: bool) -> None:
    (tmp_path / "forever.py").write_text(
        "import pathlib, time\npathlib.Path('at work').touch()\ntime.sleep(600)\n", encoding="utf-8"
    )
    code = (
        "import subprocess, time\nfrom softmax_bench.instruments.lifetime import ending_with_this\n"
        "print(subprocess.Popen(ending_with_this('forever')).pid, flush=True)\ntime.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        if awaited:
            await_that((tmp_path / "at work").exists)
        parent.kill()
    check_gone([child])


def test_a_living_owners_folder_is_never_removed(tmp_path: Path) -> None:
    code = "\n".join([
        "import softmax_bench.instruments.scratch as scratch, pathlib, sys",
        f"scratch.SHARED_MEMORY = pathlib.Path({str(tmp_path)!r})",
        "with scratch.scratch_folder() as folder:",
        "    print(folder, flush=True)",
        "    sys.stdin.read()",
    ])  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().strip())
        clear_leftovers(tmp_path)
        assert folder.is_dir()
        owner.kill()
        owner.wait()
        clear_leftovers(tmp_path)
        assert not folder.exists()


def test_verify_that_is_asked_to_end_ends_the_target_and_removes_its_folder(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\nfrom pathlib import Path\n"
        "def backward(probs, grad_output):\n    Path('called').touch()\n    time.sleep(60)\n",
        encoding="utf-8",
    )
    (tmp_path / "tmp").mkdir()
    running = subprocess.Popen(
        [*COMMAND, "verify", "slow.py:backward"],
        cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    await_that((tmp_path / "called").exists)
    family = family_of(running)
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 130
    assert "Traceback" not in err
    check_gone(family)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", f"--run-id={'a' * 300}"), "letters, digits, '.', '_' and '-' only, at most 100"),
        (("run", f"--resume={'a' * 300}"), "no run 'aaa"),
        (("plot", "a" * 300), "no run 'aaa"),
        (("gate", f"--base={'a' * 300}"), "name a stored run"),
        (("run", "--seed=-1"), "--seed -1: must be at least 0"),
        (("run", "--minutes=inf"), "--minutes inf: must be more than 0"),
        (("run", "--max-call-s=nan"), "--max-call-s nan: must be more than 0"),
        (("run", "--max-bytes=0"), "--max-bytes 0: must be at least 1"),
        (("run", f"--seed={'9' * 30}"), "must be at least 0 and at most"),
    ],
    ids=range(9),
)
@pytest.mark.faults
def test_what_no_option_can_be_is_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    check_one_line(ended(*arguments, where=tmp_path), said)


@pytest.mark.faults
def test_a_narrow_terminal_and_output_that_is_not_utf8_show_whole_numbers(tmp_path: Path) -> None:
    options = ("run", f"--results={tmp_path}", "--run-id=r", *SMALL, *ONE, "--minutes=0.1", *SHORT_VISITS)
    done = ended(*options, environment={"COLUMNS": "40", "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert re.search(r"vectorized +[|]~?[0-9.]+ .s[ |]", done.stdout, re.MULTILINE)
    wide = ended("derive", "r", f"--results={tmp_path}", environment={"PYTHONIOENCODING": "latin-1"})
    assert wide.returncode == 0


@pytest.mark.faults
def test_a_second_sweep_waits_for_the_first_or_says_that_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(BESIDE)
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where the lock is
    running = started(tmp_path / "first", *LONG)
    await_that(lambda: lines_of(tmp_path / "first" / "r" / "visits.csv") > 2)
    second = ("run", f"--results={tmp_path}", "--no-charts", *SMALL, *ONE, "--minutes=0.1")
    beside = ended(*second, "--run-id=beside", "--beside", *SHORT_VISITS)
    assert beside.returncode == 0
    assert f"run r (process {running.pid}) measures on this machine, too" in beside.stdout
    waiting = subprocess.Popen(
        [*COMMAND, *second, "--run-id=waiting", *SHORT_VISITS], stdout=subprocess.PIPE, text=True
    )
    await_that((tmp_path / "waiting" / "cases.csv").exists)
    time.sleep(0.5)
    assert load_rows(tmp_path / "waiting") == []
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=PATIENCE_S)
    out, _ = waiting.communicate(timeout=PATIENCE_S)
    assert f"Waiting until run r (process {running.pid}) has measured; --beside does not wait." in out
    assert waiting.returncode == 0
    assert len(load_rows(tmp_path / "waiting")) == 2


@pytest.mark.faults
def test_verify_gives_its_verdict_at_once_and_waits_with_the_cost_until_the_machine_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(BESIDE)
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where the lock is
    monkeypatch.setattr(tempfile, "tempdir", None)  # which is read once
    (tmp_path / "mine.py").write_text(
        "def backward(probs, grad_output):\n"
        "    return probs * (grad_output - (grad_output * probs).sum(axis=1, keepdims=True))\n",
        encoding="utf-8",
    )
    verify = ("verify", "mine.py:backward")
    with hold(machine_id(), "run r (process 7)", lambda _: False):
        beside = ended(*verify, "--beside", where=tmp_path)
        assert beside.returncode == 0
        assert beside.stderr == "run r (process 7) measures on this machine, too: times are not to be trusted.\n"
        assert "time grows as" in beside.stdout
        untimed = ended(*verify, "--no-cost", where=tmp_path)
        assert (untimed.returncode, untimed.stderr) == (0, "")
        waiting = subprocess.Popen(
            [*COMMAND, *verify], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert waiting.stdout is not None
        assert waiting.stderr is not None
        assert waiting.stdout.readline().startswith("mine.py:backward  right")
        said = "Waiting until run r (process 7) has measured; --beside does not wait.\n"
        assert waiting.stderr.readline() == said
        assert waiting.poll() is None
    out, _ = waiting.communicate(timeout=PATIENCE_S)
    assert waiting.returncode == 0
    assert "time grows as" in out


@pytest.mark.faults
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('raise ModuleNotFoundError("No module named memray")', "sees NumPy's arrays only"),
        ('raise OSError("a library is missing")', "NumPy's arrays only (memray does not import: a library is missing)"),
    ],
)
def test_a_memray_that_is_absent_or_broken_is_said_in_the_rows(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "memray.py").write_text(text, encoding="utf-8")
    options = ("run", f"--results={tmp_path}", "--run-id=r", "--no-charts", *SMALL, *ONE, *UNTIMED)
    done = ended(*options, environment={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr
    rows = load_rows(tmp_path / "r")
    assert rows
    assert all(said in row.reason and row.peak_bytes for row in rows)


@pytest.mark.faults
def test_an_extra_that_is_broken_is_said_in_its_rows_and_the_others_are_measured(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    (tmp_path / "numba.py").write_text('raise OSError("a library is missing")', encoding="utf-8")
    chosen = ("--implementation=fused", "--implementation=vectorized", "--features=16", "--batch=4")
    options = ("run", f"--results={tmp_path}", "--run-id=r", "--no-charts", "--operation=softmax", *chosen, *UNTIMED)
    done = ended(*options, environment={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1, done.stdout + done.stderr
    outcomes = {row.implementation: (row.status, row.reason) for row in load_rows(tmp_path / "r") if row.threads == 1}
    assert outcomes["vectorized"][0] == "measured"
    assert outcomes["fused"] == ("failed", "OSError: a library is missing")


@pytest.mark.faults
def test_processes_that_are_stopped_for_a_while_slow_no_time(tmp_path: Path) -> None:
    running = started(tmp_path, *LONG)
    visits = tmp_path / "r" / "visits.csv"
    await_that(lambda: lines_of(visits) > 20)
    for process in (*family_of(running), psutil.Process(running.pid)):
        process.suspend()
    time.sleep(1.5)
    for process in (psutil.Process(running.pid), *family_of(running)):
        process.resume()
    before = lines_of(visits)
    await_that(lambda: lines_of(visits) > before + 100)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=PATIENCE_S)
    assert max(visit.median_s for visit in load_visits(tmp_path / "r")) < 60
    assert all(row.time_s < 0.1 for row in load_rows(tmp_path / "r"))
    gaps = [later.when_s - earlier.when_s for earlier, later in itertools.pairwise(load_visits(tmp_path / "r"))]
    assert max(gaps) > 1.4


@pytest.mark.faults
def test_a_step_summary_that_cannot_be_written_is_no_regression(tmp_path: Path) -> None:
    compare = ("compare", "vectorized", "row_blocks", "--batch=4", "--features=16", "--fail-above=900%")
    summary = tmp_path / "absent" / "summary.md"
    done = ended(*compare, environment={"GITHUB_STEP_SUMMARY": str(summary)})
    check_one_line(done, f"{summary}: cannot be written (No such file or directory)")
