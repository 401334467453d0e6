"""One way to run somebody's network forward: inputs of a size that it takes, and the probabilities that it gives."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...implementations import FloatArray
from ...implementations.softmax import softmax
from .classifiers import PENALTY
from .models import PADDED, arrays_in
from .parts import floats_in
from .roles import RETURNED
from .training import roles_of_step

# Examples; neurons of a layer whose size is ours to choose; classes where the labels say how many there are. They
# differ: else axes are mixed up.
BATCH, SIZE, CLASSES = 7, 5, 3
RATE, SEED = 0.1, 1
MOST_WEIGHTS = 4  # whose sizes may be those of the inputs
_LAYOUTS = ("rows", "columns", "column", "vector")


@dataclass(frozen=True)
class Run:
    """A forward that gave probabilities [B, K]: its inputs, what it returned, and where it may leave what it does not.

    ``forward`` is called with inputs; ``root`` is the network's model or its parameters.
    """

    forward: Callable[[Any], Any]
    root: Any
    inputs: npt.NDArray[Any]
    returned: Any
    probs: FloatArray

    @property
    def labels(self) -> npt.NDArray[np.intp]:
        """The label of each row."""
        return labels_of(self.probs.shape[1], len(self.probs))

    def loss(self) -> float:
        """The mean cross-entropy of the probabilities that the forward gives now."""
        probs = _probabilities(self.forward(self.inputs), self.root, len(self.probs))
        return float(-np.log(probs[np.arange(len(probs)), self.labels]).mean())

    def values_of(self, names: list[str], known: Mapping[str, Any]) -> Iterator[list[Any]]:
        """The values of the parameters of a backward with these names, in every way that they may be meant.

        ``known``: the values of some of them, by their names.
        """
        returned = self.returned if isinstance(self.returned, tuple) else (self.returned,)
        one_hot = np.eye(self.probs.shape[1])[self.labels]
        given = {
            PADDED: self.inputs,
            "targets": self._laid_out(one_hot),
            "labels": int(self.labels[0]) if self.inputs.ndim == 1 else self.labels,
            "probs": self._laid_out(self.probs.copy()),
            "cache": returned[1] if len(returned) == 2 else self.returned,
            "features": self.probs.shape[1],
            **settings(len(self.probs)),
            **dict(zip(RETURNED, returned, strict=False)),
        }
        for roles in roles_of_step(names, dict.fromkeys(known, "nothing")):
            if all(role in given or name in known for role, name in zip(roles, names, strict=True)):
                yield [known[name] if name in known else given[role] for role, name in zip(roles, names, strict=True)]

    def _laid_out(self, rows: FloatArray) -> FloatArray:
        """Rows [B, K] as the inputs are: in columns, as one column or as a vector."""
        if self.inputs.ndim == 1:
            vector: FloatArray = rows[0]
            return vector
        return rows if self.inputs.shape[0] == len(rows) != self.inputs.shape[1] else rows.T


def first_run(forward: Callable[[Any], Any], root: Any) -> Run | None:
    """The forward with the first inputs that it takes and gives probabilities of; None if it takes none of ours."""
    return next(filter(None, (_run(forward, inputs, root) for inputs in _inputs_for(root))), None)


def run_from_zeros(forward: Callable[[Any], Any], root: Any) -> Run:
    """A forward that can only be called after its network was fitted to the inputs: nothing was returned yet."""
    return Run(forward, root, random_rows(BATCH, SIZE), None, np.eye(CLASSES)[labels_of(CLASSES, BATCH)])


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


def _run(forward: Callable[[Any], Any], inputs: npt.NDArray[Any], root: Any) -> Run | None:
    batch = BATCH if BATCH in inputs.shape else 1
    try:
        returned = forward(inputs)
        probs = _probabilities(returned, root, batch)
    except Exception:  # whatever goes wrong, these are no inputs of it
        return None
    return Run(forward, root, inputs, returned, probs)


def _inputs_for(root: Any) -> Iterator[npt.NDArray[Any]]:
    """Inputs of the sizes that a network's weights have: in rows, in columns, one column, one vector."""
    shapes = [slot.array.shape for slot in floats_in(root).values() if slot.array.ndim == 2][:MOST_WEIGHTS]
    sizes = [size for size in dict.fromkeys([*itertools.chain(*shapes), SIZE]) if size > 1]
    for layout, size in itertools.product(_LAYOUTS, sizes):
        rows = random_rows(BATCH if layout in ("rows", "columns") else 1, size)
        yield rows if layout == "rows" else rows[0] if layout == "vector" else np.ascontiguousarray(rows.T)


def _probabilities(returned: Any, root: Any, batch: int) -> FloatArray:
    """The probabilities [B, K] that a forward returned or left in its model, or else the softmax of what it returned.

    Raises:
        ValueError: there are none.
    """
    every = [array for _, array in arrays_in(returned, "")][::-1]
    for array in itertools.chain(every, (slot.array for slot in floats_in(root).values())):
        rows = _as_rows(array, batch)
        if rows is not None and (rows >= 0.0).all() and np.allclose(rows.sum(axis=1), 1.0):
            return rows
    logits = [rows for rows in (_as_rows(array, batch) for array in every) if rows is not None]
    if not logits:
        raise ValueError("no probabilities")
    probs: FloatArray = softmax(logits[0])
    return probs


def _as_rows(array: npt.NDArray[Any], batch: int) -> FloatArray | None:
    """An array as rows [B, K] of at least two classes; None if it is none of these."""
    if array.dtype.kind != "f" or array.ndim not in (1, 2) or array.size < 2 * batch or array.size % batch:
        return None
    if array.ndim == 1 or batch == 1:
        row: FloatArray = array.reshape(1, -1)
        return row if batch == 1 and max(array.shape) == array.size else None
    rows: FloatArray = array if len(array) == batch else array.T
    return rows if len(rows) == batch else None
