"""A whole network as its author trains it: made, run forward and backward, each call told what its names ask for.

Nothing is known of its layers. Its parameters are the arrays of floats in the model, in what the module's function
makes that initialises them, or in the module itself.
"""

import contextlib
import dataclasses
import functools
import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .classifiers import is_data
from .composed import composed
from .construction import constructions, sample_instance
from .functions import functions_beside
from .kept import returned_names
from .losses import function_with_loss, method_with_loss
from .methods import backward_names, bound_parameters, forward_names, public_methods, sounds_backward
from .network import Network, call_of, handed, number, once
from .parameters import INITIALISES, key_of, parameters_for, sizes_for
from .parts import floats_in
from .roles import asked_names, is_function, roles_of, training_flags
from .runs import SLOPES, Run, first_run, run_from_zeros, scores
from .training import training_names

MOST_BACKWARDS, MOST_FORWARDS, MOST_LOSSES = 6, 4, 2
_TRAINS = re.compile(r"fit|train\w*|learn|\w*loss\w*|\w*cost\w*|sgd|update\w*|optimi\w*|step", re.IGNORECASE)
_FITS = re.compile(r"fit|train", re.IGNORECASE)
_ATTENDED = re.compile(r"(x_?|in_?)?(q|k|v)|(x|input)?_?(quer(y|ies)|keys?|values?)(_\w+)?", re.IGNORECASE)
_IS_LOSS = re.compile(r"\w*(cost|loss|entropy|error|nll)\w*", re.IGNORECASE)


def networks(target: Any, namespace: Mapping[str, Any]) -> Iterator[Network]:
    """The networks that a target may be part of, in every way to call them, likeliest first."""
    if inspect.isclass(target):
        parted = list(composed(target, namespace))
        for backward in _backwards_of(target):
            yield from _of_class(target, backward, parted)
            yield from method_with_loss(target, backward, _made(target, backward))
        yield from _fitted(target)
    elif is_function(target):
        yield from _of_functions(target, namespace)
        yield from function_with_loss(target, namespace)


def _backwards_of(target: type) -> list[str]:
    """The methods that may give a network's gradients or go down them, likeliest first."""
    sounding = [name for name in public_methods(target) if sounds_backward(name)]
    training = [name for name in public_methods(target) if _TRAINS.fullmatch(name)]
    return list(dict.fromkeys([*backward_names(target), *sounding, *training_names(target), *training]))[
        :MOST_BACKWARDS
    ]


def _forwards_of(target: type, backward: str) -> list[str]:
    """The methods that may be a network's forward: they need nothing but its inputs, or what attends to what."""
    known = forward_names(target, backward)
    found = dict.fromkeys([*known, *(name for name in public_methods(target) if name != backward)])
    asked = {name: bound_parameters(target, name) for name in found}
    alone = [name for name in found if len(asked[name]) == 1 and (name in known or is_data(asked[name][0]))]
    return alone or [name for name in known if len(asked[name]) > 1 and all(map(_is_attended, asked[name]))]


def _is_attended(name: str) -> bool:
    """Whether a name is that of queries, keys or values, or of a mask, without which all of them count."""
    return _ATTENDED.fullmatch(name) is not None or roles_of(name)[0] == "mask"


def _given_alone(forward: Callable[..., Any]) -> Callable[[Any], Any]:
    """A forward of nothing but inputs, as in training; queries, keys and values that it asks for are all the inputs."""
    names, flags = asked_names(forward), training_flags(forward)
    if len(names) == 1:
        return functools.partial(forward, **flags) if flags else forward
    return lambda inputs: forward(*(inputs if _ATTENDED.fullmatch(name) else None for name in names), **flags)


def _of_class(target: type, backward: str, parted: list[Any]) -> Iterator[Network]:
    """A class whose backward gets what comes after a forward; ``parted``: its instances that hold layers."""
    names = bound_parameters(target, backward)
    for forward in _forwards_of(target, backward)[:MOST_FORWARDS]:
        returned_as = returned_names(getattr(target, forward))
        called_as = f"{target.__name__}: {forward}(inputs), then {backward}({', '.join(names)})"
        for model in parted or _made(target, forward, backward):
            if run := first_run(_given_alone(getattr(model, forward)), model):
                own = {name: getattr(model, name) for name in public_methods(target)}
                yield from _after(_Told(own[backward], run, returned_as, {}), called_as, own)


def _fitted(target: type) -> Iterator[Network]:
    """A classifier that makes its weights when it is fitted: one step from zeros."""
    for fit in filter(_FITS.fullmatch, public_methods(target)):
        names = bound_parameters(target, fit)
        called_as = f"{target.__name__}: {fit}({', '.join(names)})"
        for model in _made(target, fit):
            forwards = [getattr(model, name) for name in _forwards_of(target, fit)]
            forwards += [functools.partial(scores, model, ones_first=ones_first) for ones_first in (False, True)]
            for run in (run_from_zeros(forward, model) for forward in forwards):
                for roles in run.ways(names, ()):
                    step = call_of(getattr(model, fit), run.given(names, roles, ()))
                    yield Network(called_as, fit, model, run.loss, step, begins_at_zero=True)


def _made(target: type, *methods: str) -> Iterator[Any]:
    """Instances of a class, each told to train, once, with all examples in one batch and no penalty."""
    made = (sample_instance(target, construct) for construct in constructions(target, methods))
    for model in (each for each in made if each is not None):
        if not floats_in(model):
            _initialise(model)
        for name, value in list(getattr(model, "__dict__", {}).items()):
            if type(value) in (int, float) and (told := once(name)) is not None:
                setattr(model, name, told)
            if type(value) is bool and roles_of(name)[0] == "training":
                setattr(model, name, True)
        yield model


def _initialise(model: Any) -> None:
    """Let a model make its parameters where a method does that, and not its constructor."""
    for name in filter(INITIALISES.search, public_methods(type(model))):
        with contextlib.suppress(Exception):  # whatever goes wrong, it does not make them so
            getattr(model, name)(*sizes_for(asked_names(getattr(model, name))))
            return


@dataclass(frozen=True)
class _Told:
    """A function that is called after a forward: with its results, what its parameters' names mean, and parameters.

    ``returned_as``: the names under which the forward returns its results. ``kept``: under which names in the run's
    root the parameters of the network are that the function asks for.
    """

    function: Callable[..., Any]
    run: Run
    returned_as: tuple[str, ...]
    kept: Mapping[str, str]

    @property
    def asked(self) -> list[str]:
        """What it asks for that is no parameter of the network, or that the forward returned anew."""
        return [name for name in asked_names(self.function) if name in self.returned_as or name not in self.kept]

    def ways(self) -> Iterator[tuple[str, ...]]:
        """The roles of what it asks for, in every way that they may be meant."""
        return self.run.ways(self.asked, self.returned_as)

    def call(self, roles: tuple[str, ...]) -> Any:
        """What it returns after the forward with the parameters as they are now."""
        given = self.run.again().given(self.asked, roles, self.returned_as)
        told = dict(zip(self.asked, given, strict=True))
        return call_of(self.function, handed(asked_names(self.function), told, self.kept, self.run.root))()

    def number(self, roles: tuple[str, ...]) -> float:
        """The number that it returns; ValueError if it returns none."""
        return number(self.call(roles))


def _after(told: _Told, called_as: str, own: Mapping[str, Callable[..., Any]]) -> Iterator[Network]:
    """A backward after a forward, whose loss is the mean cross-entropy, or one of the author's ``own`` functions."""
    losses: list[Callable[[], float]] = [told.run.loss]
    for name in itertools.islice(filter(_IS_LOSS.fullmatch, own), MOST_LOSSES):
        after = dataclasses.replace(told, function=own[name])
        if not sounds_backward(name) and own[name] is not told.function:
            losses += [functools.partial(after.number, roles) for roles in itertools.islice(after.ways(), 1)]
    returns, step_name = returned_names(told.function), getattr(told.function, "__name__", "")
    for loss, roles in itertools.product(losses, list(told.ways())):
        is_told_slopes = bool(SLOPES & set(roles))
        if loss is losses[0] or not is_told_slopes:
            step = functools.partial(told.call, roles)
            root = told.run.root
            yield Network(called_as, step_name, root, loss, step, returns=returns, is_told_slopes=is_told_slopes)


def _of_functions(target: Callable[..., Any], namespace: Mapping[str, Any]) -> Iterator[Network]:
    """Networks of functions: one makes the parameters, one runs forward; what they return is known by its name."""
    own = functions_beside(target, namespace)
    names = asked_names(target)
    shared = {name: len(set(returned_names(value)) & set(names)) for name, value in own.items()}
    forwards = [name for name in own if len(asked_names(own[name])) > 1 and not sounds_backward(name)]
    forwards = sorted(forwards, key=lambda name: -shared[name])[:MOST_FORWARDS]
    for forward in forwards:
        asked, returned_as = asked_names(own[forward]), returned_names(own[forward])
        for parameters in parameters_for([own[forward], target], own):
            kept = {name: key for name in {*asked, *names} if (key := key_of(name, parameters))}
            data = [name for name in asked if name not in kept]
            if len(data) != 1 or not is_data(data[0]):
                continue
            run = first_run(functools.partial(_forward, own[forward], asked, kept, parameters), parameters)
            called_as = f"{forward}({', '.join(asked)}), then {target.__name__}({', '.join(names)})"
            yield from _after(_Told(target, run, returned_as, kept), called_as, own) if run else ()


def _forward(
    function: Callable[..., Any], asked: list[str], kept: Mapping[str, str], parameters: Mapping[str, Any], inputs: Any
) -> Any:
    """What a forward returns that gets the parameters, as they are now, and inputs."""
    told = {name: inputs for name in asked if name not in kept}
    return function(*handed(asked, told, kept, parameters), **training_flags(function))
