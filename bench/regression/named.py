"""The suite's implementations under names that a target's process can load: ``operation__implementation``.

One of NumPy is a function as a user's own is, so that both are called and timed in the same way. One of another library
is a forward that returns its backward: what it prepares, such as tensors, is prepared in the forward, which is not
timed.
"""

import functools
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from ..implementations import NUMPY, FloatArray, registered
from ..implementations.softmax import vectorized
from .duet import padded

PADDING = 0.15  # of the control; see `targets.TARGET_MARGIN`


def plain(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The control's function, with the clock's own cost: grad_logits [B, N]."""
    return _plain(probs, grad_output)


def slowed(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The same, followed by spinning for a share of its time."""
    return _slowed(probs, grad_output)


_plain: Callable[[FloatArray, FloatArray], FloatArray] = padded(vectorized, 0.0)
_slowed: Callable[[FloatArray, FloatArray], FloatArray] = padded(vectorized, PADDING)


def __getattr__(name: str) -> Callable[..., Any]:
    operation, separator, implementation = name.partition("__")
    spec = registered().get((operation, implementation)) if separator else None
    if spec is None:
        raise AttributeError(name)
    if spec.library == NUMPY:
        return functools.partial(spec.function, threads=1) if spec.runs_threads else spec.function

    def forward(*arrays: Any) -> tuple[Any, Callable[[Any], Any]]:
        """The first array, and the backward, which needs nothing more."""
        given = dict(zip(spec.arguments, arrays, strict=True))
        call = spec.bind(
            types.SimpleNamespace(**given, **({"out": np.empty_like(arrays[0])} if spec.writes_out else {}))
        )
        return arrays[0], lambda _: call()

    return forward
