"""A case's visits as one benchmark of pytest-benchmark, for its table, its JSON and its comparison."""

from collections.abc import Sequence

from pytest_benchmark.fixture import BenchmarkFixture

from ..instruments.agreement import Moment, agreement_of, estimated


def report_visits(benchmark: BenchmarkFixture, visits: Sequence[Moment], threads: int, pace_s: float) -> None:
    """Give pytest-benchmark a round for each visit: the seconds of its fastest call.

    The estimate and its interval go into ``extra_info``; ``pace_s`` is the best pace of the run. Without a visit,
    nothing is reported.
    """
    if not visits or benchmark.disabled:
        benchmark.skipped = True  # else it would warn that nothing was timed
        return
    estimate = estimated(visits, agreement_of(threads, visits), pace_s)
    benchmark.extra_info.update(
        time_s=estimate.time_s, time_low_s=estimate.low_s, time_high_s=estimate.high_s, settled=estimate.settled
    )
    benchmark._mode = "visits"  # as used, in the words of its own modes
    stats = benchmark._make_stats(iterations=1)  # type: ignore[no-untyped-call]
    for visit in visits:
        stats.update(visit.fastest_s)
