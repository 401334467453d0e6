"""Properties of every right gradient, tested on a wrong one that makes no known mistake."""

from typing import Any

import numpy as np

from ...implementations import FloatArray
from ..calling.attention import SUMS
from ..calling.convention import Convention
from ..process.subject import Subject
from .trials import PROBING, trials

CLOSE = 1e-9


def broken_invariants(subject: Subject, convention: Convention) -> list[str]:
    """The properties of a right gradient of this operation that the target's lacks, each in a sentence."""
    inputs = dict(trials(convention.operation, "mean", PROBING)[0].inputs)
    value = _value(subject, convention, inputs)
    if value is None:
        return []
    found: list[str] = []
    if convention.operation in ("softmax", "softmax_cross_entropy") and not _near(sums := value.sum(axis=1), 0.0):
        found.append(
            "adding a constant to all logits of a row does not change softmax, so each row of grad_logits sums to 0; "
            f"your first row sums to {sums[0]:.6g}"
        )
    rows = ("logits", "probs", "log_probs", "grad_output", "targets", "labels", *SUMS)
    other = _value(subject, convention, inputs | {name: _first_row_changed(inputs[name]) for name in rows})
    if other is not None and not _near(other[1:], value[1:]):
        found.append("rows are independent of each other; your other rows change when the inputs of the first row do")
    if convention.operation == "softmax":
        found += _broken_in_grad_output(subject, convention, inputs, value)
    return found


def _broken_in_grad_output(
    subject: Subject, convention: Convention, inputs: dict[str, Any], value: FloatArray
) -> list[str]:
    found = []
    grad_output = inputs["grad_output"]
    doubled = _value(subject, convention, inputs | {"grad_output": 2.0 * grad_output})
    if doubled is not None and not _near(doubled, 2.0 * value):
        found.append("the gradient is linear in grad_output; yours does not double when grad_output doubles")
    shifted = _value(subject, convention, inputs | {"grad_output": grad_output + 1.0})
    if shifted is not None and not _near(shifted, value):
        found.append("probs sum to 1, so adding a constant to grad_output changes nothing; it changes yours")
    return found


def _value(subject: Subject, convention: Convention, inputs: dict[str, Any]) -> FloatArray | None:
    value = subject.call(convention, inputs).value
    return value if value is not None and value.shape == inputs["probs"].shape and np.isfinite(value).all() else None


def _first_row_changed(array: FloatArray) -> FloatArray:
    """The array with its first row replaced by its second."""
    changed = array.copy()
    changed[0] = changed[1]
    return changed


def _near(left: FloatArray, right: FloatArray | float) -> bool:
    return bool(np.allclose(left, right, rtol=CLOSE, atol=CLOSE))
