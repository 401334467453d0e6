"""What is measured: a case, the grids of cases, and a case's inputs."""

import itertools
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import numpy as np

from ..errors import UserError
from ..implementations import FloatArray, Implementation, registered
from ..implementations.softmax import softmax

T = TypeVar("T")

DTYPES = ("float32", "float64")
ARTICLE_OPERATION = "softmax"
ARTICLE_SHAPE = (32, 512)  # the article measures batch 32, features 512, logits uniform in [0, 1), float64
ARTICLE_INPUTS = ((*ARTICLE_SHAPE, "float64", "uniform"),)
# What subnormal probabilities cost: the same shape with hardly any of them and with a fifth.
SUBNORMAL_INPUTS = tuple((*ARTICLE_SHAPE, "float32", logits) for logits in ("normal", "peaked"))

# Peaked logits are normal with this standard deviation: at 512 features about 20 % (float32) and 6 % (float64) of the
# probabilities are subnormal.
PEAKED_STD = {"float32": 30.0, "float64": 240.0}
MASKED_SHARE = 0.5


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
        """Bytes an item."""
        return np.dtype(self.dtype).itemsize

    @property
    def array_bytes(self) -> int:
        """Bytes of one [B, N] array."""
        return self.batch * self.features * self.itemsize

    @property
    def spec(self) -> Implementation:
        """The registered implementation that this case measures."""
        return registered()[self.operation, self.implementation]


@dataclass(frozen=True)
class Grid:
    """The axes whose product is a sweep; ``beside`` them some inputs more of softmax's own, as the article's always.

    Where the operation is a loss, ``loss_batch`` stands for ``batch``: its time grows with the batch as softmax's own
    does, and there are three operations to be measured.
    """

    batch: tuple[int, ...]
    features: tuple[int, ...]
    loss_batch: tuple[int, ...] = ARTICLE_SHAPE[:1]
    loss_features: tuple[int, ...] | None = None  # the same as features
    dtype: tuple[str, ...] = ("float64",)
    logits: tuple[str, ...] = ("normal",)
    beside: tuple[tuple[int, int, str, str], ...] = ()


GRIDS = {
    "quick": Grid(batch=(1, 32), features=(10, 128, 512), loss_features=(10, 512)),
    "default": Grid(
        batch=(1, 8, 32, 128, 512),
        features=(10, 32, 128, 512, 2048, 8192),
        loss_features=(10, 32, 128, 512, 8192),
        beside=SUBNORMAL_INPUTS,
    ),
    "full": Grid(
        batch=(1, 8, 32, 128, 512),
        features=(10, 32, 128, 512, 2048, 8192, 32768, 131072),
        dtype=("float32", "float64"),
        logits=("normal", "uniform", "peaked", "masked"),
    ),
}


@dataclass(frozen=True)
class Selection:
    """What a user asked to sweep: a grid, and values that replace whole axes of it (empty: the grid's own)."""

    grid: str = "default"
    operation: tuple[str, ...] = ()
    implementation: tuple[str, ...] = ()
    library: tuple[str, ...] = ()
    batch: tuple[int, ...] = ()
    features: tuple[int, ...] = ()
    dtype: tuple[str, ...] = ()
    logits: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()

    @classmethod
    def restored(cls, stored: dict[str, Any]) -> Self:
        """The selection that run.json keeps, its lists as tuples again."""
        axes: dict[str, Any] = {axis: tuple(value) for axis, value in stored.items() if axis != "grid"}
        return cls(stored["grid"], **axes)

    def cases(self) -> list[Case]:
        """The selected cases by operation, small shapes first and all implementations of one shape together.

        Raises:
            UserError: a name or a number that does not exist or make sense.
        """
        if self.grid not in GRIDS:
            raise UserError(f"--grid {self.grid}: unknown; one of {', '.join(GRIDS)}")
        for axis in ("batch", "features", "threads"):
            for value in getattr(self, axis):
                if value < 1:
                    raise UserError(f"--{axis} {value}: must be at least 1")
        self._check_names()
        chosen = [key for key in registered() if self._wants(*key)]
        if not chosen:
            wanted = {axis: ", ".join(getattr(self, axis)) for axis in ("operation", "implementation", "library")}
            told = "; ".join(f"{axis} {names}" for axis, names in wanted.items() if names)
            raise UserError(f"no implementation is all of this: {told}")
        cases = []
        for operation in unique(operation for operation, _ in chosen):
            shapes = self._inputs_of(operation)
            players = [
                (threads, name)
                for threads in self._threads()
                for its_operation, name in chosen
                if its_operation == operation and threads in self._threads_of(registered()[operation, name])
            ]
            cases += [
                Case(operation, name, *shape, threads) for shape, (threads, name) in itertools.product(shapes, players)
            ]
        return cases

    def _threads(self) -> list[int]:
        return unique(self.threads or (1, os.cpu_count() or 1))

    def _threads_of(self, spec: Implementation) -> list[int]:
        """Unless numbers of threads are asked for, one, and all cores for what runs threads of its own."""
        return self._threads() if self.threads or spec.runs_threads else [1]

    def _inputs_of(self, operation: str) -> list[tuple[int, int, str, str]]:
        """The (batch, features, dtype, logits) of an operation, small shapes first."""
        grid = GRIDS[self.grid]
        batch, features = grid.batch, grid.features
        if operation != ARTICLE_OPERATION:
            batch, features = grid.loss_batch, grid.loss_features or grid.features
        axes = itertools.product(
            self.batch or batch, self.features or features, self.dtype or grid.dtype, self.logits or grid.logits
        )
        inputs = list(axes)
        if operation == ARTICLE_OPERATION:
            inputs += [one for one in (*ARTICLE_INPUTS, *grid.beside) if self._admits(*one)]
        return unique(sorted(inputs, key=lambda shape: (shape[0] * shape[1], shape)))

    def _wants(self, operation: str, implementation: str) -> bool:
        # A user's own implementation, path.py:name, stands beside those of its operation, or beside those that are
        # chosen, not in their place.
        chosen = [name for name in self.implementation if ":" not in name]
        own = [known_as(name) for name in self.implementation if ":" in name]
        wanted = self.operation or [its_operation for its_operation, name in registered() if name in own]
        return (
            (not wanted or operation in wanted)
            and (not chosen or implementation in map(known_as, self.implementation))
            and (not self.library or registered()[operation, implementation].library in self.library)
        )

    def _check_names(self) -> None:
        known = {
            "operation": unique(operation for operation, _ in registered()),
            "implementation": unique(name for _, name in registered()),
            "library": unique(spec.library for spec in registered().values()),
            "dtype": list(DTYPES),
            "logits": list(DISTRIBUTIONS),
        }
        for axis, names in known.items():
            for value in map(known_as, getattr(self, axis)):
                if value not in names:
                    raise UserError(f"--{axis} {value}: unknown; one of {', '.join(names)}")

    def _admits(self, batch: int, features: int, dtype: str, logits: str) -> bool:
        """Whether no axis was narrowed to values that leave these inputs out."""
        wanted: list[tuple[Sequence[object], object]] = [
            (self.batch, batch),
            (self.features, features),
            (self.dtype, dtype),
            (self.logits, logits),
        ]
        return all(not chosen or value in chosen for chosen, value in wanted)


def known_as(name: str) -> str:
    """An implementation's name in tables: of a user's own, path/to/file.py:attribute, without the folders."""
    return name.rpartition("/")[2]


def unique(values: Iterable[T]) -> list[T]:
    """The values in order, each once."""
    return list(dict.fromkeys(values))


@dataclass(frozen=True)
class Inputs:
    """The arrays of softmax's backward, each [B, N] in a case's dtype, made from (seed, shape, distribution) alone."""

    logits: FloatArray
    probs: FloatArray
    grad_output: FloatArray
    out: FloatArray = field(repr=False)


def make_inputs(case: Case, seed: int) -> Inputs:
    """The inputs of a case: equal for all implementations of one shape, dtype and distribution.

    ``grad_output`` is standard normal and dense: one of equal numbers, as a ``sum()`` loss gives, has the exact
    gradient 0 and hides mistakes.
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
    """Normal, so wide that many probabilities are subnormal or underflow to 0."""
    logits = normal_logits(rng, case)
    logits *= PEAKED_STD[case.dtype]
    return logits


def masked_logits(rng: np.random.Generator, case: Case) -> FloatArray:
    """Normal, half of them -inf, never a whole row."""
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
