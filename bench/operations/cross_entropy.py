"""Softmax and cross-entropy together, the mean loss over the batch: forward, backward, and both.

The reference starts from the logits. A right result may therefore be off by the error of a rounded exponential: one
ulp of a probability for each unit of the distance of its logit from the row's maximum.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..implementations import FloatArray, is_installed
from ..implementations.cross_entropy import BACKWARD, BOTH, FORWARD
from ..implementations.softmax import log_softmax
from . import Operation, cases, oracle
from .cases import Case
from .oracle import STEP, TOLERANCES, Reference, Verdict, random_direction
from .precision import rounded, row_chunks, wide_float


@dataclass(frozen=True)
class LossInputs:
    """A case's arrays, in its dtype except for the labels."""

    logits: FloatArray  # [B, N]
    probs: FloatArray  # [B, N]
    log_probs: FloatArray  # [B, N]
    targets: FloatArray  # [B, N], one-hot
    labels: npt.NDArray[np.intp]  # [B], the same targets as integers


@dataclass(frozen=True)
class LossReference:
    """What a right result is."""

    loss: float  # the mean over the batch
    loss_unit: float  # one ulp of the loss's terms
    gradient: Reference


def make_inputs(case: Case, seed: int) -> LossInputs:
    """The inputs of a case; its logits are those of softmax at the same shape, dtype and distribution.

    Labels are drawn from the probabilities, as if the network were right about how sure it is. So no label has a
    probability of 0, at which some implementations fail; the accuracy study measures that.
    """
    made = cases.make_inputs(case, seed)
    noise = np.random.default_rng([seed, case.batch, case.features]).gumbel(size=made.logits.shape)
    labels = (made.logits + noise).argmax(axis=1)  # the Gumbel-max method: a draw from softmax(logits)
    return with_labels(made.logits, made.probs, labels)


def with_labels(logits: FloatArray, probs: FloatArray, labels: npt.NDArray[np.intp]) -> LossInputs:
    """The inputs with the given logits [B, N], their probs [B, N] and labels [B]."""
    targets = np.zeros_like(logits)
    targets[np.arange(len(labels)), labels] = 1.0
    return LossInputs(logits, probs, log_softmax(logits), targets, labels)


def make_reference(inputs: LossInputs, seed: int, *, ask_pytorch: bool = True) -> LossReference:
    """The loss and its gradient from the logits in higher precision, and the gradient's two witnesses.

    The slope is that of each row's share of the mean loss, along a direction drawn from ``seed``. If NumPy has no
    float wider than float64, the reference for float64 is exact to a few ulp of the terms.
    """
    logits, labels = inputs.logits, inputs.labels
    batch, wide, eps = len(logits), wide_float(logits.dtype), np.finfo(logits.dtype).eps
    expected, remainder, unit = np.empty_like(logits), np.empty_like(logits), np.empty_like(logits)
    losses, loss_units = np.empty(batch), np.empty(batch)
    for chunk in row_chunks(logits.shape):
        shifted, probs, log_sums = wide_softmax(logits[chunk], wide)
        targets = inputs.targets[chunk]
        distance = np.where(np.isfinite(shifted), -shifted, 0.0)
        terms = (probs * (1.0 + distance) + targets) / batch
        exact = exact_gradient(probs, targets, batch)
        expected[chunk], remainder[chunk], unit[chunk] = rounded(exact, terms * eps, logits.dtype, wide)
        picked = shifted[np.arange(len(shifted)), labels[chunk]]
        losses[chunk] = log_sums - picked
        loss_units[chunk] = 1.0 + log_sums - picked
    direction = random_direction(logits.shape, seed)
    gradient = Reference(
        rows=slice(None),
        expected=expected,
        remainder=remainder,
        unit=unit,
        direction=direction,
        slope=_central_difference(logits, labels, direction),
        autograd=pytorch_loss(logits, labels)[1] if ask_pytorch and is_installed("torch") else None,
        grad_scale=np.full(batch, 1.0 / batch),
    )
    return LossReference(float(losses.mean()), float(loss_units.mean() * eps), gradient)


def judge_forward(result: object, reference: LossReference) -> Verdict:
    """The verdict on (loss, residual): only the loss is judged; a wrong residual shows when a backward uses it."""
    loss = result[0] if isinstance(result, tuple) and len(result) == 2 else result
    return _judge_loss(loss, reference)


def judge_backward(result: object, reference: LossReference) -> Verdict:
    """The verdict on grad_logits."""
    return oracle.judge(result, reference.gradient)


def judge_both(result: object, reference: LossReference) -> Verdict:
    """The verdict on (loss, grad_logits): the worse of the verdicts on each."""
    if not isinstance(result, tuple) or len(result) != 2:
        return Verdict(False, np.nan, f"returned {type(result).__name__}, expected (loss, grad_logits)")
    verdicts = _judge_loss(result[0], reference), judge_backward(result[1], reference)
    wrong = next((verdict for verdict in verdicts if not verdict.right), None)
    return wrong or Verdict(True, max(verdict.max_error_ulp for verdict in verdicts))


def _judge_loss(loss: object, reference: LossReference) -> Verdict:
    if np.ndim(loss) != 0 or not isinstance(loss, float | np.floating):  # type: ignore[arg-type]
        return Verdict(False, np.nan, f"loss is {type(loss).__name__}, expected one float")
    error_ulp = abs(float(loss) - reference.loss) / reference.loss_unit
    allowed = TOLERANCES[str(reference.gradient.expected.dtype)].terms_ulp
    if not error_ulp <= allowed:
        return Verdict(
            False,
            np.inf if np.isnan(error_ulp) else error_ulp,
            f"loss wrong by {error_ulp:.3g} ulp of its terms (allowed {allowed:g}): "
            f"got {float(loss):.9g}, expected {reference.loss:.9g}",
        )
    return Verdict(True, error_ulp)


def wide_softmax(logits: FloatArray, wide: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Evaluated in the type ``wide``: logits minus the row's maximum [B, N], softmax [B, N], and log(sum(exp)) [B]."""
    shifted: FloatArray = logits.astype(wide)
    shifted -= shifted.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    return shifted, exponentials / sums, np.log(sums[:, 0])


def exact_gradient(probs: Any, targets: Any, divisor: float) -> Any:
    """The loss's gradient (p - t) / divisor from wide probs and targets, [B, N]; a mean loss divides by the batch."""
    return (probs - targets) / divisor


def _central_difference(
    logits: FloatArray, labels: npt.NDArray[np.intp], direction: npt.NDArray[np.int8]
) -> FloatArray:
    """(f(z + hu) - f(z - hu)) / 2h of each row's f(z) = -log softmax(z)[y] / B: [B]."""
    slopes = np.empty(len(logits))
    for chunk in row_chunks(logits.shape):
        shifted = logits[chunk] - logits[chunk].max(axis=1, keepdims=True)
        offset = STEP * direction[chunk]
        ahead, behind = (np.log(np.exp(shifted + sign * offset).sum(axis=1)) for sign in (1.0, -1.0))
        # The label's own logit adds a slope of exactly -u[y]: subtracted here, so that it is not rounded with the rest.
        at_label = direction[chunk][np.arange(len(shifted)), labels[chunk]]
        slopes[chunk] = ((ahead - behind) / (2 * STEP) - at_label) / len(logits)
    return slopes


def pytorch_loss(logits: FloatArray, labels: npt.NDArray[np.intp]) -> tuple[np.floating[Any], FloatArray]:
    """The mean loss and its gradient [B, N] by PyTorch's own cross_entropy and autograd."""
    import torch  # noqa: PLC0415 - an extra, and slow to import

    leaf = torch.from_numpy(logits).requires_grad_()
    loss = torch.nn.functional.cross_entropy(leaf, torch.from_numpy(labels))
    loss.backward()
    return loss.detach().numpy()[()], leaf.grad.numpy()


OPERATIONS = tuple(
    Operation(
        name=name,
        title=title,
        label=name.removeprefix(f"{BOTH}_") if name != BOTH else "both",
        baseline="two_nodes_jacobian",
        references=("two_nodes_vectorized", "one_node"),
        arrays_moved=2,
        checked_shapes=shapes,
        checked_alone=shapes,
        make_inputs=make_inputs,
        make_reference=make_reference,
        judge=judge,
    )
    for name, title, shapes, judge in (
        (BOTH, "softmax and cross-entropy, forward and backward", ((32, 10),), judge_both),
        (FORWARD, "softmax and cross-entropy, forward", ((32, 512),), judge_forward),
        (BACKWARD, "softmax and cross-entropy, backward", ((32, 512),), judge_backward),
    )
)
