import dataclasses
from pathlib import Path

import pandas as pd
import psutil
import pytest

from bench.cases import Case
from bench.errors import NothingToDrawError
from bench.regression import quality
from bench.regression.duet import Duel, Side, Task, run_workers
from bench.regression.quality import CHANGES, PLAN, Trial, load_trials, next_condition, open_trials, try_usual
from bench.regression.quality_chart import gate_quality

TRIAL = Trial("2026-01-01T00:00:00+00:00", "gate", "comment", 0.0, "idle", "", "passed", 0, 0, "", 30.0, "")
SPUN = dataclasses.replace(TRIAL, kind="spin", size=0.02, target="vectorized 32 × 512", outcome="regression", found=1)


def frame_of(*trials: Trial) -> pd.DataFrame:
    return pd.DataFrame([dataclasses.asdict(trial) for trial in trials], columns=list(Trial.__dataclass_fields__))


def test_trials_come_back_as_they_were_stored(tmp_path: Path) -> None:
    with open_trials(tmp_path) as table:
        table.append(TRIAL)
        table.append(SPUN)
    pd.testing.assert_frame_equal(load_trials(tmp_path), frame_of(TRIAL, SPUN))


def test_the_condition_that_lacks_most_comes_next_until_the_plan_is_fulfilled() -> None:
    first = next_condition(frame_of())
    assert first == (PLAN[0], 0)
    second = next_condition(frame_of(TRIAL))
    assert second is not None
    assert second[0] == PLAN[1]
    full = [
        dataclasses.replace(
            TRIAL, method="min:5%" if one.usual else "gate", kind=one.kind, size=one.size, load=one.load
        )
        for one in PLAN
        for _ in range(one.wanted)
    ]
    assert next_condition(frame_of(*full)) is None


@pytest.mark.parametrize("kind", CHANGES)
def test_every_change_still_applies_and_gives_right_results(kind: str) -> None:
    name, _, _ = CHANGES[kind]
    case = Case("softmax", name, 8, 64, "float64", "normal")
    with quality._two_copies(kind) as (base, work):
        assert (base / "softmax.py").read_bytes() != (work / "softmax.py").read_bytes()
        duel = Duel(name, case, Side(str(base), name), Side(str(work), name))
        ((value,),) = run_workers([Task([duel], 1, effort=None)])
    assert value.failed == value.base_wrong == value.work_wrong == ""


def test_a_load_ends_with_its_block() -> None:
    with quality._load("both cores hogged"):
        hogs = psutil.Process().children()
        assert len(hogs) >= 2
    assert not any(hog.is_running() for hog in hogs)


@pytest.mark.parametrize(
    ("alarms", "found", "false_alarms"),
    [(["vectorized 32 × 512"], 1, 0), (["row_loop 1 × 10"], 0, 1), (["vectorized 32 × 512", "row_loop 1 × 10"], 1, 1)],
)
def test_alarms_are_told_apart(alarms: list[str], found: int, false_alarms: int) -> None:
    trial = quality._trial("gate", "spin", 0.02, "idle", "vectorized 32 × 512", "regression", alarms, 1.0, "")
    assert (trial.found, trial.false_alarms) == (found, false_alarms)


def test_an_alarm_in_an_inconclusive_check_is_not_found() -> None:
    trial = quality._trial("gate", "spin", 0.02, "idle", "a", "inconclusive", ["a"], 1.0, "a control failed")
    assert trial.found == 0


def test_changed_source_is_found_under_its_implementation() -> None:
    trial = quality._trial(
        "gate", "copy", float("nan"), "idle", "vectorized", "regression", ["vectorized 8 × 32"], 1.0, ""
    )
    assert (trial.found, trial.false_alarms) == (1, 0)
    other = quality._trial(
        "gate", "copy", float("nan"), "idle", "vectorized", "regression", ["vectorized_out 8 × 32"], 1.0, ""
    )
    assert (other.found, other.false_alarms) == (0, 1)


@pytest.mark.slow
def test_the_usual_gate_is_tried_on_the_same_cases() -> None:
    trials = try_usual("comment", 0.0, "idle", seed=1)
    assert [trial.method for trial in trials] == ["min:5%", "mean:10%"]
    assert all(trial.found == 0 and trial.wall_s > 0 for trial in trials)


def test_the_chart_tells_alarms_of_runs() -> None:
    usual = dataclasses.replace(TRIAL, method="min:5%", outcome="regression", false_alarms=3)
    figure = gate_quality(frame_of(TRIAL, TRIAL, usual, SPUN, dataclasses.replace(SPUN, found=0)))
    texts = {text.get_text() for panel in figure.axes for text in panel.texts}
    assert {"make check\n0 of 2", "stored run\nmin:5%\n1 of 1"} <= texts


def test_a_chart_of_nothing_is_refused() -> None:
    with pytest.raises(NothingToDrawError, match="make gate-quality"):
        gate_quality(frame_of())
