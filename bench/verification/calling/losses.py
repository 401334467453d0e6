"""Networks whose code returns its own loss, and the gradients with it: methods, and functions with parameters."""

import functools
import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .classifiers import is_data, setting_of
from .functions import functions_beside
from .kept import returned_names
from .models import whole_source
from .network import Network, call_of, handed, number
from .parameters import View, key_of, names_used, parameters_for
from .parts import floats_in
from .roles import asked_names, optional_names, roles_of
from .runs import BATCH, labels_of, random_rows, settings, sizes_in

TOKENS, NEXT_TOKENS = [0, 1, 0, 1, 1], [1, 0, 1, 1, 0]  # of a text with two letters, for a network of sequences
LONGEST_TEXT = 64
WINDOWS = (2, 3)  # how many letters of a text come before the one that follows them
# What the parameters of a function with its own loss are, but for settings and parameters of the network.
_INPUTS, _FOLLOWING, _STATE = "inputs", "following", "state"
_MAKES_LOSS = re.compile(r"(exp|softmax)\(.*log\(|log\(.*(exp|softmax)\(", re.DOTALL)
_LENGTH = re.compile(r"\w*(steps|len(gth)?|seq\w*|window)\w*", re.IGNORECASE)


def method_with_loss(target: type, method: str, models: Iterable[Any]) -> Iterator[Network]:
    """A class with a method that returns its loss and the gradients; its parameters may be handed to it, too."""
    if not _MAKES_LOSS.search(whole_source(target)):
        return
    for model in models:
        function = getattr(model, method)
        kept = {name: name for name in asked_names(function) if isinstance(vars(model).get(name), np.ndarray)}
        yield from _with_loss(function, model, f"{target.__name__}: {method}", kept, vars(model))


def function_with_loss(target: Callable[..., Any], namespace: Mapping[str, Any]) -> Iterator[Network]:
    """A function that returns its loss and the gradients of what it is handed, or of arrays of its module."""
    module = getattr(target, "__globals__", {})
    used = names_used(target)
    sources = [whole_source(target), *(whole_source(module[name]) for name in used if inspect.isfunction(module[name]))]
    if not _MAKES_LOSS.search("\n".join(sources)):
        return
    arrays = [name for name in module if name in used and isinstance(module[name], np.ndarray)]
    if arrays:
        lengths = [module[name] for name in used if _LENGTH.fullmatch(name) and isinstance(module[name], int)]
        yield from _with_loss(target, View(module, arrays), target.__name__, {}, {}, lengths)
    for parameters in parameters_for([target], functions_beside(target, namespace)):
        kept = {name: key for name in asked_names(target) if (key := key_of(name, parameters))}
        if kept:
            yield from _with_loss(target, parameters, target.__name__, kept, parameters)


def _with_loss(
    function: Callable[..., Any],
    root: Any,
    called: str,
    kept: Mapping[str, str],
    parameters: Mapping[str, Any],
    lengths: Iterable[int] = (),
) -> Iterator[Network]:
    """The calls of a function that returns its loss first: with letters and those that follow, or rows and labels.

    ``kept``: under which names in ``parameters`` the values of its parameters are. What else it asks for is a state, of
    the size of one of the weights. ``lengths``: of the texts that it may insist on.
    """
    asked, optional = asked_names(function), _targets_left_out(function)
    sizes = sizes_in(slot.array for slot in floats_in(root).values())
    states = [np.zeros(shape) for size in sizes for shape in ((size, 1), (size,), (1, size))]
    is_told_a_state = any(_meaning(name) == _STATE for name in asked if name not in kept)
    called_as = f"{called}({', '.join([*asked, *optional])})"
    for (inputs, following), state in itertools.product(
        _batches(sizes, lengths), states if is_told_a_state else [None]
    ):
        values = {**settings(BATCH), _INPUTS: inputs, _FOLLOWING: following, _STATE: state}
        told = functools.partial(function, **dict.fromkeys(optional, following)) if optional else function
        call = functools.partial(_call, told, asked, kept, parameters, values)
        loss, returns = functools.partial(_loss_first, call), returned_names(function)
        yield Network(called_as, called, root, loss, call, returns=returns, gives_loss=True)


def _batches(sizes: list[int], lengths: Iterable[int]) -> Iterator[tuple[Any, Any]]:
    """Inputs and what is to follow: a text, windows of one, rows with labels, these in columns, and one-hot targets.

    Every number of classes has the labels 0 and 1; where a class count is taken from the labels, the highest is there.
    """
    yield TOKENS, NEXT_TOKENS
    for length in lengths:
        if len(TOKENS) < length <= LONGEST_TEXT:
            yield (TOKENS * length)[:length], (NEXT_TOKENS * length)[:length]
    for length in WINDOWS:
        yield labels_of(2, BATCH * length).reshape(BATCH, length), labels_of(2, BATCH)
    rows = {size: random_rows(BATCH, size) for size in sizes}
    yield from ((rows[size], labels_of(2, BATCH)) for size in sizes)
    for size, classes in itertools.product(sizes, sizes):
        labels = labels_of(classes, BATCH)
        yield rows[size], labels
        yield rows[size].T, labels
        yield rows[size], np.eye(classes)[labels]
        yield rows[size].T, np.eye(classes)[labels].T


def _targets_left_out(function: Callable[..., Any]) -> list[str]:
    """The name of the targets without which a function would tell its scores alone, if it has such a parameter."""
    defined = inspect.signature(function).parameters
    without = [name for name in optional_names(function) if defined[name].default is None]
    return [name for name in without if {"targets", "labels"} & set(roles_of(name))][:1]


def _call(
    function: Callable[..., Any],
    asked: list[str],
    kept: Mapping[str, str],
    parameters: Mapping[str, Any],
    values: Mapping[str, Any],
) -> Any:
    """What a function returns that gets the parameters, as they are now, and values by what its parameters mean."""
    told = {name: values[_meaning(name)] for name in asked if name not in kept}
    return call_of(function, handed(asked, told, kept, parameters))()


def _meaning(name: str) -> str:
    """What a parameter of a function with its own loss is, by its name."""
    if is_data(name):
        return _INPUTS
    return _FOLLOWING if "targets" in roles_of(name) else setting_of(name) or _STATE


def _loss_first(call: Callable[[], Any]) -> float:
    """The loss that a function returns first.

    Raises:
        ValueError: it returned none.
    """
    returned = call()
    return number(returned[0] if isinstance(returned, tuple | list) and returned else None)
