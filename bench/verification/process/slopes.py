"""How steep a target's own forward is, whatever it computes, as its backward says and by central differences."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from ...implementations import FloatArray
from ..calling.arrays import arranged
from ..calling.call import Call, Inputs
from ..calling.convention import Convention
from ..calling.graphs import unwrapped

MOVED = ("logits", "probs", "log_probs")  # the roles of what a forward is given, of which one is moved
DIRECTIONS, STEP, SEED = 2, 1e-5, 1
AGREES = 1e-6  # of the slope's terms; central differences with float64's best step are more exact than that


@dataclasses.dataclass(frozen=True)
class Slopes:
    """The slopes of a forward along some directions, as its backward says them, and as central differences have them.

    ``size`` is the sum of the absolute terms of the largest of the first ones: rounding errors are relative to it.
    """

    claimed: tuple[float, ...] = ()
    measured: tuple[float, ...] = ()
    size: float = 0.0


def slopes(call: Call, inputs: Inputs) -> Slopes:
    """The slopes of a target in a convention that has a forward, at inputs [B, N] of float64.

    What the forward gives, an array like its input, a number a row or one number, is multiplied by what comes into the
    backward and added up; the slope is that of this sum. Nothing is told where the forward gives no such numbers, or
    other ones each time.
    """
    role = next((role for role in MOVED if role in call.convention.forward_arguments), "")
    if not role:
        return Slopes()

    def forward(moved: FloatArray) -> npt.NDArray[Any]:
        call.prepare({**inputs, role: moved})
        # A copy: a target may give the same array each time.
        return np.array(unwrapped(call.forward_result), dtype=np.float64)

    here = forward(inputs[role])
    gradient = np.array(call.as_rows(call.prepare(inputs)(), inputs[role].shape))
    weights = _incoming(call.convention, inputs, here)
    if weights is None or gradient.shape != inputs[role].shape or not np.array_equal(here, forward(inputs[role])):
        return Slopes()
    claimed, measured, sizes = [], [], []
    for direction in np.random.default_rng(SEED).standard_normal((DIRECTIONS, *gradient.shape)):
        ahead, behind = (forward(inputs[role] + sign * STEP * direction) for sign in (1.0, -1.0))
        claimed.append(float((gradient * direction).sum()))
        measured.append(float(((ahead - behind) * weights).sum()) / (2.0 * STEP))
        sizes.append(float(np.abs(gradient * direction).sum()))
    return Slopes(tuple(claimed), tuple(measured), max(sizes))


def _incoming(convention: Convention, inputs: Inputs, given: npt.NDArray[Any]) -> Any:
    """What a backward multiplies the derivative of each number by that its forward gave; None if that is not known."""
    if "row_upstream" in convention.arguments:
        return np.full(given.shape, inputs["upstream"]) if given.size == len(inputs["logits"]) else None
    if given.size == 1:
        return inputs["upstream"] if convention.takes_upstream else 1.0
    if "grad_output" not in convention.arguments or given.size != inputs["grad_output"].size:
        return None
    return arranged(inputs["grad_output"], convention.layout).reshape(given.shape)
