"""A row of numbers worked by hand: what the right gradient is for it, step by step, and what a target gives."""

from typing import Any

import numpy as np

from ..calling.conventions import Convention
from ..process.subject import Outcome, Subject

PROBS = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
GRAD_OUTPUT = np.array([[1.0, 2.0, -1.0], [0.5, -1.0, 2.0]])
LABELS = np.array([1, 0])
TARGETS = np.eye(3)[LABELS]


def worked_row(subject: Subject, convention: Convention, reduction: str) -> list[str]:
    """The first row of a batch of two, in lines: the inputs, the right gradient worked out, the target's own."""
    inputs: dict[str, Any] = {
        "logits": np.log(PROBS),
        "probs": PROBS,
        "log_probs": np.log(PROBS),
        "grad_output": GRAD_OUTPUT,
        "targets": TARGETS,
        "labels": LABELS,
        "upstream": 1.0,
    }
    divisor = 2 if reduction == "mean" else 1
    if convention.operation == "softmax":
        steps = _softmax_steps()
    else:
        steps = (_fused_steps if convention.operation == "softmax_cross_entropy" else _node_steps)(divisor)
    return [*steps, f"yours      {_given(subject.call(convention, inputs))}"]


def fused_explanation() -> list[str]:
    """Why the gradient of softmax and cross-entropy together shows no derivative of softmax, with a worked row."""
    p, t = PROBS[0], TARGETS[0]
    incoming = -t / p + 0.0
    dot = float(incoming @ p)
    products = ", ".join(
        f"{one:g} × ({other:.4g} - {dot:g}) = {one * (other - dot):g}" for one, other in zip(p, incoming, strict=True)
    )
    return [
        "No derivative of softmax is missing here. Cross-entropy sends back g = -targets / probs, and softmax's own",
        "backward makes of it probs * (g - sum(g * probs)) = -targets + probs * sum(targets) = probs - targets, since",
        "the targets of a row sum to 1: the probabilities cancel, and with them the Jacobian.",
        f"in numbers  probs {_row(p)}, targets {_row(t)}: g = {_row(incoming)}, sum(g * probs) = {dot:g}",
        f"            {products}, which is probs - targets",
    ]


def _softmax_steps() -> list[str]:
    p, g = PROBS[0], GRAD_OUTPUT[0]
    dot = float(p @ g)
    products = " + ".join(f"{a:g} × {b:g}" for a, b in zip(g, p, strict=True)).replace("+ -", "- ")
    right = ", ".join(f"{a:g} × ({b:g} - {dot:g}) = {a * (b - dot):g}" for a, b in zip(p, g, strict=True))
    return [
        f"in numbers probs {_row(p)}, grad_output {_row(g)}: their dot product is {products} = {dot:g}",
        f"expected   {right}",
    ]


def _fused_steps(divisor: int) -> list[str]:
    right = ", ".join(
        f"({a:g} - {b:g}) / {divisor} = {(a - b) / divisor:g}" for a, b in zip(PROBS[0], TARGETS[0], strict=True)
    )
    return [f"in numbers probs {_row(PROBS[0])}, targets {_row(TARGETS[0])}, batch {len(PROBS)}", f"expected   {right}"]


def _node_steps(divisor: int) -> list[str]:
    right = ", ".join(
        f"-{b:g} / {a:g} / {divisor} = {-b / a / divisor + 0.0:.4g}" for a, b in zip(PROBS[0], TARGETS[0], strict=True)
    )
    return [f"in numbers probs {_row(PROBS[0])}, targets {_row(TARGETS[0])}, batch {len(PROBS)}", f"expected   {right}"]


def _given(outcome: Outcome) -> str:
    if outcome.failure is not None:
        return outcome.failure.summary
    if outcome.value is None:
        return "nothing"
    if outcome.value.shape == PROBS.shape:
        return ", ".join(f"{one:.4g}" for one in outcome.value[0])
    return f"an array of shape {outcome.value.shape} for inputs of shape {PROBS.shape}"


def _row(values: Any) -> str:
    return "[" + " ".join(f"{value:.4g}" for value in values) + "]"
