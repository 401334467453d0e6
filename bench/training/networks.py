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
    """A network: its sizes, its learning rate, its gradients, and whether it has a gate.

        hidden = tanh(images @ weight + bias)                              [B, width]
        hidden = hidden * softmax(hidden @ gate) * width                   only with a gate: softmax in the middle
        logits = hidden @ head + head_bias                                 [B, 10]

    The gate weighs an image's hidden features against each other, as attention weighs its values. The factor ``width``
    makes up for the softmax: its mean is 1 / width.
    """

    name: str
    title: str
    width: int
    learning_rate: float
    has_gate: bool
    gradients: Callable[[], Iterator[Gradient]]

    def parameters(self, rng: np.random.Generator) -> list[Parameter]:
        """New parameters: normal weights with variance 1 / inputs, and biases of 0."""
        gate = [_weight(rng, self.width, self.width)] if self.has_gate else []
        weight, head = _weight(rng, PIXELS, self.width), _weight(rng, self.width, CLASSES)
        return [weight, Parameter(np.zeros(self.width)), *gate, head, Parameter(np.zeros(CLASSES))]

    def logits(self, leaves: list[Parameter], images: FloatArray, gradient: Gradient, clock: Clock) -> Node:
        """The logits [B, 10] of images [B, 64]."""
        weight, bias, *gate, head, head_bias = leaves
        hidden: Node = Tanh(AddBias(MatMul(Constant(images), weight), bias))
        if self.has_gate:
            shares = softmax_node(MatMul(hidden, gate[0]), gradient, clock)
            hidden = Product(hidden, shares, factor=self.width)
        return AddBias(MatMul(hidden, head), head_bias)

    def loss(
        self, leaves: list[Parameter], images: FloatArray, targets: npt.ArrayLike, gradient: Gradient, clock: Clock
    ) -> Node:
        """The mean loss over a batch. The network's softmax has the gradient's backward, all else the right one."""
        logits = self.logits(leaves, images, gradient, clock)
        return SoftmaxCrossEntropy(logits, targets) if self.has_gate else loss_node(logits, targets, gradient, clock)


def _weight(rng: np.random.Generator, inputs: int, outputs: int) -> Parameter:
    return Parameter(rng.normal(scale=inputs**-0.5, size=(inputs, outputs)))


LAST = Network("last", "softmax as the last layer", 32, 0.5, has_gate=False, gradients=gradients_of_last_layer)
MIDDLE = Network("middle", "softmax in the middle", 64, 0.05, has_gate=True, gradients=gradients_of_softmax)
NETWORKS = (LAST, MIDDLE)
