"""Comparing stored runs: made-up rows, stored as a sweep stores them and compared by real command lines."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from softmax_bench.charts.history import Line, history
from softmax_bench.report.differences import Measure, StoredRun, compare, lie_apart, time_ratio
from softmax_bench.report.history import LINES, history_of
from softmax_bench.report.output import opening_sentences, result_sentences
from softmax_bench.storage.frames import ratio_with_interval, to_frame
from softmax_bench.storage.results import Row, Run, RunOptions, open_rows, write_run

from .conftest import SoftmaxBench

RUN = Run(
    run_id="r",
    started="2026-01-01T00:00:00+00:00",
    seed=42,
    selection={},
    options=RunOptions(max_call_s=2.0, max_bytes=None, benchmark={}, stream_bytes_per_s=1e10),
    machine={"cpu": "a processor", "cores": 2, "memory_bytes": 25 * 10**9, "system": "Linux x86_64"},
    versions={"python": "3.11", "numpy": "2.4", "numba": "0.68", "torch": "absent"},
    code={"clock.py": "a"},
    implementations=[],
)
OTHER_MACHINE = dataclasses.replace(RUN, machine={**RUN.machine, "cpu": "another processor"})
OTHER_VERSIONS = dataclasses.replace(RUN, versions={**RUN.versions, "numpy": "2.5"})
SHARE = 0.03  # of a time, from it to each bound of its interval


def row_of(name: str = "vectorized", time_s: float = 1e-5, **values: Any) -> Row:
    timed = {"time_s": time_s, "time_low_s": (1 - SHARE) * time_s, "time_high_s": (1 + SHARE) * time_s, "settled": 1}
    rest = {"visits": 20, "peak_bytes": 10**6, "peak_high_bytes": 10**6, "max_error_ulp": 0.6}
    fields = {"batch": 32, "features": 512, "logits": "uniform", "status": "measured", **timed, **rest, **values}
    return Row(run_id="r", operation="softmax", implementation=name, dtype="float64", threads=1, **fields)


JACOBIAN = row_of("explicit_jacobian", 0.05)
OLD = [row_of(), JACOBIAN]
WITHOUT_INTERVAL: dict[str, Any] = {"time_low_s": math.nan, "time_high_s": math.nan, "settled": None, "visits": None}


def stored(name: str, rows: Sequence[Row], run: Run = RUN, pace_s: float = math.nan) -> StoredRun:
    return StoredRun(name, dataclasses.replace(run, run_id=name), rows, pace_s)


def found_in(old: Row, new: Row) -> list[tuple[Measure, bool]]:
    comparison = compare(stored("old", [old]), stored("new", [new]))
    return [(difference.measure, difference.settled) for difference in comparison.differences]


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (row_of(), []),
        (row_of(time_s=1.05e-5), []),  # the intervals overlap
        (row_of(time_s=1.08e-5), [(Measure.TIME, True)]),
        (row_of(time_s=0.9e-5), [(Measure.TIME, True)]),
        (row_of(time_s=2e-5, settled=0), [(Measure.TIME, False)]),
        (row_of(time_s=2e-5, **WITHOUT_INTERVAL), []),
        (row_of(peak_bytes=10**6 + 2000, peak_high_bytes=10**7), []),
        (row_of(peak_bytes=10**6 + 4096, peak_high_bytes=10**7), [(Measure.PEAK, True)]),
        (row_of(peak_bytes=10**5, peak_high_bytes=10**6 - 4096), [(Measure.PEAK, True)]),
        (row_of(peak_bytes=None, peak_high_bytes=None), []),
        (row_of(max_error_ulp=0.99), []),
        (row_of(max_error_ulp=1.19), []),
        (row_of(max_error_ulp=1.3), [(Measure.ERROR, True)]),
        (row_of(max_error_ulp=math.nan), []),
        (row_of(status="wrong", reason="wrong by 1e9 ulp"), [(Measure.STATUS, True)]),
    ],
)
def test_what_differs_of_a_case(new: Row, expected: list[tuple[Measure, bool]]) -> None:
    assert found_in(row_of(), new) == expected


def test_a_peak_of_nothing_and_a_table_of_one_reading() -> None:
    nothing, something = row_of(peak_bytes=0, peak_high_bytes=None), row_of(peak_bytes=8192, peak_high_bytes=None)
    comparison = compare(stored("old", [nothing]), stored("new", [something]))
    (difference,) = comparison.differences
    assert difference.measure is Measure.PEAK
    assert math.isnan(difference.ratio.value)
    assert "1 larger" in " ".join(result_sentences(comparison))


def test_the_ratio_of_two_rows_is_that_of_two_frames() -> None:
    above, below = row_of(time_s=3e-5, time_low_s=2.5e-5, time_high_s=4e-5), row_of()
    frames = ratio_with_interval(to_frame([above]), to_frame([below]))
    assert time_ratio(above, below) == pytest.approx([float(series.iloc[0]) for series in frames])


def test_a_margin_is_added_to_what_intervals_leave() -> None:
    old, new = row_of(), row_of(time_s=1.15e-5)
    assert lie_apart(old, new)
    assert lie_apart(new, old)
    assert not lie_apart(old, new, margin=0.1)
    assert lie_apart(old, row_of(time_s=1.2e-5), margin=0.1)


@pytest.mark.parametrize(
    ("time_s", "pace", "apart"),
    [
        (1.1e-5, 1.0, True),
        (1.1e-5, 1.1, False),  # the processor was slower
        (0.9e-5, 0.9, False),  # and here it was faster
        (1.1e-5, 0.9, True),
        (1.3e-5, 1.1, True),  # more than that explains
        (1.0e-5, 1.2, False),  # what waits for memory takes as long as before
    ],
)
def test_a_time_that_the_processor_s_pace_may_explain_does_not_differ(time_s: float, pace: float, apart: bool) -> None:
    new = row_of(time_s=time_s)
    assert lie_apart(row_of(), new, pace=pace) is apart
    old_run, new_run = stored("old", [row_of()], pace_s=40e-6), stored("new", [new], pace_s=pace * 40e-6)
    comparison = compare(old_run, new_run)
    assert bool(comparison.differences) is apart
    said = " ".join(opening_sentences(comparison))
    assert ("In new the processor was" in said) is (pace != 1.0)
    (track,) = history_of([old_run, new_run], []).tracks
    assert bool(track.steps) is apart


def test_paces_of_unlike_machines_are_not_compared() -> None:
    old, new = stored("old", [row_of()], pace_s=40e-6), stored("new", [row_of()], OTHER_MACHINE, 80e-6)
    assert compare(old, new).pace == 1.0


def test_what_settled_comes_first_and_then_the_largest_ratio() -> None:
    old = [row_of(features=features) for features in (1, 2, 3, 4, 5)]
    changes: list[dict[str, Any]] = [
        {"time_s": 1.5e-5},
        {"time_s": 9e-5, "settled": 0},
        {"time_s": 0.4e-5},
        {"status": "failed"},
        {"time_s": 1.01e-5},
    ]
    new = [row_of(features=place, **change) for place, change in enumerate(changes, start=1)]
    comparison = compare(stored("old", old), stored("new", new))
    assert [difference.case.features for difference in comparison.differences] == [4, 3, 1, 2]
    assert comparison.alike == 1


def test_a_library_of_one_run_only_leaves_them_alike_and_seeds_do_not() -> None:
    with_torch = dataclasses.replace(RUN, versions={**RUN.versions, "numba": "absent", "torch": "2.13"})
    assert not compare(stored("old", OLD), stored("new", OLD, with_torch)).unlike.surroundings
    other_seed = dataclasses.replace(RUN, seed=7)
    comparison = compare(stored("old", OLD), stored("new", [row_of(max_error_ulp=50.0)], other_seed))
    assert comparison.differences == []
    assert "The inputs are unlike (seed was 42, is 7), so errors are not compared." in opening_sentences(comparison)


def test_files_that_differ_are_counted_and_three_are_named() -> None:
    code = dict.fromkeys(("a.py", "b.py", "c.py", "clock.py"), "b")
    comparison = compare(stored("old", OLD), stored("new", OLD, dataclasses.replace(RUN, code=code)))
    said = list(opening_sentences(comparison))
    assert said[1:] == ["4 files of the suite differ: a.py, b.py, c.py and 1 more."]
    assert not comparison.unlike.surroundings


def test_a_history_without_the_articles_cases_has_those_that_changed_most() -> None:
    runs = [
        stored(f"r{number}", [row_of(features=n, time_s=1e-5 * (1 + n * number)) for n in range(1, 11)])
        for number in range(3)
    ]
    made = history_of(runs, [])
    assert [track.case.features for track in made.tracks] == [10, 9, 8, 7, 6, 5, 4, 3]
    assert made.left_out == 0
    assert history_of(runs, ["vectorized-B32"]).left_out == 10 - LINES
    assert [track.case.features for track in history_of(runs, ["v*-N1-", "N2-"]).tracks] == [2, 1]


def test_steps_are_marked_between_like_runs_and_settled_times_only() -> None:
    times = [1e-5, 2e-5, 4e-5, 8e-5]
    rows = [row_of(time_s=time_s) for time_s in times]
    rows[2] = dataclasses.replace(rows[2], settled=0)
    runs = [stored(str(place), [row], OTHER_MACHINE if place == 3 else RUN) for place, row in enumerate(rows)]
    (track,) = history_of(runs, []).tracks
    assert track.marked == {1}
    assert {place: (step.settled, step.comparable) for place, step in track.steps.items()} == {
        1: (True, True),
        2: (False, True),
        3: (False, False),
    }


@pytest.mark.parametrize(
    ("times", "marked"),
    [
        ([1.0, 1.5, 1.0], set()),  # one slow day
        ([1.0, 1.5, 1.5], {1}),
        ([1.0, 1.0, 1.5], {2}),  # it may last: nothing came after it
        ([1.0, 1.5, 1.0, 1.5, 1.5], {3}),
    ],
)
def test_a_step_lasts(times: list[float], marked: set[int]) -> None:
    runs = [stored(str(place), [row_of(time_s=1e-5 * time_s)]) for place, time_s in enumerate(times)]
    (track,) = history_of(runs, []).tracks
    assert track.marked == marked


def test_a_case_that_a_run_lacks_steps_from_the_run_before_it_across_what_lies_between() -> None:
    runs = [
        stored("a", OLD),
        stored("b", [JACOBIAN], OTHER_VERSIONS),
        stored("c", [row_of(time_s=2e-5)], OTHER_VERSIONS),
    ]
    (track,) = history_of(runs, ["vectorized"]).tracks
    assert track.rows[1] is None
    assert not track.steps[2].comparable


@pytest.mark.parametrize(("times", "relative"), [((1e-5, 5e-5), False), ((1e-5, 5e-2), True)])
def test_times_of_different_magnitude_are_drawn_relative_to_the_first_run(
    times: tuple[float, ...], relative: bool
) -> None:
    lines = [
        Line(f"case {time_s}", [row_of(time_s=time_s), None, row_of(time_s=time_s)], frozenset()) for time_s in times
    ]
    (panel,) = history(lines, ["a", "b", "c"], {2: "other machine"}, "caption").axes
    assert panel.get_ylabel() == ("time / time in the first run" if relative else "time of one call")
    assert "other machine" in {text.get_text() for text in panel.texts}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The stored runs old, alike, changed, elsewhere and former."""
    changed = [
        row_of(time_s=2e-5),
        row_of("explicit_jacobian", 0.08, settled=0),
        row_of("row_loop", status="skipped", reason="too long"),
    ]
    runs = {
        "old": (OLD, RUN),
        "alike": ([row_of(time_s=1.02e-5), JACOBIAN], RUN),
        "changed": (changed, RUN),
        "elsewhere": ([row_of(time_s=1.5e-5), JACOBIAN], OTHER_MACHINE),
        "former": ([row_of(**WITHOUT_INTERVAL), row_of("explicit_jacobian", 0.05, **WITHOUT_INTERVAL)], RUN),
    }
    for name, (rows, run) in runs.items():
        write_run(dataclasses.replace(run, run_id=name), tmp_path / "results" / name)
        with open_rows(tmp_path / "results" / name) as table:
            for row in rows:
                table.append(dataclasses.replace(row, run_id=name))
    return tmp_path / "results"


@pytest.mark.usefixtures("results")
def test_two_runs_that_are_alike(softmax_bench: SoftmaxBench) -> None:
    done = softmax_bench("diff", "old", "alike")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2 cases compared, none differs beyond both intervals."


@pytest.mark.usefixtures("results")
def test_what_differs_is_in_the_table_the_sentences_and_the_json(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    done = softmax_bench("diff", "old", "changed", "--json=found.json")
    assert done.returncode == 0, done.stderr
    assert "2 cases compared, 1 differs beyond both intervals: 1 slower." in done.stdout
    assert "1 more differs in a time that is not settled: explicit_jacobian 32 × 512 uniform." in done.stdout
    assert "1 case only in changed: row_loop 32 × 512 uniform." in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("vectorized 32 × 512 uniform")]
    assert line.split("uniform")[1].split() == ["10.0", "µs", "20.0", "µs", "2.00×", "1.92", "to", "2.09", "slower"]
    content = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert (content["comparable"], content["compared"], content["alike"]) == (True, 2, 0)
    first, second = content["differences"]
    assert (first["case"], first["measure"], first["old"]) == (
        "softmax-vectorized-B32-N512-float64-uniform",
        "time",
        1e-5,
    )
    assert first["ratio"] == pytest.approx(2.0)
    assert first["low"] < first["ratio"] < first["high"]
    assert second["settled"] == {"old": 1, "new": 0}


@pytest.mark.usefixtures("results")
def test_across_unlike_machines_nothing_is_called_slower(softmax_bench: SoftmaxBench) -> None:
    done = softmax_bench("diff", "old", "elsewhere")
    assert "elsewhere is unlike old in machine: cpu was a processor, is another processor." in done.stdout
    assert "takes 1.50× the time there" in " ".join(done.stdout.split())
    assert "1 differs beyond both intervals: 1 in time." in done.stdout
    assert "slower" not in done.stdout.replace("nothing is called slower or faster", "")


@pytest.mark.slow
@pytest.mark.usefixtures("results")
def test_a_run_of_an_earlier_version_has_no_times_to_compare(softmax_bench: SoftmaxBench) -> None:
    done = softmax_bench("diff", "former", "changed")
    assert done.returncode == 0, done.stderr
    assert "Times cannot be compared: one of the runs has none with an interval" in done.stdout
    assert softmax_bench("diff", "former", "old", "changed").returncode == 0


@pytest.mark.usefixtures("results")
def test_more_than_two_runs_make_a_history(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    done = softmax_bench("diff", "old", "alike", "changed", "elsewhere", "--plots=drawn", "--json=history.json")
    assert done.returncode == 0, done.stderr
    drawn = {path.name for path in (tmp_path / "drawn" / "history").iterdir()}
    assert drawn == {"history.png", "history.svg"}
    assert "4 runs, 2 cases, 1 step beyond both intervals: vectorized 32 × 512 uniform at changed." in done.stdout
    assert "From elsewhere on: machine: cpu was a processor, is another processor" in done.stdout
    assert "charts in drawn/history: history (png, svg)" in done.stdout
    content = json.loads((tmp_path / "history.json").read_text(encoding="utf-8"))
    assert content["runs"] == ["old", "alike", "changed", "elsewhere"]
    steps = {case["case"].split("-")[1]: [time["step"] for time in case["times"]] for case in content["cases"]}
    assert steps == {"vectorized": [False, False, True, False], "explicit_jacobian": [False] * 4}


@pytest.mark.usefixtures("results")
def test_cases_are_chosen_by_a_part_of_their_id(softmax_bench: SoftmaxBench) -> None:
    assert "1 case compared, 1 differs" in softmax_bench("diff", "old", "changed", "--case=vectorized-B32").stdout
    assert "1 case compared, none differs" in softmax_bench("diff", "old", "alike", "--case=expl*-N512-").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "diff: give two runs or more, the oldest first"),
        (("old",), "diff: give two runs or more, the oldest first"),
        (("old", "none"), "no run 'none' in results; there is alike, changed, elsewhere, former, old"),
        (("old", "alike", "--case=nosuch"), "--case nosuch: in none of these runs; a case's id is as in softmax-"),
        (("old", "changed", "--case=row_loop"), "old and changed have no case in common"),
        (("old", "alike", "changed", "--case=row_loop"), "no history: no case has a time in two of the runs"),
        (("old", "damaged"), "the last row is cut off"),
        (("old", "alike", "--json=old.csv/found.json"), "found.json: cannot be written"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: tuple[str, ...], said: str, softmax_bench: SoftmaxBench, results: Path
) -> None:
    if "damaged" in arguments:
        (results / "alike").rename(results / "damaged")
        with (results / "damaged" / "cases.csv").open("a", encoding="utf-8") as table:
            table.write("damaged,soft")
    (results.parent / "old.csv").touch()
    done = softmax_bench("diff", *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("softmax-bench: ")
    assert said in line
