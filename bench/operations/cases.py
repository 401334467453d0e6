"""A case, which is one point of the grid, and the inputs that are made for it."""

import re
import zlib
from dataclasses import dataclass, field

import numpy as np

from ..implementations import UFUNC_BUFFER_ITEMS, FloatArray, Implementation, registered
from ..implementations.softmax import softmax

DTYPES = ("float32", "float64")
ARTICLE_OPERATION = "softmax"
ARTICLE_SHAPE = (32, 512)  # the article measures batch 32, features 512, logits uniform in [0, 1), float64
ARTICLE_INPUTS = ((*ARTICLE_SHAPE, "float64", "uniform"),)

# Peaked logits are normal with this standard deviation: at 512 features about 20 % (float32) and 6 % (float64) of the
# probabilities are subnormal.
PEAKED_STD = {"float32": 30.0, "float64": 240.0}
MASKED_SHARE = 0.5
SEVERAL_THREADS = re.compile(r"-T\d+$")  # the end of a case as text


@dataclass(frozen=True)
class Case:
    """One grid point: an implementation at a shape, dtype, distribution of the logits and number of threads."""

    operation: str
    implementation: str
    batch: int
    features: int
    dtype: str
    logits: str
    threads: int = 1

    def __str__(self) -> str:
        threads = "" if self.threads == 1 else f"-T{self.threads}"
        shape = f"B{self.batch}-N{self.features}"
        return f"{self.operation}-{self.implementation}-{shape}-{self.dtype}-{self.logits}{threads}"

    @property
    def float_type(self) -> type[np.float32] | type[np.float64]:
        """The dtype as NumPy's type."""
        return np.float32 if self.dtype == "float32" else np.float64

    @property
    def itemsize(self) -> int:
        """Bytes per item."""
        return np.dtype(self.dtype).itemsize

    @property
    def array_bytes(self) -> int:
        """Bytes of one [B, N] array."""
        return self.batch * self.features * self.itemsize

    @property
    def peak_slack_bytes(self) -> int:
        """Bytes by which its peak may differ between processes: each further thread has a buffer of NumPy's for a time.

        In some processes these buffers overlap, in others they do not.
        """
        return (self.threads - 1) * UFUNC_BUFFER_ITEMS * self.itemsize

    @property
    def spec(self) -> Implementation:
        """The registered implementation that this case measures."""
        return registered()[self.operation, self.implementation]


# The suite's vectorized form called as a user's own: with new inputs at every call, which takes short calls up to three
# times as long. Whoever wrote the same code must not read that it is slower.
ALIKE = "softmax_bench:vectorized"


def is_target(name: str) -> bool:
    """Whether an implementation is named by its file or module, as in 'homework.py:backward', and not by itself."""
    return ":" in name


def is_own(name: str) -> bool:
    """Whether an implementation is a user's own, named by its file."""
    return is_target(name) and name != ALIKE


def known_as(name: str) -> str:
    """An implementation's name in tables; a user's own, path/to/file.py:attribute, is shown without its folders."""
    return name.rpartition("/")[2]


@dataclass(frozen=True)
class Inputs:
    """The arrays of softmax's backward, each [B, N] in a case's dtype."""

    logits: FloatArray
    probs: FloatArray
    grad_output: FloatArray
    out: FloatArray = field(repr=False)


def make_inputs(case: Case, seed: int) -> Inputs:
    """The inputs of a case, the same for all implementations at one shape, dtype and distribution.

    ``grad_output`` is standard normal. If its numbers were all equal, as a ``sum()`` loss makes them, the exact
    gradient would be 0 and would hide mistakes.
    """
    distribution = zlib.crc32(case.logits.encode())
    rng = np.random.default_rng([seed, case.batch, case.features, distribution])
    logits = DISTRIBUTIONS[case.logits](rng, case)
    grad_output = normal_logits(rng, case)
    probs = softmax(logits)
    return Inputs(logits, probs, grad_output, np.empty_like(probs))


def normal_logits(rng: np.random.Generator, case: Case) -> FloatArray:
    """Standard normal."""
    return rng.standard_normal((case.batch, case.features), dtype=case.float_type)


def uniform_logits(rng: np.random.Generator, case: Case) -> FloatArray:
    """Uniform in [0, 1), as in the article."""
    return rng.random((case.batch, case.features), dtype=case.float_type)


def peaked_logits(rng: np.random.Generator, case: Case) -> FloatArray:
    """Normal with a standard deviation at which many probabilities are subnormal or underflow to 0."""
    logits = normal_logits(rng, case)
    logits *= PEAKED_STD[case.dtype]
    return logits


def masked_logits(rng: np.random.Generator, case: Case) -> FloatArray:
    """Normal, with half of them -inf, but never a whole row."""
    logits = normal_logits(rng, case)
    masked = rng.random(logits.shape, dtype=np.float32) < MASKED_SHARE
    masked[:, 0] = False
    logits[masked] = -np.inf
    return logits


DISTRIBUTIONS = {
    "normal": normal_logits,
    "uniform": uniform_logits,
    "peaked": peaked_logits,
    "masked": masked_logits,
}
