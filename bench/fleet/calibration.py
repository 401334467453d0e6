"""Calibration: a few fixed cases, looked at before and after every share, and what they say about a machine.

A machine is left out where it does not agree with itself, in one of two ways:

- It drifts. Its looks are cut into three parts in time, the start, the middle and the end. In each part the fastest
  look at a case counts. The drift of a case is by how much the slowest of the three parts is slower than the fastest;
  the drift of the machine is the median over the cases. A share of more than ``LARGEST_DRIFT`` is too much.
- For a while it is slow at one case: the fastest of ``IN_A_ROW`` looks in a row is slower than the fastest of all by
  more than ``LARGEST_SLOWDOWN``. What shares the processor by turns slows long calls alone, and none of the parts
  need be without a quick look.

Fewer looks than ``LEAST_LOOKS`` say nothing.
"""

import math
import random
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..operations.cases import ARTICLE_SHAPE, Case
from ..sweep.measuring import Measurer

# In the caches and for the processor, from memory, and with small steps of NumPy's own.
CALIBRATION_CASES = (
    Case("softmax", "vectorized", *ARTICLE_SHAPE, "float64", "normal"),
    Case("softmax", "vectorized", 512, 2048, "float64", "normal"),
    Case("softmax", "row_loop", 8, 32, "float64", "normal"),
)
VISITS, PAUSE_S = 4, 0.1  # of each case in one look
PARTS = 3
LEAST_LOOKS = 2 * PARTS
LARGEST_DRIFT = 0.2
IN_A_ROW = 3
LARGEST_SLOWDOWN = 0.5


@dataclass(frozen=True)
class Look:
    """A row of calibrations.csv: the fastest call of a calibration case in one look at it."""

    machine: str
    attempt: str
    began_s: float  # Unix time by the machine's clock
    case: str
    fastest_s: float


def look(measurer: Measurer, machine: str, attempt: str) -> list[Look]:
    """A look at every case."""
    began_s = round(time.time(), 3)
    rng = random.Random(f"{attempt} {began_s}")  # noqa: S311 - places in memory, not secrets
    fastest = dict.fromkeys(CALIBRATION_CASES, math.inf)
    for _ in range(VISITS):
        for case in CALIBRATION_CASES:
            fastest[case] = min(fastest[case], measurer.visit(case, rng.getrandbits(32)).fastest_s)
        time.sleep(PAUSE_S)
    return [Look(machine, attempt, began_s, str(case), fastest_s) for case, fastest_s in fastest.items()]


def drift_of(looks: Iterable[Look]) -> float:
    """The drift of a machine from all looks at it; NaN where they are too few."""
    drifts = [_drift(mine) for mine in _by_case(looks).values()]
    return statistics.median(drifts) if drifts else math.nan


def slowdowns_of(looks: Iterable[Look]) -> dict[str, float]:
    """By how much each case was slower for a few looks in a row than at its fastest; empty where they are too few."""
    return {case: _slowdown(mine) for case, mine in _by_case(looks).items() if len(mine) >= LEAST_LOOKS}


def _by_case(looks: Iterable[Look]) -> dict[str, list[Look]]:
    """The looks at each case, in the order of time."""
    by_case: dict[str, list[Look]] = {}
    for each in sorted(looks, key=lambda each: each.began_s):
        by_case.setdefault(each.case, []).append(each)
    return by_case


def _drift(looks: Sequence[Look]) -> float:
    if len(looks) < LEAST_LOOKS:
        return math.nan
    bounds = [round(part * len(looks) / PARTS) for part in range(PARTS + 1)]
    fastest = [min(each.fastest_s for each in looks[bounds[part] : bounds[part + 1]]) for part in range(PARTS)]
    return max(fastest) / min(fastest) - 1.0


def _slowdown(looks: Sequence[Look]) -> float:
    fastest = [each.fastest_s for each in looks]
    stretches = [min(fastest[start : start + IN_A_ROW]) for start in range(len(fastest) - IN_A_ROW + 1)]
    return max(stretches) / min(fastest) - 1.0


def disagreement(looks: Sequence[Look]) -> str:
    """Why a machine with these looks is left out, in a phrase; empty if it is not."""
    drift = drift_of(looks)
    if drift > LARGEST_DRIFT:
        return f"its calibration drifted by {drift:.0%}, and {LARGEST_DRIFT:.0%} is the limit"
    slowdowns = slowdowns_of(looks)
    case = max(slowdowns, key=slowdowns.__getitem__, default="")
    if not case or slowdowns[case] <= LARGEST_SLOWDOWN:
        return ""
    return (
        f"{IN_A_ROW} looks in a row at {case} took {1 + slowdowns[case]:.2g}× as long as the fastest, "
        f"and {1 + LARGEST_SLOWDOWN:g}× is the limit"
    )
