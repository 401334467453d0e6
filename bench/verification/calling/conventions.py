"""How a target may have to be called: a list of candidates to try in order, guessed from names and signatures."""

import dataclasses
import inspect
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

from ...errors import UserError
from .attention import roles_of_attention
from .classifiers import optional_of_classifier, roles_of_classifier
from .construction import TEMPERATURE, constructions
from .convention import CARRIERS, FORWARD_ONLY, LOSS_NAME, SCALARS, Convention, Options
from .graphs import DRIVES, LOSS_DRIVE, makes_leaves, number_classes, tensor_classes
from .kept import reads_of_tensors, returns_nothing, roles_of_attributes, roles_read, sets_gradients
from .kernels import roles_of_kernel
from .methods import (
    BACKWARDS,
    FORWARDS,
    all_parameters,
    applied_parameters,
    backward_names,
    bound_parameters,
    constructor_parameters,
    defines_call,
    forward_names,
    forward_parameters,
    known_methods,
    told_targets_by,
)
from .models import PADDED, THROUGH, TRAINED, TURNED, is_model
from .roles import (
    FIXED,
    INCOMING,
    LOSS_GRADIENT,
    UNKNOWN,
    asked_names,
    backward_choices,
    backward_roles,
    default_temperature,
    distinct,
    forward_roles,
    has_signature,
    ignored_labels,
    is_function,
    is_loss,
    roles_of,
)
from .training import roles_of_network, roles_of_training, training_names
from .transforms import calls_own_derivative, has_own_derivative, roles_of_transformed

TEMPERED = ("softmax", "softmax_cross_entropy")  # the operations whose temperature a function may be told
MAX_CANDIDATES = 60
MAX_WRAPPED = 6
_LOG_PROBABILITY = re.compile(r"log_?(soft|p(i|rob|olicy)|lik)|policy|reinforce|score", flags=re.IGNORECASE)
_ANSWER = r"ans|answer|out(put)?|res(ult)?|y"  # what a forward returned: autograd passes it first
_OF_LOGITS = {"logits", "probs", "log_probs", "packed", "cache"}
_LOG = re.compile(r"(?<![a-z])log_?soft", flags=re.IGNORECASE)


def candidates(target: object, namespace: dict[str, Any], options: Options, method: str = "") -> list[Convention]:
    """Every way in which the target may have to be called with arrays [batch, features], likeliest first; at most 60.

    ``namespace`` is that of the target's module: it may hold a function's forward. ``method`` is the method of a class
    that the user named.

    Raises:
        UserError: the target cannot be called, or has no method with the given name.
    """
    options.check()
    for name in filter(None, (options.forward, options.backward)):
        if not callable(getattr(target, name, namespace.get(name))):
            raise UserError(f"the target has no method {name!r}{known_methods(target)}")
    owner = target.__name__ if inspect.isclass(target) else getattr(target, "__qualname__", "").rpartition(".")[0]
    backwards = list(itertools.islice(_of_target(target, namespace, options, method, owner), MAX_CANDIDATES))
    backwards += [*_wrapped(backwards, target, namespace), *_of_model(backwards, target, options, method, owner)]
    backwards += _of_one_loss(backwards)
    chosen = [*backwards, *([] if options.operation else _forwards_alone(target, options, owner, method))]
    if not chosen:
        raise UserError(_nothing_to_call(target, options))
    return chosen


def _of_target(
    target: object, namespace: dict[str, Any], options: Options, method: str, owner: str
) -> Iterator[Convention]:
    """The conventions of all operations, each once, with what is the same in all of them."""
    operations = _operations(target, options, method)
    climbs = _climbs(_called(target, method), list(_parameter_names(target, options, method)))
    found = itertools.chain.from_iterable(
        _of_operation(target, namespace, options, operation, method) for operation in operations
    )
    ignores = callable(target) and bool(ignored_labels(target))
    stated = 1.0 if inspect.isclass(target) or not callable(target) else default_temperature(target)
    for convention in dict.fromkeys(found):
        temperature = TEMPERATURE if "temperature" in convention.roles else stated
        if temperature > 0 and convention.style == "function" and convention.operation in TEMPERED:
            convention = dataclasses.replace(convention, temperature=temperature)  # noqa: PLW2901 - the same one
        yield dataclasses.replace(
            convention,
            result=options.result,
            owner=owner,
            of_log_probability=climbs,
            all_labels_count=is_loss(convention.operation) and ignores,
        )


def _wrapped(conventions: list[Convention], target: object, namespace: dict[str, Any]) -> Iterator[Convention]:
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


def _of_model(
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
    for given in itertools.islice(roles_of_training(target, backward), MAX_WRAPPED):
        alone = Convention("softmax_cross_entropy", "method", given, backward=backward, construct=construct)
        for forward in [name for name in forward_names(target, backward) if name != backward][:1]:
            for before in roles_of_training(target, forward):
                yield dataclasses.replace(alone, style="pair", forward=forward, forward_arguments=before)
        yield alone


def _of_one_loss(conventions: list[Convention]) -> Iterator[Convention]:
    """The same conventions with the gradient of cross-entropy as what comes in: some backwards know no other."""
    plain = [
        each
        for each in conventions
        if each.operation == "softmax"
        and "grad_output" in each.arguments
        and each.style in ("function", "pair", "method")
    ]
    for each in plain[:MAX_WRAPPED]:
        arguments = tuple(LOSS_GRADIENT if role == "grad_output" else role for role in each.arguments)
        yield dataclasses.replace(each, operation="softmax_cross_entropy", arguments=arguments)


def _nothing_to_call(target: object, options: Options) -> str:
    """Why no convention fits the target, and what to do."""
    if is_function(target):
        names = ", ".join(asked_names(target)) or "none"
        operation = options.operation or "backward of softmax"
        return f"its parameters ({names}) fit no {operation}; give their roles with --signature"
    kind = f"the class {target.__name__}" if inspect.isclass(target) else f"a {type(target).__name__}"
    for forward, backward in _pairs_of(target, options, ""):
        takes = [f"{name}({', '.join(bound_parameters(target, name))})" for name in (forward, backward)]
        return f"{kind} has {takes[0]} and {takes[1]}, which fit no backward of softmax; give --signature"
    return (
        f"{kind} has no forward and backward with a known name; "
        f"name them with --forward and --backward{known_methods(target)}"
    )


def _operations(target: object, options: Options, method: str) -> tuple[str, ...]:
    """The operations to try, in order: losses first if a name is that of a loss or of targets."""
    losses = ("softmax_cross_entropy", "cross_entropy")
    if options.operation:
        return (options.operation,)
    if {"targets", "labels", *INCOMING} & set(options.signature):
        return losses
    names = list(_parameter_names(target, options, method))
    called = _called(target, method)
    meanings = [roles_of(name) for name in names]
    plain = ("log_softmax", "softmax") if _LOG.search(called) else ("softmax",)
    if len(names) == 1 and is_function(target) and not LOSS_NAME.search(called):
        return (*plain, "jacobian")  # one array alone is no target, whatever its name is
    if ("targets",) in meanings or LOSS_NAME.search(called):
        return (*losses, *plain)
    beside_probs = UNKNOWN in meanings and ("probs",) in meanings  # it may be called by any name for targets
    if any("targets" in meaning for meaning in meanings) or beside_probs or _climbs(called, names):
        return (*plain, "jacobian", *losses)
    return (*plain, "jacobian")


def _called(target: object, method: str) -> str:
    """The name of a method, or of the target itself; of a backward beside a forward, the class's name, too."""
    own = getattr(target, "__name__", type(target).__name__)
    return f"{own}.{method}" if _is_of_pair(target, method) else method or own


def _is_of_pair(target: object, method: str) -> bool:
    """Whether a method that was named is a backward whose class has a forward."""
    return inspect.isclass(target) and method in BACKWARDS and bool(forward_names(target, method))


def _climbs(called: str, names: list[str]) -> bool:
    """Whether a name is that of a log-probability's gradient, or an argument is the reward that it is multiplied by."""
    meanings = [roles_of(name) for name in names]
    if len(names) < 2 or ("grad_output",) in meanings:
        return False
    return INCOMING in meanings or _LOG_PROBABILITY.search(called) is not None


def _parameter_names(target: object, options: Options, method: str) -> Iterator[str]:
    """The names of all parameters from which an operation may be guessed."""
    if method:
        yield from bound_parameters(target, method)
        if _is_of_pair(target, method):
            yield from all_parameters(target, (name for name in FORWARDS if not name.startswith("__")))
        return
    pair = next(_pairs_of(target, options, ""), None)
    if pair is None and callable(target) and not inspect.isclass(target):
        yield from asked_names(target)
    if pair is not None:
        yield from (*forward_parameters(target, pair[0]), *bound_parameters(target, pair[1]))
    yield from all_parameters(target, (name for name in (*FORWARDS, *BACKWARDS) if not name.startswith("__")))
    if inspect.isclass(target):
        yield from (name for name in constructor_parameters(target) if name != "T")  # of a constructor: temperature


def _of_operation(
    target: object, namespace: dict[str, Any], options: Options, operation: str, method: str
) -> Iterator[Convention]:
    in_turn = [_pair_conventions(target, *pair, operation, options) for pair in _pairs_of(target, options, method)]
    if method and inspect.isclass(target):
        alone = _method_conventions(target, method, operation, options)
        in_turn = [*in_turn, alone] if method in BACKWARDS else [alone, *in_turn]
    yield from itertools.chain.from_iterable(in_turn)
    if inspect.isclass(target):
        if not method:
            yield from _whole_backwards(target, operation, options)
            if is_loss(operation) and not in_turn:  # its forward may return the gradient beside the loss
                for forward in forward_names(target)[:1]:
                    yield from _method_conventions(target, forward, operation, options)
        yield from _node_conventions(target, operation, options)
        yield from _tensor_methods(target, operation, method)
    elif callable(target) and (has_own_derivative(target) or calls_own_derivative(target, namespace)):
        incoming = "upstream" if is_loss(operation) else "grad_output"
        for given in roles_of_transformed(target, operation) if operation != "jacobian" else ():
            yield Convention(operation, "transform", (incoming,), forward_arguments=given)
    elif callable(target) and not in_turn:
        yield from _function_conventions(target, namespace, options, operation)
    if operation == "softmax":
        yield from _closure_conventions(target, options)
    elif is_loss(operation) and is_function(target) and not in_turn:
        yield from _closures_of_losses(target, operation)


def _pairs_of(target: object, options: Options, method: str) -> Iterator[tuple[str, str]]:
    """The names of the target's forward and backward, in every combination that makes sense."""
    if is_function(target) or inspect.isbuiltin(target) or inspect.ismodule(target):
        return
    if has_own_derivative(target):
        return
    named = "" if method in FORWARDS else method
    backward = options.backward or named or next(iter(backward_names(target, options.forward)), "")
    forwards = [options.forward] if options.forward else forward_names(target, backward)
    for forward in forwards:
        if forward != backward and backward:
            yield forward, backward


def _pair_conventions(
    target: object, forward: str, backward: str, operation: str, options: Options
) -> Iterator[Convention]:
    given_to_backward = bound_parameters(target, backward)
    if operation == "jacobian" and any(roles_of(name) == ("grad_output",) for name in given_to_backward):
        return  # what is handed a gradient multiplies it
    forwards = list(forward_roles(forward_parameters(target, forward), operation))
    backwards = backward_roles(given_to_backward, operation, options.signature)
    ways = constructions(target, (forward, backward))
    for arguments, given, construct in itertools.product(backwards, forwards, ways):
        if is_loss(operation) and not _OF_LOGITS & {*arguments, *given, *construct}:
            continue
        if not is_loss(operation) or {"targets", "labels", "packed"} & {*arguments, *given}:
            yield Convention(operation, "pair", arguments, forward, given, backward, construct)
        elif given == ("logits",) and (between := told_targets_by(target)):
            plain = Convention(operation, "pair", arguments, forward, given, backward, construct, between=between)
            yield from (plain, dataclasses.replace(plain, told="labels"))


def _method_conventions(
    target: type, method: str, operation: str, options: Options, *, backward: bool = False
) -> Iterator[Convention]:
    """The conventions of a method that takes all that it needs, as a function does; ``backward``: it is called so."""
    choices = [backward_choices(name, operation, backward=backward) for name in bound_parameters(target, method)]
    every = [options.signature] if options.signature else distinct(choices)
    for arguments, construct in itertools.product(every, constructions(target, (method,))):
        if _fits(arguments, operation) and "cache" not in arguments:
            yield Convention(operation, "method", arguments, backward=method, construct=construct)


def _whole_backwards(target: type, operation: str, options: Options) -> Iterator[Convention]:
    """The conventions of a class's backward that takes all that it needs: its forward, if any, need not be called."""
    for name in [options.backward] if options.backward else backward_names(target, options.forward)[:1]:
        arrays = [each for each in bound_parameters(target, name) if roles_of(each)[0] not in FIXED]
        if len(arrays) > 1 or (arrays and not forward_names(target, name)):
            yield from _method_conventions(target, name, operation, options, backward=True)


def _fits(arguments: tuple[str, ...], operation: str) -> bool:
    """Whether a function with these arguments can be a backward of the operation."""
    if not arguments:
        return False
    return not is_loss(operation) or len(arguments) == 1 or bool({"targets", "labels", "packed"} & set(arguments))


def _function_conventions(
    target: Callable[..., Any], namespace: dict[str, Any], options: Options, operation: str
) -> Iterator[Convention]:
    parameters = asked_names(target) if has_signature(target) else ["", ""]
    forward = options.forward or _forward_in_module(target, namespace)
    befores = list(_before(namespace.get(forward), forward, operation)) if forward else []
    operations = [name for name in parameters if roles_of(name) == ("operation",)]
    cached = () if befores else roles_of_attributes(target, operations[0]) if operations else roles_read(target)
    befores = befores or ([("", ())] if cached else [])
    of_forward = asked_names(namespace[forward]) if forward in namespace else []
    known = of_forward[0] if len(of_forward) == 1 else ""
    roles = [options.signature] if options.signature else list(_of_parameters(parameters, operation, known))
    name = getattr(target, "__name__", "")
    if not options.signature:
        yield from _of_more_than_softmax(target, parameters, operation)
        if returns_nothing(target):
            return
    for arguments in roles:
        for before, given in befores if "cache" in arguments else [("", ())]:
            if options.signature or _fits((*arguments, *given), operation):
                items = cached if {"cache", "operation"} & set(arguments) else ()
                yield Convention(operation, "function", arguments, before, given, name, cached=items)
    if not options.signature:
        yield from _functions_of_tensors(parameters, operation)


def _of_more_than_softmax(target: Callable[..., Any], parameters: list[str], operation: str) -> Iterator[Convention]:
    """The conventions of functions that write their result, and of those with weights, keys or values beside it."""
    name = getattr(target, "__name__", "")
    writes = returns_nothing(target)
    for arguments, lands_in in roles_of_kernel(parameters, operation) if writes else ():
        if _fits(arguments, operation):
            yield Convention(operation, "function", arguments, backward=name, lands_in=lands_in)
    for arguments in roles_of_attention(parameters, backward=True) if operation == "softmax" and not writes else ():
        yield Convention(operation, "function", arguments, backward=name)
    if operation != "softmax_cross_entropy":
        return
    of_classifier = list(roles_of_classifier(parameters))
    for arguments in roles_of_network(parameters) if not writes else ():
        yield Convention(operation, "function", arguments, backward=name, weights=TRAINED)
    if not writes:
        yield from (Convention(operation, "function", arguments, backward=name) for arguments in of_classifier)
    rates = {*optional_of_classifier(target).values(), *itertools.chain(*of_classifier)}
    if writes or "learning_rate" in rates:
        yield from _updates(parameters, name)


def _updates(parameters: list[str], name: str) -> Iterator[Convention]:
    """The conventions of a step of training: it writes new weights over the old ones, or it returns them."""
    for arguments, lands_in in itertools.product(roles_of_classifier(parameters), ("logits", "")):
        yield Convention(
            "softmax_cross_entropy", "function", arguments, backward=name, lands_in=lands_in, descends=True
        )


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


def _node_conventions(target: type, operation: str, options: Options) -> Iterator[Convention]:
    """The conventions of a class of graph nodes, which are made from their parents and have a backward."""
    parents = constructor_parameters(target)
    backward = options.backward or next(iter(backward_names(target)), "")
    if operation == "jacobian" or not backward or len(parents) != (2 if is_loss(operation) else 1):
        return
    given = bound_parameters(target, backward)
    for construct in forward_roles(parents, operation):
        incoming = "upstream" if is_loss(operation) else "grad_output"
        own = ("parents",) if len(given) == len(parents) else (incoming,) if len(given) == 1 else ()
        if len(given) in (0, 1, len(parents)) and set(construct) & {"logits", "probs"}:
            # The incoming gradient is kept in the node, or it is the argument.
            yield Convention(operation, "node", own, backward=backward, construct=construct)
            if own == ("parents",) and len(given) == 1:
                yield Convention(operation, "node", (incoming,), backward=backward, construct=construct)


def _tensor_methods(target: type, operation: str, method: str) -> Iterator[Convention]:
    """The conventions of a tensor's own method, or of a class whose instances are called with tensors."""
    own = [method] if method else ["softmax", "log_softmax"]
    if makes_leaves(target):
        for name, drive in itertools.product(own, DRIVES):
            if callable(getattr(target, name, None)) and operation == ("log_softmax" if "log" in name else "softmax"):
                yield Convention(operation, "tensor", drive, forward=name)
        if method and is_loss(operation) and len(bound_parameters(target, method)) == 1:
            for role in ("labels", "targets"):
                yield Convention(operation, "tensor", LOSS_DRIVE, method, (role,))
        return
    known = [name for name in ("apply", "__call__", "forward") if callable(getattr(target, name, None))]
    for name in known[: 2 if "apply" in known else 1 if defines_call(target) else 0] or known[-1:]:
        if operation == "jacobian" or (name == "__call__" and not defines_call(target)):
            continue
        names = applied_parameters(target, name)
        for roles, drive in itertools.product(roles_of_attention(names, backward=False), DRIVES):
            if operation == "softmax" and roles[0] == "logits":
                yield Convention(operation, "tensor", drive, name, roles[1:])
        asked = [known for known in map(roles_of, names) if known[0] not in FIXED]
        if len(asked) > (2 if is_loss(operation) else 1):
            continue
        targets: tuple[tuple[str, ...], ...] = (("labels",), ("targets",)) if is_loss(operation) else ((),)
        drives = (LOSS_DRIVE,) if is_loss(operation) else tuple(DRIVES)
        for drive, more, construct in itertools.product(drives, targets, constructions(target, (name,))):
            yield Convention(operation, "tensor", drive, name, more, construct=construct)


def _closure_conventions(target: object, options: Options) -> Iterator[Convention]:
    """The conventions of a forward that returns its result and its backward, or a tensor, [B, N] -> (…, …)."""
    if is_function(target):
        names = [name for name in asked_names(target) if roles_of(name)[0] not in FIXED]
        if len(names) == 2 and re.fullmatch(_ANSWER, names[0]):
            yield Convention("softmax", "closure", ("grad_output",), forward_arguments=("probs", "logits"))
        if len(names) == 1 and roles_of(names[0]) != ("grad_output",):
            yield Convention("softmax", "closure", ("grad_output",), forward="", forward_arguments=("logits",))
        return
    for forward in [options.forward] if options.forward else forward_names(target)[:1]:
        if inspect.isclass(target) and len(bound_parameters(target, forward)) == 1:
            for construct in constructions(target, (forward,)):
                yield Convention("softmax", "closure", ("grad_output",), forward, ("logits",), construct=construct)


def _closures_of_losses(target: Callable[..., Any], operation: str) -> Iterator[Convention]:
    """The conventions of a loss that returns its value, or those of all rows, and its backward."""
    names = asked_names(target)
    has_targets = len(names) == 2 and any("targets" in roles_of(name) for name in names)
    for given in forward_roles(names, operation) if has_targets else ():
        for incoming in INCOMING:
            yield Convention(operation, "closure", (incoming,), forward_arguments=given)
    if len(names) == 3 and re.fullmatch(_ANSWER, names[0]):
        for given in forward_roles(names[1:], operation):
            yield Convention(operation, "closure", ("upstream",), forward_arguments=("nothing", *given))


def _forwards_alone(target: object, options: Options, owner: str, method: str) -> Iterator[Convention]:
    """The conventions that only run a forward: what it computes says what a target is that has no backward."""
    is_another = method and not _is_of_pair(target, method) and method not in forward_names(target)
    if options.signature or is_another:
        return
    if inspect.isclass(target):
        for forward in forward_names(target)[:1]:
            for construct in constructions(target, (forward,)):
                names = bound_parameters(target, forward)
                if len(names) <= 1:
                    given = ("logits",) * len(names)
                    yield Convention("softmax", FORWARD_ONLY, (), forward, given, "", construct, owner=owner)
    elif callable(target):
        meanings = [roles_of(name) for name in asked_names(target)]
        if len(meanings) == 1 and meanings[0] != ("grad_output",):
            yield Convention("softmax", FORWARD_ONLY, (), "", ("logits",))
        elif len(meanings) == 2 and has_signature(target):
            for second, first in itertools.product(("targets", "labels"), ("probs", "logits")):
                yield Convention("softmax", FORWARD_ONLY, (), "", (first, second))
