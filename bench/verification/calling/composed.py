"""Networks that are made of layers of their file: ``Sequential([Linear(4, 5), ReLU(), Linear(5, 3)])``."""

import contextlib
import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .methods import constructor_parameters
from .parts import floats_in
from .runs import BATCH, SIZE, random_rows

_LAYERS = re.compile(r"layers|modules|blocks|(layer|module)_list|net(work)?|model|stack", re.IGNORECASE)
_ADDS = ("add", "add_layer", "addLayer", "append", "push")


def composed(target: type, namespace: Mapping[str, Any]) -> Iterator[Any]:
    """Instances of a class that holds layers: two linear ones, and one without parameters between them if there is one.

    They are given to its constructor, in a list or one by one, or to its method that adds a layer.
    """
    names = constructor_parameters(target)
    in_a_list = len(names) == 1 and _LAYERS.fullmatch(names[0]) is not None
    one_by_one = not names and any(
        each.kind is each.VAR_POSITIONAL for each in inspect.signature(target).parameters.values()
    )
    adds = [name for name in _ADDS if not names and callable(getattr(target, name, None))][:1]
    layers = _stack(target, namespace) if in_a_list or one_by_one or adds else []
    if not layers:
        return
    if in_a_list:
        yield from _given(target, layers)
    if one_by_one:
        yield from _given(target, *layers)
    for model, add in itertools.product(_given(target) if adds else (), adds):
        with contextlib.suppress(Exception):  # whatever goes wrong, it does not take them
            for layer in layers:
                getattr(model, add)(layer)
            yield model


def _stack(target: type, namespace: Mapping[str, Any]) -> list[Any]:
    """New layers of the file's classes, to be put one upon the other; none where it has no linear one."""
    found = [value for value in namespace.values() if inspect.isclass(value) and value is not target]
    classes: list[Callable[..., Any]] = [
        each for each in found if all(callable(getattr(each, name, None)) for name in ("forward", "backward"))
    ]
    linear = next((each for each in classes if _is_layer(each, SIZE, SIZE)), None)
    if linear is None:
        return []
    between = [each() for each in itertools.islice(filter(_is_layer, classes), 1)]
    return [linear(SIZE, SIZE), *between, linear(SIZE, SIZE)]


def _is_layer(layer: Callable[..., Any], *sizes: int) -> bool:
    """Whether instances of these sizes take rows and give as many of as many numbers; told none, without parameters."""
    with contextlib.suppress(Exception):  # whatever goes wrong, they do not
        rows = random_rows(BATCH, SIZE)
        is_right = layer(*sizes).forward(rows).shape == rows.shape
        return is_right and bool(floats_in(layer(*sizes))) == bool(sizes)
    return False


def _given(target: type, *arguments: Any) -> Iterator[Any]:
    with contextlib.suppress(Exception):  # whatever goes wrong, it is not made so
        yield target(*arguments)
