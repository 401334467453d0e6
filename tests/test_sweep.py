import dataclasses
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from softmax_bench.implementations import registered
from softmax_bench.operations import operations
from softmax_bench.storage.results import load_rows, load_run, write_run
from softmax_bench.sweep.opening import begin
from softmax_bench.sweep.options import Options
from softmax_bench.sweep.selection import Selection

from tests.conftest import COMMAND, FAST, SMALL, SoftmaxBench

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


SMALL_CASES = Selection(
    operation=("softmax",), library=("numpy",), batch=(4,), features=(16, 32), dtype=("float64",), logits=("normal",)
).cases()


def statuses(folder: Path) -> dict[str, str]:
    return {str(row.case): row.status for row in load_rows(folder)}


def test_a_run_stores_each_case_once_and_sums_it_up(sweep_small: SoftmaxBench, tmp_path: Path) -> None:
    done = sweep_small()
    assert done.returncode == 0, done.stderr
    rows = load_rows(tmp_path / "results" / "small")
    assert len(rows) == len({row.case for row in rows}) == len(SMALL_CASES)
    for row in rows:
        assert row.status == "measured"
        assert 0 < row.time_min_s <= row.time_q1_s <= row.time_median_s <= row.time_q3_s
        assert row.rounds is not None
        assert row.rounds >= 2
        assert row.peak_bytes is not None
        assert row.minor_faults is not None
        assert row.max_error_ulp < 256
        assert re.search(rf"^  measured {row.implementation} +[\d.]+ .?s +[\d.]+ .?B", done.stdout, re.MULTILINE)
    assert "softmax 4 × 16\n" in done.stdout
    assert f"{len(SMALL_CASES)} measured" in done.stdout
    assert "speed-up" in done.stdout
    run = load_run(tmp_path / "results" / "small")
    assert run.seed == 42
    assert len(run.sittings) == 1


def test_the_articles_case_is_told_beside_the_articles_figures(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    done = softmax_bench(
        "run", "--results=results", "--run-id=its", "--batch=32", "--features=512", "--logits=uniform",
        "--implementation=explicit_jacobian", "--implementation=vectorized", *FAST,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "plots" / "its").iterdir()} == {"bars.png", "bars.svg"}
    assert "The article's case (32 × 512, uniform, float64): explicit_jacobian" in done.stdout
    assert "65.1 ms, 31.9 µs, 2000×" in done.stdout


def test_a_run_without_times_is_drawn_without_charts_of_time(sweep_small: SoftmaxBench, tmp_path: Path) -> None:
    done = sweep_small("--implementation=vectorized", "--charts", "--", "--benchmark-disable")
    assert done.returncode == 0, done.stdout + done.stderr
    files = {path.name for path in (tmp_path / "plots" / "small").iterdir()}
    assert files == {"memory_by_features.png", "memory_by_features.svg"}


def test_a_run_with_nothing_to_draw_says_so(softmax_bench: SoftmaxBench) -> None:
    done = softmax_bench("run", "--results=results", "--implementation=row_loop", "--batch=4", "--features=16", *FAST)
    assert done.returncode == 0, done.stderr
    assert "no charts: " in done.stdout


def test_wrong_raising_and_hungry_competitors_get_rows_and_the_rest_goes_on(
    sweep_small: SoftmaxBench, tmp_path: Path
) -> None:
    (tmp_path / "competitors.py").write_text(COMPETITORS, encoding="utf-8")
    done = sweep_small("--max-bytes=100000000", *FAST, "-p", "competitors")
    assert done.returncode == 1
    rows = {row.implementation: row for row in load_rows(tmp_path / "results" / "small") if row.features == 16}
    assert rows["diagonal_only"].status == "wrong"
    assert rows["diagonal_only"].max_error_ulp > 1e6
    assert str(rows["diagonal_only"].time_median_s) == "nan"
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


def test_a_killed_run_is_resumed_without_loss_or_repetition(tmp_path: Path) -> None:
    results = tmp_path / "results"
    chosen = ["--implementation=vectorized", "--implementation=explicit_jacobian", "--batch=8"]
    options = [f"--results={results}", "--run-id=killed", *SMALL, *chosen, *FAST[:1], "--benchmark-max-time=0.05"]
    table = results / "killed" / "cases.csv"
    running = subprocess.Popen([*COMMAND, "run", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not table.exists() or table.read_bytes().count(b"\n") < 3:
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = table.read_bytes()
    assert kept.endswith(b"\n")
    table.write_bytes(kept + b"killed,softmax,vect")  # as a crash of the machine may leave it
    resume = [*COMMAND, "run", f"--results={results}", "--resume=killed", "--no-charts"]
    done = subprocess.run(resume, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert table.read_bytes().startswith(kept)
    assert len(statuses(results / "killed")) == 8
    assert load_run(results / "killed").options.benchmark["max_time"] == 0.05
    again = subprocess.run(resume, capture_output=True, text=True, check=False, timeout=120)
    assert again.returncode == 0
    assert "0 cases to measure, 8 there already" in again.stdout


def test_a_case_of_two_threads_waits_for_two_processors_and_says_where_it_waited_in_vain(
    softmax_bench: SoftmaxBench, tmp_path: Path
) -> None:
    (tmp_path / "impatient.py").write_text(
        "from softmax_bench.sweep import sitting as sweep\nsweep.PATIENCE_S = 0.3\n", encoding="utf-8"
    )
    chosen = Options(
        operation=("softmax",), implementation=("row_blocks_threads",), batch=(8,), features=(8192,), threads=(2,),
        results=tmp_path, run_id="its",
    )  # fmt: skip
    begun = begin(chosen, {"max_time": 0.002, "min_time": 0.00002, "min_rounds": 2})
    begun.close()
    for factor, waited in ((100, True), (0.01, False)):
        ceiling = [dataclasses.replace(point, bytes_per_s=factor * point.bytes_per_s) for point in begun.run.ceiling]
        write_run(dataclasses.replace(begun.run, ceiling=ceiling), begun.folder)
        (begun.folder / "cases.csv").unlink()
        done = softmax_bench("run", f"--results={tmp_path}", "--resume=its", "--no-charts", "--", "-p", "impatient")
        assert done.returncode == 0, done.stderr
        reason = load_rows(begun.folder)[0].reason
        assert bool(re.match(r"2 threads just before streamed at \d% of the ceiling", reason)) == waited, reason


def test_an_interrupted_run_keeps_its_rows_and_says_how_to_go_on(tmp_path: Path) -> None:
    options = [f"--results={tmp_path}", "--run-id=stopped", *SMALL, *FAST[:1], "--benchmark-max-time=0.2"]
    running = subprocess.Popen([*COMMAND, "run", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    table = tmp_path / "stopped" / "cases.csv"
    while not table.exists() or table.read_bytes().count(b"\n") < 4:
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert 3 <= len(statuses(tmp_path / "stopped")) < 14
    assert "cases are missing: make bench RESUME=stopped" in out
    assert "Traceback" not in out + err


def test_a_run_of_other_code_is_not_resumed(
    sweep_small: SoftmaxBench, softmax_bench: SoftmaxBench, tmp_path: Path
) -> None:
    sweep_small("--implementation=vectorized")
    path = tmp_path / "results" / "small" / "run.json"
    path.write_text(
        path.read_text(encoding="utf-8").replace('"sweep/sitting.py": "', '"sweep/sitting.py": "0'),
        encoding="utf-8",
    )
    done = softmax_bench("run", f"--results={tmp_path / 'results'}", "--resume=small")
    assert done.returncode == 2
    assert "cannot be resumed: code: sweep/sitting.py changed; start a new run" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--implementation=fast"), "--implementation fast: unknown; one of explicit_jacobian"),
        (("run", "--batch=-8"), "--batch -8: must be at least 1"),
        (("run", "--batch=many"), "'many' is not a valid integer"),
        (("run", "--threads=999"), "--threads 999: this machine has"),
        (("run", "--resume=nosuch"), "no run 'nosuch'"),
        (("run", "--sitting=nosuch:1"), "--sitting nosuch:1: no such sitting of these cases"),
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
