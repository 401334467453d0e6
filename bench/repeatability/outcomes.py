"""What two sessions of a tool differ by, how often its stated interval held, and what other rules would have given.

A difference is a share, and the same whichever session comes first: exp(|ln(a/b)|) - 1. Sessions are compared with
sessions of the same tool under the same load, in all pairs.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..operations import operations
from ..operations.cases import SEVERAL_THREADS
from ..storage.frames import ratio_with_interval
from .loads import LOADS
from .shared_cases import SHARED_CASES
from .tools import OURS, TOOLS

BASELINE = operations()["softmax"].baseline
NINETIETH = 0.9

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scope:
    """Which readings an outcome is about: of the shared cases or of every case, of settled readings or of all.

    ``at_one_pace``: times as they would be if the processor had been as fast in every session. It slows down and speeds
    up with what else its machine does, and the loop beside every visit shows by how much.
    """

    shared: bool = True
    settled: bool = False
    at_one_pace: bool = False

    @property
    def words(self) -> str:
        """Which readings, as in 'settled, at one pace'."""
        return f"{'settled' if self.settled else 'all'}{', at one pace' if self.at_one_pace else ''}"


OUR_SCOPES = (
    Scope(shared=False, settled=True),
    Scope(shared=False, settled=True, at_one_pace=True),
    Scope(shared=False),
    Scope(settled=True),
    Scope(),
)


class Spread(NamedTuple):
    """Differences of pairs as shares: the median, the 90th percentile and the worst; NaN where there is no pair."""

    median: float
    ninetieth: float
    worst: float


@dataclass(frozen=True)
class Outcome:
    """How a tool repeats under a load, on the readings of a scope.

    ``settled_share`` is NaN for tools that do not say so. ``time_held`` and ``speedup_held`` are the shares of ordered
    pairs in which the second session's number lies in the first one's interval; NaN where none is stated.
    """

    tool: str
    load: str
    scope: Scope
    sessions: int
    cases: int
    time_differences: Array  # of a case's numbers between two sessions, over all pairs and cases, as shares
    speedup_differences: Array
    settled_share: float
    time_held: float
    speedup_held: float
    seconds_a_case: float

    @property
    def time(self) -> Spread:
        """The spread of the differences in time."""
        return spread_of(self.time_differences)

    @property
    def speedup(self) -> Spread:
        """The spread of the differences in speed-up."""
        return spread_of(self.speedup_differences)


def outcomes(sessions: pd.DataFrame) -> Iterator[Outcome]:
    """The outcomes of every tool under every load of which sessions are stored, the suite's own first."""
    readings = with_speedups(sessions)
    for load, tool in itertools.product(LOADS, TOOLS):
        all_of_it = readings[(readings["load"] == load) & (readings["tool"] == tool)]
        for scope in OUR_SCOPES if tool == OURS else (Scope(),):
            mine = all_of_it[all_of_it["pace_s"] > 0] if scope.at_one_pace else all_of_it
            if not mine.empty:
                yield _outcome(tool, load, scope, mine)


def with_speedups(sessions: pd.DataFrame) -> pd.DataFrame:
    """The sessions with speed-ups over the explicit Jacobian of the same shape, dtype and logits in the same session.

    ``speedup``, ``speedup_low`` and ``speedup_high`` are NaN for the Jacobian itself. ``speedup_settled`` is whether
    both times are settled.
    """
    keys = ["tool", "load", "session"]
    times = ["time_s", "low_s", "high_s"]
    readings = sessions.reset_index(drop=True)
    parts = readings["case"].str.split("-", n=2, expand=True).reindex(columns=range(3))
    readings["_inputs"] = parts[2].str.replace(SEVERAL_THREADS, "", regex=True)  # the baseline runs one thread
    is_baseline = parts[1] == BASELINE
    baseline = readings.loc[is_baseline, [*keys, "_inputs", *times, "settled"]]
    against = readings[[*keys, "_inputs"]].merge(baseline, on=[*keys, "_inputs"], how="left")
    against[times] = against[times].mask(is_baseline)
    stored = {"low_s": "time_low_s", "high_s": "time_high_s"}
    ratios = ratio_with_interval(against.rename(columns=stored), readings.rename(columns=stored))
    readings["speedup"], readings["speedup_low"], readings["speedup_high"] = ratios
    readings["speedup_settled"] = np.minimum(readings["settled"], against["settled"])
    return readings.drop(columns="_inputs")


def _outcome(tool: str, load: str, scope: Scope, readings: pd.DataFrame) -> Outcome:
    readings = at_one_pace(readings) if scope.at_one_pace else readings
    mine = readings[readings["case"].isin(SHARED_CASES)] if scope.shared else readings
    times = mine[mine["settled"] == 1] if scope.settled else mine
    speedups = mine[mine["speedup_settled"] == 1] if scope.settled else mine
    return Outcome(
        tool=tool,
        load=load,
        scope=scope,
        sessions=mine["session"].nunique(),
        cases=mine["case"].nunique(),
        time_differences=pair_differences(times, "time_s"),
        speedup_differences=pair_differences(speedups, "speedup"),
        settled_share=float(mine["settled"].mean()),
        time_held=held_share(times, "time_s", "low_s", "high_s"),
        speedup_held=held_share(speedups, "speedup", "speedup_low", "speedup_high"),
        seconds_a_case=float(mine["seconds"].mean()),
    )


def at_one_pace(readings: pd.DataFrame) -> pd.DataFrame:
    """The readings with their times as at the median pace of their sessions."""
    scale = readings["pace_s"].median() / readings["pace_s"]
    times = ["time_s", "low_s", "high_s"]
    return readings.assign(**{name: readings[name] * scale for name in times})


def pair_differences(readings: pd.DataFrame, column: str) -> Array:
    """The differences of a case's numbers between two sessions, over all pairs of sessions and all cases."""
    logarithms = np.log(_by_session(readings, column))
    pairs = [np.abs(a - b) for a, b in itertools.combinations(logarithms, 2)]
    differences = np.expm1(np.concatenate(pairs)) if pairs else np.empty(0)
    return differences[np.isfinite(differences)]


def held_share(readings: pd.DataFrame, column: str, low: str, high: str) -> float:
    """The share of ordered pairs of sessions in which the second's number lies in the first's interval."""
    numbers, lows, highs = (_by_session(readings, name) for name in (column, low, high))
    held, pairs = 0, 0
    for first, second in itertools.permutations(range(len(numbers)), 2):
        stated = np.isfinite(lows[first]) & np.isfinite(highs[first]) & np.isfinite(numbers[second])
        within = (lows[first] <= numbers[second]) & (numbers[second] <= highs[first])
        held += int((stated & within).sum())
        pairs += int(stated.sum())
    return held / pairs if pairs else math.nan


def _by_session(readings: pd.DataFrame, column: str) -> Array:
    """A column as an array [sessions, cases]; NaN where a session has no reading of a case."""
    return readings.pivot(index="session", columns="case", values=column).to_numpy(dtype=float)


def spread_of(differences: Array) -> Spread:
    """The spread of differences."""
    if not len(differences):
        return Spread(math.nan, math.nan, math.nan)
    return Spread(*(float(np.quantile(differences, share)) for share in (0.5, NINETIETH, 1.0)))


@dataclass(frozen=True)
class RuleOutcome:
    """What a rule would have given under a load: the share of cases that settle, the visits it takes, how they repeat.

    ``time`` is over pairs of sessions in both of which the case settled.
    """

    load: str
    moments: int
    within: float
    apart_s: float
    at_least: int
    settled_share: float
    mean_visits: float
    time: Spread


def rule_outcomes(replays: pd.DataFrame) -> Iterator[RuleOutcome]:
    """The outcomes of every rule under every load."""
    for key, mine in replays.groupby(["load", "moments", "within", "apart_s", "at_least"], sort=False):
        identity: Any = key
        load, moments, within, apart_s, at_least = identity
        yield RuleOutcome(
            load=load,
            moments=moments,
            within=within,
            apart_s=apart_s,
            at_least=at_least,
            settled_share=float(mine["settled"].mean()),
            mean_visits=float(mine["visits"].mean()),
            time=spread_of(pair_differences(mine[mine["settled"] == 1], "time_s")),
        )


def percent(share: float) -> str:
    """A share in percent with two digits, as in '0.42 %' or '27 %'; '–' if it is missing."""
    if math.isnan(share):
        return "–"
    return f"{float(f'{100.0 * share:.2g}'):g} %"
