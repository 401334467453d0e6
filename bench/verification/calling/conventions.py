"""How a target may have to be called: a list of candidates to try in order, guessed from names and signatures.

A ``Convention`` is data: it crosses process boundaries and is printed. ``call`` carries it out.
"""

import dataclasses
import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ...errors import UserError
from .roles import (
    backward_choices,
    backward_roles,
    distinct,
    forward_roles,
    has_signature,
    is_static,
    required_names,
    roles_of,
)

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
GRADS = ("g", "grad", "gradient", "_grad", "d", "adjoint", "diff", "delta")  # where graph nodes keep gradients
# Roles that a user may name in --signature.
ROLES = (
    "logits", "probs", "log_probs", "grad_output", "targets", "labels", "upstream", "axis", "features", "learning_rate",
)  # fmt: skip
LAYOUTS = {
    "rows": "arrays [batch, features]",
    "columns": "features first: arrays [features, batch], axis 0",
    "vector": "one vector [features] at a time",
    "column": "one column [features, 1] at a time",
    "row": "one row [1, features] at a time",
}
MAX_CANDIDATES = 60
SHOWN_METHODS = 8

_LOSS = re.compile(r"loss|entropy|criterion|nll|(?<![a-z])ce(?![a-z])", flags=re.IGNORECASE)


@dataclass(frozen=True)
class Convention:
    """One way to call a target: its style, methods, the roles of their arguments, layout and container.

    ``style`` is one of these:

    - ``function``, which may have a ``forward`` in the same module
    - ``pair``: an object with a forward and a backward
    - ``node``: a graph's node, made from its parents
    - ``tensor``: a function or method that makes a tensor from another one and keeps its backward in it
    """

    operation: str
    style: str
    arguments: tuple[str, ...]
    forward: str = ""
    forward_arguments: tuple[str, ...] = ()
    backward: str = ""
    construct: tuple[str, ...] = ()
    result: str = ""
    layout: str = "rows"
    container: str = "array"

    @property
    def roles(self) -> set[str]:
        """The roles of all arguments of all calls."""
        return {*self.arguments, *self.forward_arguments, *self.construct}

    @property
    def recomputes(self) -> bool:
        """Whether the target computes the probabilities itself, from logits or from their logarithms."""
        return bool(self.roles & {"logits", "log_probs", "packed"})

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
    """What a user states about how to call a target; what is empty is found by trying."""

    operation: str = ""
    signature: tuple[str, ...] = ()
    forward: str = ""
    backward: str = ""
    result: str = ""
    layout: str = ""
    reduction: str = ""

    def check(self) -> None:
        """Check the signature.

        Raises:
            UserError: it has a role that does not exist, or a role twice.
        """
        for role in self.signature:
            if role not in ROLES:
                raise UserError(f"--signature: unknown role {role!r}; known roles: {', '.join(ROLES)}")
            if self.signature.count(role) > 1:
                raise UserError(f"--signature: {role!r} is given twice")


def candidates(target: object, namespace: dict[str, Any], options: Options) -> list[Convention]:
    """Every way in which the target may have to be called with arrays [batch, features], likeliest first; at most 60.

    ``namespace`` is that of the target's module: it may hold a function's forward.

    Raises:
        UserError: the target cannot be called, or has no method with the given name.
    """
    options.check()
    for name in filter(None, (options.forward, options.backward)):
        if not callable(getattr(target, name, namespace.get(name))):
            raise UserError(f"the target has no method {name!r}{_known_methods(target)}")
    found = itertools.chain.from_iterable(
        _of_operation(target, namespace, options, operation) for operation in _operations(target, options)
    )
    with_result = (dataclasses.replace(convention, result=options.result) for convention in found)
    chosen = list(dict.fromkeys(with_result))[:MAX_CANDIDATES]
    if not chosen:
        raise UserError(_nothing_to_call(target, options))
    return chosen


def _nothing_to_call(target: object, options: Options) -> str:
    """Why no convention fits the target, and what to do."""
    if inspect.isfunction(target):
        names = ", ".join(required_names(target)) or "none"
        operation = options.operation or "backward of softmax"
        return f"its parameters ({names}) fit no {operation}; give their roles with --signature"
    kind = f"the class {target.__name__}" if inspect.isclass(target) else f"a {type(target).__name__}"
    return (
        f"{kind} has no forward and backward with a known name; "
        f"name them with --forward and --backward{_known_methods(target)}"
    )


def _known_methods(target: object) -> str:
    """The target's first public methods, as the end of a message; empty if there are none."""
    names = [name for name in dir(target) if not name.startswith("_") and callable(getattr(target, name, None))]
    more = ", ..." if len(names) > SHOWN_METHODS else ""
    return f" (it has {', '.join(names[:SHOWN_METHODS])}{more})" if names else ""


def _operations(target: object, options: Options) -> tuple[str, ...]:
    """The operations to try: losses if the target's name is that of a loss or a parameter's that of targets."""
    if options.operation:
        return (options.operation,)
    if {"targets", "labels", "upstream"} & set(options.signature):
        return ("softmax_cross_entropy", "cross_entropy")
    callables: list[Any] = [target] if not _pair_of(target, options) else []
    callables += [getattr(target, name, None) for name in (*FORWARDS, *BACKWARDS) if not name.startswith("__")]
    names = {name for function in callables if callable(function) for name in required_names(function)}
    names |= set(_constructor_parameters(target)) if inspect.isclass(target) else set()
    called = getattr(target, "__name__", type(target).__name__)
    if any(roles_of(name) == ("targets",) for name in names) or _LOSS.search(called):
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
    """The names of the target's forward and backward; None if it lacks one of them."""
    if inspect.isfunction(target) or inspect.isbuiltin(target) or inspect.ismodule(target):
        return None
    forward = options.forward or _first_method(target, FORWARDS)
    backward = options.backward or _first_method(target, BACKWARDS)
    return (forward, backward) if forward and backward else None


def _first_method(target: object, names: Iterable[str]) -> str:
    for name in names:
        if name == "__call__" and inspect.isclass(target) and not _defines_call(target):
            continue
        if callable(getattr(target, name, None)):
            return name
    return ""


def _defines_call(target: type) -> bool:
    """Whether instances of a class can be called. ``callable`` cannot say: every class is callable itself."""
    return any("__call__" in vars(base) for base in target.__mro__[:-1])


def _pair_conventions(
    target: object, forward: str, backward: str, operation: str, options: Options
) -> Iterator[Convention]:
    construct = _construction(target, (forward, backward))
    if construct is None:
        return
    forwards = list(forward_roles(_bound_parameters(target, forward), operation))
    backwards = backward_roles(_bound_parameters(target, backward), operation, options.signature)
    for arguments, given in itertools.product(backwards, forwards):
        if operation == "softmax" or {"targets", "labels", "packed"} & {*arguments, *given}:
            yield Convention(
                operation,
                "pair",
                arguments,
                forward=forward,
                forward_arguments=given,
                backward=backward,
                construct=construct,
            )


def _construction(target: object, methods: tuple[str, ...]) -> tuple[str, ...] | None:
    """The roles of the arguments that make an instance of the class; None if a name says nothing about its role."""
    if not inspect.isclass(target) or all(is_static(target, name) for name in methods):
        return ()
    sizes = re.compile(r"\w*size|n|units|\w*dims?|\w*features|n_\w+|num_\w+|input_\w+|output_\w+|classes")
    roles = []
    for name in _constructor_parameters(target):
        known = roles_of(name)
        if known == ("axis",):
            roles.append("axis")
        elif "batch" in name:
            roles.append("batch")
        elif sizes.fullmatch(name):
            roles.append("features")
        else:
            return None
    return tuple(roles)


def _function_conventions(
    target: Callable[..., Any], namespace: dict[str, Any], options: Options, operation: str
) -> Iterator[Convention]:
    parameters = required_names(target) if has_signature(target) else ["", ""]
    forward = options.forward or _forward_in_module(target, namespace)
    choices = [backward_choices(name, operation) for name in parameters]
    roles = [options.signature] if options.signature else distinct(choices)
    name = getattr(target, "__name__", "")
    for arguments in roles:
        if operation != "softmax" and len(arguments) > 1 and not {"targets", "labels", "packed"} & set(arguments):
            continue
        if "cache" not in arguments or forward:
            before = forward if "cache" in arguments else ""
            yield Convention(
                operation,
                "function",
                arguments,
                forward=before,
                forward_arguments=("logits",) if before else (),
                backward=name,
            )
    if operation == "softmax" and len(parameters) == 1 and not options.signature:
        yield Convention(operation, "tensor", ())


def _forward_in_module(target: Callable[..., Any], namespace: dict[str, Any]) -> str:
    """The name of a backward's forward in the same module; empty if none is recognised."""
    name = getattr(target, "__name__", "")
    guesses = [name.replace("backward", "forward"), re.sub(r"_?(backward|backprop|grad(ient)?|bwd|vjp)_?", "", name)]
    for guess in (*guesses, "softmax_forward", "softmax", "forward"):
        if guess != name and callable(namespace.get(guess)):
            return guess
    return ""


def _node_conventions(target: type, operation: str, options: Options) -> Iterator[Convention]:
    """The conventions of a class of graph nodes, which are made from their parents and have a backward."""
    parents = _constructor_parameters(target)
    backward = options.backward or _first_method(target, BACKWARDS)
    if not backward or len(parents) != (1 if operation == "softmax" else 2):
        return
    given = _bound_parameters(target, backward)
    for construct in forward_roles(parents, operation):
        incoming = "grad_output" if operation == "softmax" else "upstream"
        own = ("parents",) if len(given) == len(parents) else (incoming,) if len(given) == 1 else ()
        if len(given) in (0, 1, len(parents)):
            # The incoming gradient is kept in the node, or it is the argument.
            yield Convention(operation, "node", own, backward=backward, construct=construct)
            if own == ("parents",) and len(given) == 1:
                yield Convention(operation, "node", (incoming,), backward=backward, construct=construct)


def _bound_parameters(target: object, method: str) -> list[str]:
    """The names of a method's parameters without a default, ``self`` left out."""
    names = required_names(getattr(target, method))
    return names[1:] if inspect.isclass(target) and not is_static(target, method) else names


def _constructor_parameters(target: type) -> list[str]:
    """The names of the constructor's parameters without a default, ``self`` left out."""
    return required_names(inspect.getattr_static(target, "__init__"))[1:]
