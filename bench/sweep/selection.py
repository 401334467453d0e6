"""Which cases a sweep measures: the grids, and what a user selects of them."""

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from ..errors import UserError
from ..implementations import Implementation, registered
from ..operations.cases import ARTICLE_INPUTS, ARTICLE_OPERATION, ARTICLE_SHAPE, DISTRIBUTIONS, DTYPES, Case, known_as

T = TypeVar("T")

# What subnormal probabilities cost: the same shape with hardly any of them and with a fifth.
SUBNORMAL_INPUTS = tuple((*ARTICLE_SHAPE, "float32", logits) for logits in ("normal", "peaked"))


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
        """The selected cases whose library is installed, by operation, small shapes first, shape by shape.

        Raises:
            UserError: a name or a number that does not exist or make sense, or nothing that is installed.
        """
        everything = self._cases()
        cases = [case for case in everything if case.spec.installed]
        if not cases:
            absent = ", ".join(unique(case.spec.library for case in everything))
            raise UserError(f"nothing to measure: {absent} not installed; make's EXTRAS=compiled,torch,jax has it")
        return cases

    def not_installed(self) -> dict[str, int]:
        """How many selected cases are left out, by the library that they need and that is not installed."""
        return dict(Counter(case.spec.library for case in self._cases() if not case.spec.installed))

    def _cases(self) -> list[Case]:
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


def unique(values: Iterable[T]) -> list[T]:
    """The values in order, each once."""
    return list(dict.fromkeys(values))
