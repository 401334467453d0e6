"""Gradients that look right and are wrong, each a mistake that people make: never timed, used to name a wrong gradient.

A mistake is one entry of the tables below. Its formula is stated once: the text that is shown is the text that is
computed. A formula may use, with B = batch and N = features:

    logits, probs, grad_output, targets     the arrays, each [B, N]; targets are one-hot
    batch, features                         their sizes
    sum(...), mean(...)                     of each row, [B, 1]
    softmax(...)                            of each row; with axis=None, of the whole array as if it were one row
    exp, log, eye                           NumPy's; so are .sum(), .T and what else is called on an array
    constant                                any factor
    ... with name = ...                     a name for a part

A mistake that is not one expression has a function of its own, and its formula is only shown.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np

from .implementations import FloatArray
from .implementations.softmax import softmax, vectorized

Backward = Callable[..., FloatArray]
# What gives a mistake away: its value, as it is; its value for logits that are not moderate, where alone it is wrong; a
# factor on the right value; digits of float64 that are lost; or an input that it overwrites.
SeenBy = Literal["value", "range", "factor", "precision", "inputs"]
# An entry of a table: formula, explanation, what gives it away if not its value, its function if not the formula's.
Entry = tuple[str, str] | tuple[str, str, SeenBy] | tuple[str, str, SeenBy, Backward]

ARRAYS = ("logits", "probs", "grad_output", "targets")  # in the order in which a function takes them


@dataclass(frozen=True)
class Mistake:
    """A known mistake: the formula that it computes, its function, and a sentence for the person who made it."""

    operation: str
    name: str
    formula: str
    explanation: str
    seen_by: SeenBy
    function: Backward

    @property
    def is_limit(self) -> bool:
        """Whether the gradient is right, within a limit that has to be known."""
        return self.seen_by in ("range", "precision")

    @cached_property
    def arguments(self) -> tuple[str, ...]:
        """The names of the arrays that the function takes."""
        return tuple(inspect.signature(self.function).parameters)


def mistakes_of(operation: str) -> list[Mistake]:
    """The known mistakes of an operation, in the order of its table."""
    return [mistake for mistake in MISTAKES.values() if mistake.operation == operation]


def _table(operation: str, **entries: Entry) -> dict[tuple[str, str], Mistake]:
    """The known mistakes of an operation, by (operation, name)."""
    return {(operation, name): _mistake(operation, name, *entry) for name, entry in entries.items()}


def _mistake(
    operation: str,
    name: str,
    formula: str,
    explanation: str,
    seen_by: SeenBy = "value",
    function: Backward | None = None,
) -> Mistake:
    return Mistake(operation, name, formula, explanation, seen_by, function or _function_of(formula))


def _function_of(formula: str) -> Backward:
    """The function that computes a formula from the arrays that the formula names."""
    arrays = [array for array in ARRAYS if re.search(rf"\b{array}\b", formula)]
    result, _, part = formula.partition(" with ")
    if part:
        name, _, value = part.partition(" = ")
        result = f"(lambda {name}: {result})({value})"
    # For example: lambda probs, targets: (lambda batch, features: (probs - targets) / batch)(*probs.shape)
    source = f"lambda {', '.join(arrays)}: (lambda batch, features: {result})(*{arrays[0]}.shape)"
    function: Backward = eval(source, _VOCABULARY)  # noqa: S307 - the text is a constant of this module, not input
    return function


def _softmax(array: FloatArray, axis: int | None = -1) -> FloatArray:
    """Softmax of each row, [B, N] -> [B, N]; with ``axis=None`` of the whole array."""
    return softmax(array) if axis is not None else softmax(array.reshape(1, -1)).reshape(array.shape)


def _single_precision(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    return vectorized(probs.astype(np.float32), grad_output.astype(np.float32)).astype(probs.dtype)


def _overwrites_grad_output(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
    grad_output -= (grad_output * probs).sum(axis=1, keepdims=True)  # [B, N] - [B, 1]
    grad_output *= probs
    return grad_output


_VOCABULARY: dict[str, Any] = {
    "__builtins__": {},
    "__name__": __name__,  # the module of the functions
    "sum": partial(np.sum, axis=1, keepdims=True),
    "mean": partial(np.mean, axis=1, keepdims=True),
    "softmax": _softmax,
    "exp": np.exp,
    "log": np.log,
    "eye": np.eye,
    "constant": 2.5,
}

# fmt: off

# Softmax. Right: grad_logits = probs * (grad_output - sum(grad_output * probs))
_SOFTMAX = _table("softmax",
    diagonal_only=("probs * (1 - probs) * grad_output",
        "Only the Jacobian's diagonal is used, but each output of softmax depends on every logit of its row."),
    diagonal_only_unmultiplied=("probs * (1 - probs)",
        "Only the Jacobian's diagonal is returned, and it is not multiplied by grad_output either."),
    diagonal_of_logits=("logits * (1 - logits) * grad_output",
        "Only the Jacobian's diagonal is used, and it is built from softmax's input instead of its output."),
    off_diagonal_only=("probs * (probs * grad_output - sum(grad_output * probs))",
        "The Jacobian's diagonal is left out: only the influence of the other logits of the row is counted."),
    identity_missing=("-probs * sum(grad_output * probs)",
        "The Jacobian lacks diag(probs): only its second part, minus the outer product, is left."),
    outer_product_missing=("probs * grad_output",
        "The Jacobian is taken to be diag(probs): the row's dot product is never subtracted."),
    eye_of_batch=("(jacobian @ grad_output[:, :, None])[:, :, 0] "
        "with jacobian = probs[:, :, None] * (eye(batch) - probs[:, None, :])",
        "The identity in the Jacobian has the batch's size, np.eye(batch); it must be np.eye(features)."),
    eye_of_batch_elementwise=("probs * (eye(batch) - probs) * grad_output",
        "The identity has the batch's size, and everything is multiplied element by element: no row is ever summed."),
    first_row_jacobian=("probs[:1] * (grad_output - sum(grad_output * probs[:1]))",
        "The Jacobian of the batch's first row is applied to every row."),
    jacobian_of_logits=("logits * (grad_output - sum(grad_output * logits))",
        "The Jacobian is built from softmax's input, the logits, instead of its output, the probabilities."),
    jacobian_unmultiplied=("probs[:, :, None] * (eye(features) - probs[:, None, :])",
        "The Jacobian itself is returned, [batch, features, features]: it still has to be multiplied by grad_output."),
    jacobian_elementwise=("probs[:, :, None] * (eye(features) - probs[:, None, :]) * grad_output[:, None, :]",
        "The Jacobian is multiplied by grad_output element by element: the products still have to be summed."),
    jacobian_elementwise_by_rows=("probs[:, :, None] * (eye(features) - probs[:, None, :]) * grad_output[:, :, None]",
        "The Jacobian's rows are multiplied by grad_output element by element: the sum of the products is missing."),
    jacobian_of_flattened_batch=("probs.reshape(-1, 1) * (eye(batch * features) - probs.reshape(1, -1))",
        "The batch is flattened into one long row, and the Jacobian of that row is returned, without grad_output."),
    jacobian_summed=("(probs[:, :, None] * (eye(features) - probs[:, None, :])).sum(axis=2)",
        "The Jacobian is summed over an axis, which gives 0, instead of being multiplied by grad_output."),
    result_unsqueezed=("(probs * (grad_output - sum(grad_output * probs)))[:, :, None]",
        "The values are right, but the result keeps an axis of length 1, [batch, features, 1]: squeeze it."),
    softmax_of_gradient=("softmax(grad_output)",
        "Softmax itself is applied to the gradient: this is the forward, not the backward."),
    softmax_of_gradient_scaled=("probs * softmax(grad_output)",
        "Softmax itself is applied to the gradient and multiplied by probs: this is no derivative of softmax."),
    softmax_twice=("q * (grad_output - sum(grad_output * q)) with q = softmax(probs)",
        "Softmax is applied a second time, to its own output, and the Jacobian is that of the second result."),
    pass_through=("grad_output",
        "The gradient is handed on unchanged, as if softmax were the identity (right only inside a fused loss)."),
    fused_gradient=("probs - grad_output",
        "grad_output is taken for one-hot targets, and the gradient of softmax with cross-entropy is returned."),
    fused_gradient_averaged=("(probs - grad_output) / batch",
        "grad_output is taken for one-hot targets, and the gradient of softmax with mean cross-entropy is returned."),
    whole_array_as_one_row=("probs * (grad_output - (grad_output * probs).sum())",
        "The batch is treated as one long row, flattened or summed without an axis: its rows influence each other."),
    normalised_over_array=("q * (grad_output - (grad_output * q).sum()) with q = softmax(logits, axis=None)",
        "Softmax is normalised over the whole array, so that the batch sums to 1 instead of each row."),
    normalised_over_array_then_rows=("q * (grad_output - sum(grad_output * q)) with q = softmax(logits, axis=None)",
        "Softmax is normalised over the whole array, but the backward goes row by row."),
    summed_over_wrong_axis=("probs * (grad_output - (grad_output * probs).sum(axis=0))",
        "The dot product runs down the batch; it must run along each row."),
    sum_without_keepdims=("probs * (grad_output - (grad_output * probs).sum(axis=1))",
        "The row's sum lacks keepdims=True: a batch fails, or its rows are mixed; only a single row comes out right."),
    sum_of_squares=("probs * (grad_output - sum(probs * probs))",
        "The sum of the squares of probs is subtracted instead of the dot product of grad_output and probs."),
    sum_of_squares_outside=("grad_output * (probs - sum(probs * probs))",
        "Each row of the Jacobian is reduced to one number, probs minus the sum of squares, before it is multiplied."),
    gradient_of_log_softmax=("grad_output - probs * sum(grad_output)",
        "This is the backward of log-softmax, not of softmax."),
    probs_missing_outside=("grad_output - sum(grad_output * probs)",
        "The difference is not multiplied by probs."),
    probs_missing_inside=("probs * (grad_output - sum(grad_output))",
        "The row's sum is taken of grad_output alone; it must be weighted by probs."),
    mean_for_sum=("probs * (grad_output - mean(grad_output * probs))",
        "The row's mean is subtracted instead of its sum."),
    dot_product_added=("probs * (grad_output + sum(grad_output * probs))",
        "The row's dot product is added; it must be subtracted."),
    arguments_swapped=("grad_output * (probs - sum(probs * grad_output))",
        "The two arguments are swapped: probs is used as the gradient and grad_output as the probabilities."),
    divided_by_batch=("probs * (grad_output - sum(grad_output * probs)) / batch",
        "The result is divided by the batch size, which belongs to a mean loss and is in grad_output already."),
    summed_over_batch=("(probs * (grad_output - sum(grad_output * probs))).sum(axis=0)",
        "The gradient is summed over the batch, like a bias's: each row has its own logits and its own gradient."),
    averaged_over_batch=("(probs * (grad_output - sum(grad_output * probs))).sum(axis=0) / batch",
        "The gradient is averaged over the batch: each row has its own logits and its own gradient."),
    transposed=("(probs * (grad_output - sum(grad_output * probs))).T",
        "The values are right, but the result is transposed, [features, batch]."),
    wrong_sign=("-probs * (grad_output - sum(grad_output * probs))",
        "The result has the opposite sign."),
    scaled=("constant * probs * (grad_output - sum(grad_output * probs))",
        "The result is the right one times a constant.", "factor"),
    single_precision=("the right gradient of the inputs rounded to float32",
        "The computation goes through float32, so that half of float64's digits are lost.",
        "precision", _single_precision),
    exponential_overflows=("q * (grad_output - sum(grad_output * q)) with q = exp(logits) / sum(exp(logits))",
        "The exponentials of large logits overflow to NaN, as the row's maximum is not subtracted first.", "range"),
    maximum_of_array=("q * (grad_output - sum(grad_output * q)) "
        "with q = exp(logits - logits.max()) / sum(exp(logits - logits.max()))",
        "The maximum of the whole array is subtracted, not each row's: a row far below it underflows to NaN.", "range"),
    overwrites_grad_output=("grad_output -= sum(grad_output * probs); grad_output *= probs",
        "The result is right, but it is written over the caller's grad_output, which others may still need.",
        "inputs", _overwrites_grad_output),
)

# Softmax and cross-entropy in one node, the mean over the batch. Right: grad_logits = (probs - targets) / batch
_SOFTMAX_CROSS_ENTROPY = _table("softmax_cross_entropy",
    average_missing=("probs - targets",
        "The loss is a mean over the batch, but its gradient is not divided by the batch size."),
    averaged_twice=("(probs - targets) / batch**2",
        "The gradient is divided by the batch size twice."),
    averaged_over_elements=("(probs - targets) / (batch * features)",
        "The gradient is divided by the number of elements, but the loss is a mean over the rows."),
    wrong_sign=("(targets - probs) / batch",
        "The result has the opposite sign."),
    scaled=("constant * (probs - targets) / batch",
        "The result is the right one times a constant.", "factor"),
    normalised_over_array=("(q - targets) / batch with q = softmax(logits, axis=None)",
        "Softmax is normalised over the whole array, so that the batch sums to 1 instead of each row."),
    softmax_applied_again=("probs * (gradient - sum(gradient * probs)) with gradient = (probs - targets) / batch",
        "The fused gradient already contains softmax's Jacobian, and is multiplied by it once more."),
    diagonal_applied_again=("(probs - targets) * probs * (1 - probs) / batch",
        "The fused gradient already contains softmax's Jacobian, and is multiplied by its diagonal once more."),
    diagonal_only=("-targets * (1 - probs) / batch",
        "The loss's gradient is multiplied by softmax's diagonal alone: a row's other logits have no influence."),
    logits_for_probs=("(logits - targets) / batch",
        "The targets are subtracted from the logits; they must be subtracted from the probabilities."),
    gradient_of_probs=("-targets / probs / batch",
        "The gradient is the one with respect to the probabilities, not to the logits: softmax's Jacobian is missing."),
    gradient_of_targets=("-log(probs) / batch",
        "The gradient is the one with respect to the targets, not to the logits."),
    targets_missing=("probs / batch",
        "The targets are not subtracted."),
    transposed=("((probs - targets) / batch).T",
        "The values are right, but the result is transposed, [features, batch]."),
    summed_over_batch=("(probs - targets).sum(axis=0) / batch",
        "The gradient is summed over the batch, like a bias's."),
    exponential_overflows=("(q - targets) / batch with q = exp(logits) / sum(exp(logits))",
        "The exponentials of large logits overflow to NaN, as the row's maximum is not subtracted first.", "range"),
    maximum_of_array=("(q - targets) / batch "
        "with q = exp(logits - logits.max()) / sum(exp(logits - logits.max()))",
        "The maximum of the whole array is subtracted, not each row's: a row far below it underflows to NaN.", "range"),
)

# Cross-entropy in a node of its own, the mean over the batch. Right: grad_probs = -targets / probs / batch
_CROSS_ENTROPY = _table("cross_entropy",
    fused_gradient_at_loss_node=("(probs - targets) / batch",
        "The gradient is that of softmax and cross-entropy together; softmax's own backward then comes on top of it."),
    fused_gradient_at_loss_node_not_averaged=("probs - targets",
        "The gradient is that of softmax and cross-entropy together, and it is not divided by the batch size either."),
    average_missing=("-targets / probs",
        "The loss is a mean over the batch, but its gradient is not divided by the batch size."),
    averaged_twice=("-targets / probs / batch**2",
        "The gradient is divided by the batch size twice."),
    wrong_sign=("targets / probs / batch",
        "The result has the opposite sign: the loss is minus the logarithm."),
    scaled=("constant * -targets / probs / batch",
        "The result is the right one times a constant.", "factor"),
    targets_missing=("-1 / probs / batch",
        "The targets are left out: only the true class's probability enters the loss."),
    binary_cross_entropy=("(probs - targets) / (probs * (1 - probs)) / batch",
        "The gradient is that of the binary cross-entropy, in which every class is a yes-or-no question of its own."),
    gradient_of_targets=("-log(probs) / batch",
        "The gradient is the one with respect to the targets, not to the probabilities."),
)
# fmt: on

MISTAKES = _SOFTMAX | _SOFTMAX_CROSS_ENTROPY | _CROSS_ENTROPY  # by (operation, name)
