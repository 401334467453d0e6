"""Which cases a sweep measures: the grids, and what a user selects of them."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import msgspec

from ..errors import UserError
from ..implementations import NUMPY, Implementation, registered
from ..instruments.host import cores
from ..operations.cases import (
    ALIKE,
    ARTICLE_INPUTS,
    ARTICLE_OPERATION,
    ARTICLE_SHAPE,
    DISTRIBUTIONS,
    DTYPES,
    Case,
    is_target,
    known_as,
)

T = TypeVar("T")

# What subnormal probabilities cost: the same shape with hardly any of them and with a fifth.
SUBNORMAL_INPUTS = tuple((*ARTICLE_SHAPE, "float32", logits) for logits in ("normal", "peaked"))

# Of an array, from which on a grid asks for several threads. The call on a smaller one takes as long as it takes to
# wake a thread, which is one of several times. One such shape is enough to show it.
THREADED_BYTES, WAKING_INPUTS = 1 << 19, (*ARTICLE_SHAPE, "float64", "normal")


@dataclass(frozen=True)
class Grid:
    """The axes of a sweep, which measures their product.

    Softmax's backward is also measured on ``extra_inputs`` (batch, features, dtype, logits), and always on the
    article's. The loss has axes of its own: its time grows with the batch as softmax's does, and it is three
    operations. A ``library_shape`` keeps a small grid quick: each library and number of threads takes a process, whose
    start takes seconds.
    """

    batch: tuple[int, ...]
    features: tuple[int, ...]
    loss_batch: tuple[int, ...] = ARTICLE_SHAPE[:1]
    loss_features: tuple[int, ...] | None = None  # the same as features
    library_shape: tuple[int, int] | None = None  # the only one for what needs more than NumPy, with one thread
    dtype: tuple[str, ...] = ("float64",)
    logits: tuple[str, ...] = ("normal",)
    extra_inputs: tuple[tuple[int, int, str, str], ...] = ()
    minutes: float = 4.0  # of the time box for NumPy's cases, unless another is given


GRIDS = {
    "quick": Grid(
        batch=(1, 32), features=(10, 128, 512), loss_features=(10, 512), library_shape=ARTICLE_SHAPE, minutes=0.45
    ),
    "default": Grid(
        batch=(1, 8, 32, 128, 512),
        features=(10, 32, 128, 512, 2048, 8192),
        loss_features=(10, 32, 128, 512, 8192),
        extra_inputs=SUBNORMAL_INPUTS,
    ),
    "full": Grid(
        batch=(1, 8, 32, 128, 512),
        features=(10, 32, 128, 512, 2048, 8192, 32768, 131072),
        dtype=("float32", "float64"),
        logits=("normal", "uniform", "peaked", "masked"),
        minutes=60.0,
    ),
}


def stated(help_text: str, default: Any = (), metavar: str = "NAME") -> Any:
    """A field that is an option of the command line, with its help text and the name of its value."""
    return field(default=default, metadata={"help": help_text, "metavar": metavar})


@dataclass(frozen=True)
class Selection:
    """What a user selects: a grid, and values that replace whole axes of it (empty: the grid's own)."""

    grid: str = stated(f"the cases: {', '.join(GRIDS)}", "default")
    operation: tuple[str, ...] = stated("measure only this operation")
    implementation: tuple[str, ...] = stated("measure only this one; path.py:name adds one of your own")
    library: tuple[str, ...] = stated("measure only the implementations that need this library, or only numpy's")
    batch: tuple[int, ...] = stated("batch size in place of the grid's", metavar="B")
    features: tuple[int, ...] = stated("number of features in place of the grid's", metavar="N")
    dtype: tuple[str, ...] = stated(f"{' or '.join(DTYPES)}, in place of the grid's")
    logits: tuple[str, ...] = stated(f"distribution of the logits: {', '.join(DISTRIBUTIONS)}")
    threads: tuple[int, ...] = stated("threads [default: 1, and all cores for what runs threads]", metavar="T")

    @classmethod
    def restored(cls, stored: dict[str, Any]) -> Self:
        """The selection that run.json keeps, its lists as tuples again.

        Raises:
            UserError: it is none.
        """
        try:
            return msgspec.convert(stored, cls)
        except msgspec.ValidationError as error:
            raise UserError(f"run.json: no selection of cases ({error})") from None

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
        for count in self.threads:
            if count > cores():
                raise UserError(f"--threads {count}: this machine has {cores()} processors")
        self._check_names()
        chosen = [key for key in registered() if self._includes(*key)]
        if not chosen:
            axes = {axis: ", ".join(getattr(self, axis)) for axis in ("operation", "implementation", "library")}
            given = "; ".join(f"{axis} {names}" for axis, names in axes.items() if names)
            raise UserError(f"no implementation fits all of this: {given}")
        cases = []
        for operation in unique(operation for operation, _ in chosen):
            shapes = self._inputs_of(operation)
            competitors = [
                (threads, name)
                for threads in self._threads()
                for its_operation, name in chosen
                if its_operation == operation and threads in self._threads_of(registered()[operation, name])
            ]
            cases += [
                Case(operation, name, *shape, threads)
                for shape, (threads, name) in itertools.product(shapes, competitors)
            ]
        return [case for case in cases if self._is_in_grid(case)]

    def _is_in_grid(self, case: Case) -> bool:
        """Whether the grid has the case: some have a single shape for libraries, and few small ones several threads.

        Where the user narrows an axis, everything is in.
        """
        shape = GRIDS[self.grid].library_shape
        if self._chooses or self.batch or self.features or self.threads:
            return True
        inputs = case.batch, case.features, case.dtype, case.logits
        if case.threads > 1 and case.array_bytes < THREADED_BYTES and inputs != WAKING_INPUTS:
            return False
        if shape is None or self.library or case.spec.library == NUMPY:
            return True
        return (case.batch, case.features) == shape and case.threads == 1

    def _threads(self) -> list[int]:
        return unique(self.threads or (1, cores()))

    def _threads_of(self, spec: Implementation) -> list[int]:
        """The given numbers of threads; without any, one, and all cores for what runs threads of its own."""
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
            inputs += [extra for extra in (*ARTICLE_INPUTS, *grid.extra_inputs) if self._admits(*extra)]
        return unique(sorted(inputs, key=lambda shape: (shape[0] * shape[1], shape)))

    @property
    def _chooses(self) -> bool:
        """Whether implementations are chosen; a user's own, path.py:name, is only added to those that are measured."""
        return not all(map(is_target, self.implementation))

    def _includes(self, operation: str, implementation: str) -> bool:
        own = list(map(known_as, filter(is_target, self.implementation)))
        named = [*map(known_as, self.implementation), *([ALIKE] if own else [])]  # with what it is to be compared with
        operations = self.operation or [its_operation for its_operation, name in registered() if name in own]
        return (
            (not operations or operation in operations)
            and (not self._chooses or implementation in named)
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
        axes: list[tuple[Sequence[object], object]] = [
            (self.batch, batch),
            (self.features, features),
            (self.dtype, dtype),
            (self.logits, logits),
        ]
        return all(not chosen or value in chosen for chosen, value in axes)


def unique(values: Iterable[T]) -> list[T]:
    """The values in order, each once."""
    return list(dict.fromkeys(values))
