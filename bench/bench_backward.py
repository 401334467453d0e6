"""The benchmark: every selected case checked, timed in visits, its peak memory read and its row stored."""

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from softmax_bench.operations.cases import Case
from softmax_bench.sweep.open_run import OpenRun
from softmax_bench.sweep.reporting import report_visits


@pytest.mark.filterwarnings("default")  # a competitor may warn; the suite's own tests may not
def bench_backward(
    case: Case, measured_run: OpenRun, benchmark: BenchmarkFixture, record_property: Callable[[str, object], None]
) -> None:
    """One case: its row says what was measured, or why not."""
    row = measured_run.rows.get(case)
    if row is None:
        pytest.skip("not examined: the time was up")
    record_property("row", row)
    if row.status == "skipped":
        pytest.skip(row.reason)
    if row.status != "measured":
        pytest.fail(f"{row.status}: {row.reason}", pytrace=False)
    report_visits(benchmark, measured_run.visits[str(case)], case.threads, measured_run.pace_s)
