import dataclasses
import itertools
import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from rich.console import Console
from softmax_bench.charts.style import write_figure
from softmax_bench.errors import NothingToDrawError, UserError
from softmax_bench.implementations import is_installed
from softmax_bench.instruments.agreement import AGREEMENT, Agreement, Moment, agree, best_pace_s, estimated
from softmax_bench.repeatability import command, study
from softmax_bench.repeatability.chart import repeatability, rules
from softmax_bench.repeatability.command import repeatability as repeatability_command
from softmax_bench.repeatability.loads import CORE, IDLE, LOADS, MEMORY, load_machine
from softmax_bench.repeatability.outcomes import Outcome, Scope, outcomes, percent, rule_outcomes, with_speedups
from softmax_bench.repeatability.rules import CANDIDATES, replayed, visits_made
from softmax_bench.repeatability.shared_cases import IMPLEMENTATIONS, SHAPES, SHARED_CASES, call_of
from softmax_bench.repeatability.study import (
    PLAN,
    Planned,
    Row,
    described,
    differences,
    load_rules,
    load_sessions,
    load_study,
    make_session,
    next_session,
    open_study,
    progress_of,
    rows_of,
)
from softmax_bench.repeatability.tools import (
    ASV,
    EVERY_ROUND,
    NEEDS,
    OURS,
    PYPERF,
    PYTEST,
    TIMEIT,
    TOOLS,
    Measured,
    Reading,
    measure_with,
    missing_tools,
    sweep,
)
from softmax_bench.storage.results import load_visits

JACOBIAN, VECTORIZED, VECDOT = (
    f"softmax-{name}-B32-N512-float64-normal" for name in (*IMPLEMENTATIONS, "vectorized_vecdot")
)
OTHER = "softmax-row_loop-B32-N10-float64-normal"
ROW = Row("2026-01-01T00:00:00+00:00", OURS, IDLE, 1, VECTORIZED, 1.0, math.nan, math.nan, None, 0.5)


def frame_of(*rows: Row) -> pd.DataFrame:
    frame = pd.DataFrame([dataclasses.asdict(row) for row in rows], columns=list(Row.__dataclass_fields__))
    return frame.astype({"settled": float})


def sessions_of(tool: str, readings: dict[str, list[Reading]], load: str = IDLE) -> list[Row]:
    """Rows of as many sessions as each case has readings."""
    return [
        dataclasses.replace(ROW, tool=tool, load=load, session=number, case=case, **dataclasses.asdict(reading))
        for case, of_case in readings.items()
        for number, reading in enumerate(of_case, 1)
    ]


def stored_plan() -> list[Row]:
    """A row for every session of the plan."""
    return [
        dataclasses.replace(ROW, tool=tool, load=load, session=session)
        for tool, numbers in PLAN.items()
        for load, planned in zip(LOADS, numbers, strict=True)
        for session in range(1, planned + 1)
    ]


def outcome_of(rows: list[Row], tool: str, scope: Scope) -> Outcome:
    (found,) = [found for found in outcomes(frame_of(*rows)) if (found.tool, found.scope) == (tool, scope)]
    return found


def test_differences_are_shares_over_all_pairs_whichever_session_comes_first() -> None:
    rows = sessions_of(TIMEIT, {VECTORIZED: [Reading(1.0), Reading(1.1), Reading(1.32)]})
    found = outcome_of(rows, TIMEIT, Scope())
    # 1.1 / 1, 1.32 / 1 and 1.32 / 1.1
    assert sorted(found.time_differences) == pytest.approx([0.1, 0.2, 0.32])
    assert found.time.median == pytest.approx(0.2)
    assert found.time.worst == pytest.approx(0.32)
    turned = sessions_of(TIMEIT, {VECTORIZED: [Reading(1.32), Reading(1.1), Reading(1.0)]})
    assert outcome_of(turned, TIMEIT, Scope()).time == pytest.approx(found.time)
    assert (found.sessions, found.cases, found.seconds_a_case) == (3, 1, 0.5)


def test_speedups_are_over_the_jacobian_of_the_same_session_and_the_jacobian_has_none() -> None:
    rows = sessions_of(PYPERF, {JACOBIAN: [Reading(10.0), Reading(12.0)], VECTORIZED: [Reading(1.0), Reading(1.0)]})
    found = outcome_of(rows, PYPERF, Scope())
    assert list(found.speedup_differences) == pytest.approx([0.2])
    assert sorted(found.time_differences) == pytest.approx([0.0, 0.2])


def test_a_case_on_more_threads_is_compared_with_the_jacobian_on_one() -> None:
    rows = sessions_of(OURS, {JACOBIAN: [Reading(10.0)], f"{VECTORIZED}-T2": [Reading(2.0)], OTHER: [Reading(1.0)]})
    speedups = with_speedups(frame_of(*rows)).set_index("case")["speedup"]
    assert speedups[f"{VECTORIZED}-T2"] == 5.0
    assert speedups[[JACOBIAN, OTHER]].isna().all()


def test_an_interval_held_if_the_other_sessions_number_lies_in_it() -> None:
    # In the first one's interval lies the second's number, not the third's; the others' intervals are narrow.
    readings = [Reading(1.0, 0.9, 1.15), Reading(1.1, 1.1, 1.1), Reading(1.2, 1.05, 1.3)]
    found = outcome_of(sessions_of(ASV, {VECTORIZED: readings}), ASV, Scope())
    # Of six ordered pairs: first holds second, third holds second.
    assert found.time_held == pytest.approx(2 / 6)
    assert math.isnan(found.speedup_held)
    none_stated = sessions_of(TIMEIT, {VECTORIZED: [Reading(1.0), Reading(1.0)]})
    assert math.isnan(outcome_of(none_stated, TIMEIT, Scope()).time_held)


def test_a_speedups_interval_comes_from_both_times() -> None:
    of_jacobian = [Reading(10.0, 9.0, 11.0), Reading(10.5, 10.4, 10.6)]
    of_vectorized = [Reading(1.0, 0.9, 1.1), Reading(1.0, 0.99, 1.01)]
    found = outcome_of(sessions_of(ASV, {JACOBIAN: of_jacobian, VECTORIZED: of_vectorized}), ASV, Scope())
    # 10 lies outside 10.5 ± 1.4 %; 10.5 lies within 10 ± 14 %.
    assert found.speedup_held == 0.5


def test_settled_readings_are_also_judged_alone() -> None:
    slow, fast = Reading(9.0, settled=0), Reading(1.0, settled=1)
    rows = sessions_of(OURS, {VECTORIZED: [fast, fast, slow], OTHER: [fast, fast, fast]})
    everything, shared = (outcome_of(rows, OURS, Scope(shared=shared)) for shared in (False, True))
    assert (everything.cases, shared.cases) == (2, 1)
    assert (everything.settled_share, shared.settled_share) == pytest.approx((5 / 6, 2 / 3))
    assert everything.time.worst == pytest.approx(8.0)
    assert outcome_of(rows, OURS, Scope(shared=False, settled=True)).time.worst == 0.0


def test_a_speedup_is_settled_if_both_times_are() -> None:
    settled, not_settled = Reading(1.0, settled=1), Reading(2.0, settled=0)
    rows = sessions_of(OURS, {JACOBIAN: [settled, not_settled], VECTORIZED: [settled, settled]})
    assert not len(outcome_of(rows, OURS, Scope(settled=True)).speedup_differences)
    assert list(outcome_of(rows, OURS, Scope()).speedup_differences) == pytest.approx([1.0])


def test_only_sessions_under_one_load_are_compared() -> None:
    rows = [
        *sessions_of(TIMEIT, {VECTORIZED: [Reading(1.0), Reading(1.0)]}),
        *sessions_of(TIMEIT, {VECTORIZED: [Reading(5.0)]}, load=CORE),
    ]
    idle, hogged = outcomes(frame_of(*rows))
    assert (idle.load, idle.time.worst) == (IDLE, 0.0)
    assert hogged.load == CORE
    assert math.isnan(hogged.time.median)


@pytest.mark.parametrize(("share", "text"), [(0.00423, "0.42 %"), (0.273, "27 %"), (1.0, "100 %"), (math.nan, "–")])
def test_shares_are_shown_in_percent(share: float, text: str) -> None:
    assert percent(share) == text


def test_the_session_that_lacks_most_comes_next_until_the_plan_is_fulfilled() -> None:
    first = next_session(frame_of())
    assert first == Planned(OURS, IDLE, 1)
    rows = stored_plan()
    assert next_session(frame_of(*rows)) is None
    without = [row for row in rows if (row.tool, row.load, row.session) != (PYPERF, MEMORY, 2)]
    assert next_session(frame_of(*without)) == Planned(PYPERF, MEMORY, 2)
    assert next_session(frame_of(*without), missing=[PYPERF]) is None
    # A fifth of pyperf's sessions when idle is less than half of its sessions under a hog.
    few = [row for row in rows if row.tool != OURS or row.session <= 9]
    assert next_session(frame_of(*few)) == Planned(OURS, IDLE, 10)


def test_the_plan_interleaves_tools_and_loads() -> None:
    rows: list[Row] = []
    while len(rows) < 30 and (planned := next_session(frame_of(*rows))):
        rows.append(dataclasses.replace(ROW, **dataclasses.asdict(planned)))
    assert {(row.tool, row.load) for row in rows[:18]} == set(itertools.product(PLAN, LOADS))
    assert progress_of(frame_of(*rows))[OURS] == f"{sum(row.tool == OURS for row in rows)} of {sum(PLAN[OURS])}"


def test_a_session_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    measured = Measured({VECTORIZED: Reading(1 / 3, 0.3, 0.4, 1), JACOBIAN: Reading(2.0)}, 1.5, {})
    with open_study(tmp_path) as table:
        for row in rows_of(Planned(OURS, CORE, 3), measured, ROW.started):
            table.append(row)
    frame = load_sessions(tmp_path)
    assert frame["time_s"].tolist() == [0.333333, 2.0]
    assert frame["settled"].tolist()[0] == 1
    assert frame[["low_s", "high_s", "settled"]].iloc[1].isna().all()
    assert set(frame["load"]) == {CORE}
    assert load_study(tmp_path).shared_cases == list(SHARED_CASES)


def test_sessions_are_added_only_where_machine_versions_and_rule_are_the_same(tmp_path: Path) -> None:
    open_study(tmp_path).close()
    file = tmp_path / "run.json"
    stored = json.loads(file.read_text())
    file.write_text(json.dumps({**stored, "rule": {**stored["rule"], "moments": 99}}))
    with pytest.raises(UserError, match=re.escape("rule: moments was 99.0, is ")):
        open_study(tmp_path)
    file.write_text(json.dumps({**stored, "versions": {**stored["versions"], "pyperf": "absent"}}))
    open_study(tmp_path).close()
    assert load_study(tmp_path).versions == stored["versions"]


def test_a_version_that_changed_is_named() -> None:
    now = described()
    before = dataclasses.replace(now, versions={**now.versions, "numpy": "1.0"})
    assert differences(before, now) == [f"versions: numpy was 1.0, is {now.versions['numpy']}"]


def rule_of(moments: int, within: float, apart_s: float) -> Agreement:
    return Agreement(moments, within, apart_s=apart_s, visits=moments, least=moments)


def test_a_rule_makes_visits_until_they_agree() -> None:
    times = [2.0, 1.5, 1.0, 1.2, 1.01, 3.0, 1.02, 1.0]
    visits = [Moment(float(place), time_s, time_s) for place, time_s in enumerate(times)]
    assert visits_made(visits, rule_of(3, 0.02, 0.0)) == 7
    assert visits_made(visits, rule_of(2, 0.02, 2.0)) == 5
    assert visits_made(visits, rule_of(2, 0.02, 3.0)) == 7
    assert visits_made(visits, rule_of(5, 0.02, 0.0)) == len(visits)
    assert visits_made(visits, Agreement(2, 0.02, apart_s=0.0, visits=6)) == 6


def test_a_replay_is_what_the_rule_finds_on_each_prefix() -> None:
    times = [1.0 + 0.013 * ((7 * place) % 11) for place in range(30)]
    visits = [Moment(0.3 * place, time_s, time_s) for place, time_s in enumerate(times)]
    for rule, replay in zip(CANDIDATES, replayed(IDLE, 1, {VECTORIZED: visits}), strict=True):
        count = next((count for count in range(1, 31) if agree(visits[:count], rule)), None)
        estimate = estimated(visits[: count or 30], rule)
        assert (replay.settled, replay.visits) == (estimate.settled, count or 30)
        assert replay.time_s == pytest.approx(estimate.time_s, rel=1e-4)


def test_a_rule_is_judged_by_the_cases_that_settle_in_both_sessions() -> None:
    settling = [Moment(float(place), 1.0, 1.0) for place in range(12)]
    slower = [Moment(float(place), 1.1, 1.1) for place in range(12)]
    never = [Moment(float(place), 1.5**place, 1.5**place) for place in range(12)]
    replays = [
        *replayed(IDLE, 1, {VECTORIZED: settling, JACOBIAN: settling}),
        *replayed(IDLE, 2, {VECTORIZED: slower, JACOBIAN: never}),
    ]
    found = list(rule_outcomes(pd.DataFrame([dataclasses.asdict(replay) for replay in replays])))
    assert len(found) == len(CANDIDATES)
    two_at_once = next(one for one in found if (one.moments, one.within, one.apart_s) == (2, 0.01, 0.0))
    assert two_at_once.settled_share == 0.75
    assert two_at_once.mean_visits == (2 + 2 + 2 + 12) / 4
    assert two_at_once.time.worst == pytest.approx(0.1)


@pytest.mark.parametrize("load", [CORE, MEMORY])
def test_a_load_ends_with_its_block(load: str) -> None:
    with load_machine(load, "seed"):
        (hog,) = psutil.Process().children()
        time.sleep(0.5)
        assert hog.cpu_times().user + hog.cpu_times().system > 0.0
    assert not hog.is_running()


def test_a_hog_ends_when_the_process_that_started_it_is_gone() -> None:
    code = f"""
import subprocess, sys
hog = subprocess.Popen([sys.executable, "-m", "softmax_bench.repeatability.loads", {CORE!r}, "1"], stdout=-1)
hog.stdout.readline()
print(hog.pid)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    psutil.wait_procs([psutil.Process(int(done.stdout))] if psutil.pid_exists(int(done.stdout)) else [], timeout=30)
    assert not psutil.pid_exists(int(done.stdout))


def test_every_shared_case_can_be_called_and_is_in_the_sweep() -> None:
    assert len(SHARED_CASES) == len(SHAPES) * len(IMPLEMENTATIONS)
    for label in (JACOBIAN, VECTORIZED):
        assert call_of(label)() is not None


@pytest.mark.slow
@pytest.mark.parametrize("tool", [PYTEST, TIMEIT])
def test_a_session_of_a_tool_reads_its_number(tool: str) -> None:
    (reading,) = measure_with(tool, [VECTORIZED]).readings.values()
    assert reading.time_s > 0
    assert reading.settled is None
    assert math.isnan(reading.low_s) if tool == TIMEIT else reading.low_s <= reading.time_s <= reading.high_s


@pytest.mark.slow
@pytest.mark.parametrize("tool", [ASV, PYPERF])
def test_a_session_of_an_extra_reads_its_number_and_interval(tool: str) -> None:
    if not is_installed(NEEDS[tool][0]):
        pytest.skip(f"{tool} is not installed")
    labels = [VECTORIZED, JACOBIAN]
    measured = measure_with(tool, labels)
    assert list(measured.readings) == labels
    assert all(reading.low_s <= reading.time_s <= reading.high_s for reading in measured.readings.values())


@pytest.mark.slow
def test_a_session_of_the_sweep_reads_times_intervals_and_visits(tmp_path: Path) -> None:
    readings, visits = sweep(tmp_path, "--implementation=vectorized", "--batch=4", "--features=16", "--minutes=0.1")
    ((case, reading),) = readings.items()
    assert case == "softmax-vectorized-B4-N16-float64-normal"
    assert reading.low_s <= reading.time_s <= reading.high_s
    assert reading.settled in (0, 1)
    moments = [moment.when_s for moment in visits[case]]
    assert moments == sorted(moments)
    pace_s = best_pace_s(visit.moment for visit in load_visits(tmp_path / "session"))
    assert reading.time_s == pytest.approx(estimated(visits[case], AGREEMENT, pace_s).time_s, rel=1e-4)


def test_a_session_that_visits_every_case_is_replayed_and_stored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits = {VECTORIZED: [Moment(float(place), 1.0, 1.0) for place in range(5)]}
    monkeypatch.setattr(
        study, "measure_with", lambda tool: Measured({VECTORIZED: Reading(1.0, settled=1)}, 1.0, visits)
    )
    with open_study(tmp_path) as table:
        for number in (1, 2, 2):  # the second was stopped before it counted
            make_session(Planned(EVERY_ROUND, IDLE, number), tmp_path, table)
    replays = load_rules(tmp_path)
    assert len(replays) == 2 * len(CANDIDATES)
    assert replays.groupby("session").size().tolist() == [len(CANDIDATES)] * 2


def test_a_tool_that_fails_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=re.escape("timeit did not measure: KeyError: 'nosuch'")):
        measure_with(TIMEIT, ["nosuch"])


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softmax_bench.repeatability.tools.is_installed", lambda package: False)
    assert missing_tools() == {ASV: "asv", PYPERF: "others"}
    assert set(NEEDS) < set(TOOLS)


def some_rows() -> list[Row]:
    """Two sessions of every tool under every load, which differ by a tenth."""
    readings = {
        JACOBIAN: [Reading(1.0, 0.9, 1.1, 1), Reading(1.0, 0.9, 1.1, 1)],
        VECTORIZED: [Reading(1.0, 0.9, 1.2, 1), Reading(1.1, 1.0, 1.2, 1)],
    }
    return [row for tool in TOOLS for load in LOADS for row in sessions_of(tool, readings, load)]


def test_the_chart_has_a_panel_a_load_with_the_90th_percentile_of_each_tool(tmp_path: Path) -> None:
    figure = repeatability(list(outcomes(frame_of(*some_rows()))))
    assert [panel.get_title() for panel in figure.axes] == list(LOADS)
    for panel in figure.axes:
        assert [text.get_text() for text in panel.texts] == ["10 %"] * (len(TOOLS) + 1)
    files = [
        write_figure(repeatability(list(outcomes(frame_of(*some_rows())))), tmp_path / f"{name}.svg") for name in "ab"
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_chart_of_too_little_is_refused() -> None:
    with pytest.raises(NothingToDrawError, match="make repeatability"):
        repeatability(list(outcomes(frame_of(ROW))))
    one_session = pd.DataFrame([dataclasses.asdict(one) for one in replayed(IDLE, 1, {VECTORIZED: [Moment(0, 1, 1)]})])
    with pytest.raises(NothingToDrawError, match="make repeatability"):
        rules(one_session)


def test_stored_sessions_are_reported_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "end_on_sigterm", lambda: None)
    monkeypatch.setenv("COLUMNS", "160")
    folder = tmp_path / "results" / "repeatability"
    with open_study(folder) as table:
        for row in some_rows():
            table.append(row)
    options = ["--draw-only", "--rules", f"--results={folder.parent}"]
    repeatability_command.main(options, standalone_mode=False)
    said = capsys.readouterr().out
    assert re.search(r"pyperf, 2 +2 ", said)
    assert "charts in" in said
    drawn = sorted(path.name for path in (tmp_path / "plots" / "repeatability").iterdir())
    assert drawn == ["repeatability.png", "repeatability.svg"]


def test_the_table_of_outcomes_fits_a_terminal_of_80_columns() -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(command.to_table(list(outcomes(frame_of(*some_rows())))))
    assert "ours, " in captured.get()
    assert "…" not in captured.get()


def test_sessions_are_made_until_the_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readings = {VECTORIZED: Reading(1.0, settled=1), JACOBIAN: Reading(2.0, settled=0)}
    monkeypatch.setattr(study, "measure_with", lambda tool: Measured(readings, 1.0, {}))
    monkeypatch.setattr(study, "load_machine", lambda load, seed: load_machine(IDLE, seed))
    monkeypatch.setattr(study, "PLAN", {OURS: (2, 2, 2)})
    monkeypatch.setattr(command, "end_on_sigterm", lambda: None)
    monkeypatch.setattr(command, "missing_tools", lambda: {PYPERF: "others"})
    repeatability_command.main([f"--results={tmp_path / 'results'}"], standalone_mode=False)
    said = capsys.readouterr().out
    assert said.splitlines()[:2] == [
        "pyperf is left out: it is not installed; make's EXTRAS=others has it",
        "softmax-bench, idle, session 1: 2 cases in 2 s, 1 settled",
    ]
    assert len(load_sessions(tmp_path / "results" / "repeatability")) == 12


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--draw-only", "--results=nosuch"), "nosuch/repeatability/sessions.csv: cannot be read (No such file"),
        (("--results=file/results",), "file/results/repeatability: cannot be written (Not a directory)"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_clear_line(
    options: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "end_on_sigterm", lambda: None)
    Path("file").touch()
    with pytest.raises(UserError, match=re.escape(said)):
        repeatability_command.main(list(options), standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
