"""A whole network as its author trains it: made, run forward and backward, each call told what its names ask for.

Nothing is known of its layers. Its parameters are the arrays of floats in the model, in what the module's function
makes that initialises them, or in the module itself.
"""

import contextlib
import functools
import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .classifiers import PENALTY, is_data, setting_of
from .construction import constructions, sample_instance
from .functions import functions_beside
from .kept import returned_names
from .methods import (
    backward_names,
    bound_parameters,
    forward_names,
    optional_targets_of,
    public_methods,
    sounds_backward,
)
from .models import whole_source
from .parts import floats_in
from .roles import asked_names, is_function, optional_names, roles_of
from .runs import BATCH, SIZE, Run, first_run, labels_of, random_rows, run_from_zeros, scores, settings
from .training import training_names

MOST_BACKWARDS, MOST_FORWARDS = 6, 4
TOKENS, NEXT_TOKENS = [0, 1, 0, 1, 1], [1, 0, 1, 1, 0]  # of a text with two letters, for a network of sequences
# What the parameters of a function with its own loss are, but for settings.
_INPUTS, _FOLLOWING, _STATE = "inputs", "following", "state"
_TIMES = re.compile(r"(n_?|num_?|max_?|number_of_)?(epochs?|iter\w*|iterations?|steps)", re.IGNORECASE)
_BATCH_SIZE = re.compile(r"(mini_?)?batch_?size", re.IGNORECASE)
_TRAINS = re.compile(r"fit|train\w*|learn|loss\w*|sgd|update\w*|optimi\w*|step", re.IGNORECASE)
_FITS = re.compile(r"fit|train", re.IGNORECASE)
_INITIALISES = re.compile(r"init|param|weights|create|make|build", re.IGNORECASE)
_PARAMETERS = re.compile(r"param(eter)?s?|weights|net(work)?|model", re.IGNORECASE)
_SIZES = re.compile(r"\w*(layers|dims|sizes|architecture|topology|structure)", re.IGNORECASE)
_MAKES_LOSS = re.compile(r"(exp|softmax)\(.*log\(|log\(.*(exp|softmax)\(", re.DOTALL)


@dataclass(frozen=True)
class Network:
    """A network that can be run. ``root`` holds its parameters, somewhere; ``called_as`` says which calls are made.

    ``loss`` is the mean cross-entropy behind its forward, or the loss that its own code gives; ``step`` makes the call
    that gives the gradients, or goes down them. ``begins_at_zero``: that call makes the parameters itself, and is taken
    to begin with zeros. ``returns``: the names of what the step returns, where that begins with the loss itself.
    """

    called_as: str
    root: Any
    loss: Callable[[], float]
    step: Callable[[], Any]
    begins_at_zero: bool = False
    returns: tuple[str, ...] = ()


def networks(target: Any, namespace: Mapping[str, Any]) -> Iterator[Network]:
    """The networks that a target may be part of, in every way to call them, likeliest first."""
    if inspect.isclass(target):
        for backward in _backwards_of(target):
            yield from _of_class(target, backward)
            yield from _of_class_with_loss(target, backward)
        yield from _fitted(target)
    elif is_function(target):
        yield from _of_functions(target, namespace)
        yield from _of_module(target)


def _backwards_of(target: type) -> list[str]:
    """The methods that may give a network's gradients or go down them, likeliest first."""
    sounding = [name for name in public_methods(target) if sounds_backward(name)]
    training = [name for name in public_methods(target) if _TRAINS.fullmatch(name)]
    return list(dict.fromkeys([*backward_names(target), *sounding, *training_names(target), *training]))[
        :MOST_BACKWARDS
    ]


def _forwards_of(target: type, backward: str) -> list[str]:
    """The methods that may be a network's forward: they need nothing but its inputs."""
    known = forward_names(target, backward)
    found = dict.fromkeys([*known, *(name for name in public_methods(target) if name != backward)])
    asked = {name: bound_parameters(target, name) for name in found}
    return [name for name in found if len(asked[name]) == 1 and (name in known or is_data(asked[name][0]))]


def _of_class(target: type, backward: str) -> Iterator[Network]:
    """A class whose backward gets what comes after a forward."""
    names = bound_parameters(target, backward)
    for forward in _forwards_of(target, backward)[:MOST_FORWARDS]:
        returned_as = returned_names(getattr(target, forward))
        called_as = f"{target.__name__}: {forward}(inputs), then {backward}({', '.join(names)})"
        for model in _made(target, forward, backward):
            run = first_run(getattr(model, forward), model)
            if run is None:
                continue
            for form in run.values_of(names, _by_name(returned_as, run.returned)):
                step = functools.partial(_after_forward, run, _call(getattr(model, backward), form))
                yield Network(called_as, model, run.loss, step)


def _of_class_with_loss(target: type, method: str) -> Iterator[Network]:
    """A class with a method that returns its loss and the gradients."""
    if not _MAKES_LOSS.search(whole_source(target)):
        return
    for model in _made(target, method):
        names = bound_parameters(target, method)
        yield from _with_loss(getattr(model, method), names, model, f"{target.__name__}: {method}")


def _fitted(target: type) -> Iterator[Network]:
    """A classifier that makes its weights when it is fitted: one step from zeros."""
    for fit in filter(_FITS.fullmatch, public_methods(target)):
        names = bound_parameters(target, fit)
        called_as = f"{target.__name__}: {fit}({', '.join(names)})"
        for model in _made(target, fit):
            forwards = [getattr(model, name) for name in _forwards_of(target, fit)]
            forwards += [functools.partial(scores, model, ones_first=ones_first) for ones_first in (False, True)]
            for run in (run_from_zeros(forward, model) for forward in forwards):
                for form in run.values_of(names, {}):
                    yield Network(called_as, model, run.loss, _call(getattr(model, fit), form), begins_at_zero=True)


def _made(target: type, *methods: str) -> Iterator[Any]:
    """Instances of a class, each told to train once, with all examples in one batch and no penalty."""
    for construct in constructions(target, methods):
        model = sample_instance(target, construct)
        for name, value in list(getattr(model, "__dict__", {}).items()):
            if type(value) in (int, float) and (told := _once(name)) is not None:
                setattr(model, name, told)
        if model is not None:
            yield model


def _once(name: str) -> float | None:
    """The value of a setting that says how often, how many at once, or what penalty; None if it says none of these."""
    if _TIMES.fullmatch(name):
        return 1
    if _BATCH_SIZE.fullmatch(name):
        return BATCH
    return 0.0 if setting_of(name) == PENALTY else None


def _call(function: Callable[..., Any], given: list[Any]) -> Callable[[], Any]:
    """A call with these values, and with those of such settings that may be left out."""
    told = {name: _once(name) for name in optional_names(function)}
    return functools.partial(function, *given, **{name: value for name, value in told.items() if value is not None})


def _after_forward(run: Run, backward: Callable[[], Any]) -> Any:
    """What a backward returns that follows a forward."""
    run.forward(run.inputs)
    return backward()


def _by_name(names: tuple[str, ...], returned: Any) -> dict[str, Any]:
    """What a function returned, by the names that it has there."""
    values = returned if isinstance(returned, tuple) else (returned,)
    return {name: value for name, value in zip(names, values, strict=True) if name} if len(names) == len(values) else {}


def _of_functions(target: Callable[..., Any], namespace: Mapping[str, Any]) -> Iterator[Network]:
    """Networks of functions: one makes the parameters, one runs forward; what they return is known by its name."""
    own = functions_beside(target, namespace)
    names = asked_names(target)
    shared = {name: len(set(returned_names(value)) & set(names)) for name, value in own.items()}
    forwards = [name for name in own if len(asked_names(own[name])) > 1 and not sounds_backward(name)]
    forwards = sorted(forwards, key=lambda name: -shared[name])[:MOST_FORWARDS]
    for parameters, forward in itertools.product(list(_initialised(own)), forwards):
        asked = asked_names(own[forward])
        kept = {name: key for name in {*asked, *names} if (key := _key_of(name, parameters))}
        data = [name for name in asked if name not in kept]
        if len(data) != 1 or not is_data(data[0]):
            continue
        run = first_run(functools.partial(_forward, own[forward], asked, kept, parameters), parameters)
        if run is None:
            continue
        called_as = f"{forward}({', '.join(asked)}), then {target.__name__}({', '.join(names)})"
        returned = _by_name(returned_names(own[forward]), run.returned)
        after = [name for name in names if name in returned or name not in kept]
        for form in run.values_of(after, returned):
            told = dict(zip(after, form, strict=True))
            step = functools.partial(_backward, target, names, kept, parameters, told)
            yield Network(called_as, parameters, run.loss, step)


def _forward(
    function: Callable[..., Any], asked: list[str], kept: Mapping[str, str], parameters: Mapping[str, Any], inputs: Any
) -> Any:
    """What a forward returns that gets the parameters, as they are now, and inputs."""
    return function(*(parameters[kept[name]] if name in kept else inputs for name in asked))


def _backward(
    function: Callable[..., Any],
    asked: list[str],
    kept: Mapping[str, str],
    parameters: Mapping[str, Any],
    told: Mapping[str, Any],
) -> Any:
    """What a backward returns that gets what it is told, and of the parameters those that it asks for."""
    return _call(function, [told[name] if name in told else parameters[kept[name]] for name in asked])()


def _initialised(own: Mapping[str, Callable[..., Any]]) -> Iterator[dict[str, Any]]:
    """The parameters that the functions of a module make, by the names under which they return them."""
    for function in own.values():
        if not _INITIALISES.search(function.__name__):
            continue
        sizes = [[SIZE] * 3 if _SIZES.fullmatch(name) else SIZE for name in asked_names(function)]
        with contextlib.suppress(Exception):  # whatever goes wrong, it does not make them so
            parameters = _by_name(returned_names(function), function(*sizes))
            if floats_in(parameters):
                yield parameters


def _key_of(name: str, parameters: Mapping[str, Any]) -> str:
    """The name under which the value of a function's parameter is kept: its own, or that of all in one; empty: none."""
    if name in parameters:
        return name
    return next(iter(parameters)) if len(parameters) == 1 and _PARAMETERS.fullmatch(name) else ""


def _of_module(target: Callable[..., Any]) -> Iterator[Network]:
    """A function that returns its loss and the gradients of the arrays of its module that it reads."""
    module = getattr(target, "__globals__", {})
    read = set(getattr(getattr(target, "__code__", None), "co_names", ()))
    own = {name: value for name, value in module.items() if name in read and isinstance(value, np.ndarray)}
    if own and _MAKES_LOSS.search(whole_source(target)):
        yield from _with_loss(target, asked_names(target), _View(module, own), target.__name__)


class _View(dict[str, Any]):
    """Some of the names of a module: what is put here is put there."""

    def __init__(self, module: MutableMapping[str, Any], own: Mapping[str, Any]) -> None:
        super().__init__(own)
        self._module = module

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._module[name] = value


def _with_loss(function: Callable[..., Any], names: list[str], root: Any, called: str) -> Iterator[Network]:
    """The calls of a function that returns its loss first: with letters and those that follow, or rows and labels.

    What else it asks for is a state, of the size of one of the weights. Every number of classes has the labels 0 and 1.
    """
    asked = [*names, *filter(None, [optional_targets_of(function)])]
    sizes = [
        size
        for size in dict.fromkeys(itertools.chain(*(slot.array.shape for slot in floats_in(root).values())))
        if size > 1
    ]
    states = [np.zeros(shape) for size in sizes for shape in ((size, 1), (size,), (1, size))]
    is_told_a_state = any(_meaning(name) == _STATE for name in asked)
    batches: list[tuple[Any, Any]] = [(TOKENS, NEXT_TOKENS)]
    batches += [(random_rows(BATCH, size), labels_of(2, BATCH)) for size in sizes]
    for (inputs, following), state in itertools.product(batches, states if is_told_a_state else [None]):
        values = {**settings(BATCH), _INPUTS: inputs, _FOLLOWING: following, _STATE: state}
        call = _call(function, [values[_meaning(name)] for name in asked])
        called_as = f"{called}({', '.join(asked)})"
        yield Network(called_as, root, functools.partial(_loss_first, call), call, returns=returned_names(function))


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
    first = np.asarray(returned[0] if isinstance(returned, tuple) and returned else "")
    if first.size != 1 or first.dtype.kind != "f":
        raise ValueError("no loss")
    return float(first.reshape(()))
