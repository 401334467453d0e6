"""How time and memory grow with batch and features: exponents fitted to a stored run, and what larger sizes would need.

The law that is fitted to an implementation's rows of one dtype, distribution of logits and number of threads:

    value = share * fixed + scale * batch**a * features**b * (step, beyond a boundary)

**The range.** For time, ``fixed`` is the time at the smallest number of features of the same batch: what a call and a
row cost at any size. A row is fitted where its time is at least ``DOMINATES`` times that. For memory, ``fixed`` is one
of NumPy's buffers, and a row is fitted where its peak is at least ``BUFFERS`` buffers: below, NumPy keeps temporaries
that it reuses above. ``share``, between 0 and ``MOST_SHARE``, is fitted, so what is left of the fixed part does not
bend the exponents.

**The step.** Time per item rises where the memory that a call touches leaves a cache. One such rise, over a factor of
``RAMP`` in bytes, is fitted where it explains most of the scatter: `_boundary_of` chooses it from the data.

**The fit** is Huber's, on logarithms. A row weighs by its own interval and by the scatter about the law, and a row far
from the law counts less. The intervals come from the covariance of Huber's estimate (Huber, Robust Statistics, 1981,
chapter 7) and Student's t with the degrees of freedom that are left.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..implementations import UFUNC_BUFFER_ITEMS, Formula, registered
from ..storage.results import Run

DOMINATES = 5.0  # times the fixed time, from which on size dominates
BUFFERS = 8.0  # of NumPy's buffers, from which on a peak is fitted: 512 KiB in float64
MOST_SHARE = {"time": 1.0, "memory": 3.0}  # einsum has two buffers at once, and every call some bytes of bookkeeping
RAMP = 4.0  # factor in bytes over which a cache is left
TRIED = 24  # boundaries
LEAST_STEP = 1.25  # a smaller rise is scatter
EXPLAINED = 0.7  # a step must leave no more than this share of the residuals
HUBER = 1.345  # standard deviations: 95 % as efficient as least squares on normal errors
LEAST_SCATTER = {"time": 3e-3, "memory": 1e-4}  # standard deviation of a logarithm; bytes are counted, seconds are not
CONFIDENCE = 0.95
REFITS = 6  # with the scatter of the fit before
NORMAL_95 = 1.96

SLICE = ["operation", "implementation", "dtype", "logits", "threads"]
VALUES = {"time": "time_s", "memory": "peak_bytes"}
VOCABULARIES = (50_257, 128_256, 262_144)  # of GPT-2, Llama 3 and Gemma 2 and 3, rounded as they are used
TOKENS = 8192  # a batch: tokens in a step of training
COMPARED = ("explicit_jacobian", "vectorized")
LARGE = (1 << 10, 1 << 20)  # batch and features at which a formula's leading term is all of it

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A fitted value and its interval."""

    value: float
    low: float
    high: float


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
    left_out: int  # measured rows at which size does not dominate
    step: float  # factor by which an item's time rises beyond the boundary; 1 where there is no step
    boundary_bytes: float  # memory touched by a call at the middle of the step; NaN where there is none
    law: "Law"

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
    dominated = rows[VALUES[quantity]] >= (DOMINATES if quantity == "time" else BUFFERS) * fixed
    inside = rows[dominated]
    points = _Points.of(inside, fixed[dominated], quantity)
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


@dataclass(frozen=True)
class _Points:
    """The rows of a fit, [points] each: logarithms of sizes and values, and what the law needs beside."""

    quantity: str
    axes: dict[str, Array]  # logarithms of features and batch, of those that have two values
    values: Array  # logarithms
    fixed: Array  # s or B
    own: Array  # standard deviation of a value's logarithm, by the row's interval; 0 where it has none
    touched: Array  # logarithm of the bytes that a call touches: what it allocates and what it must move

    @classmethod
    def of(cls, rows: pd.DataFrame, fixed: pd.Series, quantity: str) -> "_Points":
        """The rows as points."""
        axes = {name: np.log(rows[name].to_numpy(np.float64)) for name in ("features", "batch")}
        if quantity == "time":
            ratio = (rows["time_high_s"] / rows["time_low_s"]).fillna(1.0)
            own = np.log(ratio.to_numpy(np.float64)) / (2 * NORMAL_95)
        else:
            own = np.zeros(len(rows))
        peaks = rows["peak_bytes"].fillna(rows["predicted_peak_bytes"]).fillna(0)
        return cls(
            quantity=quantity,
            axes={name: sizes for name, sizes in axes.items() if len(np.unique(sizes)) > 1},
            values=np.log(rows[VALUES[quantity]].to_numpy(np.float64)),
            fixed=fixed.to_numpy(np.float64),
            own=own,
            touched=np.log((peaks + rows["working_set_bytes"]).to_numpy(np.float64)),
        )

    def law(self) -> "Law | None":
        """The fitted law; None where no axis has two sizes, or fewer points than parameters and one are left."""
        if not self.axes or len(self.values) < len(self.axes) + 3:
            return None
        without = _fitted(self, math.nan)
        if self.quantity == "memory" or len(self.values) < len(self.axes) + 4:
            return without
        boundary = _boundary_of(self)
        if math.isnan(boundary):
            return without
        stepped = _fitted(self, boundary)
        return stepped if stepped.coefficient("step") > math.log(LEAST_STEP) else without

    def design(self, boundary: float) -> tuple[list[str], Array]:
        """The law's terms, and their columns [points, terms]; ``boundary`` is a logarithm of bytes, NaN for no step."""
        columns = {"scale": np.ones(len(self.values)), **self.axes}
        if not math.isnan(boundary):
            columns["step"] = ((self.touched - boundary) / math.log(RAMP) + 0.5).clip(0.0, 1.0)
        return list(columns), np.column_stack(list(columns.values()))


@dataclass(frozen=True)
class Law:
    """A fitted law: coefficients of its terms and their covariance, [terms] and [terms, terms]."""

    terms: tuple[str, ...]
    coefficients: Array
    covariance: Array
    scatter: float  # standard deviation of a logarithm about the law
    freedom: int
    boundary: float  # logarithm of bytes

    @property
    def boundary_bytes(self) -> float:
        """Bytes at the middle of the step; NaN where there is none."""
        return math.exp(self.boundary)

    def coefficient(self, term: str) -> float:
        """A term's coefficient; 0 where the law has no such term."""
        return float(self.coefficients[self.terms.index(term)]) if term in self.terms else 0.0

    def exponent(self, axis: str) -> Estimate | None:
        """An axis's exponent; None where the law has none."""
        if axis not in self.terms:
            return None
        place = self.terms.index(axis)
        middle, reach = self.coefficients[place], self._reach(float(self.covariance[place, place]))
        return Estimate(float(middle), float(middle - reach), float(middle + reach))

    def predict(self, batch: int, features: int) -> Estimate:
        """The value at a size, beyond the step, with the interval of a measurement there."""
        at = {"scale": 1.0, "features": math.log(features), "batch": math.log(batch), "step": 1.0}
        row = np.array([at[term] for term in self.terms])
        middle = float(row @ self.coefficients)
        reach = self._reach(float(row @ self.covariance @ row) + self.scatter**2)
        return Estimate(*(math.exp(value) for value in (middle, middle - reach, middle + reach)))

    def _reach(self, variance: float) -> float:
        from scipy import stats  # noqa: PLC0415 - slow to import

        return float(stats.t.ppf(0.5 + CONFIDENCE / 2, self.freedom)) * math.sqrt(variance)


def _boundary_of(points: _Points) -> float:
    """The boundary of the step that explains the rows best, as a logarithm of bytes; NaN where none explains enough.

    ``TRIED`` places between the fewest and the most bytes touched are tried, by Huber's fit without the fixed part.
    """
    values = np.log(np.exp(points.values) - MOST_SHARE["time"] / 2 * points.fixed)

    def left(boundary: float) -> float:
        """The sum of the residuals' sizes; infinite where time falls beyond the boundary."""
        terms, design = points.design(boundary)
        found = _huber(design, values)
        if "step" in terms and found[-1] <= 0:
            return math.inf
        return float(np.abs(values - design @ found).sum())

    places = np.linspace(points.touched.min(), points.touched.max(), TRIED)
    tried = {float(place): left(float(place)) for place in places}
    best = min(tried, key=lambda boundary: tried[boundary], default=math.nan)
    return best if tried and tried[best] < EXPLAINED * left(math.nan) else math.nan


def _huber(design: Array, values: Array) -> Array:
    """Huber's estimate of the coefficients, by repeated weighted least squares; [terms]."""
    weights = np.ones(len(values))
    for _ in range(REFITS):
        root = np.sqrt(weights)
        found = np.asarray(np.linalg.lstsq(design * root[:, None], values * root, rcond=None)[0], np.float64)
        sizes = np.abs(values - design @ found)
        weights = np.minimum(1.0, HUBER * max(_scatter(sizes, design.shape[1]), 1e-9) / np.maximum(sizes, 1e-12))
    return found


def _scatter(residuals: Array, terms: int) -> float:
    """The standard deviation of residuals by their median size, which a few of them far off do not move."""
    count = len(residuals)
    return float(1.4826 * np.median(np.abs(residuals)) * math.sqrt(count / max(1, count - terms)))


def _fitted(points: _Points, boundary: float) -> Law:
    """The law with its step at ``boundary``, a logarithm of bytes, or without a step where it is NaN."""
    from scipy import optimize  # noqa: PLC0415 - slow to import

    terms, design = points.design(boundary)
    most, count = MOST_SHARE[points.quantity], len(points.values)

    def residuals(unknowns: Array) -> Array:
        """Distances of the law from the values, in logarithms; the last of the unknowns is the share."""
        law = np.logaddexp(np.log(np.maximum(unknowns[-1] * points.fixed, 1e-300)), design @ unknowns[:-1])
        return np.asarray(law - points.values)

    unknowns = np.append(_huber(design, points.values), most / 2)
    low = np.append(np.full(len(terms), -np.inf), 0.0)
    high = np.append(np.full(len(terms), np.inf), most)
    scatter = max(_scatter(residuals(unknowns), len(unknowns)), LEAST_SCATTER[points.quantity])
    for _ in range(REFITS):
        deviation = np.hypot(points.own, scatter)
        fit = optimize.least_squares(
            _weighed(residuals, deviation, most), unknowns, bounds=(low, high), loss="huber", f_scale=HUBER
        )
        unknowns = np.clip(fit.x, low, high)
        scatter = max(_scatter(residuals(unknowns), len(unknowns)), LEAST_SCATTER[points.quantity])
    freedom = max(1, count - len(unknowns))
    return Law(
        terms=tuple(terms),
        coefficients=unknowns[:-1],
        covariance=_covariance(residuals, unknowns, np.hypot(points.own, scatter), most, freedom)[:-1, :-1],
        scatter=scatter,
        freedom=freedom,
        boundary=boundary,
    )


def _weighed(residuals: Callable[[Array], Array], deviation: Array, most: float) -> Callable[[Array], Array]:
    """The residuals in standard deviations, and one for the share: by itself it is somewhere between none and most."""

    def weighed(unknowns: Array) -> Array:
        return np.append(residuals(unknowns) / deviation, (unknowns[-1] - most / 2) / (most / 2))

    return weighed


def _covariance(
    residuals: Callable[[Array], Array], unknowns: Array, deviation: Array, most: float, freedom: int
) -> Array:
    """Covariance of Huber's estimate, sum(psi**2) / freedom / mean(psi')**2 * inverse(J' J); [unknowns, unknowns]."""
    from scipy.optimize import approx_fprime  # noqa: PLC0415 - slow to import

    weighed = _weighed(residuals, deviation, most)
    jacobian = np.atleast_2d(approx_fprime(unknowns, weighed, 1e-7))  # [points + 1, unknowns]
    sizes = np.abs(weighed(unknowns)[:-1])
    near = float(np.mean(sizes <= HUBER))
    excess = float(np.sum(np.minimum(sizes, HUBER) ** 2)) / freedom / max(near, 0.5) ** 2
    return np.asarray(max(1.0, excess) * np.linalg.pinv(jacobian.T @ jacobian), np.float64)
