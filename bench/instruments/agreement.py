"""From many short visits to one time: which visits agree, the estimate, and where another run's estimate will fall.

A visit can be slowed and cannot be sped up, so the fastest visits say how long an undisturbed call takes, provided that
there are several of them, alike, and from different moments: for seconds at a time a processor may run at half its
speed, and the visits of one such phase agree with each other. (K-best of Bryant and O'Hallaron, 'Computer Systems',
chapter on measuring execution time; that visits of one moment count once is added here.)
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Agreement:
    """When visits agree: ``moments`` of them, each ``apart_s`` from the others, within a share of the fastest one.

    ``visits`` is how many are made at least, if there is time: they spread over many rounds, because memory may be slow
    for a minute. With fewer than ``least`` of them nothing agrees. The numbers come from the repeatability study
    (docs/repeatability.md).
    """

    moments: int = 6
    within: float = 0.04
    apart_s: float = 1.0
    visits: int = 18
    least: int = 6


@dataclass(frozen=True)
class Moment:
    """When a visit was, in seconds since the run began, and the seconds of its fastest and of its median call.

    ``pace_s`` is what a loop took beside it whose work is always the same; NaN where that is not known.
    """

    when_s: float
    fastest_s: float
    median_s: float
    pace_s: float = math.nan


@dataclass(frozen=True)
class Estimate:
    """Seconds of an undisturbed call, with the interval into which 95 % of other runs' estimates fall.

    ``settled`` is whether the fastest visits agree. ``disturbed`` is the time of a call in the typical visit over that
    of an undisturbed call.
    """

    time_s: float
    low_s: float
    high_s: float
    visits: int
    settled: bool
    disturbed: float


AGREEMENT = Agreement()
# Waking a thread takes one of several times, and a quick call with two threads is then 2.5 times as fast in every fifth
# to twentieth visit as in the others. Of so many visits some are of the fast kind, and those who are not disagree.
OF_THREADS = Agreement(visits=72, least=48)
# A visit of a call of milliseconds is one to three calls, and few of them find a shared cache that is left alone by
# what else runs on the machine: the fastest of twenty visits agree, and are up to 20 % slower than those of a hundred.
# Longer calls are less uneven, and so many visits would take the time of others.
OF_LONG_CALLS = Agreement(visits=48, least=36)
LONG_S, LONGEST_S = 0.001, 0.03
# The interval, as logarithms of the time's ratio to its bounds. Runs whose visits agreed to the last digit would still
# differ, by the state of the machine and of their processes; and the wider the visits are spread, the more they differ.
# Both numbers are calibrated on repeated runs: docs/repeatability.md says how often the interval held.
REACH_OF_RUNS, REACH_OF_SPREAD = 0.03, 0.75
# Of the visits that agree, at least so many have to have been made at full pace, at which the loop beside them takes at
# most so many times as long as the fastest one of the run: where a core is shared, all visits may be slow, and agree.
AT_FULL_PACE, FULL_PACE = 0.5, 1.3
# No more visits are made once so many times the moments that agree were made at full pace. With fewer, the fastest of
# them are nearly all that there were.
CHOICE = 2
QUICK = 0.05  # the share of a run's visits that are quicker than the run's pace
SLOWEST = 2.0  # times as long: what a call takes where a processor runs at half its speed


def fastest_moments(visits: Sequence[Moment], apart_s: float, count: int) -> list[Moment]:
    """The fastest visits of which no two are closer in time than ``apart_s``, the fastest first, at most ``count``."""
    chosen: list[Moment] = []
    for visit in sorted(visits, key=lambda visit: visit.fastest_s):
        if all(abs(visit.when_s - other.when_s) >= apart_s for other in chosen):
            chosen.append(visit)
            if len(chosen) == count:
                break
    return chosen


def agreement_of(threads: int, visits: Iterable[Moment]) -> Agreement:
    """The rule for calls that use so many threads, and take what these visits say."""
    if threads > 1:
        return OF_THREADS
    fastest_s = min((visit.fastest_s for visit in visits), default=0.0)
    return OF_LONG_CALLS if LONG_S <= fastest_s <= LONGEST_S else AGREEMENT


def best_pace_s(visits: Iterable[Moment]) -> float:
    """What the loop beside the visits of a run took at best; infinite where that is not known."""
    return min((visit.pace_s for visit in visits if not math.isnan(visit.pace_s)), default=math.inf)


def run_pace_s(visits: Iterable[Moment]) -> float:
    """The pace by which two runs are compared, below which a twentieth of the visits is; NaN where none is known.

    The very best of thousands is chance, and differs by more from run to run.
    """
    paces = [visit.pace_s for visit in visits if not math.isnan(visit.pace_s)]
    return float(np.quantile(paces, QUICK)) if paces else math.nan


def agree(visits: Sequence[Moment], rule: Agreement, pace_s: float = math.inf) -> bool:
    """Whether the visits agree and no more are needed; ``pace_s`` is the best one of their run."""
    return are_enough(visits, rule, pace_s) and bool(agreeing(visits, rule, pace_s))


def are_enough(visits: Sequence[Moment], rule: Agreement, pace_s: float = math.inf) -> bool:
    """Whether the visits are as many as the rule wants, and enough of them were made at full pace to choose from."""
    wanted = min(CHOICE * rule.moments, rule.visits)
    return len(visits) >= rule.visits and count_at_full_pace(visits, pace_s) >= wanted


def agreeing(visits: Sequence[Moment], rule: Agreement, pace_s: float = math.inf) -> list[Moment]:
    """The visits from which the time of a settled case comes, the fastest first; none if it has not settled."""
    fastest = _fastest(visits, rule)
    return fastest if _settled(visits, fastest, rule, pace_s) else []


def _fastest(visits: Sequence[Moment], rule: Agreement) -> list[Moment]:
    return fastest_moments(visits, rule.apart_s, rule.moments)


def _settled(visits: Sequence[Moment], fastest: Sequence[Moment], rule: Agreement, pace_s: float) -> bool:
    """Whether visits and fastest moments are as many as there should be, these alike, and made at full pace."""
    if len(visits) < rule.least or len(fastest) < rule.moments:
        return False
    at_full_pace = count_at_full_pace(fastest, pace_s) >= AT_FULL_PACE * len(fastest)
    return at_full_pace and fastest[-1].fastest_s <= (1.0 + rule.within) * fastest[0].fastest_s


def count_at_full_pace(visits: Iterable[Moment], pace_s: float) -> int:
    """How many of the visits were made at full pace, as all are where it is not known."""
    return sum(not visit.pace_s > FULL_PACE * pace_s for visit in visits)


def estimated(visits: Sequence[Moment], rule: Agreement, pace_s: float = math.inf) -> Estimate:
    """The estimate from one or more visits, when no more are made.

    It is the mean of the fastest moments, whether they agree or not: of all that was tried it repeats best. Where they
    do not agree and some of them were not made at full pace, it is the mean of as many of the fastest as were. The
    interval then spans those that should have agreed. It begins at half of the fastest one where there are too few of
    them, or of those at full pace: all may have been slow. ``pace_s`` is the best pace of their run.
    """
    fastest = _fastest(visits, rule)
    chosen = [visit.fastest_s for visit in fastest]
    settled, at_full_pace = _settled(visits, fastest, rule, pace_s), count_at_full_pace(fastest, pace_s)
    time_s = statistics.fmean(chosen if settled else chosen[: max(1, at_full_pace)])
    if settled:
        reach = math.exp(math.hypot(REACH_OF_RUNS, REACH_OF_SPREAD * math.log(chosen[-1] / chosen[0])))
        low_s, high_s = time_s / reach, time_s * reach
    else:
        is_known = len(chosen) == rule.moments and at_full_pace >= AT_FULL_PACE * len(chosen)
        below = (chosen[-1] / chosen[0]) ** REACH_OF_SPREAD if is_known else SLOWEST
        low_s, high_s = chosen[0] / min(below, SLOWEST), chosen[-1] * math.exp(REACH_OF_RUNS)
    return Estimate(
        time_s=time_s,
        low_s=low_s,
        high_s=high_s,
        visits=len(visits),
        settled=settled,
        disturbed=statistics.median(visit.median_s for visit in visits) / time_s,
    )
