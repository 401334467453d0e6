"""The instrument for time: a visit by pytest-benchmark's runner, and page faults of a call."""

import dataclasses
import math
import resource
import statistics
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pytest_benchmark.fixture import BenchmarkFixture
from pytest_benchmark.logger import Logger
from pytest_benchmark.utils import NameWrapper

from .cache_lines import at_cache_lines
from .pace import loop_s

FAULT_CALLS = 3
LONG_CALL_S = 0.1  # a call this long is not repeated where one says enough
WARMING_SHARE, MOST_LONG_CALLS = 0.5, 3  # of a warm call's time, that timed calls take; and how many of long ones
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


Result = TypeVar("Result")


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

    Of calls that are shorter than a group, each group gives one value, the mean over its calls. ``pace_s`` is what the
    loop of ``pace`` took before, between or after them at best; NaN where it was not run.
    """

    calls: int
    fastest_s: float
    median_s: float
    pace_s: float = math.nan


def time_visit(call: Callable[[], object], settings: VisitSettings) -> Timing:
    """One visit: half of it with arrays where NumPy puts them, half with arrays that begin at a cache line.

    The faster half gives the fastest call, the first one the median: what a user's own program sees. In calls that are
    longer than half a visit arrays do not stay in the caches, where they begin makes no difference, and there is one
    half only.
    """
    half_s = settings.visit_s / 2
    pace_s = loop_s()
    placed = _half(call, half_s, settings.group_s)
    pace_s = min(pace_s, loop_s())
    if placed.median_s > half_s:
        return dataclasses.replace(placed, pace_s=pace_s)
    with at_cache_lines():
        aligned = _half(call, half_s, settings.group_s)
    pace_s = min(pace_s, loop_s())
    fastest_s = min(placed.fastest_s, aligned.fastest_s)
    return Timing(placed.calls + aligned.calls, fastest_s, placed.median_s, pace_s)


def _half(call: Callable[[], object], half_s: float, group_s: float) -> Timing:
    """A warm call that is not counted, then calls until ``half_s`` is over, or one call if that is longer.

    The warm call is for the longest calls, too: a virtual machine gives memory that has been free for seconds back to
    its host, and a call that gets it again took up to ten times as long as the next one. After so dear a start more
    calls are timed: for ``WARMING_SHARE`` of the warm one's time, and ``MOST_LONG_CALLS`` at most.
    """
    warm_s = _seconds(call, 1)
    # The first call says nothing of how many fit into a group: its code and data came from memory.
    calls, typical_s = (1, warm_s) if warm_s >= half_s else _group(call, group_s)
    found: list[float] = []  # of one call, the mean over its group
    rounds = max(1, round(half_s / (calls * typical_s)))
    while rounds > 0:
        found += _timed(call, rounds, calls, half_s, group_s)
        typical_s = statistics.median(found)
        wanted_s = max(half_s, min(WARMING_SHARE * warm_s, MOST_LONG_CALLS * typical_s))
        rounds = round((wanted_s - calls * sum(found)) / (calls * typical_s))
    return Timing(len(found) * calls, min(found), statistics.median(found))


def _group(call: Callable[[], object], group_s: float) -> tuple[int, float]:
    """How many calls make a group, and the seconds of one."""
    calls = 1
    while (seconds := _seconds(call, calls)) < group_s:
        calls = min(10 * calls, math.ceil(1.1 * group_s * calls / max(seconds, 1e-9)))
    return calls, seconds / calls


def _timed(call: Callable[[], object], rounds: int, calls: int, half_s: float, group_s: float) -> list[float]:
    """Seconds of a call in each of so many groups, by pytest-benchmark."""
    made: list[Any] = []
    fixture = BenchmarkFixture(  # type: ignore[no-untyped-call]
        types.SimpleNamespace(name="visit", nodeid="visit"),
        disable_gc=True,  # the collector would run in some calls and not in others
        timer=NameWrapper(time.perf_counter),  # type: ignore[no-untyped-call]
        min_time=group_s,
        max_time=half_s,
        add_stats=made.append,
        logger=Logger(Logger.QUIET),  # type: ignore[no-untyped-call]
        warner=None,
        disabled=False,
        **UNUSED_SETTINGS,
    )
    fixture.pedantic(call, rounds=rounds, iterations=calls)  # type: ignore[no-untyped-call]
    found: list[float] = made[0].stats.data
    return found


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
        faults.append(with_faults(call)[1])
    return math.floor(statistics.median(faults))


def with_faults(call: Callable[[], Result]) -> tuple[Result, int]:
    """What a call returns, and its page faults that are served without the disk."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    result = call()
    return result, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
