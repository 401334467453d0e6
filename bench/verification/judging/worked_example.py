"""One row worked by hand: its right gradient, step by step, and what the target gives for it."""

from typing import Any

import numpy as np

from ..calling.attention import log_sums_of
from ..calling.convention import Convention
from ..process.subject import Outcome, Subject
from .trials import ASCENT

PROBS = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
GRAD_OUTPUT = np.array([[1.0, 2.0, -1.0], [0.5, -1.0, 2.0]])
LABELS = np.array([1, 0])
TARGETS = np.eye(3)[LABELS]


def worked_row(subject: Subject, convention: Convention, reduction: str) -> list[str]:
    """Lines about the first row of a batch of two: the inputs, the right gradient step by step, and the target's."""
    inputs: dict[str, Any] = {
        "logits": np.log(PROBS),
        "probs": PROBS,
        "log_probs": np.log(PROBS),
        "grad_output": GRAD_OUTPUT,
        "targets": TARGETS,
        "labels": LABELS,
        "upstream": 1.0,
        **log_sums_of(np.log(PROBS)),
    }
    divisor = 2 if reduction == "mean" else 1
    if convention.operation in ("log_softmax", "jacobian") or convention.temperature != 1.0 or reduction == ASCENT:
        return []
    if convention.operation == "softmax":
        steps = _softmax_steps()
    elif convention.operation == "softmax_cross_entropy":
        steps = _one_node_steps(divisor)
    else:
        steps = _loss_node_steps(divisor)
    return [*steps, f"yours      {_shown(subject.call(convention, inputs))}"]


def one_node_explanation() -> list[str]:
    """Why the gradient of softmax and cross-entropy in one node shows no derivative of softmax, with an example."""
    p, t = PROBS[0], TARGETS[0]
    incoming = -t / p + 0.0  # [N]; + 0.0 turns -0 into 0
    dot = float(incoming @ p)
    products = ", ".join(
        f"{prob:g} × ({grad:.4g} - {dot:g}) = {prob * (grad - dot):g}" for prob, grad in zip(p, incoming, strict=True)
    )
    return [
        "No derivative of softmax is missing here. The gradient of cross-entropy is g = -targets / probs. The backward",
        "of softmax turns it into probs * (g - sum(g * probs)) = -targets + probs * sum(targets) = probs - targets,",
        "because the targets of a row sum to 1: the probabilities cancel, and the Jacobian with them.",
        f"in numbers  probs {_row(p)}, targets {_row(t)}: g = {_row(incoming)}, sum(g * probs) = {dot:g}",
        f"            {products}, which is probs - targets",
    ]


def _softmax_steps() -> list[str]:
    p, g = PROBS[0], GRAD_OUTPUT[0]
    dot = float(p @ g)
    products = " + ".join(f"{grad:g} × {prob:g}" for grad, prob in zip(g, p, strict=True)).replace("+ -", "- ")
    right = ", ".join(
        f"{prob:g} × ({grad:g} - {dot:g}) = {prob * (grad - dot):g}" for prob, grad in zip(p, g, strict=True)
    )
    return [
        f"in numbers probs {_row(p)}, grad_output {_row(g)}: their dot product is {products} = {dot:g}",
        f"expected   {right}",
    ]


def _one_node_steps(divisor: int) -> list[str]:
    right = ", ".join(
        f"({prob:g} - {target:g}) / {divisor} = {(prob - target) / divisor:g}"
        for prob, target in zip(PROBS[0], TARGETS[0], strict=True)
    )
    return [_loss_inputs(), f"expected   {right}"]


def _loss_node_steps(divisor: int) -> list[str]:
    right = ", ".join(
        f"-{target:g} / {prob:g} / {divisor} = {-target / prob / divisor + 0.0:.4g}"
        for prob, target in zip(PROBS[0], TARGETS[0], strict=True)
    )
    return [_loss_inputs(), f"expected   {right}"]


def _loss_inputs() -> str:
    return f"in numbers probs {_row(PROBS[0])}, targets {_row(TARGETS[0])}, batch {len(PROBS)}"


def _shown(outcome: Outcome) -> str:
    if outcome.failure is not None:
        return outcome.failure.summary
    if outcome.value is None:
        return "nothing"
    if outcome.value.shape == PROBS.shape:
        return ", ".join(f"{value:.4g}" for value in outcome.value[0])
    return f"an array of shape {outcome.value.shape} for inputs of shape {PROBS.shape}"


def _row(values: Any) -> str:
    return "[" + " ".join(f"{value:.4g}" for value in values) + "]"
