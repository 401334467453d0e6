"""Networks that are made of layers of their file: ``Sequential([Linear(4, 5), ReLU(), Linear(5, 3)])``."""

import contextlib
import inspect
import re
from collections.abc import Iterator, Mapping
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
    linear = next(filter(None, (_made(each, SIZE, SIZE) for each in _layers(target, namespace))), None)
    if linear is None:
        return
    alone = (_made(each) for each in _layers(target, namespace))
    between = [layer for layer in alone if layer is not None and not floats_in(layer)][:1]
    layers = [linear, *between, type(linear)(SIZE, SIZE)]
    names = constructor_parameters(target)
    if len(names) == 1 and _LAYERS.fullmatch(names[0]):
        yield from _given(target, layers)
    elif not names:
        if any(each.kind is each.VAR_POSITIONAL for each in inspect.signature(target).parameters.values()):
            yield from _given(target, *layers)
        for add in [name for name in _ADDS if callable(getattr(target, name, None))][:1]:
            for model in _given(target):
                with contextlib.suppress(Exception):  # whatever goes wrong, it does not take them
                    for layer in layers:
                        getattr(model, add)(layer)
                    yield model


def _layers(target: type, namespace: Mapping[str, Any]) -> list[type]:
    """The classes of a file that have a forward and a backward, but for this one."""
    found = [value for value in namespace.values() if inspect.isclass(value) and value is not target]
    return [each for each in found if all(callable(getattr(each, name, None)) for name in ("forward", "backward"))]


def _made(layer: type, *sizes: int) -> Any:
    """A layer of these sizes that takes rows and gives as many of as many numbers; None if it is none."""
    with contextlib.suppress(Exception):  # whatever goes wrong, it is none
        made = layer(*sizes)
        rows = random_rows(BATCH, SIZE)
        if made.forward(rows).shape == rows.shape and bool(floats_in(layer(*sizes))) == bool(sizes):
            return layer(*sizes)
    return None


def _given(target: type, *arguments: Any) -> Iterator[Any]:
    with contextlib.suppress(Exception):  # whatever goes wrong, it is not made so
        yield target(*arguments)
