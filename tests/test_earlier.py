"""Runs that earlier versions stored, cut down: they load, are drawn and compared with today's."""

import math
from pathlib import Path

import pytest
from softmax_bench.storage.frames import to_frame
from softmax_bench.storage.results import load_rows, load_run, load_visits
from softmax_bench.sweep.table import store_times

from .conftest import SoftmaxBench

EARLIER = Path(__file__).parent / "data" / "earlier"
RUNS = sorted(path.name for path in EARLIER.iterdir())


@pytest.mark.parametrize("name", RUNS)
def test_an_earlier_run_loads_with_its_medians_for_times(name: str) -> None:
    run, rows = load_run(EARLIER / name), load_rows(EARLIER / name)
    measured = [row for row in rows if row.status == "measured"]
    assert len(measured) > 20
    assert all(row.time_s == row.time_median_s > 0 for row in measured)
    assert all(math.isnan(row.time_low_s) and row.settled is None for row in measured)
    assert load_visits(EARLIER / name) == []
    speedups = to_frame(rows, run.ceiling).query("implementation == 'vectorized' and features == 512")["speedup"]
    assert (speedups > 10).all()
    assert sum(sitting.wall_s for sitting in run.sittings) > 100  # of `sessions`, as they were called


def test_times_without_visits_stay_as_they_are() -> None:
    before = (EARLIER / "windows" / "cases.csv").read_bytes()
    assert store_times(EARLIER / "windows") == 0
    assert (EARLIER / "windows" / "cases.csv").read_bytes() == before


@pytest.mark.faults
@pytest.mark.parametrize("name", RUNS)
def test_an_earlier_run_is_drawn_and_compared_with_todays(
    softmax_bench: SoftmaxBench, reference_run: Path, tmp_path: Path, name: str
) -> None:
    drawn = softmax_bench("plot", str(EARLIER / name), f"--plots={tmp_path}")
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / name / "time_by_features.png").stat().st_size > 10_000
    compared = softmax_bench("diff", str(EARLIER / name), str(reference_run))
    assert compared.returncode == 0, compared.stderr
    assert "cases compared" in compared.stdout
    assert compared.stderr == ""
