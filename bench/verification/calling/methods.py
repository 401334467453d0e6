"""The methods of a class that may be its forward and its backward: by known names, by sound, by elimination."""

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .kept import attributes_read, attributes_stored
from .roles import UNKNOWN, asked_names, known_parameters, required_names, roles_of

FORWARDS = (
    "forward", "__call__", "call", "fprop", "forward_pass", "forward_propagation", "feedforward", "forwards", "fp",
    "activate", "activation", "apply", "predict", "propagate", "calculate", "compute", "run", "f", "fn", "func",
    "function", "softmax", "loss", "_forward", "updateOutput", "update_output",
)  # fmt: skip
BACKWARDS = (
    "backward", "back", "backprop", "backward_pass", "back_propagation", "backward_propagation", "backpropagate",
    "backpropagation", "bprop", "backwards", "bp", "_back", "_backward", "gradient", "grad", "derivative", "deriv",
    "prime", "d", "df", "delta", "dloss", "jacobian", "vjp", "pullback", "input_gradient", "calc_gradient",
    "updateGradInput", "update_grad_input",
)  # fmt: skip
_SOUNDS_BACKWARD = re.compile(
    r"back|bwd|grad|d[eé]riv|prime|diff|error|delta|jacob|pullback|vjp|^d(?=[A-Z_])|^d_?softmax"
    r"|r(ue|ü)ckw|ableit|atr[aá]s|arri[eè]re|retro|indietro"  # in German, Spanish, French, Portuguese and Italian
)
_SOUNDS_FORWARD = re.compile(
    r"forw|fwd|call|activ|softmax|calc|comput|output|result|apply|eval|func|value|feed|run"
    r"|vorw|adelante|avant|adiante|frente",
    re.IGNORECASE,
)
_SPELT_FORWARD = re.compile(r"_?(forw|fwd|feed_?forw)")
_NO_BACKWARD = re.compile(
    r"^(zero|reset|clear|clip|update|apply|accumulate|set|get(?!_?(input_?)?grad)|init|step|check|numerical|predict)|loss|param"
)
_NO_FORWARD = re.compile(
    r"^(zero|reset|clear|clip|update|accumulate|set|init|step|check|numerical)|loss|param|cost|grad"
)
_TRAINS = re.compile(r"^(fit|train|learn|build|load|compile|optimi)")
_TELLS_TARGETS = re.compile(r"(\w+_)?(loss|cost)|(load|set|feed)_?(label|target|y)s?", re.IGNORECASE)
_GIVES_LOSS = re.compile(r"((get|compute|calc|calculate)_?)?(loss|cost|cross_?entropy)", re.IGNORECASE)
_MISSPELT = 0.8  # how similar a misspelt name is to the right one, from 0 to 1
SHOWN_METHODS = 8


def forward_names(target: object, backward: str = "") -> list[str]:
    """The methods that may be the forward, likeliest first; ``backward`` is none of them."""
    storing = _storing_for(target, backward) if backward else []
    named = _known(target, FORWARDS)
    if named and storing and named[0] not in storing:
        return [storing[0], named[0]]  # what the known one leaves is not what the backward reads
    spelt = [name for name in public_methods(target) if _SPELT_FORWARD.match(name.lower()) and name != backward]
    if spelt and named and named[0] in FORWARDS[FORWARDS.index("predict") :]:
        named = [spelt[0], *named]  # what predicts may give a class alone
    if named:
        # A class with both may keep in __call__ what its backward needs, or in the other what __call__ does not.
        others = named[1:2] if named[0] == "__call__" else [name for name in named if name == "__call__"]
        return [named[0], *others]
    without = (backward, *_sounding(target, _SOUNDS_BACKWARD))
    return _other(target, FORWARDS, _SOUNDS_FORWARD, _NO_FORWARD, without)


def backward_names(target: object, forward: str = "") -> list[str]:
    """The methods that may be the backward, likeliest first; ``forward`` is none of them."""
    named = [name for name in _known(target, BACKWARDS) if name != forward]
    sounding = [name for name in _sounding(target, _SOUNDS_BACKWARD) if not _NO_BACKWARD.search(name)]
    if named and takes_only_a_rate(target, named[0]):
        # Such a backward updates weights; the gradient is another method's.
        named = [name for name in (*named[1:], *sounding) if not takes_only_a_rate(target, name)] or named
    named = named or sorted(_told_a_gradient(target, forward), key=lambda name: name not in sounding)
    return named[:1] or _other(target, BACKWARDS, _SOUNDS_BACKWARD, _NO_BACKWARD, (forward, *FORWARDS))


def _told_a_gradient(target: object, forward: str) -> list[str]:
    """The methods of a class that take a gradient alone, and whose names say nothing else."""
    public = public_methods(target) if inspect.isclass(target) else []
    others = [name for name in public if name not in (forward, *FORWARDS)]
    silent = [name for name in others if not _NO_BACKWARD.search(name) and not _SOUNDS_FORWARD.search(name)]
    return [name for name in silent if [*map(roles_of, bound_parameters(target, name))] == [("grad_output",)]]


def _storing_for(target: object, backward: str) -> list[str]:
    """The methods that leave in the object what a backward reads of it, whichever leaves most of that first."""
    defined = {name: getattr(target, name) for name in public_methods(target)}
    if backward not in defined:
        return []
    own = set(attributes_stored(defined[backward]))
    read = {name for name in attributes_read(defined[backward]) if name not in own | defined.keys()}
    no_forwards = (_SOUNDS_BACKWARD, _NO_FORWARD, _TRAINS)
    others = [name for name in defined if name != backward and not any(each.search(name) for each in no_forwards)]
    left = {name: len(read & _stored_by(defined, name, {name})) for name in others}
    return sorted((name for name in others if left[name]), key=lambda name: -left[name])


def _stored_by(defined: Mapping[str, Any], name: str, seen: set[str]) -> set[str]:
    """The attributes that a method writes, or those that it calls."""
    found = set(attributes_stored(defined[name]))
    for other in attributes_read(defined[name]):
        if other in defined and other not in seen:
            seen.add(other)
            found |= _stored_by(defined, other, seen)
    return found


def _known(target: object, names: Iterable[str]) -> list[str]:
    return [
        name
        for name in names
        if callable(getattr(target, name, None))
        and not (name == "__call__" and inspect.isclass(target) and not defines_call(target))
    ]


def _other(
    target: object, names: tuple[str, ...], sound: re.Pattern[str], refused: re.Pattern[str], without: Iterable[str]
) -> list[str]:
    """A method with a misspelt name, else those that sound so, else the only one that is left."""
    public = [name for name in public_methods(target) if name not in set(without) and not refused.search(name)]
    misspelt = [name for name in public if difflib.get_close_matches(name.lower(), names[:10], 1, _MISSPELT)]
    sounding = [name for name in public if sound.search(name)]
    return (misspelt or sorted(sounding, key=len) or (public if len(public) == 1 else []))[:2]


def told_targets_by(target: object) -> str:
    """The method that is told targets alone, to compute a loss or to keep them for the backward; empty: none is."""
    named = [name for name in public_methods(target) if _TELLS_TARGETS.fullmatch(name)]
    return next((name for name in named if len(bound_parameters(target, name)) == 1), "")


def loss_beside(target: object) -> str:
    """The method of a class that gives its loss from what it computed and the labels; empty if there is none."""
    if not inspect.isclass(target):
        return ""
    named = [name for name in public_methods(target) if _GIVES_LOSS.fullmatch(name)]
    return next((name for name in named if _is_told_labels(bound_parameters(target, name))), "")


def _is_told_labels(names: list[str]) -> bool:
    return len(names) == 2 and any("targets" in roles_of(name) for name in names)


def takes_only_a_rate(target: object, method: str) -> bool:
    """Whether a method's only parameter is a learning rate."""
    parameters = list(inspect.signature(getattr(target, method)).parameters)
    given = [name for name in parameters if name not in ("self", "cls")]
    return len(given) == 1 and roles_of(given[0]) == ("learning_rate",)


def sounds_backward(name: str) -> bool:
    """Whether a name is that of a backward, or sounds like one."""
    return name in BACKWARDS or _SOUNDS_BACKWARD.search(name) is not None


def trains(name: str) -> bool:
    """Whether a name is that of what trains a whole model, or loads or makes it."""
    return _TRAINS.match(name) is not None


def _sounding(target: object, sound: re.Pattern[str]) -> list[str]:
    return [name for name in public_methods(target) if sound.search(name)]


def public_methods(target: object) -> list[str]:
    """The names of the target's own public methods; those of PyTorch's classes are none of them."""
    owner = target if inspect.isclass(target) else type(target)
    bases = [base for base in owner.__mro__[:-1] if not base.__module__.startswith("torch")]
    return [
        name
        for name in dict.fromkeys(name for base in bases for name in vars(base))
        if not name.startswith("_") and callable(getattr(target, name, None))
    ]


def defines_call(target: type) -> bool:
    """Whether instances of a class can be called. ``callable`` cannot say: every class is callable itself."""
    return any("__call__" in vars(base) for base in target.__mro__[:-1])


def known_methods(target: object) -> str:
    """The target's first public methods, as the end of a message; empty if there are none."""
    names = [name for name in dir(target) if not name.startswith("_") and callable(getattr(target, name, None))]
    more = ", ..." if len(names) > SHOWN_METHODS else ""
    return f" (it has {', '.join(names[:SHOWN_METHODS])}{more})" if names else ""


def is_static(owner: type, method: str) -> bool:
    """Whether a method of a class is called without an instance.

    A plain function whose first parameter is an array by its name is static, too: its author forgot the decorator.
    """
    attribute = inspect.getattr_static(owner, method)
    if isinstance(attribute, staticmethod | classmethod):
        return True
    if not inspect.isfunction(attribute):
        return False
    names = [parameter.name for parameter in known_parameters(attribute)]
    return bool(names) and names[0] not in ("self", "cls", "this") and roles_of(names[0]) != UNKNOWN


def bound_parameters(target: object, method: str) -> list[str]:
    """The names of the parameters of a method that a call has to fill, ``self`` left out."""
    names = asked_names(getattr(target, method))
    if not inspect.isclass(target):
        return names
    if not is_static(target, method):
        return names[1:]
    return ["ctx", *names[1:]] if names[:1] == ["self"] else names  # a context by another name


def applied_parameters(target: object, method: str) -> list[str]:
    """The names of the parameters of a method; of ``apply(*args)``, those of the forward without its context."""
    names = bound_parameters(target, method)
    if names or method != "apply" or not callable(getattr(target, "forward", None)):
        return names
    return bound_parameters(target, "forward")[1:]


def forward_parameters(target: object, forward: str) -> list[str]:
    """The names of the parameters of a forward; of a ``__call__(*args)``, those of the method that it hands them to."""
    names = bound_parameters(target, forward)
    if names or forward != "__call__":
        return names
    behind = [name for name in _known(target, FORWARDS) if name != "__call__"]
    return bound_parameters(target, behind[0]) if behind else names


def optional_targets(target: object, forward: str) -> str:
    """The second parameter of a forward if it may be left out and is one of targets by its name; empty if it is not."""
    defined = list(inspect.signature(getattr(target, forward)).parameters.values())
    after = [parameter for parameter in defined if parameter.name not in ("self", "cls")][1:2]
    named = [parameter.name for parameter in after if parameter.default is None]
    return next((name for name in named if {"targets", "labels"} & set(roles_of(name))), "")


def constructor_parameters(target: type) -> list[str]:
    """The names of the constructor's parameters without a default, ``self`` left out."""
    return required_names(inspect.getattr_static(target, "__init__"))[1:]


def all_parameters(target: object, methods: Iterable[str]) -> Iterator[str]:
    """The names of the parameters of several methods, as far as the target has them."""
    for method in methods:
        function: Any = getattr(target, method, None)
        if callable(function):
            yield from asked_names(function)
