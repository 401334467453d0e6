"""The benchmark: every selected case checked, timed, its peak memory read and its row stored."""

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from softmax_bench.errors import UserError
from softmax_bench.operations.cases import Case
from softmax_bench.sweep.sitting import Sitting


@pytest.mark.filterwarnings("default")  # a competitor may warn; the suite's own tests may not
def bench_backward(
    case: Case, sitting: Sitting, benchmark: BenchmarkFixture, record_property: Callable[[str, object], None]
) -> None:
    """One case: its row says what was measured, or why not."""
    try:
        row = sitting.record(case, benchmark)
    except UserError as error:  # a full disk, say: what is not stored need not be measured
        pytest.exit(f"{error}; resume the run with RESUME={sitting.run.run_id}", returncode=pytest.ExitCode.USAGE_ERROR)
    record_property("row", row)
    if row.status == "skipped":
        pytest.skip(row.reason)
    if row.status != "measured":
        pytest.fail(f"{row.status}: {row.reason}", pytrace=False)
