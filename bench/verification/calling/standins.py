"""What stands in for classes of a framework that the target's module does not have: contexts, tensors, arrays."""

import re
from typing import Any

import numpy as np

from .graphs import CONSUMERS, SLOTS

_SAVED = re.compile(r"sav|context|ctx|tensor|value|cache", re.IGNORECASE)


class Context:
    """What an autograd function's forward and backward share; they may keep anything in it, under any name.

    A method whose name begins with ``save`` keeps values. They are then found under every name that speaks of what was
    saved, and returned by every method whose name begins with ``get``. Until then these names do not exist. What
    PyTorch's are told beside that changes nothing here, and they ask for the gradients of all inputs.
    """

    needs_input_grad = (True,) * 16

    def set_materialize_grads(self, value: bool) -> None:
        """Do nothing: every gradient comes in."""

    def mark_dirty(self, *_: Any) -> None:
        """Do nothing."""

    mark_non_differentiable = mark_dirty

    def __getattr__(self, name: str) -> Any:
        """What is not an attribute of its own: a method that saves, or what was saved."""
        if name.startswith("save") and not name.startswith("saved"):
            return self._keep
        kept = self.__dict__.get("_kept")
        if kept is None or not _SAVED.search(name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return (lambda: kept) if name.startswith("get") else kept

    def _keep(self, *values: Any) -> tuple[Any, ...]:
        self._kept = values
        return values


class Leaf:
    """A tensor, if the target's module has no class for it: data and gradient under all usual names.

    The target may make others of this class, with whatever its author's class keeps.
    """

    requires_grad = True

    def __init__(self, data: Any, *_: Any, **kept: Any) -> None:
        self.data = self.value = self.out = self.output = data
        for name in SLOTS:
            setattr(self, name, np.zeros_like(data))
        for name in CONSUMERS:
            setattr(self, name, [])
        vars(self).update(kept)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the data."""
        return np.shape(self.data)

    @property
    def ndim(self) -> int:
        """That of the data."""
        return np.ndim(self.data)

    def _back(self, *_: Any) -> None:
        """Do nothing: a graph ends here."""

    backward = back = _backward = _back


class Carrier(np.ndarray):
    """An array that takes attributes: its gradient may be left in one."""
