"""A small computation graph. Each node has its value in ``data``, the loss's gradient in ``grad``, and its inputs.

A network is made of nodes. The loss's ``backward`` fills in ``grad`` of every node that the loss was computed from:

    from softmax_bench.training.graph import AddBias, Constant, MatMul, Parameter, SoftmaxCrossEntropy

    weight, bias = Parameter(np.zeros((64, 10))), Parameter(np.zeros(10))
    logits = AddBias(MatMul(Constant(images), weight), bias)
    SoftmaxCrossEntropy(logits, targets).backward()
    weight.data -= 0.1 * weight.grad

``images`` [B, 64] and ``targets`` [B] are a batch. ``CrossEntropy(SoftMax(logits), targets)`` is the same loss as two
nodes. Each of the two has its own gradient only: -targets / probs / batch at the loss, the vector-Jacobian product at
softmax. Chained, they give what the single node computes in one step, (probs - targets) / batch. The single node does
not divide, so a probability of 0 does no harm.

To write a node of your own, make a subclass of ``Node``. Its constructor computes the data. Its ``grad_inputs`` returns
the gradients of its inputs, computed from its own ``grad``. Shapes are [batch, features], with sizes B and N.
"""

from graphlib import TopologicalSorter

import numpy as np
import numpy.typing as npt

from ..implementations import FloatArray, Function
from ..implementations.cross_entropy import check_labels, check_targets
from ..implementations.softmax import softmax, vectorized


class NotFiniteError(ValueError):
    """The logits have no softmax: a row's largest is NaN or infinite, as after a training that diverged."""


class Node:
    """A value, and the loss's gradient with respect to it. Both have the same shape; the gradient is 0 at first."""

    def __init__(self, data: npt.ArrayLike, *inputs: "Node") -> None:
        array = np.asarray(data)
        self.data: FloatArray = array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)
        self.grad: FloatArray = np.zeros_like(self.data)
        self.inputs = inputs

    def grad_inputs(self) -> tuple[FloatArray, ...]:
        """The loss's gradient with respect to each input, computed from ``grad``, that with respect to this node."""
        return ()

    def backward(self) -> None:
        """Add the gradient of this scalar to ``grad`` of each node that it was computed from.

        A node that is used several times gets the sum of its gradients. In leaves, gradients also add up over calls:
        set them to 0 before the next step.

        Raises:
            ValueError: this node is not a scalar, or a node's gradient for an input has not that input's shape.
        """
        if self.data.size != 1:
            raise ValueError(f"backward must begin at a scalar, the loss; this {self} has the shape {self.data.shape}")
        order = self._inputs_first()
        for node in order:
            if node.inputs:
                node.grad[...] = 0
        self.grad += 1  # d loss / d loss
        for node in reversed(order):  # a node's users come before it, so its grad is complete
            for place, (source, grad) in enumerate(zip(node.inputs, node.grad_inputs(), strict=True)):
                if np.shape(grad) != source.data.shape:
                    raise ValueError(
                        f"{node}: the gradient of input {place} is {np.shape(grad)}, the input {source.data.shape}"
                    )
                source.grad += grad

    def _inputs_first(self) -> list["Node"]:
        """The node and all nodes that it was computed from, each once, after its inputs.

        It is no recursion, so that a graph may be deeper than Python's recursion limit.
        """
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
    """A leaf that is trained. It has its own copy of the array."""

    def __init__(self, data: npt.ArrayLike) -> None:
        super().__init__(np.array(data))


class Constant(Node):
    """A leaf that is not trained, such as a batch of images."""


class MatMul(Node):
    """A matrix product, [B, K] @ [K, N] -> [B, N]."""

    def __init__(self, left: Node, right: Node) -> None:
        shapes = left.data.shape, right.data.shape
        if left.data.ndim != 2 or right.data.ndim != 2 or shapes[0][1] != shapes[1][0]:
            raise ValueError(f"{self}: {shapes[0]} times {shapes[1]}: the shapes must be [B, K] and [K, N]")
        super().__init__(left.data @ right.data, left, right)

    def grad_inputs(self) -> tuple[FloatArray, ...]:
        """Gradients of the factors: grad @ right.T [B, K] and left.T @ grad [K, N]."""
        left, right = self.inputs
        return self.grad @ right.data.T, left.data.T @ self.grad


class AddBias(Node):
    """The sum of rows and a bias, [B, N] + [N] -> [B, N]."""

    def __init__(self, rows: Node, bias: Node) -> None:
        if rows.data.ndim != 2 or bias.data.shape != rows.data.shape[1:]:
            raise ValueError(
                f"{self}: rows {rows.data.shape} and bias {bias.data.shape}: the shapes must be [B, N] and [N]"
            )
        super().__init__(rows.data + bias.data, rows, bias)

    def grad_inputs(self) -> tuple[FloatArray, ...]:
        """Gradients of rows [B, N] and bias [N]: each row uses the bias, so its gradient is their sum."""
        return self.grad, self.grad.sum(axis=0)


class Tanh(Node):
    """The hyperbolic tangent of each element."""

    def __init__(self, value: Node) -> None:
        super().__init__(np.tanh(value.data), value)

    def grad_inputs(self) -> tuple[FloatArray, ...]:
        """Gradient of the input; the derivative of tanh is 1 - tanh**2."""
        return (self.grad * (1 - self.data**2),)


class Product(Node):
    """The elementwise product of two nodes of the same shape, times a constant ``factor``."""

    def __init__(self, left: Node, right: Node, factor: float = 1.0) -> None:
        if left.data.shape != right.data.shape:
            raise ValueError(f"{self}: {left.data.shape} times {right.data.shape}: both must have the same shape")
        super().__init__(factor * left.data * right.data, left, right)
        self.factor = factor

    def grad_inputs(self) -> tuple[FloatArray, ...]:
        """Gradients of both nodes."""
        left, right = self.inputs
        return self.factor * self.grad * right.data, self.factor * self.grad * left.data


class SoftMax(Node):
    """Softmax of each row, [B, N] -> [B, N]. Any implementation can be its backward, ``vjp(probs, grad_output)``.

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

    ``targets`` are class numbers [B] or one-hot rows [B, N]. If a true class has probability 0, the loss is infinite,
    and so is its gradient, -targets / probs / batch. ``SoftmaxCrossEntropy`` is finite there.

    Raises:
        ValueError: the probabilities are not [B, N], a probability is negative or NaN, or the targets do not fit.
    """

    def __init__(self, probs: Node, targets: npt.ArrayLike) -> None:
        _check_matrix(self, "probs", probs.data)
        if not (probs.data >= 0).all():
            place = _first(~(probs.data >= 0))
            raise ValueError(
                f"{self}: probs{place} is {probs.data[*place]}, not a probability; apply SoftMax to logits first"
            )
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

    The loss of a row is log(sum(exp(logits - m))) - sum(targets * (logits - m)), with the row's maximum m. So no
    exponential overflows, and there is no logarithm of 0. The gradient is (probs - targets) / batch; softmax's Jacobian
    is part of it. ``targets`` are class numbers [B] or one-hot rows [B, N].

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
        # A logit of -inf is a probability of 0. If it is not the target, 0 * -inf counts as 0.
        of_targets = np.multiply(self.targets, shifted, where=self.targets != 0, out=np.zeros_like(shifted))
        super().__init__((log_sums - of_targets.sum(axis=1, keepdims=True)).mean(), logits)

    def grad_inputs(self) -> tuple[FloatArray, ...]:
        """Gradient of the logits [B, N]."""
        return (self.grad * (self.probs - self.targets) / len(self.probs),)


def _check_matrix(node: Node, name: str, array: FloatArray) -> None:
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{node}: {name} are {array.shape}; they must be [batch, features], and neither may be 0")


def _check_logits(node: Node, logits: FloatArray) -> None:
    _check_matrix(node, "logits", logits)
    largest = logits.argmax(axis=1)  # the first NaN, if there is one
    values = logits[np.arange(len(logits)), largest]
    if not np.isfinite(values).all():
        (row,) = _first(~np.isfinite(values))
        place = [row, int(largest[row])]
        raise NotFiniteError(f"{node}: logits{place} is {values[row]}; the largest of each row must be finite")


def _one_hot(targets: npt.ArrayLike, like: FloatArray) -> FloatArray:
    """Targets [B, N], rows that sum to 1, in the dtype of ``like`` [B, N]; from class numbers [B] or from such rows."""
    given = np.asarray(targets)
    if given.ndim == 1:
        check_labels(like, given)
        rows: FloatArray = np.eye(like.shape[1], dtype=like.dtype)[given]
        return rows
    check_targets(like, given)
    return given.astype(like.dtype)


def _first(marked: npt.NDArray[np.bool_]) -> list[int]:
    """The indices of the first element that is true."""
    return [int(index) for index in np.argwhere(marked)[0]]
