import dataclasses
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from softmax_bench.errors import UserError
from softmax_bench.implementations import registered
from softmax_bench.operations import operations
from softmax_bench.operations.cases import Case
from softmax_bench.paths import PACKAGE
from softmax_bench.regression.baseline import compare_rows
from softmax_bench.regression.command import compare
from softmax_bench.regression.duet import Duel, Side, Task, Value, load_function, padded, run_workers
from softmax_bench.regression.gate import (
    PADDED,
    SAME,
    Check,
    Exit,
    Finding,
    Rule,
    cases_of,
    controls_of,
    duels_of,
    judge_duels,
    presence_findings,
)
from softmax_bench.regression.output import to_json, to_junit, to_markdown, worst_first
from softmax_bench.regression.revisions import two_versions
from softmax_bench.storage.results import Row

from tests.conftest import COMMAND, SoftmaxBench

IMPLEMENTATIONS = PACKAGE / "implementations"
CASES = [Case("softmax", "vectorized", batch, 64, "float64", "normal") for batch in (1, 2, 4, 8)]
DUELS = [Duel(f"case {case.batch}", case, Side("base", "vectorized"), Side("work", "vectorized")) for case in CASES]
CONTROLS = controls_of("base")


def worker_of(shifts: dict[str, float], noise: float = 0.002, **examined: Value) -> Callable[[Task], list[Value]]:
    """A worker that answers at once: log ratios around given shifts, and given values where it examines."""

    def work(task: Task) -> list[Value]:
        drawn = random.Random(task.seed)
        if task.effort is None:
            same = {duel.label: Value(duel.label, base_peak_bytes=1000, work_peak_bytes=1000) for duel in task.duels}
            return [examined.get(label.replace(" ", "_"), value) for label, value in same.items()]
        return [
            Value(duel.label, log_ratio=math.log1p(shifts.get(duel.label, 0.0)) + drawn.gauss(0, noise), base_s=1e-5)
            for duel in task.duels
        ]

    return work


def check_of(worker: Callable[[Task], list[Value]], rule: Rule | None = None) -> Check:
    return judge_duels(DUELS, CONTROLS, rule or Rule(), "base", lambda _: None, lambda tasks: list(map(worker, tasks)))


def verdicts(check: Check) -> dict[str, str]:
    return {finding.label: finding.verdict for finding in check.findings}


def test_identical_code_passes() -> None:
    check = check_of(worker_of({PADDED: 0.03}))
    assert check.exit is Exit.PASSED
    assert set(verdicts(check).values()) == {"unchanged"}
    assert check.sentence == "No regression against base: 4 cases timed, 0 of them faster."


def test_one_slower_case_is_named_and_no_other() -> None:
    check = check_of(worker_of({PADDED: 0.03, "case 2": 0.02}))
    assert check.exit is Exit.REGRESSION
    assert [label for label, verdict in verdicts(check).items() if verdict == "slower"] == ["case 2"]
    assert check.sentence == "Regression against base: 1 slower (case 2)."
    slower = worst_first(check)[0]
    assert slower.label == "case 2"
    assert slower.low < slower.ratio < slower.high
    assert slower.ratio == pytest.approx(1.02, abs=0.004)
    assert 0.005 < slower.detectable < 0.02


def test_a_uniform_slow_down_is_seen() -> None:
    check = check_of(worker_of({PADDED: 0.03, **{duel.label: 0.05 for duel in DUELS}}))
    assert set(verdicts(check).values()) == {"slower"}


def test_a_faster_case_does_not_fail_the_check() -> None:
    check = check_of(worker_of({PADDED: 0.03, "case 2": -0.1}))
    assert check.exit is Exit.PASSED
    assert verdicts(check)["case 2"] == "faster"


def test_less_than_the_margin_is_no_concern() -> None:
    assert check_of(worker_of({PADDED: 0.03, "case 2": 0.004}, noise=0.0005)).exit is Exit.PASSED


@pytest.mark.parametrize(
    ("shifts", "said"),
    [
        ({SAME: 0.03, PADDED: 0.03}, "identical code was told apart"),
        ({PADDED: 0.0}, "a padding of 3% was not found"),
        ({PADDED: -0.03}, "a padding of 3% was not found"),
    ],
)
def test_a_control_that_misbehaves_makes_the_check_inconclusive(shifts: dict[str, float], said: str) -> None:
    check = check_of(worker_of({**shifts, "case 2": 0.05}))
    assert check.exit is Exit.INCONCLUSIVE
    assert check.sentence.startswith(f"Inconclusive: {said}")


def test_a_rule_that_could_never_alarm_is_refused_before_measuring() -> None:
    def unasked(task: Task) -> list[Value]:
        raise AssertionError(task)

    check = check_of(unasked, Rule(confirming=5))
    assert check.exit is Exit.INCONCLUSIVE
    assert "5 processes cannot confirm anything: the smallest p they reach is 0.031" in check.inconclusive


def test_nothing_to_compare_is_inconclusive() -> None:
    check = judge_duels([], CONTROLS, Rule(), "base", lambda _: None)
    assert check.exit is Exit.INCONCLUSIVE


def test_a_worker_that_dies_makes_the_check_inconclusive() -> None:
    def dying(task: Task) -> list[Value]:
        raise RuntimeError("a worker process ended without an answer: exit status -9")

    assert check_of(dying).sentence == "Inconclusive: a worker process ended without an answer: exit status -9."


def test_memory_and_results_fail_even_where_the_clock_says_nothing() -> None:
    larger = Value("case 1", base_peak_bytes=1000, work_peak_bytes=9000)
    wrong = Value("case 2", base_peak_bytes=1000, work_peak_bytes=1000, work_wrong="wrong by 1e+09 ulp")
    check = check_of(worker_of({PADDED: 0.0}, case_1=larger, case_2=wrong))
    assert check.inconclusive
    assert check.exit is Exit.REGRESSION
    assert "1 larger (case 1)" in check.sentence
    assert "1 wrong (case 2)" in check.sentence


def test_removed_fails_unless_allowed_and_added_never() -> None:
    base, work = [("softmax", "old"), ("softmax", "kept")], [("softmax", "kept"), ("softmax", "new")]
    closed = {finding.label: finding for finding in presence_findings(base, work, allow_removed=False)}
    assert closed["softmax old"].is_regression
    assert not closed["softmax new"].is_regression
    assert set(closed) == {"softmax old", "softmax new"}
    assert not any(finding.is_regression for finding in presence_findings(base, work, allow_removed=True))


def test_every_operation_is_checked_and_every_label_names_one_case() -> None:
    duels = duels_of(IMPLEMENTATIONS, IMPLEMENTATIONS, registered(), registered())
    assert {duel.case.operation for duel in duels} == set(operations())
    assert len({duel.label for duel in duels}) == len(duels)


def test_the_check_has_at_least_24_cases_of_both_families_from_small_to_large() -> None:
    cases = cases_of(registered())
    assert len(cases) >= 24
    assert {"explicit_jacobian", "row_loop", "vectorized", "row_blocks"} <= {case.implementation for case in cases}
    assert {(1, 10), (256, 4096)} <= {(case.batch, case.features) for case in cases}
    assert not Rule().refusal(len(cases) + 2)


@pytest.fixture
def two_copies(tmp_path: Path) -> tuple[Path, Path]:
    """Two copies of the implementations, to be changed."""
    folders = tmp_path / "base", tmp_path / "work"
    for folder in folders:
        shutil.copytree(IMPLEMENTATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folders


def change(folder: Path, old: str, new: str) -> None:
    path = folder / "softmax.py"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def duel_of(folders: tuple[Path, Path]) -> Duel:
    case = Case("softmax", "vectorized", 32, 512, "float64", "normal")
    return Duel("vectorized", case, *(Side(str(folder), "vectorized") for folder in folders))


@pytest.mark.slow
def test_an_extra_copy_is_found_by_memory_and_by_time(two_copies: tuple[Path, Path]) -> None:
    change(two_copies[1], "(grad_output - (grad_output * probs)", "(grad_output.copy() - (grad_output.copy() * probs)")
    check = judge_duels([duel_of(two_copies)], controls_of(str(two_copies[0])), Rule(), "base", lambda _: None)
    found = {finding.verdict for finding in check.findings}
    assert found == {"larger", "slower"}
    assert check.exit is Exit.REGRESSION


def test_a_wrong_gradient_is_found(two_copies: tuple[Path, Path]) -> None:
    change(two_copies[1], "keepdims=True)) * probs", "keepdims=True)) * probs * (1 + 1e-6)")
    ((value,),) = run_workers([Task([duel_of(two_copies)], seed=1, effort=None)])
    assert value.base_wrong == ""
    assert "ulp of its terms" in value.work_wrong


def test_versions_that_do_not_load_are_told(two_copies: tuple[Path, Path]) -> None:
    change(two_copies[1], "import numpy as np", "import numpie as np")
    with pytest.raises(UserError, match="work: the implementations do not import .*No module named 'numpie'"):
        run_workers([Task([duel_of(two_copies)], seed=1, effort=None)])
    with pytest.raises(UserError, match="no implementations there"):
        run_workers([Task([duel_of((two_copies[0], two_copies[0] / "none"))], seed=1, effort=None)])


def test_padding_spins_for_its_share() -> None:
    spun = padded(time.sleep, 1.0)
    start = time.perf_counter()
    spun(0.02)
    assert time.perf_counter() - start >= 0.04


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with three commits, the last two with implementations."""
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q")
    git(root, "commit", "-q", "--allow-empty", "-m", "empty")
    for text in ("one", "two"):
        path = root / "bench" / "implementations" / "__init__.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {text}\n", encoding="utf-8")
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", text)
    return root


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def test_base_is_the_commit_before_in_a_clean_tree_and_head_in_a_changed_one(repository: Path) -> None:
    with two_versions(repository, None) as versions:
        assert versions.base_name == "HEAD~1"
        assert (versions.base / "__init__.py").read_text(encoding="utf-8") == "# one\n"
        assert (versions.work / "__init__.py").read_text(encoding="utf-8") == "# two\n"
        assert not versions.identical
    assert not versions.base.exists()
    (repository / "bench" / "implementations" / "new.py").write_text("", encoding="utf-8")
    with two_versions(repository, None) as versions:
        assert versions.base_name == "HEAD"
        assert (versions.work / "new.py").exists()
    with two_versions(repository, "HEAD~1") as versions:
        assert (versions.base / "__init__.py").read_text(encoding="utf-8") == "# one\n"


@pytest.mark.parametrize(
    ("revision", "said"),
    [("nosuch", "no revision 'nosuch'"), ("HEAD~2", "revision HEAD~2 has no bench/implementations")],
)
def test_a_base_that_is_not_there_is_told(repository: Path, revision: str, said: str) -> None:
    with pytest.raises(UserError, match=said), two_versions(repository, revision):
        pass


def test_outside_a_repository_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a git repository"), two_versions(tmp_path, None):
        pass


@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_no_process_and_no_file(tmp_path: Path, signalled: signal.Signals) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    running = subprocess.Popen(
        [*COMMAND, "gate", "--base=HEAD"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (workers := psutil.Process(running.pid).children()):
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signalled)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 128 + signalled
    assert "Traceback" not in out + err
    _, alive = psutil.wait_procs(workers, timeout=5)  # one that was just being started ends by itself: nobody asks it
    assert not alive
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_compare_tells_ratio_interval_and_memory_of_both(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def twice(probs, grad_output):\n"
        "    once = lambda: (grad_output - (grad_output * probs).sum(axis=1, keepdims=True)) * probs\n"
        "    return once() + 0 * once()\n",
        encoding="utf-8",
    )
    told = softmax_bench("compare", "vectorized", "mine.py:twice", "--fail-above=3%", "--json=out.json")
    assert told.returncode == 1
    assert "mine.py:twice against vectorized at 32 × 512 float64 normal:" in told.stdout
    assert "99 % interval" in told.stdout
    assert "peak memory" in told.stdout
    content = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert content["exit"] == 1
    assert any(finding["verdict"] == "slower" and finding["ratio"] > 1.5 for finding in content["findings"])


@pytest.mark.slow
def test_compare_takes_functions_of_another_operation_by_the_names_of_their_arrays(
    softmax_bench: SoftmaxBench, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "def backward(probs, targets):\n    return (probs - targets) / len(probs)\n\n\n"
        "def misnamed(p, t):\n    return (p - t) / len(p)\n",
        encoding="utf-8",
    )
    case = ("--operation=softmax_cross_entropy_backward", "--batch=16", "--features=64")
    told = softmax_bench("compare", "fused", "mine.py:backward", *case)
    assert told.returncode in (0, 2), told.stderr
    assert "mine.py:backward against fused at 16 × 64" in told.stdout
    told = softmax_bench("compare", "fused", "mine.py:misnamed", *case, "--fail-above=3%")
    assert told.returncode == 1
    assert "has no attribute 'p'" in told.stdout


def test_compare_says_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", {"numpy": "there"}.get)
    with pytest.raises(UserError, match="'fused_out' wants numba, which is not installed: make's EXTRAS=compiled"):
        compare.main(["vectorized", "fused_out"], standalone_mode=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("compare", "vectorized", "fast"), "'fast': no such implementation of softmax (one of explicit_jacobian"),
        (("compare", "vectorized", "none.py:f"), "none.py: no such file"),
        (("compare", "vectorized", "nosuch:f"), "nosuch: no such module"),
        (("compare", "vectorized", "math:f"), "math: has no 'f'; "),
        (("compare", "vectorized", "row_blocks", "--fail-above=much"), "--fail-above much: a share such as 3%"),
        (("compare", "vectorized", "row_blocks", "--dtype=float16"), "--dtype float16: unknown"),
        (("gate",), "is in no repository with bench/implementations: a revision is compared in a clone"),
    ],
)
def test_bad_input_is_one_clear_line(softmax_bench: SoftmaxBench, arguments: tuple[str, ...], said: str) -> None:
    done = softmax_bench(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_suite_that_does_not_import_ends_with_2_and_not_as_a_regression(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "softmax_bench", ignore=shutil.ignore_patterns("__pycache__"))
    change(tmp_path / "softmax_bench" / "implementations", "import numpy as np", "import numpie as np")
    done = subprocess.run(
        [sys.executable, "-m", "softmax_bench.cli", "gate"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "does not import: ModuleNotFoundError: No module named 'numpie'" in done.stderr
    assert "softmax.py:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_target_that_is_not_callable_is_told() -> None:
    with pytest.raises(UserError, match="math:pi: not a function"):
        load_function("math:pi")


CHECK = Check(
    "base",
    [
        Finding("calm", "unchanged", 1.0, 0.99, 1.01, 0.007, math.nan, 1e-5, 100, 100),
        Finding("slow", "slower", 1.05, 1.04, 1.06, 0.007, 0.0001, 1e-5, 100, 100),
        Finding("gone", "removed", note="only the base has it"),
    ],
)


def test_output_is_worst_first_in_every_form() -> None:
    assert [finding.label for finding in worst_first(CHECK)] == ["gone", "slow", "calm"]
    content = json.loads(to_json(CHECK))
    assert [finding["label"] for finding in content["findings"]] == ["gone", "slow", "calm"]
    assert content["findings"][0]["ratio"] is None
    suite = ET.fromstring(to_junit(CHECK))
    assert suite.get("failures") == "2"
    assert len(suite.findall("testcase/failure")) == 2
    assert "| slow | +5.00% | +4.00% to +6.00% | 0.70% | slower |" in to_markdown(CHECK)


def row_of(**values: object) -> Row:
    plain = {"batch": 32, "features": 512, "logits": "uniform", "time_median_s": 1e-5, "peak_bytes": 10**6}
    fields = {**plain, "implementation": "vectorized", "status": "measured", **values}
    return Row(run_id="r", operation="softmax", dtype="float64", threads=1, **fields)  # type: ignore[arg-type]


OLD = [row_of(), row_of(implementation="explicit_jacobian", time_median_s=1e-2)]


@pytest.mark.parametrize(
    ("new", "expected", "said"),
    [
        (OLD, Exit.PASSED, "No regression"),
        ([row_of(time_median_s=1.9e-5), OLD[1]], Exit.PASSED, "No regression"),
        ([row_of(time_median_s=2.1e-5), OLD[1]], Exit.REGRESSION, "1 slower (vectorized 32 × 512)"),
        ([row_of(peak_bytes=10**6 + 4096), OLD[1]], Exit.REGRESSION, "1 larger"),
        ([row_of(status="wrong", reason="wrong by 1e9 ulp"), OLD[1]], Exit.REGRESSION, "1 wrong"),
        (OLD[1:], Exit.REGRESSION, "1 removed"),
        ([row_of(features=7), row_of(implementation="explicit_jacobian", features=7)], Exit.INCONCLUSIVE, "nothing to"),
    ],
)
def test_check_against_a_stored_run(new: list[Row], expected: Exit, said: str) -> None:
    check = compare_rows("old", OLD, new, allow_removed=False)
    assert check.exit is expected
    assert said in check.sentence


def test_a_stored_run_of_another_machine_is_incomparable(
    softmax_bench: SoftmaxBench, reference_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(reference_run, tmp_path / "elsewhere")
    path = tmp_path / "elsewhere" / "run.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["machine"]["cpu"] = "another processor"
    path.write_text(json.dumps(content), encoding="utf-8")
    done = softmax_bench("gate", "--base=elsewhere")
    assert done.returncode == 2
    assert "Inconclusive: incomparable: machine: cpu was another processor" in done.stdout


def test_duels_cover_what_both_versions_have() -> None:
    have = dict(registered())
    less = {key: spec for key, spec in have.items() if key[1] != "row_loop"}
    duels = duels_of(Path("base"), Path("work"), have, less)
    of_numpy = {key[1] for key, spec in less.items() if spec.library == "numpy" and not spec.runs_threads}
    compared = {duel.case.implementation for duel in duels}
    assert of_numpy <= compared
    assert not compared & {"row_loop", "row_blocks_threads", "fused_parallel", "torch_kernel", "jax_vjp"}
    assert all(duel.base.place == "base" and duel.work.place == "work" for duel in duels)
    assert len({duel.label for duel in duels}) == len(duels)
    assert dataclasses.is_dataclass(duels[0])
