"""Fitted exponents: how a measured quantity grows with a size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LARGEST = 3  # sizes that count: at small ones a constant cost hides the growth


@dataclass(frozen=True)
class Growth:
    """The exponent of a power law, its standard error (NaN where two points leave none), and how many points fit it."""

    exponent: float
    error: float
    points: int

    def of(self, name: str) -> str:
        """The growth in words, as in 'features^1.97'."""
        return f"{name}^{self.exponent:.2f}"


def growth(sizes: Sequence[float], values: Sequence[float]) -> Growth | None:
    """The power law through the largest sizes, fitted on logarithms; None with fewer than two usable points."""
    from scipy import stats  # noqa: PLC0415 - slow to import, and most commands fit nothing

    usable = sorted((size, value) for size, value in zip(sizes, values, strict=True) if size > 0 and value > 0)
    usable = usable[-LARGEST:]
    if len({size for size, _ in usable}) < 2:
        return None
    logs = np.log(np.array(usable, dtype=np.float64))
    fit = stats.linregress(logs[:, 0], logs[:, 1])
    return Growth(float(fit.slope), float(fit.stderr) if len(usable) > 2 else math.nan, len(usable))
