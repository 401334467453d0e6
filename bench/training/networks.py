"""The two networks: softmax as the last layer, before the loss, and softmax in the middle."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..implementations import FloatArray
from .digits import CLASSES
from .gradients import Clock, Gradient, gradients_of_last_layer, gradients_of_softmax, loss_node, softmax_node
from .graph import AddBias, Constant, MatMul, Node, Parameter, Product, SoftmaxCrossEntropy, Tanh

PIXELS = 64


@dataclass(frozen=True)
class Network:
    """A network: its sizes, how fast it learns, which gradients there are for it, and whether it has a gate.

        hidden = tanh(images @ weight + bias)                              [B, width]
        hidden = hidden * softmax(hidden @ gate) * width                   where it has a gate: softmax in the middle
        logits = hidden @ head + head_bias                                 [B, 10]

    The gate weighs the hidden features of an image against each other, as attention does its values; times the width,
    as its weights are about 1 / width.
    """

    name: str
    title: str
    width: int
    learning_rate: float
    has_gate: bool
    gradients: Callable[[], Iterator[Gradient]]

    def parameters(self, rng: np.random.Generator) -> list[Parameter]:
        """New weights, normal with variance 1 / inputs, and biases of 0."""
        gate = [_weight(rng, self.width, self.width)] if self.has_gate else []
        weight, head = _weight(rng, PIXELS, self.width), _weight(rng, self.width, CLASSES)
        return [weight, Parameter(np.zeros(self.width)), *gate, head, Parameter(np.zeros(CLASSES))]

    def logits(self, leaves: list[Parameter], images: FloatArray, gradient: Gradient, clock: Clock) -> Node:
        """The network's answer to images [B, 64], as logits [B, 10]."""
        weight, bias, *gate, head, head_bias = leaves
        hidden: Node = Tanh(AddBias(MatMul(Constant(images), weight), bias))
        for one in gate:
            hidden = Product(hidden, softmax_node(MatMul(hidden, one), gradient, clock), factor=self.width)
        return AddBias(MatMul(hidden, head), head_bias)

    def loss(
        self, leaves: list[Parameter], images: FloatArray, targets: npt.ArrayLike, gradient: Gradient, clock: Clock
    ) -> Node:
        """The mean loss over a batch, its backward the gradient's where the softmax in question is."""
        logits = self.logits(leaves, images, gradient, clock)
        return SoftmaxCrossEntropy(logits, targets) if self.has_gate else loss_node(logits, targets, gradient, clock)


def _weight(rng: np.random.Generator, inputs: int, outputs: int) -> Parameter:
    return Parameter(rng.normal(scale=inputs**-0.5, size=(inputs, outputs)))


LAST = Network("last", "softmax as the last layer", 32, 0.5, has_gate=False, gradients=gradients_of_last_layer)
MIDDLE = Network("middle", "softmax in the middle", 64, 0.05, has_gate=True, gradients=gradients_of_softmax)
NETWORKS = (LAST, MIDDLE)
