"""The check of a block's results: inputs that nobody can foresee, and the right gradients, worked out afterwards."""

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from ...implementations import FloatArray
from ...implementations.softmax import log_softmax, softmax
from ...instruments.bandwidth import FASTEST_CACHE_BYTES_PER_S
from ...operations.cases import Case, make_inputs
from ...operations.oracle import EXACT_ITEMS
from ...operations.precision import wide_type
from ...units import quantity
from ..calling.attention import SUMS, log_sums_of
from ..calling.call import Inputs
from ..calling.convention import Convention
from ..calling.roles import LOG_LOSS_GRADIENT, LOSS_GRADIENT, is_loss
from ..process.handover import Handover
from .limits import allowed_ulp
from .trials import ASCENT, UPSTREAM, Trial, loss_gradient, right_gradient

CHECKED_ITEMS = 1 << 17  # of the results of a block, in rows of every call that are drawn when the results are there
ARRAYS_MOVED = 3  # two are read and one is written


@dataclass(frozen=True)
class Checked:
    """What is wrong with a block, in words that follow 'it', and the largest error of its results in ulp of the terms.

    ``wrong`` is about results; ``odd`` is about how they come, while they are right.
    """

    wrong: str
    odd: tuple[str, ...]
    max_error_ulp: float

    @property
    def complaints(self) -> tuple[str, ...]:
        """All that is wrong."""
        return (self.wrong, *self.odd) if self.wrong else self.odd


def fresh_inputs(convention: Convention, case: Case, count: int) -> dict[str, Any]:
    """Inputs that nobody can foresee, of so many calls one below another: arrays [count * B, N] by role."""
    rows = Case("softmax", "", count * case.batch, case.features, case.dtype, case.logits)
    made = make_inputs(rows, secrets.randbits(63))
    labels = np.random.default_rng(secrets.randbits(63)).integers(0, case.features, size=rows.batch)
    labels[:: max(1, case.batch)] = case.features - 1  # in each call: see the trials
    drawn: dict[str, Any] = {"logits": made.logits, "probs": made.probs, "grad_output": made.grad_output}
    drawn |= {"labels": labels, "upstream": UPSTREAM}
    if is_loss(convention.operation) or "targets" in convention.roles:
        drawn["targets"] = np.zeros_like(made.probs)
        drawn["targets"][np.arange(rows.batch), labels] = 1.0
        drawn[LOSS_GRADIENT] = loss_gradient(made.probs, drawn["targets"])
        drawn[LOG_LOSS_GRADIENT] = -drawn["targets"]
    if "log_probs" in convention.roles:
        drawn["log_probs"] = log_softmax(made.logits)
    if convention.roles.intersection(SUMS):
        drawn |= log_sums_of(made.logits)
    if convention.temperature != 1.0:
        drawn["probs"] = softmax(made.logits / made.logits.dtype.type(convention.temperature))
    return drawn


def split(drawn: Inputs, count: int) -> list[dict[str, Any]]:
    """The inputs of each call."""
    batch = len(drawn["labels"]) // count
    return [_rows(drawn, slice(batch * call, batch * (call + 1))) for call in range(count)]


def check(
    handover: Handover, convention: Convention, case: Case, trials: Sequence[Inputs], *, inexact: bool
) -> Checked:
    """What is wrong with a block of the given inputs; ``inexact``: the target is right to fewer digits than usual."""
    odd = list(handover.oddities)
    if handover.overwritten:
        odd.append(f"overwrites its input: {', '.join(handover.overwritten)}")
    wrong, error_ulp = _wrong(handover, convention, case, trials, inexact=inexact)
    calls, claimed_s = len(trials), math.fsum(handover.claimed_s)
    if not handover.peaks and len(handover.claimed_s) != calls:
        odd.append("does not say how long each call took")
    floor_s = ARRAYS_MOVED * case.array_bytes / FASTEST_CACHE_BYTES_PER_S
    if not handover.peaks and not claimed_s >= floor_s * calls:
        odd.append(
            f"says that a call took {quantity(claimed_s / calls, 's')}, "
            f"and moving the arrays takes {quantity(floor_s, 's')} at the least"
        )
    return Checked(wrong, tuple(odd), error_ulp)


def _wrong(
    handover: Handover, convention: Convention, case: Case, trials: Sequence[Inputs], *, inexact: bool
) -> tuple[str, float]:
    """What is wrong with the results, compared with gradients that are worked out only now; and the largest error."""
    shape, square = handover.made.shape, (case.features,) * (convention.operation == "jacobian")
    if shape != (case.batch, case.features, *square):
        return f"returns shape {list(shape)}", np.nan
    rows = _drawn_rows(case, len(trials), math.prod((case.features, *square)))  # [calls, rows]
    got = np.concatenate([result[chosen] for result, chosen in zip(handover.results, rows, strict=True)])
    parts = [_rows(inputs, chosen) for inputs, chosen in zip(trials, rows, strict=True)]
    inputs = {
        role: np.concatenate([part[role] for part in parts]) if role != "upstream" else value
        for role, value in parts[0].items()
    }
    inputs.setdefault("targets", inputs["probs"])
    reduction = ASCENT if convention.of_log_probability else "sum"
    trial = Trial(
        convention.operation,
        len(got),
        case.features,
        case.dtype,
        case.logits,
        inputs | {"logits": np.where(np.isfinite(inputs["logits"]), inputs["logits"], 0.0)},  # a masked one is no error
        **right_gradient(convention.operation, reduction, inputs, convention.temperature)._asdict(),
    )
    got = convention.without_penalty(got, inputs["logits"], case.batch) if "logits" in inputs else got
    value = got * _factor(trial, got, convention, case.batch)
    errors = trial.errors(value, convention.recomputes)
    allowed = allowed_ulp(trial, in_half=convention.in_half, inexact=inexact or convention.descends)
    worst = float(errors.max(initial=0.0))
    off = errors > allowed
    if not off.any():
        return "", worst
    call = int(np.argwhere(off)[0][0]) // len(rows[0])
    if any(np.array_equal(handover.results[call], result) for result in handover.results[:call]):
        return "returns the numbers of an earlier call, which had other inputs: something is cached", worst
    place = tuple(np.argwhere(off)[0])
    return f"returns a wrong result: {float(value[place]):.6g} where {float(trial.expected[place]):.6g} is right", worst


def _drawn_rows(case: Case, calls: int, row_items: int) -> list[npt.NDArray[np.intp]]:
    """The rows of each call that are checked: all, or as many as ``CHECKED_ITEMS`` allows, but some of every call."""
    most = EXACT_ITEMS if wide_type(np.dtype(case.dtype)) is Fraction else CHECKED_ITEMS
    kept = min(case.batch, max(1, most // (calls * row_items)))
    rng = np.random.default_rng(secrets.randbits(63))
    return [np.sort(rng.choice(case.batch, kept, replace=False)) for _ in range(calls)]


def _rows(inputs: Inputs, rows: slice | npt.NDArray[np.intp]) -> dict[str, Any]:
    return {role: value[rows] if role != "upstream" else value for role, value in inputs.items()}


def _factor(trial: Trial, got: FloatArray, convention: Convention, batch: int) -> float:
    """What makes a result comparable: the incoming gradient divided out, and a mean over the batch made a sum."""
    loss = is_loss(convention.operation)
    incoming = UPSTREAM if convention.takes_upstream else 1.0
    if convention.of_elements:
        return batch * trial.features / incoming
    size, right = float(np.abs(got).sum()) / incoming, float(np.abs(trial.expected).sum())
    is_mean = loss and abs(size * batch - right) < abs(size - right)
    return (batch if is_mean else 1.0) / incoming
