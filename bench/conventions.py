"""How a function wants to be called: guessed from names and signatures, as a list of candidates to be tried in order.

A ``Convention`` is data: it crosses process boundaries and is printed. ``bench.calling`` carries it out.
"""

import dataclasses
import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .errors import UserError

FORWARDS = (
    "forward", "__call__", "call", "fprop", "forward_pass", "forward_propagation", "feedforward", "forwards", "fp",
    "activate", "activation", "apply", "predict", "propagate", "calculate", "compute", "run", "f", "fn", "func",
    "function", "softmax", "loss",
)  # fmt: skip
BACKWARDS = (
    "backward", "back", "backprop", "backward_pass", "back_propagation", "backward_propagation", "backpropagate",
    "backpropagation", "bprop", "backwards", "bp", "_back", "_backward", "gradient", "grad", "derivative", "deriv",
    "prime", "d", "df", "delta", "dloss", "jacobian", "vjp", "pullback", "input_gradient", "calc_gradient",
)  # fmt: skip
GRADS = ("g", "grad", "gradient", "_grad", "d", "adjoint", "diff", "delta")  # where a graph's node keeps its gradient
# Roles that a user may name in --signature.
ROLES = ("logits", "probs", "grad_output", "targets", "labels", "upstream", "axis", "features", "learning_rate")
LAYOUTS = {
    "rows": "arrays [batch, features]",
    "columns": "features first: arrays [features, batch], axis 0",
    "vector": "one vector [features] at a time",
    "column": "one column [features, 1] at a time",
    "row": "one row [1, features] at a time",
}
MAX_CANDIDATES = 60
SHOWN_METHODS = 8

# What a parameter's name says of its role, likeliest first; several are all tried.
_AXIS = r"axis|dim|axes"
_RATE = r"lr|learning_?rate|eta|alpha|rate|step_?size"
_CONTEXT = r"ctx|context"
_CACHE = r"cache|caches|saved|memo(ry)?|tape"
_LOGITS = r"logits?|(raw_?)?scores?|raw\w*|pre_?activations?|unnormalized\w*"
_TARGETS = (
    r"t|targets?|labels?|truths?|(y|t)_?true|one_?hot\w*|\w+_(one_?)?hot|ground_?truth|gt|true_?\w*|desired"
)  # fmt: skip
_GRAD = (
    r"\w*grad\w*|\w*upstream\w*|cotangents?|deltas?|d_?out\w*|\w*err(or)?s?|d[A-Z]\w*|d_\w+|d(y|z|a|l|o|s|p|x|h)"
    r"|g|v|u|dvalues|dloss|\w*_diff|\w*_delta|sensitivity|seed"
)
_PROBS = (
    r"p|probs?|probabilit(y|ies)|softmax\w*|\w*_softmax|sm|out(put)?s?|y_?(hat|pred)\w*|preds?|predict\w*|activations?"
)  # fmt: skip
_ANYTHING = r"inputs?|inp|inps?|xs?|z|arrays?|values?|data"
_NAMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (_AXIS, ("axis",)),
    (_RATE, ("learning_rate",)),
    (_CONTEXT, ("context",)),
    (_CACHE, ("cache",)),
    (_LOGITS, ("logits",)),
    (_TARGETS, ("targets",)),
    (_GRAD, ("grad_output",)),
    (_PROBS, ("probs",)),
    (_ANYTHING, ("logits", "probs", "grad_output")),
)
_UNKNOWN = ("probs", "logits", "grad_output")
_LOSS = re.compile(r"loss|entropy|criterion|nll|(?<![a-z])ce(?![a-z])", flags=re.IGNORECASE)
_PACKED = re.compile(r"inputs|args|xs|pair|tensors|parents")


@dataclass(frozen=True)
class Convention:
    """One way to call a target: its style, methods, the roles of their arguments, layout and container.

    ``style`` is ``function`` (perhaps with a ``forward`` beside it in its module), ``pair`` (an object with a forward
    and a backward), ``node`` (a graph's node made from its parents), or ``tensor`` (a function or method from one
    tensor to another that notes its own backward).
    """

    operation: str
    style: str
    arguments: tuple[str, ...]
    parameters: tuple[str, ...] = ()
    forward: str = ""
    forward_arguments: tuple[str, ...] = ()
    backward: str = ""
    construct: tuple[str, ...] = ()
    result: str = ""
    layout: str = "rows"
    container: str = "array"

    @property
    def roles(self) -> set[str]:
        """Everything that any of the calls is given."""
        return {*self.arguments, *self.forward_arguments, *self.construct}

    @property
    def recomputes(self) -> bool:
        """Whether the probabilities are the target's own, from logits."""
        return bool(self.roles & {"logits", "packed"})

    @property
    def is_single(self) -> bool:
        """Whether the target takes one row of the batch at a time."""
        return self.layout in ("vector", "column", "row")

    def __str__(self) -> str:
        given = ", ".join(self.arguments)
        called = f"{self.backward or 'function'}({given})"
        if self.style == "tensor":
            called = f"{self.forward or 'function'}(tensor of logits), its own backward with grad_output"
        elif self.style == "node":
            called = f"node({', '.join(self.construct)}).{self.backward}({given})"
        elif self.forward:
            called = f"{self.forward}({', '.join(self.forward_arguments)}), then {called}"
        parts = [called, LAYOUTS[self.layout]]
        if self.container != "array":
            parts.append({"list": "nested lists", "torch": "PyTorch tensors"}[self.container])
        return "; ".join(parts)


@dataclass(frozen=True)
class Options:
    """What a user may say about how a target is called; empty is found out."""

    operation: str = ""
    signature: tuple[str, ...] = ()
    forward: str = ""
    backward: str = ""
    result: str = ""
    layout: str = ""
    reduction: str = ""

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UserError: ``signature`` has a role that does not exist, or one twice.

        """
        for role in self.signature:
            if role not in ROLES:
                raise UserError(f"--signature: unknown role {role!r}; a list, with commas, of {', '.join(ROLES)}")
            if self.signature.count(role) > 1:
                raise UserError(f"--signature: {role!r} stands twice")


def candidates(target: object, namespace: dict[str, Any], options: Options) -> list[Convention]:
    """Every way in which the target may want to be called, likeliest first, rows of arrays; at most 60.

    ``namespace`` is the target's module, where a function's forward may be.

    Raises:
        UserError: the target is nothing that can be called, or has no method of the name that was given.

    """
    options.check()
    for name in filter(None, (options.forward, options.backward)):
        if not callable(getattr(target, name, namespace.get(name))):
            raise UserError(f"the target has no method {name!r}{_has(target)}")
    found = itertools.chain.from_iterable(
        _of_operation(target, namespace, options, operation) for operation in _operations(target, options)
    )
    chosen = list(dict.fromkeys(dataclasses.replace(one, result=options.result) for one in found))[:MAX_CANDIDATES]
    if not chosen:
        raise UserError(_nothing_to_call(target, options))
    return chosen


def _nothing_to_call(target: object, options: Options) -> str:
    """Why no convention fits the target, and what to do."""
    if inspect.isfunction(target):
        names = ", ".join(required_names(target)) or "none"
        return (
            f"its parameters ({names}) fit no {options.operation or 'backward of softmax'}; say them with --signature"
        )
    kind = f"the class {target.__name__}" if inspect.isclass(target) else f"a {type(target).__name__}"
    return f"{kind} has no forward and backward that are known; name them with --forward and --backward{_has(target)}"


def _has(target: object) -> str:
    """The target's first methods, as the end of a message; empty where there are none."""
    names = _methods(target)
    return (
        f" (it has {', '.join(names[:SHOWN_METHODS])}{', ...' if len(names) > SHOWN_METHODS else ''})" if names else ""
    )


def _operations(target: object, options: Options) -> tuple[str, ...]:
    """The operations to try: a loss where the target's name says so or a parameter is called like targets."""
    if options.operation:
        return (options.operation,)
    if {"targets", "labels", "upstream"} & set(options.signature):
        return ("softmax_cross_entropy", "cross_entropy")
    callables: list[Any] = [target] if not _pair_of(target, options) else []
    callables += [getattr(target, name, None) for name in (*FORWARDS, *BACKWARDS) if not name.startswith("__")]
    names = {name for one in callables if callable(one) for name in required_names(one)}
    names |= set(_constructor_parameters(target)) if inspect.isclass(target) else set()
    called = getattr(target, "__name__", type(target).__name__)
    if any(_match(name) == ("targets",) for name in names) or _LOSS.search(called):
        return ("softmax_cross_entropy", "cross_entropy")
    return ("softmax",)


def _of_operation(target: object, namespace: dict[str, Any], options: Options, operation: str) -> Iterator[Convention]:
    pair = _pair_of(target, options)
    if pair is not None:
        yield from _pair_conventions(target, *pair, operation, options)
    if inspect.isclass(target):
        yield from _node_conventions(target, operation, options)
        if callable(getattr(target, "softmax", None)):
            yield Convention(operation, "tensor", (), forward="softmax")
    elif callable(target) and pair is None:
        yield from _function_conventions(target, namespace, options, operation)


def _pair_of(target: object, options: Options) -> tuple[str, str] | None:
    """The names of the target's forward and backward, None where it lacks one."""
    if inspect.isfunction(target) or inspect.isbuiltin(target) or inspect.ismodule(target):
        return None
    forward = options.forward or _first_method(target, FORWARDS)
    backward = options.backward or _first_method(target, BACKWARDS)
    return (forward, backward) if forward and backward else None


def _first_method(target: object, names: Iterable[str]) -> str:
    for name in names:
        # A class is callable itself: its __call__ is its metaclass's unless it defines one.
        if (
            name == "__call__"
            and inspect.isclass(target)
            and not any("__call__" in vars(one) for one in target.__mro__[:-1])
        ):
            continue
        if callable(getattr(target, name, None)):
            return name
    return ""


def _pair_conventions(
    target: object, forward: str, backward: str, operation: str, options: Options
) -> Iterator[Convention]:
    construct = _construction(target, (forward, backward))
    if construct is None:
        return
    back = bound_parameters(target, backward)
    forwards = list(_forward_roles(bound_parameters(target, forward), operation))
    for arguments, given in itertools.product(_backward_roles(back, operation, options.signature), forwards):
        if operation == "softmax" or {"targets", "labels", "packed"} & {*arguments, *given}:
            yield Convention(operation, "pair", arguments, tuple(back), forward, given, backward, construct)


def _construction(target: object, methods: tuple[str, ...]) -> tuple[str, ...] | None:
    """The roles of what the class must be given to make an instance; None where it cannot be told."""
    if not inspect.isclass(target) or all(_is_static(target, name) for name in methods):
        return ()
    sizes = re.compile(r"\w*size|n|units|\w*dims?|\w*features|n_\w+|num_\w+|input_\w+|output_\w+|classes")
    roles = []
    for name in _constructor_parameters(target):
        known = _match(name)
        if known == ("axis",):
            roles.append("axis")
        elif "batch" in name:
            roles.append("batch")
        elif sizes.fullmatch(name):
            roles.append("features")
        else:
            return None
    return tuple(roles)


def _forward_roles(parameters: list[str], operation: str) -> Iterator[tuple[str, ...]]:
    """What the forward may be given: logits (a loss of probabilities: those), and a loss its targets."""
    first = "probs" if operation == "cross_entropy" else "logits"
    if len(parameters) == 1 and operation != "softmax" and _PACKED.fullmatch(parameters[0]):
        yield ("packed",)
    choices = []
    for name in parameters:
        known = _match(name)
        if known[0] in ("axis", "context", "learning_rate"):
            choices.append(known)
        elif operation == "softmax":
            choices.append((first,))
        else:
            choices.append(("targets", "labels") if known == ("targets",) else (first, "targets", "labels"))
    yield from _distinct(choices)


def _backward_roles(parameters: list[str], operation: str, signature: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if signature:
        yield signature
        return
    yield from _distinct([_choices(name, operation, backward=True) for name in parameters])


def _function_conventions(
    target: Callable[..., Any], namespace: dict[str, Any], options: Options, operation: str
) -> Iterator[Convention]:
    parameters = required_names(target) if has_signature(target) else ["", ""]
    forward = options.forward or _forward_beside(target, namespace)
    roles = [options.signature] if options.signature else _distinct([_choices(name, operation) for name in parameters])
    name = getattr(target, "__name__", "")
    for arguments in roles:
        if operation != "softmax" and len(arguments) > 1 and not {"targets", "labels", "packed"} & set(arguments):
            continue
        if "cache" not in arguments or forward:
            before = forward if "cache" in arguments else ""
            yield Convention(
                operation, "function", arguments, tuple(parameters), before, ("logits",) if before else (), name
            )
    if operation == "softmax" and len(parameters) == 1 and not options.signature:
        yield Convention(operation, "tensor", ())


def _forward_beside(target: Callable[..., Any], namespace: dict[str, Any]) -> str:
    """The name of the forward that belongs to a backward in the same module; empty where none is recognised."""
    name = getattr(target, "__name__", "")
    guesses = [name.replace("backward", "forward"), re.sub(r"_?(backward|backprop|grad(ient)?|bwd|vjp)_?", "", name)]
    for guess in (*guesses, "softmax_forward", "softmax", "forward"):
        if guess != name and callable(namespace.get(guess)):
            return guess
    return ""


def _node_conventions(target: type, operation: str, options: Options) -> Iterator[Convention]:
    """Those of a class whose instances are made from their parents in a graph and know their own backward."""
    parents = _constructor_parameters(target)
    backward = options.backward or _first_method(target, BACKWARDS)
    if not backward or len(parents) != (1 if operation == "softmax" else 2):
        return
    given = bound_parameters(target, backward)
    for construct in _forward_roles(parents, operation):
        incoming = "grad_output" if operation == "softmax" else "upstream"
        own = ("parents",) if len(given) == len(parents) else (incoming,) if len(given) == 1 else ()
        if len(given) in (0, 1, len(parents)):
            # The incoming gradient lies in the node, or is the argument.
            yield Convention(operation, "node", own, tuple(given), "", (), backward, construct)
            if own == ("parents",) and len(given) == 1:
                yield Convention(operation, "node", (incoming,), tuple(given), "", (), backward, construct)


def _choices(name: str, operation: str, *, backward: bool = False) -> tuple[str, ...]:
    """The roles that a parameter of a backward may have, likeliest first."""
    known = _match(name)
    if known[0] in ("axis", "learning_rate", "context", "cache"):
        return known
    if operation == "softmax":
        known = ("grad_output",) if known == ("targets",) else known
        # A method that follows a forward gets the incoming gradient, whatever it is called.
        return tuple(sorted(known, key=lambda role: role != "grad_output")) if backward else known
    first = ("probs", "logits") if operation == "softmax_cross_entropy" else ("probs",)
    named: dict[tuple[str, ...], tuple[str, ...]] = {
        ("targets",): ("targets", "labels"),
        ("grad_output",): ("upstream", "probs"),
        ("logits",): ("logits",),
        ("probs",): first,
    }
    packed = ("packed",) if _PACKED.fullmatch(name) else ()
    return named.get(known, (*packed, *first, "targets", "labels"))


def _match(name: str) -> tuple[str, ...]:
    """The roles that a name stands for; all that are usual where it says nothing."""
    bare = name.strip("_")
    for pattern, roles in _NAMES:
        if re.fullmatch(pattern, bare) or re.fullmatch(pattern, bare.lower()):
            return roles
    return _UNKNOWN


def _distinct(choices: list[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """One role a parameter, no role twice, the first choices first."""
    ranked = sorted(
        itertools.product(*(range(len(roles)) for roles in choices)),
        key=lambda places: (sum(places), places),
    )
    for places in ranked:
        roles = tuple(choice[place] for choice, place in zip(choices, places, strict=True))
        if len(set(roles)) == len(roles) and not {"targets", "labels"} <= set(roles):
            yield roles


def bound_parameters(target: object, method: str) -> list[str]:
    """The names of what a method must be given, self left out."""
    names = required_names(getattr(target, method))
    return names[1:] if inspect.isclass(target) and not _is_static(target, method) else names


def _is_static(target: type, method: str) -> bool:
    return isinstance(inspect.getattr_static(target, method), staticmethod | classmethod)


def _constructor_parameters(target: type) -> list[str]:
    """The names of what must be given to make an instance."""
    return required_names(inspect.getattr_static(target, "__init__"))[1:]


def has_signature(function: Callable[..., Any]) -> bool:
    """Whether Python can tell what a function takes."""
    try:
        kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):
        return False
    return inspect.Parameter.VAR_POSITIONAL not in kinds


def required_names(function: Callable[..., Any]) -> list[str]:
    """The names of the parameters without a default, in order; an array to write into is not asked for but given."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        one.name
        for one in parameters
        if one.default is one.empty
        and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        and not (one.kind is one.KEYWORD_ONLY and one.name == "out")
    ]


def _methods(target: object) -> list[str]:
    return [name for name in dir(target) if not name.startswith("_") and callable(getattr(target, name, None))]
