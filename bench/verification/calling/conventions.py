"""How a target may have to be called: a list of candidates to try in order, guessed from names and signatures."""

import dataclasses
import inspect
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

from ...errors import UserError
from .attention import roles_of_attention
from .construction import TEMPERATURE, constructions
from .convention import FORWARD_ONLY, LOSS_NAME, Convention, Options
from .functions import conventions_of_function, may_be_backward
from .graphs import DRIVES, LOSS_DRIVE, makes_leaves
from .kept import parameters_inside, returned_names
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
    loss_beside,
    optional_targets,
    told_targets_by,
)
from .roles import (
    FIXED,
    INCOMING,
    UNKNOWN,
    asked_names,
    backward_choices,
    backward_roles,
    default_temperature,
    derivative_flags,
    distinct,
    forward_roles,
    has_signature,
    ignored_labels,
    is_function,
    is_loss,
    replaced,
    roles_of,
    roles_of_returned,
)
from .transforms import calls_own_derivative, has_own_derivative, roles_of_transformed
from .variants import of_model, of_one_loss, with_turned_targets, wrapped

TEMPERED = ("softmax", "softmax_cross_entropy")  # the operations whose temperature a function may be told
MAX_CANDIDATES = 60
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
    backwards += [*wrapped(backwards, target, namespace), *of_model(backwards, target, options, method, owner)]
    backwards += [*with_turned_targets(backwards, target), *of_one_loss(backwards)]
    chosen = [*backwards, *([] if options.operation else _forwards_alone(target, options, owner, method))]
    if not chosen:
        raise UserError(_nothing_to_call(target, options, method))
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


def _nothing_to_call(target: object, options: Options, method: str) -> str:
    """Why no convention fits the target, and what to do."""
    alone = bound_parameters(target, method) if method and not _is_of_pair(target, method) else None
    asked = asked_names(target) if is_function(target) else alone
    if asked is not None:
        operation = options.operation or "backward of softmax"
        return f"its parameters ({', '.join(asked) or 'none'}) fit no {operation}; give their roles with --signature"
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
    if (
        any("targets" in meaning for meaning in meanings)
        or beside_probs
        or _climbs(called, names)
        or (not method and loss_beside(target))
    ):
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
            yield from filter(None, [optional_targets(target, method)])
            yield from all_parameters(target, (name for name in FORWARDS if not name.startswith("__")))
        return
    pair = next(_pairs_of(target, options, ""), None)
    if pair is None and callable(target) and not inspect.isclass(target):
        yield from asked_names(target)
    if pair is not None:
        yield from (*forward_parameters(target, pair[0]), *bound_parameters(target, pair[1]))
        yield from filter(None, [optional_targets(target, name) for name in pair])
        if between := told_targets_by(target):
            yield from bound_parameters(target, between)
    yield from all_parameters(target, (name for name in (*FORWARDS, *BACKWARDS) if not name.startswith("__")))
    if inspect.isclass(target):
        yield from bound_parameters(target, "__call__") if defines_call(target) else ()
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
        yield from conventions_of_function(target, namespace, options, operation)
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
    asked = forward_parameters(target, forward)
    forwards = list(roles_of_attention(asked, backward=False)) if operation == "softmax" else []
    forwards += forward_roles(asked, operation)
    if is_loss(operation) and (told := optional_targets(target, forward)):
        forwards += forward_roles([*asked, told], operation)
    backwards = [*backward_roles(given_to_backward, operation, options.signature)]
    if not options.signature:
        told = optional_targets(target, backward) if is_loss(operation) else ""
        told_too = backward_roles([*given_to_backward, told], operation, ()) if told else ()
        backwards = [*_after_forward(target, forward, given_to_backward, operation), *told_too, *backwards]
        if is_loss(operation) and loss_beside(target):  # what is called a gradient may be the labels
            backwards += [replaced(roles, "upstream", form) for roles in backwards for form in ("targets", "labels")]
    ways = constructions(target, (forward, backward))
    for arguments, given, construct in itertools.product(backwards, forwards, ways):
        if is_loss(operation) and not _OF_LOGITS & {*arguments, *given, *construct}:
            continue
        if not is_loss(operation) or {"targets", "labels", "packed"} & {*arguments, *given}:
            yield Convention(operation, "pair", arguments, forward, given, backward, construct)
        elif given == ("logits",) and (between := told_targets_by(target)):
            plain = Convention(operation, "pair", arguments, forward, given, backward, construct, between=between)
            yield from (plain, dataclasses.replace(plain, told="labels"))


def _after_forward(target: object, forward: str, parameters: list[str], operation: str) -> Iterator[tuple[str, ...]]:
    """The roles of a backward's parameters, some of which have the names of what the forward took or returned."""
    returned = roles_of_returned(parameters, returned_names(getattr(target, forward)))
    known = {name: (role,) for name, role in returned.items()}
    known |= {
        name: ("logits",)
        for name in forward_parameters(target, forward)[:1]
        if name in parameters and "logits" in backward_choices(name, operation, backward=True)
    }
    choices = [known.get(name) or backward_choices(name, operation, backward=True) for name in parameters]
    yield from distinct(choices) if known else ()


def _method_conventions(
    target: type, method: str, operation: str, options: Options, *, backward: bool = False
) -> Iterator[Convention]:
    """The conventions of a method that takes all that it needs, as a function does; ``backward``: it is called so."""
    choices = [backward_choices(name, operation, backward=backward) for name in bound_parameters(target, method)]
    every = [options.signature] if options.signature else distinct(choices)
    flagged = bool(derivative_flags(getattr(target, method)))
    for arguments, construct in itertools.product(every, constructions(target, (method,))):
        is_told_nothing = set(arguments) <= {"axis", "positive_axis"}
        if may_be_backward(arguments, operation) and "cache" not in arguments and not is_told_nothing:
            yield Convention(operation, "method", arguments, backward=method, construct=construct, is_flagged=flagged)


def _whole_backwards(target: type, operation: str, options: Options) -> Iterator[Convention]:
    """The conventions of a class's backward that takes all that it needs: its forward, if any, need not be called."""
    for name in [options.backward] if options.backward else backward_names(target, options.forward)[:1]:
        arrays = [each for each in bound_parameters(target, name) if roles_of(each)[0] not in FIXED]
        if len(arrays) > 1 or (arrays and not forward_names(target, name)):
            yield from _method_conventions(target, name, operation, options, backward=True)


def _node_conventions(target: type, operation: str, options: Options) -> Iterator[Convention]:
    """The conventions of a class of graph nodes, which are made from their parents and have a backward."""
    parents = ["" if roles_of(name) == ("operation",) else name for name in constructor_parameters(target)]
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
        if len(names) == 1 and [("targets",)] in [list(map(roles_of, each)) for each in parameters_inside(target)]:
            for form in ("targets", "labels"):  # what it returns gives the gradient of softmax and its loss
                yield Convention("softmax_cross_entropy", "closure", (form,), forward_arguments=("logits",))
        if len(names) == 1 and roles_of(names[0]) != ("grad_output",):
            # What takes the probabilities is no forward, but it may return a backward, too.
            for given in ("logits", "probs") if roles_of(names[0])[0] == "probs" else ("logits",):
                yield Convention("softmax", "closure", ("grad_output",), forward_arguments=(given,))
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
        if ("grad_output",) in meanings:
            return
        if len(meanings) == 1:
            yield Convention("softmax", FORWARD_ONLY, (), "", ("logits",))
        elif len(meanings) == 2 and has_signature(target):
            for second, first in itertools.product(("targets", "labels"), ("probs", "logits")):
                yield Convention("softmax", FORWARD_ONLY, (), "", (first, second))
