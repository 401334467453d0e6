"""Softmax followed by cross-entropy, the mean over the batch, in NumPy: as one node and as two.

With probs p = softmax(logits), one-hot targets t (or any whose rows sum to 1) and integer labels y, t[i, y[i]] = 1,

    loss = -1/B sum_i sum_k t[i, k] log p[i, k] = -1/B sum_i log p[i, y[i]]
    d loss / d probs  = -t / p / B                      what a separate cross-entropy node passes to softmax
    d loss / d logits = (p - t) / B                     what softmax's backward makes of it

The last line holds because softmax's backward of g = -t / p / B is p * (g - sum(g * p)), and sum(g * p) = -1/B. So it
includes the derivative of softmax. Two nodes get the same result, but they divide by p and multiply by it again, which
fails if p has underflowed to 0.

Every implementation here is registered in three operations: its forward, (logits, targets) -> (loss, residual); its
backward, (residual, targets) -> grad_logits; and both, (logits, targets) -> (loss, grad_logits). The residual is what
the forward keeps for the backward; its name says what it is: probs or log_probs, [B, N]. To add an implementation, add
a decorated backward, and a forward if none of those here fits.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from . import FloatArray, Formula, Function, Implementation, described, enlist
from .softmax import explicit_jacobian, softmax, vectorized

BOTH = "softmax_cross_entropy"
FORWARD, BACKWARD = f"{BOTH}_forward", f"{BOTH}_backward"

Labels = npt.NDArray[np.integer]


def forward(
    *, workspace: str, traffic: str, source: str, divides_by_probs: bool = False
) -> Callable[[Function], Implementation]:
    """Decorator of a forward: an implementation that `through` registers under the name of each of its backwards."""

    def describe(function: Function) -> Implementation:
        return described(
            function,
            FORWARD,
            workspace=workspace,
            traffic=traffic,
            source=source,
            divides_by_probs=divides_by_probs,
        )

    return describe


def through(
    ahead: Implementation,
    *,
    workspace: str,
    traffic: str,
    source: str,
    divides_by_probs: bool = False,
    formerly: str = "",
) -> Callable[[Function], Function]:
    """Decorator of a backward: registers it, its forward ``ahead``, and both together, under the backward's name.

    The formulas of both follow: the forward's residual, one [B, N] array, is in memory while the backward runs.
    """

    def register(backward: Function) -> Function:
        back = described(
            backward,
            BACKWARD,
            workspace=workspace,
            traffic=traffic,
            source=source,
            divides_by_probs=divides_by_probs,
            formerly=formerly,
        )

        def both(logits: FloatArray, targets: npt.NDArray[np.generic]) -> tuple[np.floating, FloatArray]:
            loss, residual = ahead.function(logits, targets)
            return loss, backward(residual, targets)

        enlist(
            dataclasses.replace(
                back,
                operation=BOTH,
                function=both,
                workspace=Formula(f"max({ahead.workspace}, B*N*s + {back.workspace})"),
                traffic=Formula(f"{ahead.traffic} + {back.traffic}"),
                arguments=ahead.arguments,
            )
        )
        enlist(dataclasses.replace(ahead, name=back.name, formerly=formerly))
        enlist(back)
        return backward

    return register


@forward(
    workspace="3*B*N*s + B*N + B*s + 1100",
    traffic="14*B*N*s",
    source="log-sum-exp with the row's maximum subtracted",
)
def shifted_forward(logits: FloatArray, targets: FloatArray) -> tuple[np.floating, FloatArray]:
    """Loss by log(sum(exp)), which takes no logarithm of a probability; keeps probs. One-hot targets.

    Raises:
        ValueError: the targets do not fit the logits or do not sum to 1, or a logit is NaN.
    """
    check_targets(logits, targets)
    shifted, probs, sums = _exponentials(logits)
    probs /= sums  # [B, N]
    return _mean(np.log(sums[:, 0]) - _picked(shifted, targets), logits), probs


@forward(
    workspace="2*B*N*s + B*s + U + 3100",
    traffic="10*B*N*s",
    source="log-sum-exp with the row's maximum subtracted",
)
def shifted_forward_of_labels(logits: FloatArray, labels: Labels) -> tuple[np.floating, FloatArray]:
    """Loss by log(sum(exp)), with the target's logit picked by its label; keeps probs. Integer targets.

    Raises:
        ValueError: the labels do not fit the logits or are out of range, or a logit is NaN.
    """
    check_labels(logits, labels)
    shifted, probs, sums = _exponentials(logits)
    probs /= sums
    picked = shifted[np.arange(len(labels)), labels]  # [B]
    return _mean(np.log(sums[:, 0]) - picked, logits), probs


@forward(
    workspace="max(3*B*N*s if B*N*s < 262144 else 0, 2*B*N*s + B*s + U + 1100)",
    traffic="15*B*N*s",
    source="the question 'How to apply the gradient of softmax in backprop', its loss node",
    divides_by_probs=True,
)
def separate_nodes(logits: FloatArray, targets: FloatArray) -> tuple[np.floating, FloatArray]:
    """Softmax, then the logarithm of all its probabilities; keeps probs. One-hot targets.

    Raises:
        ValueError: the targets do not fit the logits or do not sum to 1, or a logit is NaN.
    """
    check_targets(logits, targets)
    probs = softmax(logits)
    return _mean(-(targets * np.log(probs)).sum(axis=1), logits), probs


@forward(
    workspace="2*B*N*s + B*N + B*s + 1100",
    traffic="13*B*N*s",
    source="log-softmax and negative log-likelihood, as most frameworks compute it",
)
def log_softmax_forward(logits: FloatArray, targets: FloatArray) -> tuple[np.floating, FloatArray]:
    """Loss from log-softmax, which is logits minus log(sum(exp)); keeps log_probs. One-hot targets.

    Raises:
        ValueError: the targets do not fit the logits or do not sum to 1, or a logit is NaN.
    """
    check_targets(logits, targets)
    log_probs, exponentials, sums = _exponentials(logits)
    del exponentials
    log_probs -= np.log(sums)  # [B, N]
    return _mean(-_picked(log_probs, targets), logits), log_probs


@through(
    shifted_forward,
    workspace="B*N*s",
    traffic="5*B*N*s",
    source="the question's homework, SoftmaxLoss",
    formerly="fused",
)
def one_node(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """One node: probs minus targets over batch."""
    grad_logits: FloatArray = probs - targets  # [B, N]
    grad_logits /= len(probs)
    return grad_logits


@through(
    shifted_forward_of_labels,
    workspace="B*N*s + 12*B + 3100",
    traffic="3*B*N*s",
    source="the homework's formula without its array of targets",
    formerly="fused_integer_targets",
)
def one_node_integer_targets(probs: FloatArray, labels: Labels) -> FloatArray:
    """One node with integer targets: probs over batch, 1 / batch subtracted at each row's label."""
    batch = len(probs)
    grad_logits: FloatArray = probs / batch  # [B, N]
    grad_logits[np.arange(batch), labels] -= 1.0 / batch
    return grad_logits


@through(
    separate_nodes,
    workspace="B*N*s + max(2*B*N*s if B*N*s < 262144 else 0, B*N*s + B*s + U + 1100)",
    traffic="16*B*N*s",
    source="the chain rule node by node; the question's own network, made right",
    divides_by_probs=True,
)
def two_nodes_vectorized(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """Two nodes: the loss node's gradient, -targets / probs / batch, then softmax's vectorized backward."""
    grad_logits: FloatArray = vectorized(probs, _loss_node(probs, targets))
    return grad_logits


@through(
    separate_nodes,
    workspace="B*N*s + N*N*s + 2*B*N*N*s + min(8192, B*N*N)*s",
    traffic="7*B*N*s + N*N*s + 4*B*N*N*s",
    source="the chain rule node by node, with the N x N matrices that the question asks about",
    divides_by_probs=True,
)
def two_nodes_jacobian(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """Two nodes: the loss node's gradient, -targets / probs / batch, then softmax's explicit Jacobian."""
    grad_logits: FloatArray = explicit_jacobian(probs, _loss_node(probs, targets))
    return grad_logits


@through(
    log_softmax_forward,
    workspace="2*B*N*s + B*s + U + 1100",
    traffic="13*B*N*s",
    source="derivative of log-softmax, 1[j = k] - p[k]",
)
def log_softmax(log_probs: FloatArray, targets: FloatArray) -> FloatArray:
    """Two nodes without a division: negative log-likelihood, then log-softmax's g - exp(log_probs) * sum(g)."""
    grad_log_probs = -targets / len(targets)  # [B, N]
    grad_logits: FloatArray = np.exp(log_probs)
    grad_logits *= grad_log_probs.sum(axis=1, keepdims=True)  # [B, N] * [B, 1]
    np.subtract(grad_log_probs, grad_logits, out=grad_logits)
    return grad_logits


def check_targets(logits: FloatArray, targets: npt.NDArray[np.generic]) -> None:
    """Refuse one-hot targets that do not fit the logits.

    Raises:
        ValueError: logits or targets are not [B, N], or a row of targets does not sum to 1.
    """
    if logits.ndim != 2 or targets.shape != logits.shape:
        raise ValueError(f"targets of shape {targets.shape} for {logits.shape}: both must be [batch, features]")
    sums = targets.sum(axis=1)
    wrong = ~(np.abs(sums - 1.0) <= np.sqrt(np.finfo(logits.dtype).eps))
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"targets: row {row} sums to {sums[row]:g}, and one-hot rows sum to 1")


def check_labels(logits: FloatArray, labels: Labels) -> None:
    """Refuse integer targets that do not fit the logits.

    Raises:
        ValueError: logits are not [B, N], labels are not B integers, or a label is not in 0 ... N - 1.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"labels of shape {labels.shape} for {logits.shape}: must be [batch] for [batch, features]")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels are {labels.dtype}, and must be integers")
    wrong = (labels < 0) | (labels >= logits.shape[1])
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"labels: {labels[row]} in row {row}, and there are features 0 to {logits.shape[1] - 1}")


def _mean(losses: FloatArray, logits: FloatArray) -> np.floating:
    """The mean over the batch; a NaN among the logits is an error."""
    loss: np.floating = losses.mean()
    # The logits are searched only if the loss is NaN, so a call on good ones costs nothing more.
    if np.isnan(loss) and np.isnan(logits).any():
        row, column = np.argwhere(np.isnan(logits))[0]
        raise ValueError(f"logits: NaN in row {row}, column {column}")
    return loss


def _exponentials(logits: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Logits minus the row's maximum [B, N], their exponentials [B, N], and each row's sum of exponentials [B, 1]."""
    shifted: FloatArray = logits - logits.max(axis=1, keepdims=True)
    exponentials: FloatArray = np.exp(shifted)
    return shifted, exponentials, exponentials.sum(axis=1, keepdims=True)


def _picked(values: FloatArray, targets: FloatArray) -> FloatArray:
    """Each row's value at its target, sum_k t[k] * values[k]: [B]. A value may be -inf if its target is 0."""
    return np.vecdot(targets, np.where(targets != 0, values, 0.0))  # type: ignore[no-any-return]  # 0 * -inf is NaN


def _loss_node(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """The gradient that a separate cross-entropy node passes back, -t / p / B: [B, N]."""
    grad_probs: FloatArray = -targets / probs
    grad_probs /= len(probs)
    return grad_probs
