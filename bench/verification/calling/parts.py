"""The arrays of floats in somebody's model, wherever it keeps them: its parameters, and what it keeps beside them."""

import sys
import types
from collections.abc import Iterator, Mapping, MutableMapping, MutableSequence
from typing import Any

import numpy as np

from .models import Slot

DEEPEST = 6  # layers in layers, items in items
Path = tuple[Any, ...]  # the attributes, keys and indices that lead to an array
_NO_MODELS = sys.stdlib_module_names | {"numpy", "torch", "scipy", "jax"}


def floats_in(root: Any) -> dict[Path, Slot]:
    """The places of all arrays of floats in a model, by their paths from its root."""
    return dict(_floats_in(root, (), set()))


def _floats_in(holder: Any, path: Path, seen: set[int]) -> Iterator[tuple[Path, Slot]]:
    if id(holder) in seen or len(path) > DEEPEST:
        return
    seen.add(id(holder))
    inside = holder if isinstance(holder, MutableMapping | MutableSequence) else getattr(holder, "__dict__", {})
    items = inside.items() if isinstance(inside, Mapping) else enumerate(inside)
    for key, value in list(items):
        here = (*path, key)
        if isinstance(value, np.ndarray):
            if value.dtype.kind == "f" and value.size and isinstance(inside, MutableMapping | MutableSequence):
                names = [str(part) for part in here if isinstance(part, str)]
                yield here, Slot((names or [""])[-1], inside, key, "_".join(names[:-1]))
        elif isinstance(value, MutableMapping | MutableSequence) or _is_part(value):
            yield from _floats_in(value, here, seen)


def _is_part(value: Any) -> bool:
    """Whether an object may be a layer: one of somebody's own class."""
    if isinstance(value, type | types.ModuleType | types.FunctionType | types.MethodType):
        return False
    return hasattr(value, "__dict__") and type(value).__module__.partition(".")[0] not in _NO_MODELS
