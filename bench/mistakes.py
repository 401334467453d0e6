"""Gradients that look right and are not, each a mistake that people make: never timed, used to name a wrong gradient.

They are kept in ``MISTAKES``, apart from the registry of competitors. A mistake takes any of ``logits``, ``probs``,
``grad_output`` and ``targets`` (one-hot), all [B, N], by these names. Its docstring begins with one sentence that
says what is wrong, to be shown to the person who made it, and has a line ``Computes:`` with the formula.

The right gradients, of the mean loss over the batch where there is a loss:

    softmax                 probs * (grad_output - sum(grad_output * probs))      with respect to the logits
    softmax_cross_entropy   (probs - targets) / batch                             with respect to the logits
    cross_entropy           -targets / probs / batch                              with respect to the probabilities
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .implementations import FloatArray, stated
from .implementations.softmax import softmax, softmax_unshifted, vectorized

SCALE = 2.5  # of the mistake that stands for any constant factor


@dataclass(frozen=True)
class Mistake:
    """A known mistake: its function, the names of what that takes, what is wrong, and the formula it computes."""

    name: str
    operation: str
    function: Callable[..., FloatArray]
    arguments: tuple[str, ...]
    explanation: str
    formula: str
    seen_by: str

    @property
    def title(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")


MISTAKES: dict[tuple[str, str], Mistake] = {}


def mistake(operation: str, seen_by: str = "value") -> Callable[[Callable[..., FloatArray]], Callable[..., FloatArray]]:
    """Decorator that adds a function to the known mistakes of an operation.

    ``seen_by`` says what gives it away: its ``value`` as it is, a ``factor`` on the right value, ``precision`` lost in
    float64 alone, or its ``inputs``, which it overwrites.
    """

    def add(function: Callable[..., FloatArray]) -> Callable[..., FloatArray]:
        doc = inspect.getdoc(function) or ""
        name = function.__name__.removeprefix("loss_").removeprefix("node_")
        MISTAKES[operation, name] = Mistake(
            name=name,
            operation=operation,
            function=function,
            arguments=tuple(inspect.signature(function).parameters),
            explanation=" ".join(doc.partition("\n\n")[0].split()),
            formula=stated(doc, "Computes", name),
            seen_by=seen_by,
        )
        return function

    return add


@mistake("softmax")
def diagonal_only(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """Only the Jacobian's diagonal is used, but each output of softmax depends on every logit of its row.

    Computes: probs * (1 - probs) * grad_output
    """
    return probs * (1 - probs) * grad_output


@mistake("softmax")
def diagonal_only_unmultiplied(probs: FloatArray) -> FloatArray:
    """Only the Jacobian's diagonal is returned, and it is not multiplied by grad_output either.

    Computes: probs * (1 - probs)
    """
    return probs * (1 - probs)


@mistake("softmax")
def diagonal_of_logits(logits: FloatArray, grad_output: FloatArray) -> FloatArray:
    """Only the Jacobian's diagonal is used, and it is built from softmax's input where its output belongs.

    Computes: logits * (1 - logits) * grad_output
    """
    return logits * (1 - logits) * grad_output


@mistake("softmax")
def off_diagonal_only(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The Jacobian's diagonal is left out: only the influence of the other logits of the row is counted.

    Computes: probs * (probs * grad_output - sum(grad_output * probs))
    """
    return probs * (probs * grad_output - _row_dots(probs, grad_output))


@mistake("softmax")
def identity_missing(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The Jacobian lacks diag(probs): only its second part, minus the outer product, is there.

    Computes: -probs * sum(grad_output * probs)
    """
    return -probs * _row_dots(probs, grad_output)


@mistake("softmax")
def outer_product_missing(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The Jacobian is taken to be diag(probs): the row's dot product is never subtracted.

    Computes: probs * grad_output
    """
    return probs * grad_output


@mistake("softmax")
def eye_of_batch(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The identity in the Jacobian has the batch's size, np.eye(batch), where it needs np.eye(features).

    Computes: jacobian = probs[:, :, None] * (np.eye(batch) - probs[:, None, :]), times grad_output
    """
    jacobian = probs[:, :, None] * (np.eye(len(probs), dtype=probs.dtype) - probs[:, None, :])
    grad_logits: FloatArray = (jacobian @ grad_output[:, :, None]).squeeze(2)
    return grad_logits


@mistake("softmax")
def eye_of_batch_elementwise(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The identity has the batch's size, and all is multiplied element by element: no sum over the row is ever taken.

    Computes: probs * (np.eye(batch) - probs) * grad_output
    """
    return probs * (np.eye(len(probs), dtype=probs.dtype) - probs) * grad_output


@mistake("softmax")
def first_row_jacobian(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The Jacobian of the batch's first row is applied to every row.

    Computes: probs[0] * (grad_output - sum(grad_output * probs[0]))
    """
    return vectorized(np.broadcast_to(probs[:1], probs.shape), grad_output)


@mistake("softmax")
def jacobian_of_logits(logits: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The Jacobian is built from softmax's input, the logits, where its output, the probabilities, belongs.

    Computes: logits * (grad_output - sum(grad_output * logits))
    """
    return vectorized(logits, grad_output)


@mistake("softmax")
def jacobian_unmultiplied(probs: FloatArray) -> FloatArray:
    """The Jacobian itself is returned, [batch, features, features]: it still has to be multiplied by grad_output.

    Computes: probs[:, :, None] * (np.eye(features) - probs[:, None, :])
    """
    return probs[:, :, None] * (np.eye(probs.shape[1], dtype=probs.dtype) - probs[:, None, :])


@mistake("softmax")
def jacobian_summed(probs: FloatArray) -> FloatArray:
    """The Jacobian is summed over one axis in place of being multiplied by grad_output: its rows sum to 0.

    Computes: sum(probs[:, :, None] * (np.eye(features) - probs[:, None, :])), which is 0
    """
    return _total(jacobian_unmultiplied(probs), axis=2)


@mistake("softmax")
def result_unsqueezed(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The values are right, but the result keeps an axis of length 1: squeeze it.

    Computes: the right gradient with shape [batch, features, 1]
    """
    return vectorized(probs, grad_output)[:, :, None]


@mistake("softmax")
def softmax_of_gradient(grad_output: FloatArray) -> FloatArray:
    """Softmax itself is applied to the gradient: the forward where the backward belongs.

    Computes: softmax(grad_output)
    """
    return softmax(grad_output)


@mistake("softmax")
def softmax_of_gradient_scaled(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """Softmax itself is applied to the gradient, and multiplied by probs: not a derivative of softmax.

    Computes: probs * softmax(grad_output)
    """
    return probs * softmax(grad_output)


@mistake("softmax")
def softmax_twice(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """Softmax is applied a second time, to its own output, and the Jacobian is that of the second result.

    Computes: q * (grad_output - sum(grad_output * q)) with q = softmax(probs)
    """
    return vectorized(softmax(probs), grad_output)


@mistake("softmax")
def pass_through(grad_output: FloatArray) -> FloatArray:
    """The gradient is handed on unchanged, as if softmax were the identity (right only inside a fused loss).

    Computes: grad_output
    """
    return grad_output.copy()


@mistake("softmax")
def fused_gradient(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """What comes in is taken for one-hot targets and the gradient of softmax together with cross-entropy is returned.

    Computes: probs - grad_output
    """
    return probs - grad_output


@mistake("softmax")
def fused_gradient_averaged(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """What comes in is taken for one-hot targets and the gradient of softmax with mean cross-entropy is returned.

    Computes: (probs - grad_output) / batch
    """
    return (probs - grad_output) / len(probs)


@mistake("softmax")
def whole_array_as_one_row(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The batch is treated as one long row, flattened or summed without an axis, so that rows influence each other.

    Computes: probs * (grad_output - sum over the whole array of grad_output * probs)
    """
    return probs * (grad_output - _total(grad_output * probs))


@mistake("softmax")
def normalised_over_array(logits: FloatArray, grad_output: FloatArray) -> FloatArray:
    """Softmax is normalised over the whole array, so that it is the batch and not each row that sums to 1.

    Computes: q * (grad_output - sum over the whole array of grad_output * q) with q = exp(logits) / exp(logits).sum()
    """
    return whole_array_as_one_row(_softmax_of_array(logits), grad_output)


@mistake("softmax")
def normalised_over_array_then_rows(logits: FloatArray, grad_output: FloatArray) -> FloatArray:
    """Softmax is normalised over the whole array, though the backward goes row by row.

    Computes: q * (grad_output - sum(grad_output * q)) with q = exp(logits) / exp(logits).sum()
    """
    return vectorized(_softmax_of_array(logits), grad_output)


@mistake("softmax")
def summed_over_wrong_axis(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The dot product runs down the batch, where it must run along each row.

    Computes: probs * (grad_output - sum down each column of grad_output * probs)
    """
    return probs * (grad_output - _total(grad_output * probs, axis=0, keepdims=True))


@mistake("softmax")
def probs_missing_outside(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The difference is not multiplied by probs.

    Computes: grad_output - sum(grad_output * probs)
    """
    return grad_output - _row_dots(probs, grad_output)


@mistake("softmax")
def probs_missing_inside(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The row's sum is taken of grad_output alone, where it must be weighted by probs.

    Computes: probs * (grad_output - sum(grad_output))
    """
    return probs * (grad_output - _total(grad_output, axis=1, keepdims=True))


@mistake("softmax")
def mean_for_sum(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The row's mean is subtracted where its sum belongs.

    Computes: probs * (grad_output - mean(grad_output * probs))
    """
    means: FloatArray = _row_dots(probs, grad_output) / probs.shape[1]
    return probs * (grad_output - means)


@mistake("softmax")
def dot_product_added(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The row's dot product is added where it must be subtracted.

    Computes: probs * (grad_output + sum(grad_output * probs))
    """
    return probs * (grad_output + _row_dots(probs, grad_output))


@mistake("softmax")
def arguments_swapped(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The two arguments have changed places: probs is used as the gradient and grad_output as the probabilities.

    Computes: grad_output * (probs - sum(probs * grad_output))
    """
    return vectorized(grad_output, probs)


@mistake("softmax")
def divided_by_batch(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The result is divided by the batch size: that belongs to a mean loss, which has put it into grad_output already.

    Computes: probs * (grad_output - sum(grad_output * probs)) / batch
    """
    return vectorized(probs, grad_output) / max(1, len(probs))


@mistake("softmax")
def summed_over_batch(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The gradient is summed over the batch, as a bias's would be: each row has its own logits and its own gradient.

    Computes: the right gradient's sum over the rows, [features]
    """
    return _total(vectorized(probs, grad_output), axis=0)


@mistake("softmax")
def averaged_over_batch(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The gradient is averaged over the batch: each row has its own logits and its own gradient.

    Computes: the right gradient's mean over the rows, [features]
    """
    return _total(vectorized(probs, grad_output), axis=0) / max(1, len(probs))


@mistake("softmax")
def transposed(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The values are right, but the result is transposed.

    Computes: the right gradient with shape [features, batch]
    """
    return vectorized(probs, grad_output).T.copy()


@mistake("softmax")
def wrong_sign(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The result has the opposite sign.

    Computes: -probs * (grad_output - sum(grad_output * probs))
    """
    return -vectorized(probs, grad_output)


@mistake("softmax", seen_by="factor")
def scaled(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The result is the right one times a constant.

    Computes: constant * probs * (grad_output - sum(grad_output * probs))
    """
    return SCALE * vectorized(probs, grad_output)


@mistake("softmax", seen_by="precision")
def single_precision(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The computation goes through float32, so that half of float64's digits are lost.

    Computes: the right gradient of the inputs rounded to float32
    """
    rounded = vectorized(probs.astype(np.float32), grad_output.astype(np.float32))
    return rounded.astype(probs.dtype)


@mistake("softmax")
def exponential_overflows(logits: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The exponentials overflow, as the row's maximum is not subtracted from the logits first.

    Computes: q * (grad_output - sum(grad_output * q)) with q = exp(logits) / sum(exp(logits)), NaN for large logits
    """
    return vectorized(softmax_unshifted(logits), grad_output)


@mistake("softmax", seen_by="inputs")
def overwrites_grad_output(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """The result is right, but it is written over the caller's grad_output, which others may still need.

    Computes: grad_output -= sum(grad_output * probs); grad_output *= probs
    """
    grad_output -= _row_dots(probs, grad_output)
    grad_output *= probs
    return grad_output


@mistake("softmax_cross_entropy")
def loss_average_missing(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The loss is a mean over the batch, but its gradient is not divided by the batch size.

    Computes: probs - targets
    """
    return probs - targets


@mistake("softmax_cross_entropy")
def loss_averaged_twice(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The gradient is divided by the batch size twice.

    Computes: (probs - targets) / batch**2
    """
    return (probs - targets) / max(1, len(probs)) ** 2


@mistake("softmax_cross_entropy")
def loss_averaged_over_elements(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The gradient is divided by the number of elements, where the loss is a mean over the rows.

    Computes: (probs - targets) / (batch * features)
    """
    return (probs - targets) / max(1, probs.size)


@mistake("softmax_cross_entropy")
def loss_wrong_sign(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The result has the opposite sign.

    Computes: (targets - probs) / batch
    """
    return (targets - probs) / max(1, len(probs))


@mistake("softmax_cross_entropy", seen_by="factor")
def loss_scaled(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The result is the right one times a constant.

    Computes: constant * (probs - targets) / batch
    """
    return SCALE * (probs - targets) / max(1, len(probs))


@mistake("softmax_cross_entropy")
def loss_softmax_applied_again(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The fused gradient, which has softmax's Jacobian in it already, is multiplied by softmax's Jacobian once more.

    Computes: probs * (g - sum(g * probs)) with g = (probs - targets) / batch
    """
    return vectorized(probs, (probs - targets) / max(1, len(probs)))


@mistake("softmax_cross_entropy")
def loss_diagonal_only(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The loss's gradient is multiplied by softmax's diagonal alone: the other logits of the row have no influence.

    Computes: -targets * (1 - probs) / batch
    """
    return -targets * (1 - probs) / max(1, len(probs))


@mistake("softmax_cross_entropy")
def loss_logits_for_probs(logits: FloatArray, targets: FloatArray) -> FloatArray:
    """The targets are subtracted from the logits, where they must be subtracted from the probabilities.

    Computes: (logits - targets) / batch
    """
    return (logits - targets) / max(1, len(logits))


@mistake("softmax_cross_entropy")
def loss_gradient_of_probs(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The gradient is the one with respect to the probabilities, not to the logits: softmax's Jacobian is missing.

    Computes: -targets / probs / batch
    """
    return -targets / probs / max(1, len(probs))


@mistake("softmax_cross_entropy")
def loss_gradient_of_targets(probs: FloatArray) -> FloatArray:
    """The gradient is the one with respect to the targets, not to the logits.

    Computes: -log(probs) / batch
    """
    return -np.log(probs) / max(1, len(probs))


@mistake("softmax_cross_entropy")
def loss_targets_missing(probs: FloatArray) -> FloatArray:
    """The targets are not subtracted.

    Computes: probs / batch
    """
    return probs / max(1, len(probs))


@mistake("softmax_cross_entropy")
def loss_transposed(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The values are right, but the result is transposed.

    Computes: the right gradient with shape [features, batch]
    """
    return ((probs - targets) / max(1, len(probs))).T.copy()


@mistake("softmax_cross_entropy")
def loss_summed_over_batch(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The gradient is summed over the batch, as a bias's would be.

    Computes: sum over the rows of (probs - targets) / batch, [features]
    """
    return _total(probs - targets, axis=0) / max(1, len(probs))


@mistake("softmax_cross_entropy")
def loss_exponential_overflows(logits: FloatArray, targets: FloatArray) -> FloatArray:
    """The exponentials overflow, as the row's maximum is not subtracted from the logits first.

    Computes: (q - targets) / batch with q = exp(logits) / sum(exp(logits)), NaN for large logits
    """
    return (softmax_unshifted(logits) - targets) / max(1, len(logits))


@mistake("cross_entropy")
def node_fused_gradient_at_loss_node(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The gradient is that of softmax and cross-entropy together; softmax's own backward then comes on top of it.

    Computes: (probs - targets) / batch
    """
    return (probs - targets) / max(1, len(probs))


@mistake("cross_entropy")
def node_fused_gradient_at_loss_node_not_averaged(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The gradient is that of softmax and cross-entropy together, and it is not divided by the batch size either.

    Computes: probs - targets
    """
    return probs - targets


@mistake("cross_entropy")
def node_average_missing(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The loss is a mean over the batch, but its gradient is not divided by the batch size.

    Computes: -targets / probs
    """
    return -targets / probs


@mistake("cross_entropy")
def node_averaged_twice(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The gradient is divided by the batch size twice.

    Computes: -targets / probs / batch**2
    """
    return -targets / probs / max(1, len(probs)) ** 2


@mistake("cross_entropy")
def node_wrong_sign(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The result has the opposite sign: the loss is minus the logarithm.

    Computes: targets / probs / batch
    """
    return targets / probs / max(1, len(probs))


@mistake("cross_entropy", seen_by="factor")
def node_scaled(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The result is the right one times a constant.

    Computes: constant * -targets / probs / batch
    """
    return -SCALE * targets / probs / max(1, len(probs))


@mistake("cross_entropy")
def node_targets_missing(probs: FloatArray) -> FloatArray:
    """The targets are left out: only the true class's probability enters the loss.

    Computes: -1 / probs / batch
    """
    return -1 / probs / max(1, len(probs))


@mistake("cross_entropy")
def node_binary_cross_entropy(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The gradient is that of the binary cross-entropy, in which every class is a yes-or-no question of its own.

    Computes: (probs - targets) / (probs * (1 - probs)) / batch
    """
    return (probs - targets) / (probs * (1 - probs)) / max(1, len(probs))


@mistake("cross_entropy")
def node_gradient_of_targets(probs: FloatArray) -> FloatArray:
    """The gradient is the one with respect to the targets, not to the probabilities.

    Computes: -log(probs) / batch
    """
    return -np.log(probs) / max(1, len(probs))


def _row_dots(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    """sum_k grad_output[k] * probs[k] of each row, [B, 1]."""
    return _total(grad_output * probs, axis=1, keepdims=True)


def _total(array: FloatArray, axis: int | None = None, *, keepdims: bool = False) -> FloatArray:
    """The array's sum along an axis, or over all of it as an array without axes."""
    return np.asarray(array.sum(axis=axis, keepdims=keepdims))


def _softmax_of_array(logits: FloatArray) -> FloatArray:
    """Softmax normalised over the whole array, [B, N] -> [B, N]."""
    return softmax(logits.reshape(1, -1)).reshape(logits.shape) if logits.size else logits
