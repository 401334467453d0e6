"""How to make an instance of a class whose methods are called: the roles of the arguments of its constructor."""

import contextlib
import inspect
import re
from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np

from .attention import KEYS, LONG_KEYS, OF_ATTENTION, VALUES
from .classifiers import BASIS, IDENTITY, PENALTY, setting_of
from .kept import source_of
from .methods import bound_parameters, constructor_parameters, is_static, public_methods, sounds_backward
from .roles import (
    NO_LABEL,
    activation_names,
    class_counts,
    classification_modes,
    ignored_labels,
    keyword_only_without_default,
    roles_of,
    smoothings,
    softmax_flags,
)

FUNCTION = "softmax"  # a role: the module's own function of that name, for what is called
BYPASSED = ("bypassed",)  # instead of roles: the instance is made without its constructor
# What a parameter is filled with if its name says nothing: the first that the constructor accepts, in all such places.
FILLINGS = ("features", "sizes", "name", "nothing", "logits", "empty")
MAX_CONSTRUCTIONS = 2
# The methods of a layer that is told after it was made how many features there are, or the shape of its input.
INITIALISE, BUILD = "initialize", "build"
# Of hidden layers, in the order in which ``models.passing`` looks for them.
ACTIVATIONS = ("sigmoid", "tanh", "relu", "linear")
TEMPERATURE = 2.0  # for a constructor or a function that asks for one
_SHAPE = re.compile(r"(in(put)?_?)?shape")
_ROLES = {  # of what their names match first
    re.compile(pattern): role
    for pattern, role in {
        r"\w*batch\w*": "batch",
        r"T": "temperature",
        r"name|kind|type|mode|func(tion)?|(\w+_)?h?act(ivation)?(_?(name|type|func(tion)?|fn))?|nonlinearity": "name",
        r"act(ivation)?(_func\w*|_fns?)?s": "activations",
        r"(n|num|number_of|no_of)_?layers": "layers",
        r"hidden_?(\w+_)?(sizes|dims|units|layers|nodes|neurons)": "hidden_sizes",
        r"\w*size|n|units|\w*dims?|\w*features|n_\w+|num_\w+": "features",
        r"input_\w+|output_\w+|classes|n(in|out)|fan_\w+": "features",
    }.items()
}


def constructions(target: object, methods: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The ways to make an instance, likeliest first; the roles are empty if the class takes none or is not made."""
    if not inspect.isclass(target) or all(is_static(target, name) for name in methods):
        return [()]
    if not constructor_parameters(target):
        return [()]
    working = [roles for roles in dict.fromkeys(_ways(target)) if sample_instance(target, roles) is not None]
    return working[:MAX_CONSTRUCTIONS] or [BYPASSED]


def _ways(target: type) -> Iterator[tuple[str, ...]]:
    names = constructor_parameters(target)
    known = [_role(name) for name in names]
    arrays = [
        "logits" if not role and roles_of(name)[0] == "logits" else role
        for name, role in zip(names, known, strict=True)
    ]
    called = [role == "name" and _is_called(target, name) for name, role in zip(names, known, strict=True)]
    if any(called):
        yield tuple(FUNCTION if it_is else role or "features" for it_is, role in zip(called, known, strict=True))
    if all(arrays):
        yield tuple(arrays)
    if names == ["dim"]:  # an axis, or how many features there are
        yield ("features",)
    if any(map(_SHAPE.fullmatch, names)):
        shaped = ("shape" if _SHAPE.fullmatch(name) else role for name, role in zip(names, known, strict=True))
        yield tuple(role or "features" for role in shaped)
    for filling in FILLINGS:
        yield tuple(role or filling for role in known)


def _is_called(target: type, name: str) -> bool:
    """Whether a class's code calls what it is given under a name, or compares it with a function's name."""
    return re.search(rf"\b{name}\s*(\(|==\s*[a-zA-Z_])", source_of(target)) is not None


def _function_beside(target: type, activation: str) -> Any:
    """The function in a class's module that is an activation by its name, such as softmax; else None."""
    names = getattr(inspect.getattr_static(target, "__init__"), "__globals__", {})
    found = [value for name, value in names.items() if activation in name.lower() and not sounds_backward(name)]
    return next(filter(inspect.isfunction, found), None)


def _role(name: str) -> str:
    """The role of a constructor's parameter; empty if its name says nothing."""
    if roles_of(name)[0] in ("axis", "learning_rate", "temperature"):
        return roles_of(name)[0]
    if setting_of(name) == PENALTY:
        return "zero"
    return next((role for pattern, role in _ROLES.items() if pattern.fullmatch(name)), "")


def construction_values(logits: Any) -> dict[str, Any]:
    """The values of the roles that only constructors have, for inputs of this shape."""
    batch, features = logits.shape
    return {
        "batch": batch,
        "features": features,
        "sizes": [features] * 3,
        "hidden_sizes": [features],
        "shape": (batch, features),
        "layers": 2,
        "name": "softmax",
        "temperature": TEMPERATURE,
        "nothing": None,
        "one": 1,
        "ones": np.ones(features, logits.dtype),
        "row_ones": np.ones(batch, logits.dtype),
        "reduction": "mean",
        "ignored_label": NO_LABEL,
        "first": 0,  # of several inputs, the one whose gradient is asked for
        "zero": 0.0,
        "false": False,
        "empty": [],
    }


def identities(roles: Set[str], logits: Any, leading: tuple[int, ...]) -> dict[str, Any]:
    """The identity matrices among the roles: made only where they are passed, for they are [B, B] or [N, N].

    ``leading``: the axes before the batch, all of length 1, which those of attention have as well.
    """
    batch, features = logits.shape
    sizes = {IDENTITY: batch, BASIS: features, VALUES: features, KEYS: features, LONG_KEYS: features}
    made = {role: np.eye(size, dtype=logits.dtype) for role, size in sizes.items() if role in roles}
    if LONG_KEYS in made:
        made[LONG_KEYS] *= np.sqrt(features, dtype=logits.dtype)
    return {
        role: array.reshape((*(leading if role in OF_ATTENTION else ()), *array.shape)) for role, array in made.items()
    }


def sample_instance(target: type, roles: tuple[str, ...]) -> Any:
    """An instance of the class, made as for a small batch; None if it cannot be made."""
    sample = construction_values(np.zeros((3, 5))) | {"axis": -1, "learning_rate": 0.1, "logits": np.zeros((3, 5))}
    try:
        return make_instance(target, roles, sample)
    except Exception:  # whatever goes wrong, it is not made in this way
        return None


def _activations(target: type) -> list[str]:
    """The names of activations that a class's code has as strings: it is told one of them."""
    return re.findall(rf"""["'](softmax|{"|".join(ACTIVATIONS)})["']""", source_of(target))


def make_instance(target: type, roles: tuple[str, ...], values: Mapping[str, Any]) -> Any:
    """An instance of the class, told the sizes if it has a method for that."""
    if roles == BYPASSED:
        return object.__new__(target)
    counts = dict.fromkeys(class_counts(target), values["features"])
    known = _activations(target)
    activations = {**(activation_names(target) if "softmax" in known else {}), **softmax_flags(target)}
    activations |= classification_modes(target)
    if known and "softmax" not in known:  # that of hidden layers
        values = {**values, "name": next(name for name in ACTIVATIONS if name in known)}
    names = constructor_parameters(target) if roles else []
    by_name = keyword_only_without_default(target)
    values = {**values, FUNCTION: _function_beside(target, "softmax")} if FUNCTION in roles else values
    if "activations" in roles:
        hidden = (_function_beside(target, name) for name in ACTIVATIONS)
        values = {**values, "activations": [next(filter(None, hidden), None), _function_beside(target, "softmax")]}
    given = [(name, values[role]) for name, role in zip(names, roles, strict=True)]
    placed = [value for name, value in given if name not in by_name]
    named = {name: value for name, value in given if name in by_name}
    named |= ignored_labels(target) | smoothings(target)
    made = target(*placed, **named, **counts, **activations)
    if INITIALISE in public_methods(target):
        with contextlib.suppress(Exception):  # what it is for is not known: without it a call may work as well
            getattr(made, INITIALISE)(*[values["features"]] * len(bound_parameters(target, INITIALISE)))
    if BUILD in public_methods(target) and len(bound_parameters(target, BUILD)) == 1:
        with contextlib.suppress(Exception):
            getattr(made, BUILD)((values["batch"], values["features"]))
    return made
