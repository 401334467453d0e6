"""The parameters of a network of functions: what a function of its file makes, arrays of its module, or our own."""

import contextlib
import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np

from .kept import names_read, returned_names
from .parts import floats_in
from .roles import asked_names
from .runs import SEED, SIZE, by_name

INITIALISES = re.compile(r"init|param|weights|create|make|build", re.IGNORECASE)
_PARAMETERS = re.compile(r"param(eter)?s?|weights|net(work)?|model|theta", re.IGNORECASE)
_SIZES = re.compile(r"\w*(layers|dims|sizes|architecture|topology|structure)", re.IGNORECASE)
_WEIGHTS = re.compile(r"w(eights?)?_?(\d|[a-z]{1,2}|out(put)?|in(put)?|hid(den)?)?", re.IGNORECASE)
_BIASES = re.compile(r"b(ias(es)?)?_?(\d|[a-z]{1,2}|out(put)?|in(put)?|hid(den)?)?", re.IGNORECASE)


def parameters_for(
    functions: Iterable[Callable[..., Any]], own: Mapping[str, Callable[..., Any]]
) -> Iterator[dict[str, Any]]:
    """The parameters that these functions may get, by their names: made by others of the file, or else by us.

    ``own``: the functions of the file, by their names.
    """
    made = list(_initialised(own))
    yield from made or _assumed(list(functions))


def key_of(name: str, parameters: Mapping[str, Any]) -> str:
    """The name under which the value of a function's parameter is kept: its own, or that of all in one; empty: none."""
    if name in parameters:
        return name
    return next(iter(parameters)) if len(parameters) == 1 and _PARAMETERS.fullmatch(name) else ""


def sizes_for(names: list[str]) -> list[Any]:
    """The arguments of a function that makes parameters: a size each, or those of three layers in a list."""
    return [[SIZE] * 3 if _SIZES.fullmatch(name) else SIZE for name in names]


def _initialised(own: Mapping[str, Callable[..., Any]]) -> Iterator[dict[str, Any]]:
    """The parameters that the functions of a module make, by the names under which they return them."""
    for function in own.values():
        if not INITIALISES.search(function.__name__):
            continue
        with contextlib.suppress(Exception):  # whatever goes wrong, it does not make them so
            parameters = by_name(returned_names(function), function(*sizes_for(asked_names(function))))
            if floats_in(parameters):
                yield parameters


def _assumed(functions: list[Callable[..., Any]]) -> Iterator[dict[str, Any]]:
    """Parameters by their names, or in the dict from which the functions read them; none where names say nothing.

    The weights are square matrices, so that they fit in whatever order they are multiplied.
    """
    asked = list(dict.fromkeys(itertools.chain.from_iterable(map(asked_names, functions))))
    read = list(dict.fromkeys(itertools.chain.from_iterable(map(names_read, functions))))
    kept = next(filter(_PARAMETERS.fullmatch, asked), "")
    names = read if kept else asked
    weights, biases = (list(filter(each.fullmatch, names)) for each in (_WEIGHTS, _BIASES))
    for shape in ((SIZE,), (1, SIZE), (SIZE, 1)) if weights else ():
        rng = np.random.default_rng(SEED)
        made: dict[str, Any] = {name: rng.standard_normal((SIZE, SIZE)) for name in weights}
        made |= {name: rng.standard_normal(shape) for name in biases}
        yield {kept: made} if kept else made


class View(dict[str, Any]):
    """Some of the names of a module: what is put here is put there."""

    def __init__(self, module: MutableMapping[str, Any], names: Iterable[str]) -> None:
        super().__init__({name: module[name] for name in names})
        self._module = module

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._module[name] = value


def names_used(function: Callable[..., Any]) -> set[str]:
    """The names of its module that a function uses, or those that it calls."""
    module, found = getattr(function, "__globals__", {}), set[str]()
    waiting = [function]
    while waiting:
        used = set(getattr(getattr(waiting.pop(), "__code__", None), "co_names", ())) & module.keys()
        waiting += [module[name] for name in used - found if inspect.isfunction(module[name])]
        found |= used
    return found
