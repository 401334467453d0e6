"""The roles of the parameters of a model's methods, and of a network that is a function, from their names."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .classifiers import is_data, setting_of
from .kept import returned_names
from .methods import bound_parameters, public_methods
from .models import BIAS, LAST, PADDED, PARAMETERS, PASSING, SHIFT
from .roles import FIXED, UNKNOWN, asked_names, distinct, replaced, roles_of, roles_of_returned

_NUMBERED = re.compile(r"([zahwb])_?(\d)", re.IGNORECASE)
_PARAMETERS = re.compile(r"param(eter)?s?|par(a|â)metros|weights|pesos", re.IGNORECASE)
_TRAINING = re.compile(r"(get_|compute_|calc_)?(loss|gradients?|grads?|train(ing)?(_step|_batch)?|step|fit_batch|sgd)")


def training_names(target: type) -> list[str]:
    """The methods that may train a model, or give the gradient of its weights."""
    return [name for name in public_methods(target) if _TRAINING.fullmatch(name)]


def roles_of_training(target: type, method: str) -> Iterator[tuple[str, ...]]:
    """The roles that the parameters of a model's method may have; nothing if the name of one says nothing."""
    yield from roles_of_step(bound_parameters(target, method), {})


def roles_after_forward(target: type, forward: str, method: str) -> Iterator[tuple[str, ...]]:
    """The same of a method that comes after a forward, what that returned under its names there."""
    parameters = bound_parameters(target, method)
    yield from roles_of_step(parameters, roles_of_returned(parameters, returned_names(getattr(target, forward))))


def roles_of_step(parameters: list[str], known: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """The roles that the parameters of a model's or a network's step may have; ``known``: those of some, by name."""
    yield from distinct([(known[name],) if name in known else _choices(name) for name in parameters])


def _choices(name: str) -> tuple[str, ...]:
    if is_data(name):
        return (PADDED,)
    known = roles_of(name)
    if "targets" in known:
        return ("targets", "labels") if known == ("targets",) else ("targets", "labels", "probs")
    if known == ("probs",):
        return known
    if setting := setting_of(name):
        return (setting,)
    if known[0] in FIXED:
        return known
    return ("zeros",) if BIAS.fullmatch(name) else ("probs",) if known in (UNKNOWN, ("logits",)) else ()


def roles_of_network(parameters: list[str]) -> Iterator[tuple[str, ...]]:
    """The roles of the parameters of a network's backward with numbered names, ``(Z1, A1, Z2, A2, W1, W2, X, Y)``."""
    numbered = [match for match in map(_NUMBERED.fullmatch, parameters) if match]
    last = max((int(match[2]) for match in numbered), default=0)
    roles = tuple(_role_in_network(name, last) for name in parameters)
    once = [role for role in roles if role in ("probs", "labels", "logits", LAST)]
    if last and "" not in roles and "labels" in roles and PADDED in roles and len(set(once)) == len(once):
        yield roles
        yield replaced(roles, "labels", "targets")


def calls_of_network(
    forward: Callable[..., Any], backward: Callable[..., Any]
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The roles of the parameters of a network's forward, and of its backward after that, both functions.

    The parameters of the network are numbered, or items of a dict; what the forward returned is passed under its name.
    """
    before, after = asked_names(forward), asked_names(backward)
    returned = roles_of_returned(after, returned_names(forward))
    last = max((int(match[2]) for match in map(_NUMBERED.fullmatch, before) if match), default=0)
    for parameters in PARAMETERS:
        given = tuple(_role_in_network(name, last, parameters) for name in before)
        then = tuple(returned.get(name) or _role_in_network(name, last, parameters) for name in after)
        if then.count("") == 1 and roles_of(after[then.index("")]) in (UNKNOWN, ("probs",)):
            then = tuple(role or "probs" for role in then)  # what else is handed on is the network's output
        if "" not in (*given, *then) and PADDED in given and "labels" in then and {LAST, parameters} & set(given):
            yield given, then
            yield given, replaced(then, "labels", "targets")


def roles_of_parametrised(parameters: list[str]) -> Iterator[tuple[str, ...]]:
    """The roles of the parameters of a network's backward that needs no forward, and gets a dict of its parameters."""
    for layers in PARAMETERS:
        roles = tuple(_role_in_network(name, 0, layers) for name in parameters)
        if "" not in roles and {PADDED, "labels", layers} <= set(roles):
            yield roles
            yield replaced(roles, "labels", "targets")


def _role_in_network(name: str, last: int, parameters: str = "") -> str:
    match = _NUMBERED.fullmatch(name)
    if match is None:
        known = roles_of(name)
        of_parameters = parameters if _PARAMETERS.fullmatch(name) else ""
        meant = "labels" if "targets" in known else known[0] if known[0] in FIXED else ""
        return PADDED if is_data(name) else of_parameters or setting_of(name) or meant
    kind, number = match[1].lower(), int(match[2])
    if kind == "b":
        return "zeros" if number == last else SHIFT
    if kind == "w":
        return LAST if number == last else PASSING
    if number < last:
        return PADDED
    return "logits" if kind == "z" else "probs"
