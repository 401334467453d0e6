"""Calibration: a few fixed cases, looked at before and after every share, and what they say about a machine.

A machine is left out where it does not agree with itself: its looks are cut into three parts in time, the start, the
middle and the end. In each part the fastest look at a case counts. The drift of a case is by how much the slowest of
the three parts is slower than the fastest; the drift of the machine is the median over the cases. A share of more than
``LARGEST_DRIFT`` is too much. Fewer looks than ``LEAST_LOOKS`` say nothing.
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
    by_case: dict[str, list[Look]] = {}
    for each in looks:
        by_case.setdefault(each.case, []).append(each)
    drifts = [_drift(sorted(mine, key=lambda each: each.began_s)) for mine in by_case.values()]
    return statistics.median(drifts) if drifts else math.nan


def _drift(looks: Sequence[Look]) -> float:
    if len(looks) < LEAST_LOOKS:
        return math.nan
    bounds = [round(part * len(looks) / PARTS) for part in range(PARTS + 1)]
    fastest = [min(each.fastest_s for each in looks[bounds[part] : bounds[part + 1]]) for part in range(PARTS)]
    return max(fastest) / min(fastest) - 1.0


def disagreement(drift: float) -> str:
    """Why a machine with this drift is left out, in a phrase; empty if it is not."""
    if math.isnan(drift) or drift <= LARGEST_DRIFT:
        return ""
    return f"its calibration drifted by {drift:.0%}, and {LARGEST_DRIFT:.0%} is the limit"
