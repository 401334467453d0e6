"""The instrument for time: pytest-benchmark's numbers, a heap in its steady state, page faults of a call."""

import math
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

# glibc raises its mmap threshold to the size of the largest mapped block freed so far, up to 32 MiB with the block's
# header. Freeing a block just below that brings the heap to the state of a long-running program.
SETTLING_BYTES = (32 << 20) - (64 << 10)
FAULT_CALLS = 3
SLOW_CALL_S = 0.25


@dataclass(frozen=True)
class Timing:
    """Seconds of one call over the rounds of a benchmark, each round the mean over its iterations."""

    time_min_s: float
    time_q1_s: float
    time_median_s: float
    time_q3_s: float
    rounds: int
    iterations: int


def settle_heap() -> None:
    """Bring the allocator's adaptive thresholds to their steady state, whatever ran before."""
    np.empty(SETTLING_BYTES, dtype=np.uint8)


def time_call(benchmark: BenchmarkFixture, call: Callable[[], object]) -> Timing | None:
    """The timing of ``call`` by the ``benchmark`` fixture; None where --benchmark-disable is given."""
    settle_heap()
    benchmark(call)
    if benchmark.stats is None:
        return None
    stats = benchmark.stats.stats
    return Timing(
        time_min_s=stats.min,
        time_q1_s=stats.q1,
        time_median_s=stats.median,
        time_q3_s=stats.q3,
        rounds=stats.rounds,
        iterations=benchmark.stats.iterations,
    )


def minor_faults(call: Callable[[], object]) -> int:
    """Page faults of one call that are served without the disk: the median of three calls, or one slow call."""
    faults: list[int] = []
    started = time.perf_counter()
    while len(faults) < FAULT_CALLS and (not faults or time.perf_counter() - started < SLOW_CALL_S):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        call()
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return math.floor(statistics.median(faults))
