"""The run that is kept with the code is whole, plausible and drawn."""

import shutil
from pathlib import Path

from softmax_bench.charts.drawing import BY_SHAPE, OVERVIEWS
from softmax_bench.charts.weather import weather
from softmax_bench.implementations.cross_entropy import BACKWARD, BOTH, FORWARD
from softmax_bench.storage.frames import to_frame
from softmax_bench.storage.results import load_rows, load_run
from softmax_bench.sweep.table import store_times

from .conftest import ROOT


def test_reference_run_is_a_whole_default_sweep(reference_run: Path) -> None:
    rows = load_rows(reference_run)
    assert load_run(reference_run).selection["grid"] == "default"
    assert sum(row.status == "measured" for row in rows) >= 150
    assert not [row for row in rows if row.status in ("wrong", "failed")]


def test_reference_times_have_intervals_and_most_have_settled(reference_run: Path) -> None:
    rows = [row for row in load_rows(reference_run) if row.status == "measured"]
    assert all(row.time_low_s <= row.time_s <= row.time_high_s for row in rows)
    # Calls with several threads need four times as many visits, which the run's time did not suffice for.
    single = [row for row in rows if row.threads == 1]
    assert sum(row.settled or 0 for row in single) >= 0.85 * len(single)


def test_nothing_in_the_reference_run_is_faster_than_the_ceiling(reference_run: Path) -> None:
    frame = to_frame(load_rows(reference_run), load_run(reference_run).ceiling)
    assert frame["ceiling_share"].notna().any()
    assert frame["ceiling_share"].max() <= 1.05


def test_reference_times_follow_from_its_visits(reference_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(reference_run, tmp_path / "reference")
    before = load_rows(folder)
    assert store_times(folder) > 800
    assert list(map(str, load_rows(folder))) == list(map(str, before))  # as text, in which NaN is like NaN


def test_reference_peaks_agree_with_the_stated_workspaces(reference_run: Path) -> None:
    large = [
        row
        for row in load_rows(reference_run)
        if row.status == "measured" and row.case.array_bytes >= 64 << 10 and row.case.spec.library in ("numpy", "numba")
    ]
    assert large
    for row in large:
        assert row.peak_bytes is not None
        assert row.predicted_peak_bytes is not None
        allowed = max(0.02 * row.predicted_peak_bytes, 128 << 10)
        assert abs(row.peak_bytes - row.predicted_peak_bytes) <= allowed, row.case


def test_every_chart_of_the_reference_run_is_kept() -> None:
    kept = {path.name for path in (ROOT / "plots" / "reference").iterdir()}
    names = [chart.__name__ for chart in (*BY_SHAPE, *OVERVIEWS, weather)]
    assert {f"{name}.{ending}" for name in names for ending in ("png", "svg")} <= kept
    for operation in (FORWARD, BACKWARD, BOTH):
        for chart in ("time_by_features", "memory_by_features"):
            assert f"{chart}-{operation}-float64-normal-1.png" in kept
