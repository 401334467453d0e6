"""The times of a run's table, from its visits."""

import dataclasses
import math
from pathlib import Path

import pytest
from softmax_bench.instruments.agreement import AGREEMENT, Moment, estimated
from softmax_bench.instruments.bandwidth import CeilingPoint
from softmax_bench.storage.results import Row, Visit, load_rows, load_run, write_run
from softmax_bench.storage.tables import write_table
from softmax_bench.sweep.summary import pace_sentences
from softmax_bench.sweep.table import ceiling_of, highest, store_times

from tests.test_results import RUN, row_of


def visits_of(row: Row, seconds: list[float], machine: str = "", attempt: str = "") -> list[Visit]:
    """A visit every two seconds, whose fastest call took so long and whose median call a tenth longer."""
    return [
        Visit(str(row.case), number, 2.0 * number, 9, time_s, 1.1 * time_s, machine, attempt)
        for number, time_s in enumerate(seconds)
    ]


def store(folder: Path, rows: list[Row], visits: list[Visit]) -> None:
    write_run(RUN, folder)
    write_table(folder / "cases.csv", rows)
    if visits:
        write_table(folder / "visits.csv", visits)


SECONDS = [1.0e-5, 1.001e-5, 1.002e-5, 1.003e-5, 1.004e-5, 1.00512345678e-5, 4e-5]


def test_the_times_of_a_case_follow_from_its_visits(tmp_path: Path) -> None:
    timed, unvisited = row_of("vectorized", peak_bytes=10**6), row_of("row_blocks")
    skipped = row_of("row_loop", status="skipped")
    visits = [*visits_of(timed, SECONDS), *visits_of(skipped, [1e-5])]
    store(tmp_path, [timed, unvisited, skipped], visits)
    assert store_times(tmp_path) == 1
    row, *others = load_rows(tmp_path)
    assert others == [unvisited, skipped]
    estimate = estimated([visit.moment for visit in visits[:7]], AGREEMENT)
    assert estimate.settled
    assert (row.visits, row.settled, row.status) == (7, 1, "measured")
    found = [row.time_s, row.time_low_s, row.time_high_s, row.disturbed]
    assert found == [float(f"{value:.6g}") for value in
                     (estimate.time_s, estimate.low_s, estimate.high_s, estimate.disturbed)]  # fmt: skip
    assert row.time_min_s == 1e-5
    assert row.time_q1_s == pytest.approx(1.1 * 1.0015e-5, rel=1e-5)  # of the medians: between the second and the third
    assert row.time_median_s == pytest.approx(1.1 * 1.003e-5)
    assert row.time_q3_s == pytest.approx(1.1 * (1.004e-5 + 1.00512345678e-5) / 2, rel=1e-5)
    assert store_times(tmp_path) == 1  # again, the same
    assert load_rows(tmp_path) == [row, *others]


def test_a_run_says_so_if_its_processor_was_shared_most_of_the_time() -> None:
    visits = visits_of(row_of("vectorized"), [1e-5] * 10)
    shared = [dataclasses.replace(visit, pace_s=1e-5 if place < 3 else 2e-5) for place, visit in enumerate(visits)]
    (sentence,) = pace_sentences(shared)
    assert sentence.startswith("30% of the visits met the processor at its full pace")
    assert not list(pace_sentences(shared[:5]))
    assert not list(pace_sentences(visits))  # of an earlier version
    of_two = [*(dataclasses.replace(visit, machine="slow", pace_s=3e-5) for visit in visits), *shared[:3]]
    assert not list(pace_sentences(of_two))  # each machine has a pace of its own


def test_visits_of_a_case_that_were_slow_while_others_were_not_have_not_settled(tmp_path: Path) -> None:
    slow, other = row_of("vectorized"), row_of("row_blocks")
    at_half = [dataclasses.replace(visit, pace_s=2e-5) for visit in visits_of(slow, SECONDS[:6])]
    at_full = [dataclasses.replace(visit, pace_s=1e-5) for visit in visits_of(other, SECONDS[:6])]
    store(tmp_path, [slow, other], [*at_half, *at_full])
    store_times(tmp_path)
    assert [row.settled for row in load_rows(tmp_path)] == [0, 1]


def test_a_case_that_failed_later_says_so_and_has_no_time(tmp_path: Path) -> None:
    rows = [row_of("vectorized"), row_of("row_blocks")]
    store(tmp_path, rows, [*visits_of(rows[0], SECONDS), *visits_of(rows[1], SECONDS)])
    failed = dataclasses.replace(rows[1], status="failed", reason="in round 3: it died")
    assert store_times(tmp_path, [failed]) == 1
    vectorized, row_blocks = load_rows(tmp_path)
    assert vectorized.time_s == pytest.approx(1.0e-5, rel=0.01)
    assert row_blocks == failed


def test_an_impossible_time_fails_the_case_unless_it_is_of_a_user_s_own(tmp_path: Path) -> None:
    rows = [row_of("vectorized"), row_of("mine.py:f")]
    fast = [time_s / 100 for time_s in SECONDS]
    store(tmp_path, rows, [*visits_of(rows[0], fast), *visits_of(rows[1], SECONDS)])
    assert store_times(tmp_path) == 2
    vectorized, mine = load_rows(tmp_path)
    assert vectorized.status == "failed"
    assert vectorized.reason.startswith("implausible: a call of 100 ns, and moving the arrays takes ")
    assert (mine.status, mine.visits) == ("measured", 7)


def test_a_run_without_visits_stays_as_it_is(tmp_path: Path) -> None:
    rows = [row_of("vectorized", time_s=1e-5, visits=3)]
    store(tmp_path, rows, [])
    assert store_times(tmp_path) == 0
    assert load_rows(tmp_path) == rows


def test_each_machine_and_attempt_has_times_and_a_ceiling_of_its_own(tmp_path: Path) -> None:
    rows = [row_of("vectorized", machine=machine, attempt=attempt) for machine, attempt in (("a", "2"), ("b", "1"))]
    stream = "ceiling-ordinary-S16384-T1"
    visits = [
        *visits_of(rows[0], [1e-5], machine="a", attempt="1"),  # of an attempt that was given up
        *visits_of(rows[0], [2e-5], machine="a", attempt="2"),
        *visits_of(rows[1], [3e-5], machine="b", attempt="1"),
        Visit(stream, 0, 0.0, 9, 1e-6, 1e-6, "a", "1"),
        Visit(stream, 0, 0.0, 9, 2e-6, 2e-6, "a", "2"),
        Visit(stream, 0, 0.0, 9, 4e-6, 4e-6, "b", "1"),
    ]
    store(tmp_path, rows, visits)
    assert store_times(tmp_path) == 2
    assert [row.time_s for row in load_rows(tmp_path)] == [2e-5, 3e-5]
    assert load_run(tmp_path).ceiling == [
        CeilingPoint(1, 16384, round(16384 / 2e-6), "a"),
        CeilingPoint(1, 16384, round(16384 / 4e-6), "b"),
    ]


def test_the_ceiling_is_the_rate_of_the_faster_stores() -> None:
    moments = {
        "ceiling-ordinary-S8388608-T1": [Moment(0.0, 1e-3, 2e-3)],
        "ceiling-past_caches-S8388608-T1": [Moment(0.0, 0.8e-3, 2e-3)],
        "ceiling-ordinary-S16384-T2": [Moment(0.0, 1e-6, 2e-6)],
        str(row_of().case): [Moment(0.0, 1e-6, 2e-6)],
    }
    assert ceiling_of(moments, "m") == [
        CeilingPoint(1, 8388608, round(8388608 / 0.8e-3), "m"),
        CeilingPoint(2, 16384, round(16384 / 1e-6), "m"),
    ]
    assert highest([]) == []


def test_a_time_is_stored_with_six_digits(tmp_path: Path) -> None:
    row = row_of("vectorized")
    store(tmp_path, [row], visits_of(row, [1.23456789e-5]))
    store_times(tmp_path)
    (timed,) = load_rows(tmp_path)
    assert timed.time_s == 1.23457e-05
    assert timed.settled == 0
    assert not math.isnan(timed.time_low_s)
