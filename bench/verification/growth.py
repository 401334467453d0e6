"""How a measured quantity grows with a size, as a fitted exponent."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LARGEST = 3  # how many sizes are fitted: at small ones a constant cost hides the growth


@dataclass(frozen=True)
class Growth:
    """The exponent of a power law, its standard error (NaN for two points), and how many points are fitted."""

    exponent: float
    error: float
    points: int


def growth(sizes: Sequence[float], values: Sequence[float]) -> Growth | None:
    """The power law through the largest sizes, fitted to logarithms; None for fewer than two usable sizes."""
    from scipy import stats  # noqa: PLC0415 - slow to import, and most commands fit nothing

    usable = sorted((size, value) for size, value in zip(sizes, values, strict=True) if size > 0 and value > 0)
    usable = usable[-LARGEST:]
    if len({size for size, _ in usable}) < 2:
        return None
    logs = np.log(np.array(usable, dtype=np.float64))
    fit = stats.linregress(logs[:, 0], logs[:, 1])
    return Growth(float(fit.slope), float(fit.stderr) if len(usable) > 2 else math.nan, len(usable))
