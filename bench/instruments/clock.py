"""The instrument for time: a visit by pytest-benchmark's runner, and page faults of a call."""

import math
import resource
import statistics
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture
from pytest_benchmark.logger import Logger
from pytest_benchmark.utils import NameWrapper

FAULT_CALLS = 3
# A call this long gets new memory for what it allocates and finds nothing in the caches, whatever came before: a warm
# call before it would change nothing and take as long again.
LONG_CALL_S = 0.1
# What is not a setting of visits: pytest-benchmark calibrates nothing here, and looks at no precision.
UNUSED_SETTINGS: dict[str, Any] = {
    "min_rounds": 1,
    "precision": None,
    "confidence": None,
    "warmup": False,
    "warmup_iterations": 0,
    "calibration_precision": 10,
    "cprofile": False,
    "cprofile_loops": None,
    "cprofile_dump": None,
}


@dataclass(frozen=True)
class VisitSettings:
    """How long a visit lasts, and how long a group of calls is that the clock reads as one.

    Calls that are shorter than ``group_s`` are grouped, so that reading the clock adds nothing to them.
    """

    visit_s: float
    group_s: float


@dataclass(frozen=True)
class Timing:
    """What a visit found: the number of timed calls, and the seconds of the fastest and of the median call.

    Of calls that are shorter than a group, each group gives one value, the mean over its calls.
    """

    calls: int
    fastest_s: float
    median_s: float


def time_visit(call: Callable[[], object], settings: VisitSettings, expected_s: float = 0.0) -> Timing:
    """One visit: a warm call that is not counted, then calls until ``visit_s`` is over, or one call if that is longer.

    The warm call, or as many as a group has, says how many fit. The timed ones are pytest-benchmark's. A call that is
    expected to take ``LONG_CALL_S`` or more is made once and needs no warm one.
    """
    calls = rounds = 1
    if expected_s < LONG_CALL_S:
        while (seconds := _seconds(call, calls)) < settings.group_s:
            calls = min(10 * calls, math.ceil(1.1 * settings.group_s * calls / max(seconds, 1e-9)))
        rounds = max(1, round(settings.visit_s / seconds))
    made: list[Any] = []
    fixture = BenchmarkFixture(  # type: ignore[no-untyped-call]
        types.SimpleNamespace(name="visit", nodeid="visit"),
        disable_gc=True,  # the collector would run in some calls and not in others
        timer=NameWrapper(time.perf_counter),  # type: ignore[no-untyped-call]
        min_time=settings.group_s,
        max_time=settings.visit_s,
        add_stats=made.append,
        logger=Logger(Logger.QUIET),  # type: ignore[no-untyped-call]
        warner=None,
        disabled=False,
        **UNUSED_SETTINGS,
    )
    fixture.pedantic(call, rounds=rounds, iterations=calls)  # type: ignore[no-untyped-call]
    found: list[float] = made[0].stats.data  # of one call, the mean over its group
    return Timing(rounds * calls, min(found), statistics.median(found))


def _seconds(call: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - started


def minor_faults(call: Callable[[], object]) -> int:
    """Page faults of one call that are served without the disk: the median of three calls, or one slow call."""
    faults: list[int] = []
    started = time.perf_counter()
    while len(faults) < FAULT_CALLS and (not faults or time.perf_counter() - started < LONG_CALL_S):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        call()
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return math.floor(statistics.median(faults))
