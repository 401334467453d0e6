"""A network that can be run, and the calls of its author's functions that do so."""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .classifiers import PENALTY, setting_of
from .roles import optional_names
from .runs import BATCH

_TIMES = re.compile(r"(n_?|num_?|max_?|number_of_)?(epochs?|iter\w*|iterations?|steps)", re.IGNORECASE)
_BATCH_SIZE = re.compile(r"(mini_?)?batch_?size", re.IGNORECASE)


@dataclass(frozen=True)
class Network:
    """A network that can be run. ``root`` holds its parameters, somewhere; ``called_as`` says which calls are made.

    ``step_name`` is the name of the function that gives the gradients.
    ``loss`` is the mean cross-entropy behind its forward, or the loss that its own code gives; ``step`` makes the call
    that gives the gradients, or goes down them. ``begins_at_zero``: that call makes the parameters itself, and is taken
    to begin with zeros. ``returns``: the names of what the step returns; ``gives_loss``: that begins with the loss
    itself. ``is_told_slopes``: the loss is put behind it, and its step is told the gradient by what its forward gave.
    """

    called_as: str
    step_name: str
    root: Any
    loss: Callable[[], float]
    step: Callable[[], Any]
    begins_at_zero: bool = False
    returns: tuple[str, ...] = ()
    gives_loss: bool = False
    is_told_slopes: bool = False


def once(name: str) -> float | None:
    """The value of a setting that says how often, how many at once, or what penalty; None if it says none of these."""
    if _TIMES.fullmatch(name):
        return 1
    if _BATCH_SIZE.fullmatch(name):
        return BATCH
    return 0.0 if setting_of(name) == PENALTY else None


def handed(
    names: list[str], told: Mapping[str, Any], kept: Mapping[str, str], parameters: Mapping[str, Any]
) -> list[Any]:
    """The values of a function's parameters: what it is told, or parameters of the network as they are now.

    ``kept``: under which names in ``parameters`` these are.
    """
    return [told[name] if name in told else parameters[kept[name]] for name in names]


def call_of(function: Callable[..., Any], given: list[Any]) -> Callable[[], Any]:
    """A call with these values, and with those of such settings that may be left out."""
    told = {name: once(name) for name in optional_names(function)}
    return functools.partial(function, *given, **{name: value for name, value in told.items() if value is not None})


def number(value: Any) -> float:
    """The number that somebody's loss is, whatever its axes of length 1.

    Raises:
        ValueError: it is none.
    """
    found = np.asarray(value)
    if found.size != 1 or found.dtype.kind != "f":
        raise ValueError("no number")
    return float(found.reshape(()))
