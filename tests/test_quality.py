import dataclasses
import re
from pathlib import Path

import pandas as pd
import psutil
import pytest
from softmax_bench.charts.style import write_figure
from softmax_bench.errors import NothingToDrawError, UserError
from softmax_bench.implementations import is_installed
from softmax_bench.operations.cases import Case
from softmax_bench.regression.duel import Duel, Side, Task
from softmax_bench.regression.gate import duels_of
from softmax_bench.regression.quality import study
from softmax_bench.regression.quality.chart import gate_quality
from softmax_bench.regression.quality.command import gate_quality as gate_quality_command
from softmax_bench.regression.quality.study import (
    CHANGES,
    PLAN,
    Condition,
    Trial,
    load_machine,
    load_trials,
    next_condition,
    open_trials,
    slowed,
    trial_of,
    try_usual_gate,
    two_copies,
)
from softmax_bench.regression.quality.usual_gates import asv_alarms, slower_of
from softmax_bench.regression.workers import run_workers

from tests.conftest import ROOT, SoftmaxBench

TRIAL = Trial("2026-01-01T00:00:00+00:00", "gate", "comment", 0.0, "idle", "", "passed", 0, 0, "", 30.0, "")
SPIN = Condition("spin", trials=1, size=0.02)
SPUN = dataclasses.replace(TRIAL, kind="spin", size=0.02, target="vectorized 32 × 512", outcome="regression", found=1)


def trials_under(condition: Condition) -> list[Trial]:
    """As many trials as the plan has of this condition."""
    trial = dataclasses.replace(
        TRIAL, method=condition.method, kind=condition.kind, size=condition.size, load=condition.load
    )
    return [trial] * condition.trials


def frame_of(*trials: Trial) -> pd.DataFrame:
    return pd.DataFrame([dataclasses.asdict(trial) for trial in trials], columns=list(Trial.__dataclass_fields__))


def test_trials_come_back_as_they_were_stored(tmp_path: Path) -> None:
    with open_trials(tmp_path) as table:
        table.append(TRIAL)
        table.append(SPUN)
    pd.testing.assert_frame_equal(load_trials(tmp_path), frame_of(TRIAL, SPUN))


def test_the_condition_that_lacks_most_comes_next_until_the_plan_is_fulfilled(monkeypatch: pytest.MonkeyPatch) -> None:
    first = next_condition(frame_of())
    assert first == (PLAN[0], 0)
    second = next_condition(frame_of(TRIAL))
    assert second is not None
    assert second[0] == PLAN[1]
    monkeypatch.setattr(study, "is_installed", lambda library: True)
    complete = [trial for condition in PLAN for trial in trials_under(condition)]
    assert next_condition(frame_of(*complete)) is None


@pytest.mark.parametrize("kind", CHANGES)
def test_every_change_still_applies_and_gives_right_results(kind: str) -> None:
    name = CHANGES[kind].implementation
    case = Case("softmax", name, 8, 64, "float64", "normal")
    with two_copies(kind) as (base, work):
        assert (base / "softmax.py").read_bytes() != (work / "softmax.py").read_bytes()
        duel = Duel(name, case, Side(str(base), name), Side(str(work), name))
        ((value,),) = run_workers([Task([duel], 1, effort=None)])
    assert value.failed == value.base_wrong == value.work_wrong == ""


def test_a_load_ends_with_its_block() -> None:
    with load_machine("both cores hogged"):
        hogs = psutil.Process().children()
        assert len(hogs) >= 2
    assert not any(hog.is_running() for hog in hogs)


@pytest.mark.parametrize(
    ("alarms", "found", "false_alarms"),
    [(["vectorized 32 × 512"], 1, 0), (["row_loop 1 × 10"], 0, 1), (["vectorized 32 × 512", "row_loop 1 × 10"], 1, 1)],
)
def test_an_alarm_is_on_the_target_or_false(alarms: list[str], found: int, false_alarms: int) -> None:
    trial = trial_of(SPIN, "vectorized 32 × 512", "regression", alarms, wall_s=1.0)
    assert (trial.found, trial.false_alarms) == (found, false_alarms)


def test_an_alarm_in_an_inconclusive_check_is_not_found() -> None:
    trial = trial_of(SPIN, "a", "inconclusive", ["a"], wall_s=1.0, note="a control failed")
    assert trial.found == 0


def test_changed_source_is_found_under_its_implementation() -> None:
    copy = Condition("copy", trials=1, size=float("nan"))
    trial = trial_of(copy, "vectorized", "regression", ["vectorized 8 × 32"], wall_s=1.0)
    assert (trial.found, trial.false_alarms) == (1, 0)
    other = trial_of(copy, "vectorized", "regression", ["vectorized_out 8 × 32"], wall_s=1.0)
    assert (other.found, other.false_alarms) == (0, 1)


@pytest.mark.slow
def test_the_usual_gate_is_tried_on_the_cases_of_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    # A tenth of the cases: pytest-benchmark takes as long for each.
    monkeypatch.setattr(study, "duels_of", lambda *versions: duels_of(*versions)[::10])
    trials = try_usual_gate(Condition("comment", trials=1, method="min:5%"), seed=1)
    assert [trial.method for trial in trials] == ["min:5%", "mean:10%"]
    assert all(trial.found == 0 and trial.wall_s > 0 for trial in trials)


@pytest.mark.slow
@pytest.mark.skipif(not is_installed("asv"), reason="asv is not installed")
def test_asv_is_tried_on_the_same_cases_and_leaves_nothing_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with slowed(Condition("uniform", trials=1, size=30.0), seed=1) as (_, duels, _):
        few = [duel for duel in duels if duel.label in {"vectorized 1 × 10", "vectorized 256 × 512"}]
        alarms = asv_alarms(few)
    assert set(alarms) == {"asv:5%", "asv:10%"}
    # Calls of the other case are too short to spin; on a busy machine asv may cry for it all the same.
    assert all("vectorized 256 × 512" in named for named in alarms.values())
    assert not list(tmp_path.iterdir())


def test_the_lines_that_asv_marks_as_slower_count() -> None:
    report = """
| Change   | Before [a25fe6bf] <master~1>   | After [3ef7116e] <master>   |   Ratio | Benchmark (Parameter)            |
|----------|--------------------------------|-----------------------------|---------|----------------------------------|
| +        | 4.87±0.1μs                     | 5.36±0.2μs                  |    1.1  | cases.Cases.time_case('a 1 × 2') |
| -        | 13.1±4μs                       | 9.91±0.3μs                  |    0.76 | cases.Cases.time_case('b 1 × 2') |
"""
    assert slower_of(report, ["a 1 × 2", "b 1 × 2", "c 1 × 2"]) == ["a 1 × 2"]


def test_what_is_not_installed_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "is_installed", lambda library: False)
    without_asv = [trial for condition in PLAN if condition.method != "asv:5%" for trial in trials_under(condition)]
    assert next_condition(frame_of(*without_asv)) is None
    monkeypatch.setattr(study, "is_installed", lambda library: True)
    lacking = next_condition(frame_of(*without_asv))
    assert lacking is not None
    assert lacking[0].method == "asv:5%"


def test_the_chart_says_how_many_runs_alarmed() -> None:
    usual = dataclasses.replace(TRIAL, method="min:5%", outcome="regression", false_alarms=3)
    figure = gate_quality(frame_of(TRIAL, TRIAL, usual, SPUN, dataclasses.replace(SPUN, found=0)))
    texts = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert texts == ["make check\n0 of 2", "stored run, min:5%\n1 of 1"]


def test_a_chart_of_the_same_trials_is_the_same_file(tmp_path: Path) -> None:
    files = [write_figure(gate_quality(frame_of(TRIAL, SPUN)), tmp_path / f"{name}.svg") for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_chart_of_nothing_is_refused() -> None:
    with pytest.raises(NothingToDrawError, match="make gate-quality"):
        gate_quality(frame_of())


@pytest.mark.slow
def test_the_stored_trials_are_drawn_in_the_folder_of_the_option_plots(
    softmax_bench: SoftmaxBench, tmp_path: Path
) -> None:
    done = softmax_bench("gate-quality", "--draw-only", f"--results={ROOT / 'results'}", "--plots=charts")
    assert done.returncode == 0, done.stderr
    assert "gate_quality" in done.stdout
    drawn = sorted(path.name for path in (tmp_path / "charts" / "gate-quality").iterdir())
    assert drawn == ["gate_quality.png", "gate_quality.svg"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--draw-only", "--results=nosuch"), "nosuch/gate-quality/trials.csv: cannot be read (No such file"),
        (("--results=file/results",), "file/results/gate-quality: cannot be written (Not a directory)"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_clear_line(
    options: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("softmax_bench.regression.quality.command.end_on_sigterm", lambda: None)
    Path("file").touch()
    with pytest.raises(UserError, match=re.escape(said)):
        gate_quality_command.main(list(options), standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
