"""How time and memory grow with batch and features: exponents fitted to a stored run, and what larger sizes would need.

The law that is fitted to an implementation's rows of one dtype, distribution of logits and number of threads:

    value = share * fixed + scale * batch**a * features**b * (step, beyond a boundary)

**The range.** For time, ``fixed`` is the time at the smallest number of features of the same batch: what a call and a
row cost at any size. A row is fitted where its time is at least ``DOMINATES`` times that, and not that of a single
visit: the first touch of gigabytes takes several times as long as what the law describes. For memory, ``fixed`` is one
of NumPy's buffers, and a row is fitted where its peak is at least ``BUFFERS`` buffers: below, NumPy keeps temporaries
that it reuses above. ``share``, between 0 and ``MOST_SHARE``, is fitted, so what is left of the fixed part does not
bend the exponents.

**The step.** Time per item rises where the memory that a call touches leaves a cache. One such rise is fitted where it
explains enough of the scatter, with its place and how steep it is.

**The fit** is Huber's, on logarithms. A row weighs by its own interval and by the scatter about the law, and a row far
from the law counts less. The intervals come from the covariance of Huber's estimate (Huber, Robust Statistics, 1981,
chapter 7) and Student's t with the degrees of freedom that are left.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..implementations import UFUNC_BUFFER_ITEMS, Formula, registered
from ..storage.results import Run
from .power_law import LEAST_POINTS, VALUES, Estimate, Law, Points

DOMINATES = 5.0  # times the fixed time, from which on size dominates
BUFFERS = 8.0  # of NumPy's buffers, from which on a peak is fitted: 512 KiB in float64

SLICE = ["operation", "implementation", "dtype", "logits", "threads"]
VOCABULARIES = (50_257, 128_256, 262_144)  # of GPT-2, Llama 3 and Gemma 3
TOKENS = 8192  # a batch: tokens in a step of training
COMPARED = ("explicit_jacobian", "vectorized")
LARGE = (1 << 10, 1 << 20)  # batch and features at which a formula's leading term is all of it


@dataclass(frozen=True)
class Growth:
    """How one quantity of an implementation grows in a slice of a run: the law and how it was fitted.

    ``quantity`` is ``time`` (s) or ``memory`` (B). An exponent is None where the rows have one value of its axis.
    """

    operation: str
    implementation: str
    dtype: str
    logits: str
    threads: int
    quantity: str
    features: Estimate | None
    batch: Estimate | None
    theory: tuple[int, int] | None  # exponents of features and batch; None for a user's own, whose formulas are guesses
    points: int  # rows fitted
    left_out: int  # measured rows at which size does not dominate, or with a time of a single visit
    step: float  # factor by which an item's time rises beyond the boundary; 1 where there is no step
    boundary_bytes: float  # memory touched by a call at the middle of the step; NaN where there is none
    law: Law

    def at(self, batch: int, features: int) -> Estimate:
        """The law far beyond the measured sizes, with the interval in which one measurement there would lie.

        The fixed part is left out, and memory is taken to be beyond the last cache.
        """
        return self.law.predict(batch, features)


@dataclass(frozen=True)
class Extrapolated:
    """What an implementation would need at a size that was not measured.

    ``bytes_by_formula`` is arithmetic, from the workspace that the implementation states; None where the run does not
    store it. ``bytes_by_fit`` and ``seconds`` are extrapolated; None where there is no fit.
    """

    implementation: str
    batch: int
    features: int
    dtype: str
    bytes_by_formula: int | None
    bytes_by_fit: Estimate | None
    seconds: Estimate | None


def growths_of(frame: pd.DataFrame, run: Run) -> Iterator[Growth]:
    """The growth of time and of memory of every implementation in every slice of a run's frame (`to_frame`).

    Slices with too few rows at which size dominates are left out.
    """
    measured = frame[frame["status"] == "measured"]
    for key, rows in measured.groupby(SLICE, sort=False):
        if len(rows) < LEAST_POINTS:
            continue
        for quantity in VALUES:
            theory = _theory(_formula(run, str(key[0]), str(key[1]), quantity))
            if found := _growth(tuple(key), rows, quantity, theory):
                yield found


def extrapolated(
    frame: pd.DataFrame, run: Run, *, dtype: str = "float64", logits: str = "normal", operation: str = "softmax"
) -> list[Extrapolated]:
    """What both families would need at the sizes of today's vocabularies, a batch of ``TOKENS``, with one thread."""
    wanted = frame[
        (frame[["operation", "dtype", "logits", "threads"]] == [operation, dtype, logits, 1]).all(axis=1)
        & frame["implementation"].isin(COMPARED)
    ]
    fits = {(growth.implementation, growth.quantity): growth for growth in growths_of(wanted, run)}
    formulas = {name: _formula(run, operation, name, "memory") for name in COMPARED}
    itemsize = np.dtype(dtype).itemsize
    return [
        Extrapolated(
            implementation=name,
            batch=TOKENS,
            features=features,
            dtype=dtype,
            bytes_by_formula=formula(TOKENS, features, itemsize) if (formula := formulas[name]) else None,
            bytes_by_fit=_reaches(fits.get((name, "memory")), features),
            seconds=_reaches(fits.get((name, "time")), features),
        )
        for name in COMPARED
        for features in VOCABULARIES
    ]


def _reaches(growth: Growth | None, features: int) -> Estimate | None:
    """The law at a batch of ``TOKENS``; None where an exponent is missing, so that it does not reach there."""
    return growth.at(TOKENS, features) if growth and growth.features and growth.batch else None


def _growth(key: tuple[Any, ...], rows: pd.DataFrame, quantity: str, theory: tuple[int, int] | None) -> Growth | None:
    """The growth of a quantity over the rows of one slice; None where too few rows are in its range."""
    rows = rows[rows[VALUES[quantity]] > 0].sort_values(["batch", "features"])
    fixed = _fixed_part(rows, quantity)
    in_range = rows[VALUES[quantity]] >= (DOMINATES if quantity == "time" else BUFFERS) * fixed
    if quantity == "time":
        in_range &= rows["visits"] != 1
    inside = rows[in_range]
    points = Points.of(inside, fixed[in_range], quantity)
    law = points.law()
    if law is None:
        return None
    operation, implementation, dtype, logits, threads = key
    return Growth(
        operation=operation,
        implementation=implementation,
        dtype=dtype,
        logits=logits,
        threads=int(threads),
        quantity=quantity,
        features=law.exponent("features"),
        batch=law.exponent("batch"),
        theory=theory,
        points=len(inside),
        left_out=len(rows) - len(inside),
        step=math.exp(law.coefficient("step")),
        boundary_bytes=law.boundary_bytes,
        law=law,
    )


def _formula(run: Run, operation: str, implementation: str, quantity: str) -> Formula | None:
    """Workspace, as the run states it, or traffic, as the registry does; None for what is not the suite's own."""
    spec = registered().get((operation, implementation))
    if spec is None:
        return None
    if quantity == "time":
        return spec.traffic
    stated = {one["name"]: one.get("workspace") for one in run.implementations if one["operation"] == operation}
    text = stated.get(implementation)
    return Formula(text) if text else None


def _theory(formula: Formula | None) -> tuple[int, int] | None:
    """The exponents of features and of batch in a formula's leading term."""
    if formula is None:
        return None
    batch, features = LARGE
    here = formula(batch, features, 8)
    grown = formula(batch, 2 * features, 8), formula(2 * batch, features, 8)
    by_features, by_batch = (round(math.log2(more / here)) for more in grown)
    return by_features, by_batch


def _fixed_part(rows: pd.DataFrame, quantity: str) -> pd.Series:
    """What a call takes at any size: seconds at its batch's smallest number of features, or bytes of one buffer."""
    if quantity == "time":
        fixed: pd.Series = rows.groupby("batch")["time_s"].transform("first")  # sorted by features
        return fixed
    itemsize = rows["dtype"].map(lambda dtype: np.dtype(dtype).itemsize)
    return UFUNC_BUFFER_ITEMS * itemsize  # 8192*s
