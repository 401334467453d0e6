"""The gradients that the networks are trained with: every right backward of the suite, and every known mistake.

A node offers its arrays by name, and each backward gets those that it takes: ``probs``, ``grad_output``, ``targets``...
"""

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..implementations import NUMPY, FloatArray, Implementation, registered
from ..implementations.cross_entropy import BACKWARD, BOTH
from ..implementations.softmax import vectorized
from ..mistakes import MISTAKES, Backward, Mistake, mistakes_of
from .graph import CrossEntropy, Node, SoftMax, SoftmaxCrossEntropy

RIGHT, MISTAKEN = "right", "mistaken"
ONE_NODE = "one_node"
# The question's own last attempt makes two mistakes at once: its loss node returns the gradient of softmax and
# cross-entropy together, and its softmax node multiplies that by the Jacobian's diagonal.
QUESTIONS_PAIR = ("fused_gradient_at_loss_node", "diagonal_only")


@dataclass(frozen=True)
class Gradient:
    """The backward of a network's softmax and of its loss, right or mistaken.

    ``softmax`` is the backward of softmax as a node of its own. ``loss`` is then the backward of the loss's node; with
    None that node keeps its right one. If ``softmax`` is None, softmax and loss are one node, and ``loss`` is its
    backward.
    """

    kind: str
    operation: str
    name: str
    softmax: Backward | None = None
    loss: Backward | None = None


class Clock:
    """A context manager that adds up the seconds spent inside it."""

    def __init__(self) -> None:
        self.spent_s = 0.0
        self._started_s = 0.0

    def __enter__(self) -> Self:
        self._started_s = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.spent_s += time.perf_counter() - self._started_s


class Loss(CrossEntropy):
    """Cross-entropy as a node of its own, with a given backward."""

    def __init__(self, probs: Node, targets: npt.ArrayLike, backward: Backward) -> None:
        super().__init__(probs, targets)
        self._backward = backward

    def grad_inputs(self) -> tuple[FloatArray, ...]:
        """Gradient of the probabilities."""
        (probs,) = self.inputs
        return (self._backward(probs=probs.data, targets=self.targets),)


class SoftmaxAndLoss(SoftmaxCrossEntropy):
    """Softmax and cross-entropy in one node, with a given backward, which is timed."""

    def __init__(self, logits: Node, targets: npt.ArrayLike, backward: Backward, clock: Clock) -> None:
        super().__init__(logits, targets)
        self.labels = self.targets.argmax(axis=1)
        self._backward = backward
        self._clock = clock

    def grad_inputs(self) -> tuple[FloatArray, ...]:
        """Gradient of the logits."""
        (logits,) = self.inputs
        with self._clock:
            return (
                self._backward(
                    logits=logits.data,
                    probs=self.probs,
                    log_probs=self.log_probs,
                    targets=self.targets,
                    labels=self.labels,
                ),
            )


def softmax_node(logits: Node, gradient: Gradient, clock: Clock) -> Node:
    """Softmax as a node of its own, its backward taken from the gradient and timed by the clock."""
    backward = gradient.softmax
    assert backward is not None  # noqa: S101 - a softmax node is made only for a gradient of softmax

    def vjp(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
        with clock:
            return backward(logits=logits.data, probs=probs, grad_output=grad_output)

    return SoftMax(logits, vjp)


def loss_node(logits: Node, targets: npt.ArrayLike, gradient: Gradient, clock: Clock) -> Node:
    """Softmax and cross-entropy as one node or as two, their backward taken from the gradient."""
    if gradient.softmax is not None:
        probs = softmax_node(logits, gradient, clock)
        return CrossEntropy(probs, targets) if gradient.loss is None else Loss(probs, targets, gradient.loss)
    assert gradient.loss is not None  # noqa: S101 - every gradient has at least one of the two
    return SoftmaxAndLoss(logits, targets, gradient.loss, clock)


def gradients_of_softmax() -> Iterator[Gradient]:
    """Every backward of softmax alone: the registered implementations, then the known mistakes."""
    for spec in registered().values():
        if spec.operation == "softmax" and spec.library == NUMPY and not spec.runs_threads:
            yield Gradient(RIGHT, "softmax", spec.name, softmax=_right(spec))
    for mistake in mistakes_of("softmax"):
        yield Gradient(MISTAKEN, "softmax", mistake.name, softmax=_mistaken(mistake))


def gradients_of_last_layer() -> Iterator[Gradient]:
    """Every backward of softmax followed by cross-entropy, the right ones first.

    Softmax and loss are one node or two. The question's SoftmaxLoss is the one node: it is right.
    """
    for (operation, name), spec in registered().items():
        if operation == BACKWARD and not spec.divides_by_probs:  # those that divide are two nodes
            yield Gradient(RIGHT, BOTH, name, loss=_right(spec))
    yield from gradients_of_softmax()
    for mistake in mistakes_of("softmax_cross_entropy"):
        yield Gradient(MISTAKEN, mistake.operation, mistake.name, loss=_mistaken(mistake))
    right_softmax = _taking(("probs", "grad_output"), vectorized)
    for mistake in mistakes_of("cross_entropy"):
        yield Gradient(MISTAKEN, mistake.operation, mistake.name, softmax=right_softmax, loss=_mistaken(mistake))
    at_loss, at_softmax = MISTAKES["cross_entropy", QUESTIONS_PAIR[0]], MISTAKES["softmax", QUESTIONS_PAIR[1]]
    yield Gradient(
        MISTAKEN,
        "cross_entropy+softmax",
        "+".join(QUESTIONS_PAIR),
        softmax=_mistaken(at_softmax),
        loss=_mistaken(at_loss),
    )


def _mistaken(mistake: Mistake) -> Backward:
    return _taking(mistake.arguments, mistake.function)


def _right(spec: Implementation) -> Backward:
    if not spec.writes_out:
        return _taking(spec.arguments, spec.function)
    array_of = functools.cache(np.empty)  # one array per shape for the whole training

    def backward(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
        grad_logits: FloatArray = spec.function(probs, grad_output, out=array_of(probs.shape))
        return grad_logits

    return _taking(spec.arguments, backward)


def _taking(names: tuple[str, ...], function: Backward) -> Backward:
    """A backward that may be given any arrays by name and calls the function with those of the given names."""

    def backward(**arrays: Any) -> FloatArray:
        return function(**{name: arrays[name] for name in names})

    return backward
