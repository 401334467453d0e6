"""What a forward is, by what it computes: softmax, another function, or a loss."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ...implementations import FloatArray
from ...implementations.softmax import log_softmax, softmax
from .trials import Trial

CLOSE = 1e-6
# Close relatives of softmax: what would be a mistake of softmax may be right for them.
_RELATIVES = r"softmin|sparsemax|entmax|hardmax|softplus|d?sigmoid"
_OTHER_NAMES = (
    rf"{_RELATIVES}|accuracy|perplexity|hinge|svm|focal|triplet|contrastive|info_?nce|dice|huber|kl"
    r"|gelu|relu|elu|selu|silu|swish|mish|tanh|layernorm|batchnorm|norm|logsumexp"
    r"|dropout|gumbel|sampl\w*|argmax|train\w*|fit|update\w*|optimi[sz]\w*|conv\w*|lstm|gru|embedding"
)
SOFTMAX, LOG_SOFTMAX, LOSS = "softmax", "log-softmax", "a loss"
_FUNCTIONS: dict[str, Callable[[FloatArray], Any]] = {
    SOFTMAX: softmax,
    LOG_SOFTMAX: log_softmax,
    "the sigmoid function": lambda logits: 1.0 / (1.0 + np.exp(-logits)),
    "ReLU": lambda logits: np.maximum(logits, 0.0),
    "tanh": np.tanh,
    "exp without a sum": np.exp,
    "the derivative of the sigmoid function": lambda logits: np.exp(-logits) / (1.0 + np.exp(-logits)) ** 2,
    "the derivative of ReLU": lambda logits: logits > 0,
    "the derivative of tanh": lambda logits: 1.0 - np.tanh(logits) ** 2,
    "the identity": lambda logits: logits,
}


def forward_named(forward: FloatArray | None, trial: Trial) -> str:
    """The name of what a forward computed from a trial's logits; empty if it is none that has a name here."""
    if forward is None or not trial.batch:
        return ""
    logits = trial.inputs["logits"]
    if forward.size == 1 and trial.batch > 1:
        return LOSS if _is_loss(float(forward.reshape(())), trial) else ""
    for array in _oriented(forward, logits.shape):
        for name, function in _FUNCTIONS.items():
            if np.allclose(array, function(logits), rtol=CLOSE, atol=CLOSE):
                return name
    return ""


def temperature_of(forward: FloatArray | None, trial: Trial) -> float:
    """The temperature of a forward that is softmax(logits / temperature); 1 if it is anything else."""
    logits = trial.inputs["logits"]
    if forward is None or forward.shape != logits.shape or min(logits.shape) < 2 or not (forward > 0).all():
        return 1.0
    slope = float(np.log(forward[0, 0] / forward[0, 1]) / (logits[0, 0] - logits[0, 1]))
    if abs(slope - 1.0) < CLOSE:
        return 1.0
    if slope <= 0 or not np.isfinite(slope) or not np.allclose(forward, softmax(logits * slope), rtol=CLOSE, atol=0):
        return 1.0
    return float(f"{1.0 / slope:.12g}")


def named_otherwise(name: str) -> str:
    """What a function is whose name is that of something else, in words; empty if it is not."""
    words = _words(name)
    found = [word for word in words if re.fullmatch(_OTHER_NAMES, word)]
    if "entropy" in words and "cross" not in words:
        found.append("entropy")
    return f"something else by its name ({found[0]}), and no known mistake of softmax" if found else ""


def named_as_relative(name: str) -> str:
    """What a function is whose name is that of a close relative of softmax, in words; empty if it is not."""
    found = [word for word in _words(name) if re.fullmatch(_RELATIVES, word)]
    return f"something else by its name ({found[0]})" if found else ""


def _words(name: str) -> list[str]:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_")


def is_squared_error(value: FloatArray | None, trial: Trial) -> bool:
    """Whether a number is the squared error of the logits or the probabilities: a sum or any usual mean, or half of it.

    Its gradient, the difference to the targets, has the formula of softmax and cross-entropy together.
    """
    if value is None or value.size != 1 or trial.batch < 2:
        return False
    batch, features = trial.inputs["targets"].shape
    found = float(value.reshape(()))
    sums = [float(((trial.inputs[name] - trial.inputs["targets"]) ** 2).sum()) for name in ("logits", "probs")]
    return any(
        abs(found * size * half - total) <= CLOSE * total
        for total in sums
        for size in (1, batch, features, batch * features)
        for half in (1, 2)
    )


def is_of_binary(value: FloatArray | None, trial: Trial) -> bool:
    """Whether a result is the gradient of a binary cross-entropy of each class: a sum, or any usual mean."""
    probs, targets = trial.inputs["probs"], trial.inputs["targets"]
    if value is None or value.shape != probs.shape or min(probs.shape) < 2:
        return False
    right = (probs - targets) / (probs * (1.0 - probs))
    batch, features = probs.shape
    return any(np.allclose(value * size, right, rtol=CLOSE, atol=CLOSE) for size in (1, batch, features, value.size))


def _is_loss(value: float, trial: Trial) -> bool:
    """Whether a number is the cross-entropy of the trial, its mean or its sum over the batch."""
    losses = -np.log((trial.inputs["probs"] * trial.inputs["targets"]).sum(axis=1))
    return any(abs(value - right) <= 1e-3 * abs(right) for right in (losses.mean(), losses.sum()))


def _oriented(array: FloatArray, shape: tuple[int, ...]) -> list[FloatArray]:
    """The array as rows, from every layout in which it may have come."""
    if array.size != shape[0] * shape[1]:
        return []
    return [array.T] if array.shape == shape[::-1] != shape else [array.reshape(shape)]
