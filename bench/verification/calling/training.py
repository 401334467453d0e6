"""The roles of the parameters of a model's methods, and of a network that is a function, from their names."""

import re
from collections.abc import Iterator

from .classifiers import is_data, setting_of
from .methods import bound_parameters, public_methods
from .models import BIAS, LAST, PADDED, PASSING, SHIFT
from .roles import FIXED, UNKNOWN, distinct, roles_of

_NUMBERED = re.compile(r"([zahwb])_?(\d)", re.IGNORECASE)
_TRAINING = re.compile(r"(get_|compute_|calc_)?(loss|gradients?|grads?|train(ing)?(_step|_batch)?|step|fit_batch|sgd)")


def training_names(target: type) -> list[str]:
    """The methods that may train a model, or give the gradient of its weights."""
    return [name for name in public_methods(target) if _TRAINING.fullmatch(name)]


def roles_of_training(target: type, method: str) -> Iterator[tuple[str, ...]]:
    """The roles that the parameters of a model's method may have; nothing if the name of one says nothing."""
    choices = [_choices(name) for name in bound_parameters(target, method)]
    yield from distinct(choices)


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
    return ("zeros",) if BIAS.fullmatch(name) else ("probs",) if known == UNKNOWN else ()


def roles_of_network(parameters: list[str]) -> Iterator[tuple[str, ...]]:
    """The roles of the parameters of a network's backward with numbered names, ``(Z1, A1, Z2, A2, W1, W2, X, Y)``."""
    numbered = [match for match in map(_NUMBERED.fullmatch, parameters) if match]
    last = max((int(match[2]) for match in numbered), default=0)
    roles = [_role_in_network(name, last) for name in parameters]
    once = [role for role in roles if role in ("probs", "labels", "logits", LAST)]
    if last and "" not in roles and "labels" in roles and PADDED in roles and len(set(once)) == len(once):
        yield tuple(roles)
        yield tuple("targets" if role == "labels" else role for role in roles)


def _role_in_network(name: str, last: int) -> str:
    match = _NUMBERED.fullmatch(name)
    if match is None:
        if is_data(name):
            return PADDED
        return "labels" if "targets" in roles_of(name) else setting_of(name)
    kind, number = match[1].lower(), int(match[2])
    if kind == "b":
        return "zeros" if number == last else SHIFT
    if kind == "w":
        return LAST if number == last else PASSING
    if number < last:
        return PADDED
    return "logits" if kind == "z" else "probs"
