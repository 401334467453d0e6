"""JAX's functions with a derivative of their own: their backward is found by ``jax.vjp``."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from .classifiers import roles_of_classifier
from .kept import source_of
from .roles import asked_names, forward_roles, is_function, is_loss

_KINDS = ("custom_vjp", "custom_jvp")


def has_own_derivative(target: object) -> bool:
    """Whether the target is a function whose derivative its author gave to JAX."""
    kind = type(target)
    return kind.__module__.partition(".")[0] == "jax" and kind.__name__ in _KINDS


def calls_own_derivative(target: object, namespace: Mapping[str, Any]) -> bool:
    """Whether a function makes such functions, or calls one of its module's: their derivative is in its own."""
    source = source_of(target) if is_function(target) else ""
    named = [name for name, value in namespace.items() if has_own_derivative(value)]
    return any(re.search(rf"\b{name}\b", source) for name in (*_KINDS, *named))


def roles_of_transformed(target: Callable[..., Any], operation: str) -> Iterator[tuple[str, ...]]:
    """The roles of the arguments of its forward, likeliest first; a loss is one of logits."""
    names = asked_names(target)
    for roles in (*forward_roles(names, operation), *(roles_of_classifier(names) if is_loss(operation) else ())):
        if not is_loss(operation) or {"targets", "labels"} & set(roles):
            yield roles


def pulled_back(
    function: Callable[..., Any], given: list[Any], place: int, incoming: Any
) -> tuple[Any, Callable[[], Any]]:
    """What the function gives, and its backward with respect to the argument at ``place``.

    ``incoming`` [B, N] is the gradient of a result of that shape; that of a loss is its only value. Of several results
    only the first has a gradient.
    """
    jax = sys.modules["jax"]
    results, backward = jax.vjp(lambda array: function(*given[:place], array, *given[place + 1 :]), given[place])
    first, *others = results if isinstance(results, tuple) else (results,)

    def call() -> Any:
        # At the call, not before it: other numbers come into the array by then.
        gradient = jax.numpy.broadcast_to(jax.numpy.asarray(incoming, first.dtype), first.shape)
        gradients = (gradient, *map(jax.numpy.zeros_like, others))
        return np.asarray(backward(gradients if isinstance(results, tuple) else gradient)[0])

    return first, call


def compute_in_float64() -> None:
    """Let JAX keep float64, if the target uses it: what is judged then is its formula, as with other libraries."""
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_x64", True)
