"""How a function may have to be called: with arrays, into arrays, on tensors, with weights, after its forward."""

import dataclasses
import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .attention import roles_of_attention
from .classifiers import optional_of_classifier, roles_of_classifier
from .convention import LOSS_NAME, Convention, Options
from .graphs import DRIVES, LOSS_DRIVE
from .kept import returned_names, returns_nothing, roles_of_attributes, roles_read
from .kernels import roles_of_kernel
from .methods import sounds_backward, trains
from .models import LAST, TRAINED
from .roles import (
    FIXED,
    asked_names,
    backward_choices,
    derivative_flags,
    distinct,
    forward_roles,
    has_signature,
    is_loss,
    roles_of,
    roles_of_returned,
)
from .training import calls_of_network, roles_of_network, roles_of_parametrised

MOST_FORWARDS = 2  # of one backward that are tried


def conventions_of_function(
    target: Callable[..., Any], namespace: dict[str, Any], options: Options, operation: str
) -> Iterator[Convention]:
    """The conventions of a function, likeliest first, and of what makes its cache if it takes one."""
    parameters = asked_names(target) if has_signature(target) else ["", ""]
    forward = options.forward or _forward_in_module(target, namespace)
    befores = list(_before(namespace.get(forward), forward, operation)) if forward else []
    operations = [name for name in parameters if roles_of(name) == ("operation",)]
    cached = () if befores else roles_of_attributes(target, operations[0]) if operations else roles_read(target)
    befores = befores or ([("", ())] if cached else [])
    of_forward = asked_names(namespace[forward]) if forward in namespace else []
    known = of_forward[0] if len(of_forward) == 1 else ""
    roles = [options.signature] if options.signature else list(_of_parameters(parameters, operation, known))
    name, flagged = getattr(target, "__name__", ""), bool(derivative_flags(target))
    if not options.signature:
        yield from _of_more_than_softmax(target, parameters, operation)
        if operation == "softmax_cross_entropy":
            yield from _after_forward(target, namespace, parameters)
        if returns_nothing(target):
            return
    for arguments in roles:
        for before, given in befores if "cache" in arguments else [("", ())]:
            if options.signature or may_be_backward((*arguments, *given), operation):
                items = cached if {"cache", "operation"} & set(arguments) else ()
                yield Convention(
                    operation, "function", arguments, before, given, name, cached=items, is_flagged=flagged
                )
    if not options.signature and not sounds_backward(name):
        yield from _functions_of_tensors(parameters, operation)
    if not options.signature and is_loss(operation):
        yield from _with_loss_beside(target, namespace, roles, operation)


def _with_loss_beside(
    target: Callable[..., Any], namespace: dict[str, Any], roles: list[tuple[str, ...]], operation: str
) -> Iterator[Convention]:
    """The conventions of a loss's gradient whose loss is another function of the module, with the same parameters."""
    names, own = asked_names(target), getattr(target, "__name__", "")
    for name, function in functions_beside(target, namespace).items():
        if LOSS_NAME.search(name) and not sounds_backward(name) and asked_names(function) == names:
            for arguments in roles:
                if may_be_backward(arguments, operation):
                    yield Convention(operation, "function", arguments, name, arguments, own)


def _of_more_than_softmax(target: Callable[..., Any], parameters: list[str], operation: str) -> Iterator[Convention]:
    """The conventions of functions that write their result, and of those with weights, keys or values beside it."""
    name = getattr(target, "__name__", "")
    writes = returns_nothing(target)
    for arguments, lands_in in roles_of_kernel(parameters, operation) if writes else ():
        if may_be_backward(arguments, operation):
            yield Convention(operation, "function", arguments, backward=name, lands_in=lands_in)
    for arguments in roles_of_attention(parameters, backward=True) if operation == "softmax" and not writes else ():
        yield Convention(operation, "function", arguments, backward=name)
    if operation != "softmax_cross_entropy":
        return
    of_classifier = list(roles_of_classifier(parameters))
    of_network = [*roles_of_network(parameters), *roles_of_parametrised(parameters)]
    for arguments in of_network if not writes else ():
        yield Convention(operation, "function", arguments, backward=name, weights=TRAINED)
    if not writes:
        yield from (Convention(operation, "function", arguments, backward=name) for arguments in of_classifier)
    rates = {*optional_of_classifier(target).values(), *itertools.chain(*of_classifier, *of_network)}
    if writes or "learning_rate" in rates:
        yield from _updates(parameters, name)


def _after_forward(
    target: Callable[..., Any], namespace: dict[str, Any], parameters: list[str]
) -> Iterator[Convention]:
    """The conventions of a network's backward that gets what a function of the same module returned."""
    beside = {name: value for name, value in functions_beside(target, namespace).items() if not trains(name)}
    shared = {name: len(roles_of_returned(parameters, returned_names(value))) for name, value in beside.items()}
    own = getattr(target, "__name__", "")
    after = Convention("softmax_cross_entropy", "function", (), backward=own, weights=TRAINED)
    for name in sorted(filter(lambda name: shared[name], beside), key=lambda name: -shared[name])[:MOST_FORWARDS]:
        for given, arguments in calls_of_network(beside[name], target):
            yield dataclasses.replace(after, arguments=arguments, forward=name, forward_arguments=given)


def functions_beside(target: Callable[..., Any], namespace: Mapping[str, Any]) -> dict[str, Callable[..., Any]]:
    """The other functions that are defined in a function's own module, by their names there."""
    own = getattr(target, "__module__", "")
    return {
        name: value
        for name, value in namespace.items()
        if inspect.isfunction(value) and value is not target and value.__module__ == own
    }


def _updates(parameters: list[str], name: str) -> Iterator[Convention]:
    """The conventions of a step of training: it writes new weights over the old ones, or it returns them."""
    step = Convention("softmax_cross_entropy", "function", (), backward=name, descends=True)
    for arguments, lands_in in itertools.product(roles_of_classifier(parameters), ("logits", "")):
        yield dataclasses.replace(step, arguments=arguments, lands_in=lands_in)
    for arguments, lands_in in itertools.product(roles_of_network(parameters), (LAST, "")):
        yield dataclasses.replace(step, arguments=arguments, lands_in=lands_in, weights=TRAINED)


def _functions_of_tensors(parameters: list[str], operation: str) -> Iterator[Convention]:
    """The conventions of a function that makes a tensor from another one; a loss is told the targets as well."""
    arrays = [name for name in parameters if roles_of(name)[0] not in FIXED]
    if operation == "softmax" and len(arrays) == 1:
        yield from (Convention(operation, "tensor", drive) for drive in DRIVES)
    elif operation == "softmax_cross_entropy" and len(arrays) == 2:
        forms = [role for role in ("labels", "targets") if role in backward_choices(arrays[1], operation)]
        yield from (Convention(operation, "tensor", LOSS_DRIVE, forward_arguments=(role,)) for role in forms)


def _of_parameters(parameters: list[str], operation: str, of_forward: str = "") -> Iterator[tuple[str, ...]]:
    """The roles of a function's parameters; a parameter that is alone is no rate, but may be a loss's whole cache.

    ``of_forward``: the name of the only parameter of its forward, which is there and here the logits.
    """
    alone = roles_of(parameters[0])[0] if len(parameters) == 1 else ""
    if alone == "cache" and is_loss(operation):
        yield ("cache",)
    names = [""] if alone in FIXED else parameters
    choices = [backward_choices(name, operation) for name in names]
    if len(names) > 1 and of_forward in names and "logits" in choices[names.index(of_forward)]:
        place = names.index(of_forward)
        choices[place] = tuple(sorted(choices[place], key=lambda role: role != "logits"))
    yield from distinct(choices)


def _before(forward: Any, name: str, operation: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The calls of a forward that makes a cache: a loss's forward gets the targets, which the backward does not."""
    if is_loss(operation) and has_signature(forward):
        yield from ((name, given) for given in forward_roles(asked_names(forward), operation))
        return
    if has_signature(forward):
        yield from ((name, given) for given in roles_of_attention(asked_names(forward), backward=False))
    yield name, ("logits",)


def _forward_in_module(target: Callable[..., Any], namespace: dict[str, Any]) -> str:
    """The name of a backward's forward in the same module; empty if none is recognised."""
    name = getattr(target, "__name__", "")
    guesses = [
        name.replace("backward", "forward"),
        name.replace("bwd", "fwd"),
        re.sub(r"_?(backward|backprop|grad(ient)?|bwd|vjp)_?", "", name),
        re.sub(r"^(d|der|deriv(ative)?)_?", "", name),
    ]
    for guess in (*guesses, "softmax_forward", "softmax", "forward"):
        if guess != name and callable(namespace.get(guess)):
            return guess
    return ""


def may_be_backward(arguments: tuple[str, ...], operation: str) -> bool:
    """Whether a function with these arguments can be a backward of the operation."""
    if not arguments:
        return False
    return not is_loss(operation) or len(arguments) == 1 or bool({"targets", "labels", "packed"} & set(arguments))
