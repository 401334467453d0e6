import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from softmax_bench.implementations import registered
from softmax_bench.instruments import bandwidth
from softmax_bench.operations import operations
from softmax_bench.storage.results import load_rows, load_run, load_visits
from softmax_bench.sweep.selection import Selection
from softmax_bench.sweep.table import store_times

from tests.conftest import COMMAND, SMALL, TIMED, UNTIMED, SoftmaxBench

# An extra module for the command line's process: competitors that go wrong in different ways.
COMPETITORS = '''
import os
import numpy as np
from softmax_bench.implementations import implementation

@implementation("softmax", workspace="3*B*N*s", traffic="B*N*s", source="a mistake")
def diagonal_only(probs, grad_output):
    """The Jacobian's diagonal alone."""
    return probs * (1 - probs) * grad_output

@implementation("softmax", workspace="B*N*s", traffic="B*N*s", source="a mistake")
def raising(probs, grad_output):
    """One that raises."""
    raise ArithmeticError("no gradient today,\\nsorry")

@implementation("softmax", workspace="B*N*s", traffic="B*N*s", source="a mistake")
def hungry(probs, grad_output):
    """One that takes more memory than it states."""
    return np.ones(1 << 28)
'''

# Its calls in the first visit, just after it was examined, are fine.
DYING_LATER = '''
import collections, os, signal
from softmax_bench.implementations import implementation

CALLS = collections.Counter()

@implementation("softmax", workspace="3*B*N*s", traffic="B*N*s", source="a mistake")
def dying_later(probs, grad_output):
    """One that ends its process in the midst of the run."""
    CALLS[probs.shape] += 1
    if CALLS[probs.shape] > 12:  # it is examined with fewer
        os.kill(os.getpid(), signal.SIGSEGV)
    return (grad_output - (grad_output * probs).sum(axis=1, keepdims=True)) * probs
'''

# A clock of the day that is set back by an hour whenever somebody looks at it.
JUMPING = """
import itertools, time

hours, real = itertools.count(), time.time
time.time = lambda: real() - 3600 * next(hours)
"""

SMALL_CASES = Selection(
    operation=("softmax",), library=("numpy",), batch=(4,), features=(16, 32), dtype=("float64",), logits=("normal",)
).cases()


def statuses(folder: Path) -> dict[str, str]:
    return {str(row.case): row.status for row in load_rows(folder)}


def test_a_run_stores_each_case_once_and_sums_it_up(sweep_small: SoftmaxBench, tmp_path: Path) -> None:
    done = sweep_small("--minutes=0.2", *TIMED[1:])
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results" / "small"
    rows, visits = load_rows(folder), load_visits(folder)
    assert len(rows) == len({row.case for row in rows}) == len(SMALL_CASES)
    for row in rows:
        assert row.status == "measured"
        assert 0 < row.time_low_s <= row.time_s <= row.time_high_s
        assert row.time_min_s <= row.time_s
        assert row.time_q1_s <= row.time_median_s <= row.time_q3_s
        assert row.settled in (0, 1)
        assert row.visits == len([visit for visit in visits if visit.case == str(row.case)])
        assert row.peak_bytes is not None
        assert row.minor_faults is not None
        assert row.max_error_ulp < 256
        assert re.search(rf"^ +{row.implementation} +~?[\d.]+ .?s +±", done.stdout, re.MULTILINE)
    assert "4 × 16" in done.stdout
    assert f"{len(SMALL_CASES)} measured" in done.stdout
    assert f"of {len(SMALL_CASES)} times have settled" in done.stdout
    run = load_run(folder)
    assert run.seed == 42
    assert run.ended
    assert len(run.sittings) == 1
    working_set_bytes = bandwidth.LEAST_WORKING_SET_BYTES
    assert [point.working_set_bytes for point in run.ceiling][:1] == [working_set_bytes]


@pytest.mark.slow
def test_the_articles_case_is_told_beside_the_articles_figures(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    done = softmax_bench(
        "run", "--results=results", "--run-id=its", "--batch=32", "--features=512", "--logits=uniform",
        "--implementation=explicit_jacobian", "--implementation=vectorized", "--minutes=0.2", *TIMED[1:],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "plots" / "its").iterdir()} >= {  # without weather if visits were few
        *("bars.png", "bars.svg", "report.html", "report.md"),
    }
    assert "The article's case (32 × 512, uniform, float64): explicit_jacobian" in done.stdout
    assert "65.1 ms, 31.9 µs, 2000×" in done.stdout


@pytest.mark.slow
def test_a_run_without_times_is_drawn_without_charts_of_time(sweep_small: SoftmaxBench, tmp_path: Path) -> None:
    done = sweep_small("--implementation=vectorized", "--charts", *UNTIMED)
    assert done.returncode == 0, done.stdout + done.stderr
    files = {path.name for path in (tmp_path / "plots" / "small").iterdir()}
    assert files == {"memory_by_features.png", "memory_by_features.svg", "report.html", "report.md"}


@pytest.mark.slow
def test_a_run_with_nothing_to_draw_says_so(softmax_bench: SoftmaxBench) -> None:
    done = softmax_bench(
        "run", "--results=results", "--implementation=row_loop", "--batch=4", "--features=16", *UNTIMED
    )
    assert done.returncode == 0, done.stderr
    assert "no charts: " in done.stdout


@pytest.mark.slow
def test_wrong_raising_and_hungry_competitors_get_rows_and_the_rest_goes_on(
    sweep_small: SoftmaxBench, tmp_path: Path
) -> None:
    (tmp_path / "competitors.py").write_text(COMPETITORS, encoding="utf-8")
    done = sweep_small("--max-bytes=100000000", *UNTIMED, "-p", "competitors")
    assert done.returncode == 1
    rows = {row.implementation: row for row in load_rows(tmp_path / "results" / "small") if row.features == 16}
    assert rows["diagonal_only"].status == "wrong"
    assert rows["diagonal_only"].max_error_ulp > 1e6
    assert str(rows["diagonal_only"].time_s) == "nan"
    assert rows["raising"].status == "failed"
    assert rows["raising"].reason == "ArithmeticError: no gradient today, sorry"
    assert rows["hungry"].status == "failed"
    assert "MemoryError" in rows["hungry"].reason
    assert rows["vectorized"].status == "measured"
    assert "2 wrong, 4 failed" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_cases_over_the_budget_are_skipped_with_the_predicted_figure(sweep_small: SoftmaxBench, tmp_path: Path) -> None:
    done = sweep_small("--max-bytes=100000")
    assert done.returncode == 0, done.stderr
    skipped = [row for row in load_rows(tmp_path / "results" / "small") if row.status == "skipped"]
    assert {row.implementation for row in skipped} >= {"explicit_jacobian"}
    assert all("predicted peak" in row.reason and "over the budget of 100 kB" in row.reason for row in skipped)
    assert all(row.predicted_peak_bytes for row in skipped)


def started(results: Path, run_id: str, *options: str) -> "subprocess.Popen[str]":
    """A sweep in the background that has time for many visits."""
    chosen = ["--implementation=vectorized", "--implementation=explicit_jacobian", "--every-round"]
    command = [*COMMAND, "run", f"--results={results}", f"--run-id={run_id}", *SMALL, *chosen, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def await_lines(running: "subprocess.Popen[str]", table: Path, lines: int) -> None:
    while not table.exists() or table.read_bytes().count(b"\n") < lines:
        assert running.poll() is None
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_run_is_resumed_to_the_visit(tmp_path: Path) -> None:
    running = started(tmp_path, "killed", "--minutes=10", *TIMED[1:])
    tables = [tmp_path / "killed" / name for name in ("cases.csv", "visits.csv")]
    await_lines(running, tables[1], 20)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    kept = [table.read_bytes() for table in tables]
    assert all(content.endswith(b"\n") for content in kept)
    tables[1].write_bytes(kept[1] + b"softmax-vect")  # as a crash of the machine may leave it
    resume = [*COMMAND, "run", f"--results={tmp_path}", "--resume=killed", "--minutes=0.25", "--no-charts"]
    done = subprocess.run(resume, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "4 cases to measure, 4 examined already" in done.stdout
    assert tables[1].read_bytes().startswith(kept[1])
    visits = load_visits(tmp_path / "killed")
    assert len(visits) > kept[1].count(b"\n")
    assert [visit.when_s for visit in visits] == sorted(visit.when_s for visit in visits)
    rows = load_rows(tmp_path / "killed")
    assert len(rows) == 4
    assert sum(row.visits or 0 for row in rows) == len([v for v in visits if not v.case.startswith("ceiling")])
    assert load_run(tmp_path / "killed").options.benchmark["max_time"] == 0.001
    again = subprocess.run([*resume[:-2], "--no-charts"], capture_output=True, text=True, check=False, timeout=120)
    assert again.returncode == 0
    assert "0 cases to measure" in again.stdout


def test_an_interrupted_run_keeps_its_visits_and_says_how_to_go_on(tmp_path: Path) -> None:
    running = started(tmp_path, "stopped", "--minutes=10")
    await_lines(running, tmp_path / "stopped" / "visits.csv", 12)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "cases are missing: make bench RESUME=stopped" in out
    assert all(row.visits and row.time_s > 0 for row in load_rows(tmp_path / "stopped"))
    assert "Traceback" not in out + err


def test_a_run_ends_on_time_and_what_is_not_settled_is_said(tmp_path: Path, softmax_bench: SoftmaxBench) -> None:
    chosen = ["--implementation=vectorized", "--batch=4", "--features=16", "--logits=normal", "--no-charts"]
    done = softmax_bench("run", "--run-id=short", *chosen, "--minutes=0.02")  # too short for visits that lie apart
    assert done.returncode == 0, done.stderr
    (row,) = load_rows(tmp_path / "results" / "short")
    assert (row.status, row.settled) == ("measured", 0)
    assert "0 of 1 times have settled; not settled, marked ~: vectorized 4 × 16" in done.stdout
    assert re.search(r"vectorized +~", done.stdout)
    again = softmax_bench("run", "--resume=short", "--minutes=0.01")
    assert again.returncode == 0, again.stderr
    assert "Its time box is used up" in again.stdout
    assert "Give more with --minutes" in again.stdout


@pytest.mark.slow
def test_a_clock_that_jumps_changes_no_time(sweep_small: SoftmaxBench, tmp_path: Path) -> None:
    (tmp_path / "jumping.py").write_text(JUMPING, encoding="utf-8")
    done = sweep_small("--implementation=vectorized", *TIMED, "-p", "jumping")
    assert done.returncode == 0, done.stderr
    visits = load_visits(tmp_path / "results" / "small")
    assert [visit.when_s for visit in visits] == sorted(visit.when_s for visit in visits)
    assert 0 < visits[-1].when_s < 60
    assert all(row.visits and row.time_s < 1 for row in load_rows(tmp_path / "results" / "small"))


def test_times_can_be_derived_again_from_the_visits(sweep_small: SoftmaxBench, tmp_path: Path) -> None:
    assert sweep_small("--implementation=vectorized", *TIMED).returncode == 0
    folder = tmp_path / "results" / "small"
    before = (folder / "cases.csv").read_bytes()
    store_times(folder)
    assert (folder / "cases.csv").read_bytes() == before


def test_a_competitor_that_dies_in_a_visit_fails_alone(sweep_small: SoftmaxBench, tmp_path: Path) -> None:
    (tmp_path / "competitors.py").write_text(DYING_LATER, encoding="utf-8")
    chosen = ["--implementation=dying_later", "--implementation=vectorized"]
    done = sweep_small(*chosen, *TIMED, "-p", "competitors")
    assert done.returncode == 1
    rows = load_rows(tmp_path / "results" / "small")
    died = [row for row in rows if row.status == "failed"]
    assert {row.implementation for row in died} == {"dying_later"}
    assert all("in round " in row.reason and "the process was ended by SIGSEGV" in row.reason for row in died)
    assert all(row.time_s > 0 for row in rows if row.implementation == "vectorized")


@pytest.mark.slow
def test_pytest_benchmark_compares_two_runs_by_their_visits(tmp_path: Path, softmax_bench: SoftmaxBench) -> None:
    chosen = ["--implementation=vectorized", "--batch=4", "--features=16", "--logits=normal", "--no-charts"]
    for name in ("one", "two"):
        timing = ["--minutes=0.05", "--", f"--benchmark-json={tmp_path / name}.json"]
        done = softmax_bench("run", f"--run-id={name}", *chosen, *timing)
        assert done.returncode == 0, done.stderr
    (benchmark,) = json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))["benchmarks"]
    (row,) = load_rows(tmp_path / "results" / "one")
    assert benchmark["stats"]["rounds"] == row.visits
    assert benchmark["stats"]["min"] == pytest.approx(row.time_min_s, rel=1e-5)
    assert benchmark["extra_info"]["time_s"] == pytest.approx(row.time_s, rel=1e-5)
    compare = [str(Path(COMMAND[0]).with_name("pytest-benchmark")), "compare", "one.json", "two.json"]
    done = subprocess.run(compare, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("vectorized-B4-N16-float64-normal") >= 2


def test_a_run_of_other_code_is_not_resumed(
    sweep_small: SoftmaxBench, softmax_bench: SoftmaxBench, tmp_path: Path
) -> None:
    sweep_small("--implementation=vectorized")
    path = tmp_path / "results" / "small" / "run.json"
    path.write_text(
        path.read_text(encoding="utf-8").replace('"sweep/rounds.py": "', '"sweep/rounds.py": "0'),
        encoding="utf-8",
    )
    done = softmax_bench("run", f"--results={tmp_path / 'results'}", "--resume=small")
    assert done.returncode == 2
    assert "cannot be resumed: code: sweep/rounds.py changed; start a new run" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--implementation=fast"), "--implementation fast: unknown; one of explicit_jacobian"),
        (("run", "--batch=-8"), "--batch -8: must be at least 1"),
        (("run", "--batch=many"), "'many' is not a valid integer"),
        (("run", "--threads=999"), "--threads 999: this machine has"),
        (("run", "--resume=nosuch"), "no run 'nosuch'"),
        (("run", "--minutes=0"), "--minutes 0: must be more than 0"),
        (("run", "--run-id=../up", "--no-charts"), "--run-id '../up': letters, digits"),
        (("plot", "nosuch"), "no run 'nosuch'"),
        (("list", "--cases", "--grid=huge"), "--grid huge: unknown"),
        (("nosuch",), "No such command 'nosuch' (see softmax-bench --help)"),
    ],
)
def test_bad_input_is_one_clear_line(
    softmax_bench: SoftmaxBench, arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    options = [f"--results={tmp_path / 'results'}"] if arguments[0] in ("run", "plot") else []
    done = softmax_bench(*arguments, *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("command", ["", "run", "plot", "verify", "fleet", "fleet run"])
def test_help_is_said_and_is_no_failure(softmax_bench: SoftmaxBench, command: str) -> None:
    done = softmax_bench(*command.split(), "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: softmax-bench {command}".rstrip())
    assert not done.stderr


def test_a_group_without_a_command_shows_its_help(softmax_bench: SoftmaxBench) -> None:
    done = softmax_bench("fleet")
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: softmax-bench fleet")
    assert "--help)" not in done.stderr


def test_a_results_folder_that_cannot_be_written_is_told(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file where the folder should be", encoding="utf-8")
    done = softmax_bench("run", f"--results={tmp_path / 'results'}", *SMALL)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_run_is_not_written_over(sweep_small: SoftmaxBench) -> None:
    assert sweep_small("--implementation=vectorized").returncode == 0
    again = sweep_small("--implementation=vectorized")
    assert again.returncode == 2
    assert "exists already" in again.stderr


@pytest.mark.slow
def test_plots_come_from_the_stored_table_alone(
    sweep_small: SoftmaxBench, softmax_bench: SoftmaxBench, tmp_path: Path
) -> None:
    sweep_small("--implementation=vectorized", "--implementation=row_blocks")
    done = softmax_bench("plot", "small", f"--results={tmp_path / 'results'}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "plots" / "small" / "memory_by_features.svg").exists()


def test_list_names_each_implementation_on_a_line_of_its_own(softmax_bench: SoftmaxBench) -> None:
    done = softmax_bench("list")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    for operation, name in registered():
        assert operation in done.stdout
        assert any(line.startswith(f"  {name} ") for line in lines)
    assert len(lines) == len(registered()) + len(operations())


def test_list_shows_formulas_and_what_their_letters_mean(softmax_bench: SoftmaxBench) -> None:
    done = softmax_bench("list", "--formulas")
    assert done.returncode == 0
    assert "workspace N*N*s + 2*B*N*N*s" in done.stdout
    assert "\nB  batch\n" in done.stdout


def test_list_shows_cases_with_predicted_bytes(softmax_bench: SoftmaxBench) -> None:
    done = softmax_bench("list", "--cases", "--grid=quick")
    assert done.returncode == 0
    assert re.search("^softmax-explicit_jacobian-B32-N512-float64-uniform +136 MB$", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_pytests_own_selection_works(tmp_path: Path) -> None:
    command = [str(Path(COMMAND[0]).with_name("pytest")), "bench/bench_backward.py", f"--results={tmp_path}"]
    done = subprocess.run(
        [*command, "-k", "vectorized-B1-N10", "--benchmark-disable", "--run-id=picked"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    (row,) = load_rows(tmp_path / "picked")
    assert row.implementation == "vectorized"
    assert row.reason == "not timed: --benchmark-disable"
    assert row.peak_bytes is not None


def test_collecting_alone_writes_nothing(tmp_path: Path) -> None:
    command = [str(Path(COMMAND[0]).with_name("pytest")), "bench/bench_backward.py", f"--results={tmp_path}"]
    done = subprocess.run(
        [*command, "--collect-only", "-q"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent, timeout=60,
    )  # fmt: skip
    assert f"{len(Selection().cases())} tests collected" in done.stdout
    assert list(tmp_path.iterdir()) == []
