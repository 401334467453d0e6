"""The backward of a graph of tensors: how an incoming gradient gets into it, and where the result is found."""

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

# How the incoming gradient gets into a graph, and how that is printed. They are tried in this order.
DRIVES: dict[tuple[str, ...], str] = {
    ("closure",): "its own backward with grad_output",
    ("grad_output",): "then backward(grad_output)",
    ("weighted",): "then backward() of the sum of it times grad_output",
    ("seed",): "then backward() with grad_output as its gradient",
    ("grad_tensor",): "then backward(tensor of grad_output)",
    ("seed_tensor",): "then backward() with a tensor of grad_output as its gradient",
}
LOSS_DRIVE = ("unseeded",)  # of a loss: its gradient starts from 1
DRIVES_IN_WORDS = DRIVES | {LOSS_DRIVE: "then backward()"}
# Where nodes that know their consumers keep these, and the gradients of their parents, by parent.
CONSUMERS, GRADIENTS = ("outbound_nodes", "outputs", "consumers"), "gradients"
SLOTS = ("g", "grad", "gradient", "_grad", "d", "adjoint", "diff", "delta", "deltas", "grads")
NUMBERS = ("data", "value", "values", "val", "array", "_data", "out", "output", "arr", "ndarray", "cached_data")
_TENSOR = re.compile(r"tensor|variable|value|parameter|array", re.IGNORECASE)
_SOUNDS_BACKWARD = re.compile(r"back|grad|bw|vjp", re.IGNORECASE)
_CLOSURES = ("_backward", "grad_fn", "_grad_fn", "backward_fn", "_backward_fn", "_backward_function", "_bw", "_vjp")


class NoGradientError(Exception):
    """No gradient arrived at a graph's input; the message says what was found there."""


def spread(out: Any, incoming: Any, drive: str, wrap: Callable[[Any], Any]) -> None:
    """Run the backward of a graph from its output; ``wrap`` makes a tensor from an array."""
    slot = grad_slot(out) or "grad"
    if drive == "closure":
        _walk(out, slot, incoming)
    elif drive in ("grad_output", "grad_tensor"):
        out.backward(wrap(incoming) if drive == "grad_tensor" else incoming)
    elif drive == "weighted":
        (out * wrap(incoming)).sum().backward()
    elif drive == "unseeded":
        out.backward()
    else:
        is_of_ones = _is_all_ones(incoming)  # later it may be: a graph may start its backward by writing 1 into it
        setattr(out, slot, wrap(incoming) if drive == "seed_tensor" else incoming)
        out.backward()
        if _is_all_ones(getattr(out, slot)) and not is_of_ones:
            raise NoGradientError("a tensor whose backward starts from 1, whatever its gradient is")


def _is_all_ones(gradient: Any) -> bool:
    numbers = unwrapped(gradient)
    return isinstance(numbers, np.ndarray) and numbers.size > 0 and bool((numbers == 1).all())


def _walk(out: Any, slot: str, incoming: Any) -> None:
    """Call the closures that a graph's nodes keep, from the output to the inputs."""
    if _closure(out) is None:
        raise NoGradientError(f"a {type(out).__name__} without a backward")
    setattr(out, slot, incoming)
    for node in reversed(_sorted_by_dependency(out)):
        closure = _closure(node)
        if closure is not None:
            asked = len(inspect.signature(closure).parameters)  # nothing, the gradient, or the node and the gradient
            closure(*[node, getattr(node, slot)][max(0, 2 - asked) :])


def _closure(node: Any) -> Callable[..., Any] | None:
    """The function that a node keeps for its backward; a method of its class is none."""
    kept = getattr(node, "__dict__", {})
    sounding = [name for name, value in kept.items() if inspect.isfunction(value) and _SOUNDS_BACKWARD.search(name)]
    found = (kept.get(name) for name in (*_CLOSURES, *sounding))
    slots = (getattr(node, name, None) for name in _CLOSURES if name in getattr(type(node), "__slots__", ()))
    return next((closure for closure in (*found, *slots) if callable(closure)), None)


def _sorted_by_dependency(out: Any) -> list[Any]:
    """All nodes of a graph, each after those that it was made from."""
    order: list[Any] = []
    seen: set[int] = set()
    waiting: list[tuple[Any, bool]] = [(out, False)]
    while waiting:
        node, is_done = waiting.pop()
        if is_done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            waiting += [(node, True), *((parent, False) for parent in _parents(node))]
    return order


def _parents(node: Any) -> Iterator[Any]:
    """What a node was made from: nodes of its class in the collections among its attributes."""
    for value in getattr(node, "__dict__", {}).values():
        if isinstance(value, set | frozenset | list | tuple):
            yield from (item for item in value if type(item) is type(node))


def computed(node: Any) -> Any:
    """A graph's node after its forward, which is a method without arguments if making the node does not compute it."""
    forward = getattr(node, "forward", None)
    if callable(forward) and not inspect.signature(forward).parameters:
        forward()
    return node


def consume(node: Any, incoming: Any) -> None:
    """Give a node that asks its consumers for their gradients one that has the incoming gradient for it."""
    for name in CONSUMERS:
        if isinstance(getattr(node, name, None), list):
            setattr(node, name, [SimpleNamespace(**{GRADIENTS: {node: incoming}})])


def forget(node: Any) -> None:
    """Set the gradient that a node holds to 0, as a pass through a graph begins: it may be made of unset memory."""
    gradient = getattr(node, grad_slot(node), None) if grad_slot(node) else None
    if isinstance(gradient, np.ndarray):
        gradient.fill(0)


def unwrapped(value: Any) -> Any:
    """The numbers inside a tensor of any framework."""
    if isinstance(value, np.ndarray | np.generic | list | tuple | int | float):
        return value
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        return value.detach().numpy()
    inside = (getattr(value, name, None) for name in NUMBERS)
    return next((array for array in inside if isinstance(array, np.ndarray | list | np.generic)), value)


def grad_slot(node: Any) -> str:
    """The attribute in which a graph's node keeps its gradient; empty if none has a usual name."""
    return next((name for name in SLOTS if hasattr(node, name) and not callable(getattr(node, name))), "")


def tensor_classes(namespace: Mapping[str, Any]) -> list[str]:
    """The names of a module's own classes, and of those that it imports as tensors, that make a graph's input."""
    return [
        name
        for name, value in namespace.items()
        if inspect.isclass(value)
        and (value.__module__ == namespace.get("__name__") or _TENSOR.search(name))
        and not _is_of_library(value)
        and makes_leaves(value)
    ]


def number_classes(namespace: Mapping[str, Any]) -> list[str]:
    """The names of a module's classes that make a graph's input from one number."""
    return [name for name, value in namespace.items() if inspect.isclass(value) and _makes_numbers(value)]


def _makes_numbers(candidate: type) -> bool:
    try:
        leaf = candidate(0.5)
        return bool(grad_slot(leaf)) and any(getattr(leaf, name, None) == 0.5 for name in NUMBERS)
    except Exception:  # whatever goes wrong, it makes no leaf in this way
        return False


def _is_of_library(owner: type) -> bool:
    return owner.__module__.partition(".")[0] in ("torch", "jax", "jaxlib", "numpy", "typing", "abc", "builtins")


def with_tensors_of_bases(target: object, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """A target's namespace, and the classes of tensors that only the modules of its base classes know."""
    bases = target.__mro__[1:-1] if inspect.isclass(target) else ()
    own = [base.__module__ for base in bases if not _is_of_library(base)]
    beside = [vars(sys.modules[module]) for module in own if module in sys.modules]
    classes = {
        name: value
        for names in beside
        for name, value in names.items()
        if inspect.isclass(value) and _TENSOR.search(name) and name not in namespace and not _is_of_library(value)
    }
    return {**namespace, **classes}


def makes_leaves(candidate: type) -> bool:
    """Whether the class makes a graph's input from one array."""
    return leaf_factory(candidate) is not None


def leaf_factory(candidate: type) -> Callable[[Any], Any] | None:
    """What makes a graph's input from one array; None if the class does not make one."""
    flags = ("requires_grad", "autograd")
    makers: list[Callable[[Any], Any]] = [functools.partial(candidate, **{flag: True}) for flag in flags]
    makers.append(candidate)
    for make in makers:
        try:
            leaf = make(np.zeros((2, 3)))
            holds = any(np.shape(getattr(leaf, name, ())) == (2, 3) for name in NUMBERS)
        except Exception:  # noqa: S112 - whatever goes wrong, it makes no leaf in this way
            continue
        if grad_slot(leaf) and holds and not isinstance(leaf, SimpleNamespace | np.ndarray):
            return make
    return None
