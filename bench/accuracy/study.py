"""The accuracy study: errors of loss and gradient in ulp, by the scale, dtype and shape of the logits.

Logits are standard normal times a scale. Labels are uniform, so that the network is sometimes sure and wrong. Then the
probability of the label underflows, as it does early in training and on mislabelled data.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..implementations import FloatArray, is_installed, registered
from ..implementations.cross_entropy import BOTH, two_nodes_vectorized
from ..implementations.softmax import softmax_unshifted
from ..instruments import host
from ..operations.cross_entropy import LossInputs, exact_gradient, pytorch_loss, wide_softmax, with_labels
from ..storage.descriptions import load_description, store_description
from ..storage.kinds import Count, Error, Factor, Size
from ..storage.tables import load_table, write_table

DTYPES = ("float16", "float32", "float64")
SCALES = (1.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4)
SHAPES = ((1, 10), (32, 10), (512, 10), (32, 512), (1, 2048))
CHARTED_SHAPE = (32, 512)
DRAWS = 5  # of logits and labels under each condition
SEED = 42
TABLE = "errors.csv"
HINT = "make accuracy stores it anew"
UNSHIFTED, PYTORCH = "two_nodes_unshifted", "pytorch_cross_entropy"
TORCH_DTYPES = ("float32", "float64")

Loss = Callable[[LossInputs], tuple[Any, Any]]


@dataclass(frozen=True)
class Condition:
    """What logits are drawn: normal ones [batch, features] with the standard deviation ``scale``."""

    dtype: str
    batch: int
    features: int
    scale: float


@dataclass(frozen=True)
class Accuracy:
    """The largest errors of one implementation over the draws under one condition; a row of the table.

    An error is NaN if a result was not finite.
    """

    dtype: str
    batch: Size
    features: Size
    scale: Factor
    implementation: str
    draws: Size
    loss_error_ulp: Error  # |loss - exact| in ulp of the exact loss
    grad_error_ulp: Error  # of the worst element, as in `Exact`
    not_finite_losses: Count
    not_finite_elements: Count
    reason: str  # what was not finite


@dataclass(frozen=True)
class Study:
    """What run.json holds: when, on what machine and with which versions the table was made."""

    started: str  # ISO 8601, UTC
    seed: int
    machine: dict[str, Any]
    versions: dict[str, str]


@dataclass(frozen=True)
class Exact:
    """A draw's loss and gradient in the widest float, and the units in which errors are counted.

    One unit is an ulp in the draw's dtype, or its smallest subnormal number if an ulp is less.
    """

    loss: np.longdouble
    loss_unit: np.longdouble  # an ulp of the loss
    gradient: npt.NDArray[np.longdouble]  # [B, N]
    gradient_unit: npt.NDArray[np.longdouble]  # [B, N], an ulp of (p + t) / B, the terms of the element's formula


@dataclass(frozen=True)
class Errors:
    """The errors of one result, in the units of `Exact`."""

    loss_ulp: float
    grad_ulp: float  # of the worst element
    loss_is_finite: bool
    not_finite_elements: int


def competitors() -> dict[str, Loss]:
    """What is studied, by name: all implementations of the loss, the article's forward, and PyTorch if installed."""
    found: dict[str, Loss] = {name: spec_call(name) for operation, name in registered() if operation == BOTH}
    found[UNSHIFTED] = _unshifted
    if is_installed("torch"):
        found[PYTORCH] = lambda inputs: pytorch_loss(inputs.logits, inputs.labels)
    return found


def spec_call(name: str) -> Loss:
    """A registered implementation of the loss as a function of its inputs."""
    spec = registered()[BOTH, name]
    return lambda inputs: spec.bind(inputs)()


def measure(progress: Callable[[str], None]) -> Iterator[Accuracy]:
    """Measure the rows of the study, one by one; ``progress`` gets each condition in words."""
    functions = competitors()
    for dtype, (batch, features), scale in itertools.product(DTYPES, SHAPES, SCALES):
        progress(f"{dtype}, {batch} × {features}, scale {scale:g}")
        condition = Condition(dtype, batch, features, scale)
        draws = [make_draw(condition, SEED + number) for number in range(DRAWS)]
        exact = [exact_of(inputs) for inputs in draws]
        for name, function in functions.items():
            if name != PYTORCH or dtype in TORCH_DTYPES:
                errors = [errors_of(function, inputs, right) for inputs, right in zip(draws, exact, strict=True)]
                yield largest(condition, name, errors)


def make_draw(condition: Condition, seed: int) -> LossInputs:
    """Logits [B, N] under the condition, with uniform labels [B]."""
    shape = condition.batch, condition.features
    rng = np.random.default_rng([seed, *shape])
    logits = (condition.scale * rng.standard_normal(shape)).astype(condition.dtype)
    labels = rng.integers(0, condition.features, size=condition.batch)
    with np.errstate(all="ignore"):
        return with_labels(logits, np.zeros_like(logits), labels)


def exact_of(inputs: LossInputs) -> Exact:
    """Loss and gradient in the widest float, from the logits as rounded to their dtype."""
    info = np.finfo(inputs.logits.dtype)
    shifted, probs, log_sums = wide_softmax(inputs.logits, np.longdouble)
    batch, smallest = len(shifted), np.longdouble(info.smallest_subnormal)
    loss = (log_sums - shifted[np.arange(batch), inputs.labels]).mean()  # log(sum(exp(z - max))) - (z[y] - max)
    targets = inputs.targets.astype(np.longdouble)
    return Exact(
        loss=loss,
        loss_unit=np.maximum(loss * info.eps, smallest),
        gradient=exact_gradient(probs, targets, batch),
        gradient_unit=np.maximum((probs + targets) / batch * info.eps, smallest),
    )


def errors_of(function: Loss, inputs: LossInputs, exact: Exact) -> Errors:
    """The errors of the function's loss and gradient on the inputs."""
    with np.errstate(all="ignore"):  # overflow is what is studied
        loss, gradient = function(inputs)
        loss_ulp = abs(np.longdouble(loss) - exact.loss) / exact.loss_unit
        grad_ulp = np.abs(gradient.astype(np.longdouble) - exact.gradient) / exact.gradient_unit  # [B, N]
    return Errors(
        loss_ulp=float(loss_ulp),
        grad_ulp=float(grad_ulp.max()),
        loss_is_finite=bool(np.isfinite(loss)),
        not_finite_elements=int((~np.isfinite(gradient)).sum()),
    )


def largest(condition: Condition, name: str, errors: list[Errors]) -> Accuracy:
    """The row of an implementation from its errors, a draw each."""
    losses = sum(not draw.loss_is_finite for draw in errors)
    elements = sum(draw.not_finite_elements for draw in errors)
    reasons = []
    if losses:
        reasons.append(f"loss not finite in {losses} of {len(errors)} draws")
    if elements:
        of_all = len(errors) * condition.batch * condition.features
        reasons.append(f"{elements} of {of_all} elements of the gradient not finite")
    return Accuracy(
        **dataclasses.asdict(condition),
        implementation=name,
        draws=len(errors),
        loss_error_ulp=math.nan if losses else max(draw.loss_ulp for draw in errors),
        grad_error_ulp=math.nan if elements else max(draw.grad_ulp for draw in errors),
        not_finite_losses=losses,
        not_finite_elements=elements,
        reason="; ".join(reasons),
    )


def store(rows: list[Accuracy], folder: Path) -> None:
    """Store the rows, and with which machine and versions they were measured.

    Raises:
        UserError: the folder cannot be written.
    """
    write_table(folder / TABLE, rows)
    store_description(folder, Study(host.now_utc(), SEED, host.machine(), host.versions()))


def load_study(folder: Path) -> tuple[Study, pd.DataFrame]:
    """The stored study and its rows.

    Raises:
        UserError: there is none, or it is damaged; the message names the file.
    """
    rows = [row for _, row in load_table(folder / TABLE, Accuracy, HINT)]
    return load_description(folder, Study, HINT), pd.DataFrame([dataclasses.asdict(row) for row in rows])


def _unshifted(inputs: LossInputs) -> tuple[Any, FloatArray]:
    """The article's forward, which does not subtract the maximum before exp, then two nodes."""
    probs = softmax_unshifted(inputs.logits)
    loss = -(inputs.targets * np.log(probs)).sum(axis=1).mean()
    return loss, two_nodes_vectorized(probs, inputs.targets)
