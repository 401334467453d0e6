"""One way to run somebody's network forward: inputs of a size that it takes, and the probabilities that it gives."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...implementations import FloatArray
from ...implementations.softmax import softmax
from .classifiers import PENALTY, is_data
from .models import PADDED, arrays_in
from .parts import floats_in
from .roles import RETURNED, roles_of
from .training import roles_of_step

# Examples; neurons of a layer whose size is ours to choose; classes where the labels say how many there are. They
# differ: else axes are mixed up.
BATCH, SIZE, CLASSES = 7, 5, 3
SEQUENCES, TOKENS_EACH = 2, 4
RATE, SEED = 0.1, 1
MOST_WEIGHTS = 4  # whose sizes may be those of the inputs
_LAYOUTS = ("rows", "columns", "column", "vector", "sequences")
# What a parameter gets, beside what its name alone says: what the forward returned under that name, the logits among
# that, or the gradient of the mean cross-entropy by what the forward returned, which are logits or probabilities.
_NAMED, _SCORES, _BY_LOGITS, _BY_PROBS = "returned_by_name", "scores", "slopes_by_logits", "slopes_by_probs"
SLOPES = {_BY_LOGITS, _BY_PROBS}


@dataclass(frozen=True)
class Run:
    """A forward that gave probabilities [B, K]: its inputs, what it returned, and where it may leave what it does not.

    ``forward`` is called with inputs; ``root`` is the network's model or its parameters. ``gives_logits``: it gave no
    probabilities, and these are the softmax of what it gave. ``is_to_come``: it can only be run once the network has
    been fitted.
    """

    forward: Callable[[Any], Any]
    root: Any
    inputs: npt.NDArray[Any]
    returned: Any
    probs: FloatArray
    gives_logits: bool = False
    is_to_come: bool = False

    @property
    def labels(self) -> npt.NDArray[np.intp]:
        """The label of each row."""
        return labels_of(self.probs.shape[1], len(self.probs))

    def again(self) -> "Run":
        """The forward run with the parameters as they are now, where it can be run already."""
        return self if self.is_to_come else _run_with(self.forward, self.inputs, self.root)

    def loss(self) -> float:
        """The mean cross-entropy of the probabilities that the forward gives now."""
        probs = _run_with(self.forward, self.inputs, self.root).probs
        return float(-np.log(probs[np.arange(len(probs)), self.labels]).mean())

    def ways(self, names: list[str], returned_as: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """The roles of the parameters of a backward or a loss with these names, in every way that they may be meant.

        ``returned_as``: the names under which the forward returns what it does.
        """
        named = self._named(returned_as)
        others = [name for name in names if name not in named]
        scores = {name: _SCORES for name in others if roles_of(name) == ("logits",)}
        incoming = [name for name in others if roles_of(name) == ("grad_output",)]
        if len(names) == 1 and is_data(names[0]):  # what goes through all layers has one name, both ways
            others = incoming = names
        there = self._values().keys()
        for slope in (_BY_LOGITS, _BY_PROBS) if incoming else ("",):
            told = {incoming[0]: slope} if slope else {}
            for known in (scores | told, told) if scores else (told,):  # probabilities may have that name, too
                for roles in roles_of_step(others, known):
                    if there >= set(roles):
                        found = dict(zip(others, roles, strict=True))
                        yield tuple(found.get(name, _NAMED) for name in names)

    def given(self, names: list[str], roles: tuple[str, ...], returned_as: tuple[str, ...]) -> list[Any]:
        """The values of these parameters in one of these ways, after this run."""
        named, values = self._named(returned_as), self._values()
        return [named[name] if role == _NAMED else values[role] for name, role in zip(names, roles, strict=True)]

    def _named(self, returned_as: tuple[str, ...]) -> dict[str, Any]:
        return by_name(returned_as, self.returned)

    def _values(self) -> dict[str, Any]:
        returned = self.returned if isinstance(self.returned, tuple) else (self.returned,)
        one_hot = np.eye(self.probs.shape[1])[self.labels]
        batch = len(self.probs)
        values = {
            PADDED: self.inputs,
            "targets": self._laid_out(one_hot),
            "labels": self._labels_laid_out(),
            "probs": self._laid_out(self.probs.copy()),
            "cache": returned[1] if len(returned) == 2 else self.returned,
            "features": self.probs.shape[1],
            _BY_LOGITS: self._laid_out((self.probs - one_hot) / batch),
            **settings(batch),
            **dict(zip(RETURNED, returned, strict=False)),
        }
        if not self.gives_logits:
            values[_BY_PROBS] = self._laid_out(-one_hot / self.probs / batch)
        scores = [array for _, array in arrays_in(self.returned, "") if self._are_scores(array)]
        return values | ({_SCORES: scores[0].copy()} if scores else {})

    def _are_scores(self, array: npt.NDArray[Any]) -> bool:
        rows = _as_rows(array, len(self.probs))
        return rows is not None and rows.shape == self.probs.shape and not np.array_equal(rows, self.probs)

    def _laid_out(self, rows: FloatArray) -> FloatArray:
        """Rows [B, K] as the inputs are: in columns, as one column, as a vector or as sequences."""
        if self.inputs.ndim == 1:
            vector: FloatArray = rows[0]
            return vector
        if places := _places(self.inputs):
            return rows.reshape(*places, -1)
        return rows if self.inputs.shape[0] == len(rows) != self.inputs.shape[1] else rows.T

    def _labels_laid_out(self) -> Any:
        if self.inputs.ndim == 1:
            return int(self.labels[0])
        return self.labels.reshape(_places(self.inputs) or -1)


def first_run(forward: Callable[[Any], Any], root: Any) -> Run | None:
    """The forward with the first inputs that it takes and gives probabilities of; None if it takes none of ours."""
    for inputs in _inputs_for(root):
        with contextlib.suppress(Exception):  # whatever goes wrong, these are no inputs of it
            return _run_with(forward, inputs, root)
    return None


def run_from_zeros(forward: Callable[[Any], Any], root: Any) -> Run:
    """A forward that can only be called after its network was fitted to the inputs: nothing was returned yet."""
    probs = np.eye(CLASSES)[labels_of(CLASSES, BATCH)]
    return Run(forward, root, random_rows(BATCH, SIZE), None, probs, is_to_come=True)


def scores(model: Any, inputs: FloatArray, *, ones_first: bool) -> FloatArray:
    """The logits [B, K] of a linear classifier that tells nobody its probabilities, from its weights and its bias.

    Weights of one row more than there are inputs have their bias in the last row, or in the first.

    Raises:
        StopIteration: it has no such weights.
    """
    arrays = [slot.array for slot in floats_in(model).values()]
    sizes = (inputs.shape[1], inputs.shape[1] + 1)
    weights = next(array for array in arrays if array.ndim == 2 and array.shape in [(size, CLASSES) for size in sizes])
    if len(weights) > inputs.shape[1]:
        ones = np.ones((len(inputs), 1))
        inputs = np.hstack([ones, inputs] if ones_first else [inputs, ones])
    biases = [array.reshape(1, -1) for array in arrays if array.size == CLASSES and array is not weights]
    found: FloatArray = inputs @ weights + sum(biases[:1])
    return found


def settings(batch: int) -> dict[str, Any]:
    """The values of the roles that are no arrays."""
    switches = {"one": 1, "zero": 0.0, "training": True, "upstream": 1.0, "nothing": None}
    return {"learning_rate": RATE, PENALTY: 0.0, "batch": batch, **switches}


def random_rows(batch: int, size: int) -> FloatArray:
    """Inputs [B, D] of a network, as an image's."""
    return np.random.default_rng(SEED).uniform(0.1, 1.0, (batch, size))


def labels_of(classes: int, batch: int) -> npt.NDArray[np.intp]:
    """A label for each row; the highest is the first one, so that a class count that is taken from them is right."""
    return (classes - 1 - np.arange(batch)) % classes


def sizes_in(weights: Iterable[npt.NDArray[Any]]) -> list[int]:
    """The sizes of a network's layers that its weights speak of, and one more in case that they speak of none."""
    return [size for size in dict.fromkeys([*itertools.chain(*(each.shape for each in weights)), SIZE]) if size > 1]


def by_name(names: tuple[str, ...], returned: Any) -> dict[str, Any]:
    """What a function returned, by the names that it has there."""
    values = returned if isinstance(returned, tuple) else (returned,)
    return {name: value for name, value in zip(names, values, strict=True) if name} if len(names) == len(values) else {}


def _run_with(forward: Callable[[Any], Any], inputs: npt.NDArray[Any], root: Any) -> Run:
    """A run of a forward.

    Raises:
        ValueError: it gives no probabilities.
    """
    places = _places(inputs)
    batch = int(np.prod(places)) if places else BATCH if BATCH in inputs.shape else 1
    returned = forward(inputs)
    every = [array for _, array in arrays_in(returned, "")][::-1]
    given = [rows for rows in (_as_rows(array, batch) for array in every) if rows is not None]
    left = [slot.array for slot in floats_in(root).values()] if not given else []
    given += [rows for rows in (_as_rows(array, batch) for array in left) if rows is not None and _are_probs(rows)]
    if not given:
        raise ValueError("no probabilities")
    probs = next(filter(_are_probs, given), None)
    return Run(forward, root, inputs, returned, softmax(given[0]) if probs is None else probs, probs is None)


def _places(inputs: npt.NDArray[Any]) -> tuple[int, ...]:
    """How many sequences there are, and how long each is; nothing where the inputs are no sequences."""
    if inputs.dtype.kind != "f":
        return inputs.shape
    return inputs.shape[:-1] if inputs.ndim == 3 else ()


def _inputs_for(root: Any) -> Iterator[npt.NDArray[Any]]:
    """Inputs of the sizes that a network's weights have: rows, columns, one column, a vector, sequences; or tokens."""
    weights = [slot.array for slot in floats_in(root).values() if slot.array.ndim == 2]
    for layout, size in itertools.product(_LAYOUTS, sizes_in(weights[:MOST_WEIGHTS])):
        if layout == "sequences":
            yield random_rows(SEQUENCES * BATCH, size).reshape(SEQUENCES, BATCH, size)
            continue
        rows = random_rows(BATCH if layout in ("rows", "columns") else 1, size)
        yield rows if layout == "rows" else rows[0] if layout == "vector" else np.ascontiguousarray(rows.T)
    yield labels_of(2, SEQUENCES * TOKENS_EACH).reshape(SEQUENCES, TOKENS_EACH)


def _are_probs(rows: FloatArray) -> bool:
    return bool((rows >= 0.0).all() and np.allclose(rows.sum(axis=1), 1.0))


def _as_rows(array: npt.NDArray[Any], batch: int) -> FloatArray | None:
    """An array as rows [B, K] of at least two classes; None if it is none of these."""
    if array.dtype.kind != "f" or array.ndim not in (1, 2, 3) or array.size < 2 * batch or array.size % batch:
        return None
    if array.ndim == 3:
        return array.reshape(batch, -1) if array.shape[0] * array.shape[1] == batch else None
    if array.ndim == 1 or batch == 1:
        row: FloatArray = array.reshape(1, -1)
        return row if batch == 1 and max(array.shape) == array.size else None
    rows: FloatArray = array if len(array) == batch else array.T
    return rows if len(rows) == batch else None
