"""A small computation graph: each node holds its value in ``data``, the loss's gradient in ``grad``, and its inputs.

A network is nodes made from nodes; the loss's ``backward`` fills in ``grad`` of every node that it was computed from:

    weight, bias = Parameter(np.zeros((64, 10))), Parameter(np.zeros(10))
    logits = AddBias(MatMul(Constant(images), weight), bias)
    SoftmaxCrossEntropy(logits, targets).backward()
    weight.data -= 0.1 * weight.grad

``CrossEntropy(SoftMax(logits), targets)`` is the same loss as two nodes. Each then has its own gradient and nothing of
the other's: -targets / probs / batch at the loss, the vector-Jacobian product at softmax. Chained, they give what the
one node computes at once, (probs - targets) / batch; that node also does without the division, so that a probability
of 0 does no harm.

A node of your own is a subclass of ``Node`` that computes its data in the constructor and says in ``grad_inputs`` what
its own ``grad`` means for its inputs. Shapes are [batch, features], sizes B and N.
"""

from graphlib import TopologicalSorter

import numpy as np
import numpy.typing as npt

from ..implementations import FloatArray, Function
from ..implementations.cross_entropy import check_labels, check_targets
from ..implementations.softmax import softmax, vectorized


class NotFiniteError(ValueError):
    """Logits that have no softmax: a row's largest is NaN or infinite, as after a training that diverged."""


class Node:
    """A value, and the gradient with respect to it, of the same shape: 0 until ``backward`` adds to it."""

    def __init__(self, data: npt.ArrayLike, *inputs: "Node") -> None:
        array = np.asarray(data)
        self.data: FloatArray = array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)
        self.grad: FloatArray = np.zeros_like(self.data)
        self.inputs = inputs

    def grad_inputs(self) -> tuple[FloatArray, ...]:
        """The loss's gradient with respect to each input, from the one with respect to this node, ``grad``."""
        return ()

    def backward(self) -> None:
        """Add the gradient of this scalar to ``grad`` of each node that it was computed from.

        Gradients of leaves add up over calls, as over a node's several uses: set them to 0 before the next step.

        Raises:
            ValueError: this node is no scalar, or a node gives an input a gradient of another shape than its own.
        """
        if self.data.size != 1:
            raise ValueError(f"backward begins at a scalar, and this {self} is {self.data.shape}: begin at the loss")
        order = self._inputs_first()
        for node in order:
            if node.inputs:
                node.grad[...] = 0
        self.grad += 1  # d loss / d loss
        for node in reversed(order):  # all that use a node come before it: its grad is complete
            for place, (given, grad) in enumerate(zip(node.inputs, node.grad_inputs(), strict=True)):
                if np.shape(grad) != given.data.shape:
                    raise ValueError(
                        f"{node}: the gradient of input {place} is {np.shape(grad)}, the input {given.data.shape}"
                    )
                given.grad += grad

    def _inputs_first(self) -> list["Node"]:
        """The node and all that it was computed from, each once and after its inputs, however deep the graph."""
        inputs: dict[Node, tuple[Node, ...]] = {}
        waiting: list[Node] = [self]
        while waiting:
            node = waiting.pop()
            if node not in inputs:
                inputs[node] = node.inputs
                waiting.extend(node.inputs)
        return list(TopologicalSorter(inputs).static_order())

    def __str__(self) -> str:
        return type(self).__name__


class Parameter(Node):
    """A leaf that is learned: its own copy of an array."""

    def __init__(self, data: npt.ArrayLike) -> None:
        super().__init__(np.array(data))


class Constant(Node):
    """A leaf that is given, such as a batch of images."""


class MatMul(Node):
    """A matrix product, [B, K] @ [K, N] -> [B, N]; its gradients are grad @ right.T and left.T @ grad."""

    def __init__(self, left: Node, right: Node) -> None:
        shapes = left.data.shape, right.data.shape
        if left.data.ndim != 2 or right.data.ndim != 2 or shapes[0][1] != shapes[1][0]:
            raise ValueError(f"{self}: no product of {shapes[0]} and {shapes[1]}: [B, K] times [K, N] is needed")
        super().__init__(left.data @ right.data, left, right)

    def grad_inputs(self) -> tuple[FloatArray, ...]:
        """Gradients of the two factors, [B, K] and [K, N]."""
        left, right = self.inputs
        return self.grad @ right.data.T, left.data.T @ self.grad


class AddBias(Node):
    """A bias added to every row, [B, N] + [N] -> [B, N]; as each row uses the bias, its gradient is their sum."""

    def __init__(self, rows: Node, bias: Node) -> None:
        if rows.data.ndim != 2 or bias.data.shape != rows.data.shape[1:]:
            raise ValueError(
                f"{self}: a bias of {bias.data.shape} for rows of {rows.data.shape}: [N] and [B, N] needed"
            )
        super().__init__(rows.data + bias.data, rows, bias)

    def grad_inputs(self) -> tuple[FloatArray, ...]:
        """Gradients of rows [B, N] and bias [N]."""
        return self.grad, self.grad.sum(axis=0)


class Tanh(Node):
    """The hyperbolic tangent of each element, whose derivative is 1 - tanh**2."""

    def __init__(self, value: Node) -> None:
        super().__init__(np.tanh(value.data), value)

    def grad_inputs(self) -> tuple[FloatArray, ...]:
        """Gradient of the input."""
        return (self.grad * (1 - self.data**2),)


class Product(Node):
    """The product of two nodes of one shape, element by element, times a constant ``factor``."""

    def __init__(self, left: Node, right: Node, factor: float = 1.0) -> None:
        if left.data.shape != right.data.shape:
            raise ValueError(f"{self}: {left.data.shape} times {right.data.shape}: both must have one shape")
        super().__init__(factor * left.data * right.data, left, right)
        self.factor = factor

    def grad_inputs(self) -> tuple[FloatArray, ...]:
        """Gradients of the two factors."""
        left, right = self.inputs
        return self.factor * self.grad * right.data, self.factor * self.grad * left.data


class SoftMax(Node):
    """Softmax of each row, [B, N] -> [B, N]; ``vjp(probs, grad_output)`` is its backward, of any implementation.

    Raises:
        NotFiniteError: the largest logit of a row is NaN or infinite.
        ValueError: the logits are not [B, N].
    """

    def __init__(self, logits: Node, vjp: Function = vectorized) -> None:
        _check_logits(self, logits.data)
        super().__init__(softmax(logits.data), logits)
        self.vjp = vjp

    def grad_inputs(self) -> tuple[FloatArray, ...]:
        """Gradient of the logits [B, N]."""
        return (self.vjp(self.data, self.grad),)


class CrossEntropy(Node):
    """The mean over the batch of -sum(targets * log(probs)), from probabilities [B, N].

    ``targets`` are class numbers [B] or one-hot rows [B, N]. The loss is infinite where the true class has
    probability 0, and so is its gradient, -targets / probs / batch: see ``SoftmaxCrossEntropy``.

    Raises:
        ValueError: the probabilities are not [B, N] or one is negative or NaN; the targets do not fit.
    """

    def __init__(self, probs: Node, targets: npt.ArrayLike) -> None:
        _check_matrix(self, "probs", probs.data)
        if not (probs.data >= 0).all():
            place = _first(~(probs.data >= 0))
            raise ValueError(f"{self}: probs{place} is {probs.data[*place]}: no probability; logits go through SoftMax")
        self.targets = _one_hot(targets, probs.data)
        self.true = self.targets != 0  # elsewhere 0 * log(0) counts as 0
        logarithms = np.log(probs.data, where=self.true, out=np.zeros_like(probs.data))
        super().__init__(-(self.targets * logarithms).sum(axis=1).mean(), probs)

    def grad_inputs(self) -> tuple[FloatArray, ...]:
        """Gradient of the probabilities [B, N]."""
        (probs,) = self.inputs
        ratios = np.divide(self.targets, probs.data, where=self.true, out=np.zeros_like(probs.data))
        return (-self.grad * ratios / len(ratios),)


class SoftmaxCrossEntropy(Node):
    """Softmax and cross-entropy in one node, [B, N] logits -> mean loss, stable for any finite logits.

    With m the row's maximum, the loss of a row is log(sum(exp(logits - m))) - sum(targets * (logits - m)): no
    exponential overflows, no logarithm of 0 is taken. Softmax's Jacobian is part of the gradient, (probs - targets) /
    batch, and not missing from it. ``targets`` are class numbers [B] or one-hot rows [B, N].

    Raises:
        NotFiniteError: the largest logit of a row is NaN or infinite.
        ValueError: the logits are not [B, N], or the targets do not fit them.
    """

    def __init__(self, logits: Node, targets: npt.ArrayLike) -> None:
        _check_logits(self, logits.data)
        self.targets = _one_hot(targets, logits.data)
        shifted = logits.data - logits.data.max(axis=1, keepdims=True)
        log_sums = np.log(np.exp(shifted).sum(axis=1, keepdims=True))  # [B, 1]
        self.log_probs: FloatArray = shifted - log_sums
        self.probs: FloatArray = np.exp(self.log_probs)
        # A logit of -inf is a probability of 0: where it is no target, 0 * -inf counts as 0.
        of_targets = np.multiply(self.targets, shifted, where=self.targets != 0, out=np.zeros_like(shifted))
        super().__init__((log_sums - of_targets.sum(axis=1, keepdims=True)).mean(), logits)

    def grad_inputs(self) -> tuple[FloatArray, ...]:
        """Gradient of the logits [B, N]."""
        return (self.grad * (self.probs - self.targets) / len(self.probs),)


def _check_matrix(node: Node, name: str, array: FloatArray) -> None:
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{node}: {name} are {array.shape}: [batch, features] is needed, neither of them 0")


def _check_logits(node: Node, logits: FloatArray) -> None:
    _check_matrix(node, "logits", logits)
    largest = logits.argmax(axis=1)  # NaN counts as the largest, the first of several wins
    values = logits[np.arange(len(logits)), largest]
    if not np.isfinite(values).all():
        (row,) = _first(~np.isfinite(values))
        place = [row, int(largest[row])]
        raise NotFiniteError(f"{node}: logits{place} is {values[row]}: the largest of each row must be finite")


def _one_hot(targets: npt.ArrayLike, like: FloatArray) -> FloatArray:
    """Targets as rows that sum to 1, [B, N] like the other array, from class numbers [B] or from such rows."""
    given = np.asarray(targets)
    if given.ndim == 1:
        check_labels(like, given)
        rows: FloatArray = np.eye(like.shape[1], dtype=like.dtype)[given]
        return rows
    check_targets(like, given)
    return given.astype(like.dtype)


def _first(marked: npt.NDArray[np.bool_]) -> list[int]:
    """The place of the first element that is true."""
    return [int(index) for index in np.argwhere(marked)[0]]
