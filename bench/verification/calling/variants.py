"""The same conventions in other ways: in tensors of the file, with weights that are set, with one incoming gradient."""

import dataclasses
import inspect
import itertools
import re
from collections.abc import Iterator
from typing import Any

from .construction import constructions
from .convention import CARRIERS, SCALARS, Convention, Options
from .graphs import LOSS_DRIVE, makes_leaves, number_classes, tensor_classes
from .kept import reads_of_tensors, sets_gradients, source_of
from .methods import (
    backward_names,
    forward_names,
)
from .models import PADDED, THROUGH, TRAINED, TURNED, is_model
from .roles import (
    LOG_LOSS_GRADIENT,
    LOSS_GRADIENT,
    TURNED_TARGETS,
    is_function,
    replaced,
)
from .training import roles_after_forward, roles_of_training, training_names

MAX_WRAPPED = 6
_OF_ONE_LOSS = {"softmax": LOSS_GRADIENT, "log_softmax": LOG_LOSS_GRADIENT}  # what comes into each from cross-entropy
_TURNS_TARGETS = re.compile(r"\b(y|Y|labels?|targets?|one_?hot\w*|y_\w+)\.T\b")


def wrapped(conventions: list[Convention], target: object, namespace: dict[str, Any]) -> Iterator[Convention]:
    """The same conventions with what a file may pass instead of arrays: its own tensors, or tuples of arrays."""
    is_tensor = inspect.isclass(target) and makes_leaves(target)
    tensors = [] if is_tensor else tensor_classes(namespace)
    if not tensors and not is_tensor and reads_of_tensors(target):
        tensors = [""]  # their class is elsewhere: ours stands in for it
    ofs = {style: [each for each in conventions if each.style == style] for style in ("function", "pair", "tensor")}
    for name in tensors[1:]:
        yield from (dataclasses.replace(each, tensor=name) for each in ofs["tensor"][:MAX_WRAPPED])
    for name in [target.__name__] if inspect.isclass(target) and is_tensor else tensors:
        with_more = [each for each in ofs["tensor"] if each.forward_arguments]
        yield from (dataclasses.replace(each, tensor=name, wrapping="tensors") for each in with_more[:MAX_WRAPPED])
    for name in tensors:
        for each in (*ofs["function"][:MAX_WRAPPED], *ofs["pair"][:MAX_WRAPPED]):
            yield dataclasses.replace(each, tensor=name, wrapping="tensors")
            if each.style == "pair":
                yield dataclasses.replace(each, tensor=name, wrapping="tensors in forward")
            if "labels" in each.roles:
                yield dataclasses.replace(each, tensor=name, wrapping="tensors and labels")
    yield from (dataclasses.replace(each, wrapping="tuples") for each in ofs["pair"][:MAX_WRAPPED])
    if sets_gradients(target):
        yield from (dataclasses.replace(each, wrapping=CARRIERS) for each in ofs["pair"][:MAX_WRAPPED])
    if is_function(target):
        of_numbers = [each for each in ofs["tensor"] if each.arguments in (("weighted",), LOSS_DRIVE)]
        for name in number_classes(namespace) if of_numbers else []:
            yield from (dataclasses.replace(each, tensor=name, wrapping=SCALARS) for each in of_numbers)


def of_model(
    conventions: list[Convention], target: object, options: Options, method: str, owner: str
) -> Iterator[Convention]:
    """The conventions of a class with weights: of its backward with an identity, of its training with the logits."""
    if not inspect.isclass(target) or options.signature or makes_leaves(target):
        return
    backwards = [method] if method else [*backward_names(target, options.forward)[:1], *training_names(target)]
    ways = [construct for construct in constructions(target, tuple(backwards)) if is_model(target, construct)][:1]
    pairs = [each for each in conventions if each.style == "pair" and not each.wrapping and each.construct in ways]
    yield from (dataclasses.replace(each, weights=THROUGH) for each in pairs[:MAX_WRAPPED])
    if options.operation in ("", "softmax_cross_entropy"):
        for construct, backward in itertools.product(ways, dict.fromkeys(backwards)):
            yield from (dataclasses.replace(each, owner=owner) for each in _trained(target, backward, construct))


def _trained(target: type, backward: str, construct: tuple[str, ...]) -> Iterator[Convention]:
    """The conventions of a model's training: a method that takes data and targets, after its forward if it has one."""
    for plain in _training_calls(target, backward, construct):
        if PADDED in plain.roles and {"targets", "labels"} & plain.roles:
            for descends, weights in itertools.product((False, True), (TRAINED, TURNED)):
                yield dataclasses.replace(plain, weights=weights, descends=descends)


def _training_calls(target: type, backward: str, construct: tuple[str, ...]) -> Iterator[Convention]:
    alone = Convention("softmax_cross_entropy", "method", (), backward=backward, construct=construct)
    for forward in [name for name in forward_names(target, backward) if name != backward][:1]:
        for given in itertools.islice(roles_after_forward(target, forward, backward), MAX_WRAPPED):
            for before in roles_of_training(target, forward):
                yield dataclasses.replace(
                    alone, style="pair", arguments=given, forward=forward, forward_arguments=before
                )
    for given in itertools.islice(roles_of_training(target, backward), MAX_WRAPPED):
        yield dataclasses.replace(alone, arguments=given)


def with_turned_targets(conventions: list[Convention], target: Any) -> Iterator[Convention]:
    """The same conventions with the targets transposed, where the code transposes them: batch is their other axis."""
    code: Any = target if inspect.isclass(target) or is_function(target) else None  # other objects have none
    if not _TURNS_TARGETS.search(source_of(code)):
        return
    told = [each for each in conventions if "targets" in each.roles and not each.wrapping and not each.between]
    for each in told[:MAX_WRAPPED]:
        arguments, given = (
            replaced(roles, "targets", TURNED_TARGETS) for roles in (each.arguments, each.forward_arguments)
        )
        yield dataclasses.replace(each, arguments=arguments, forward_arguments=given)


def of_one_loss(conventions: list[Convention]) -> Iterator[Convention]:
    """The same conventions with the gradient of cross-entropy as what comes in: some backwards know no other."""
    taking = [
        each
        for each in conventions
        if each.operation in _OF_ONE_LOSS
        and "grad_output" in each.arguments
        and each.style in ("function", "pair", "method")
    ]
    plain, of_models = ([each for each in taking if bool(each.weights) is of_model] for of_model in (False, True))
    for each in (*plain[:MAX_WRAPPED], *of_models[:MAX_WRAPPED]):
        arguments = replaced(each.arguments, "grad_output", _OF_ONE_LOSS[each.operation])
        yield dataclasses.replace(each, operation="softmax_cross_entropy", arguments=arguments)
