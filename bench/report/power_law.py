"""A power law with a fixed part and a step, fitted to points by Huber's estimate; `growth` says what it is for."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

LEAST_POINTS = 4  # for one exponent and a degree of freedom
MOST_SHARE = {"time": 1.0, "memory": 3.0}  # einsum has two buffers at once, and every call some bytes of bookkeeping
STEEPNESS = 3.0  # of the step, a logistic curve of the logarithm of bytes
FREE = math.log(2.0)  # before the fit: standard deviation of the logarithms of boundary and steepness
MOST_FREE = 3.0 * FREE
TRIED = 24  # boundaries
LEAST_STEP = 1.25  # a smaller rise is scatter
EXPLAINED = 0.7  # a step must leave no more than this share of the residuals
HUBER = 1.345  # standard deviations: 95 % as efficient as least squares on normal errors
LEAST_SCATTER = {"time": 3e-3, "memory": 1e-4}  # standard deviation of a logarithm; bytes are counted, seconds are not
CONFIDENCE = 0.95
REFITS = 4  # with the scatter of the fit before
TOLERANCE = 1e-5  # of a fit
NORMAL_95 = 1.96
VALUES = {"time": "time_s", "memory": "peak_bytes"}

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A fitted value and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Points:
    """The rows of a fit, [points] each: logarithms of sizes and values, and what the law needs beside."""

    quantity: str
    axes: dict[str, Array]  # logarithms of features and batch, of those that have two values
    values: Array  # logarithms
    fixed: Array  # s or B
    own: Array  # standard deviation of a value's logarithm, by the row's interval; 0 where it has none
    touched: Array  # logarithm of the bytes that a call touches: what it allocates and what it must move

    @classmethod
    def of(cls, rows: pd.DataFrame, fixed: pd.Series, quantity: str) -> "Points":
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
        if not self.axes or len(self.values) < LEAST_POINTS + len(self.axes) - 1:
            return None
        without = _fitted(self, math.nan)
        if self.quantity == "memory" or len(self.values) < LEAST_POINTS + len(self.axes) + 2:  # three more unknowns
            return without
        boundary = _boundary_of(self)
        if math.isnan(boundary):
            return without
        stepped = _fitted(self, boundary)
        return stepped if stepped.coefficient("step") > math.log(LEAST_STEP) else without

    def design(self, boundary: float, steepness: float = STEEPNESS) -> tuple[list[str], Array]:
        """The law's terms, and their columns [points, terms]; ``boundary`` is a logarithm of bytes, NaN for no step."""
        columns = {"scale": np.ones(len(self.values)), **self.axes}
        if not math.isnan(boundary):
            columns["step"] = 0.5 + 0.5 * np.tanh(0.5 * steepness * (self.touched - boundary))  # the logistic curve
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


def _boundary_of(points: Points) -> float:
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


def _fitted(points: Points, boundary: float) -> Law:
    """The law with its step near ``boundary``, a logarithm of bytes, or without a step where it is NaN."""
    from scipy import optimize  # noqa: PLC0415 - slow to import

    terms, design = points.design(boundary)
    most, count, stepped = MOST_SHARE[points.quantity], len(points.values), not math.isnan(boundary)

    def residuals(unknowns: Array) -> Array:
        """Distances of the law from the values, in logarithms; unknown also share, boundary and log of steepness."""
        columns = points.design(unknowns[-2], math.exp(unknowns[-1]))[1] if stepped else design
        fixed = np.log(np.maximum(unknowns[len(terms)] * points.fixed, 1e-300))
        return np.asarray(np.logaddexp(fixed, columns @ unknowns[: len(terms)]) - points.values)

    expected = np.array([most / 2, *([boundary, math.log(STEEPNESS)] if stepped else [])])  # of all but coefficients
    about = np.array([most / 2, *([FREE, FREE] if stepped else [])])  # how far from that, before the fit

    def weighed(unknowns: Array, scatter: float) -> Array:
        """The residuals in standard deviations, and how far the others are from what is expected."""
        beside = (unknowns[len(terms) :] - expected) / about
        return np.append(residuals(unknowns) / np.hypot(points.own, scatter), beside)

    unknowns = np.append(_huber(design, points.values), expected)
    low, high = np.full(len(unknowns), -np.inf), np.full(len(unknowns), np.inf)
    low[len(terms)], high[len(terms)] = 0.0, most
    low[len(terms) + 1 :], high[len(terms) + 1 :] = expected[1:] - MOST_FREE, expected[1:] + MOST_FREE
    scatter = LEAST_SCATTER[points.quantity]
    for _ in range(REFITS):
        scatter = max(_scatter(residuals(unknowns), len(unknowns)), LEAST_SCATTER[points.quantity])
        fit = optimize.least_squares(
            weighed,
            unknowns,
            bounds=(low, high),
            loss="huber",
            f_scale=HUBER,
            x_scale="jac",
            args=(scatter,),
            ftol=TOLERANCE,
            xtol=TOLERANCE,
        )
        unknowns = np.clip(fit.x, low, high)
    freedom = max(1, count - len(unknowns))
    jacobian = optimize.approx_fprime(unknowns, weighed, 1e-7, scatter)
    covariance = _covariance(weighed(unknowns, scatter)[:count], np.atleast_2d(jacobian), freedom)
    return Law(
        terms=tuple(terms),
        coefficients=unknowns[: len(terms)],
        covariance=covariance[: len(terms), : len(terms)],
        scatter=scatter,
        freedom=freedom,
        boundary=float(unknowns[-2]) if stepped else math.nan,
    )


def _covariance(residuals: Array, jacobian: Array, freedom: int) -> Array:
    """Covariance of Huber's estimate, sum(psi**2) / freedom / mean(psi')**2 * inverse(J' J); [unknowns, unknowns].

    ``residuals`` are in standard deviations, [points]; the jacobian is [points and expectations, unknowns].
    """
    near = float(np.mean(np.abs(residuals) <= HUBER))
    excess = float(np.sum(np.minimum(np.abs(residuals), HUBER) ** 2)) / freedom / max(near, 0.5) ** 2
    return np.asarray(max(1.0, excess) * np.linalg.pinv(jacobian.T @ jacobian), np.float64)
