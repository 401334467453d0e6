"""The accuracy study: errors of loss and gradient in ulp over the logits' scale, dtype and shape.

Logits are standard normal times a scale; labels are uniform, so that the network is sure and wrong now and then. That
is where probabilities of labels underflow, as they do early in training and on mislabelled data.
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
from ..storage.tables import load_table, write_table

DTYPES = ("float16", "float32", "float64")
SCALES = (1.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4)
SHAPES = ((1, 10), (32, 10), (512, 10), (32, 512), (1, 2048))
CHARTED_SHAPE = (32, 512)
DRAWS = 5
SEED = 42
TABLE = "errors.csv"
HINT = "make accuracy stores it anew"
UNSHIFTED, PYTORCH = "two_nodes_unshifted", "pytorch_cross_entropy"
TORCH_DTYPES = ("float32", "float64")

Loss = Callable[[LossInputs], tuple[Any, Any]]


@dataclass(frozen=True)
class Accuracy:
    """The largest errors of one implementation over the draws of one condition.

    ``loss_error_ulp``: |loss - exact| in ulp of the exact loss. ``grad_error_ulp``: of an element, in ulp of
    (p + t) / B, the terms of its formula, or in subnormal steps where that is less. Either is NaN where a draw gave
    something that is not finite; ``reason`` says what.
    """

    dtype: str
    batch: int
    features: int
    scale: float
    implementation: str
    draws: int
    loss_error_ulp: float
    grad_error_ulp: float
    not_finite_losses: int
    not_finite_elements: int
    reason: str


@dataclass(frozen=True)
class Study:
    """What run.json holds: when, where and with what the table was made."""

    started: str  # ISO 8601, UTC
    seed: int
    machine: dict[str, Any]
    versions: dict[str, str]


@dataclass(frozen=True)
class Exact:
    """A draw's loss and gradient in the widest float, the gradient's unit, and the loss's."""

    loss: Any
    loss_unit: Any
    gradient: npt.NDArray[Any]
    unit: npt.NDArray[Any]


def competitors() -> dict[str, Loss]:
    """What is studied, by name: all implementations of the loss, the article's forward, PyTorch where installed."""
    found: dict[str, Loss] = {name: spec_call(name) for operation, name in registered() if operation == BOTH}
    found[UNSHIFTED] = _unshifted
    if is_installed("torch"):
        found[PYTORCH] = lambda inputs: pytorch_loss(inputs.logits, inputs.labels)
    return found


def spec_call(name: str) -> Loss:
    """An implementation of the loss as a function of its inputs."""
    spec = registered()[BOTH, name]
    return lambda inputs: spec.bind(inputs)()


def measure(progress: Callable[[str], None]) -> Iterator[Accuracy]:
    """The rows of the study."""
    functions = competitors()
    for dtype, (batch, features), scale in itertools.product(DTYPES, SHAPES, SCALES):
        progress(f"{dtype}, {batch} × {features}, scale {scale:g}")
        draws = [make_draw(dtype, batch, features, scale, SEED + number) for number in range(DRAWS)]
        exact = [exact_of(inputs) for inputs in draws]
        for name, function in functions.items():
            if name != PYTORCH or dtype in TORCH_DTYPES:
                errors = [error_of(function, inputs, right) for inputs, right in zip(draws, exact, strict=True)]
                yield _row(dtype, batch, features, scale, name, errors)


def make_draw(dtype: str, batch: int, features: int, scale: float, seed: int) -> LossInputs:
    """Logits of the given scale in the given dtype, with uniform labels."""
    rng = np.random.default_rng([seed, batch, features])
    logits = (scale * rng.standard_normal((batch, features))).astype(dtype)
    labels = rng.integers(0, features, size=batch)
    with np.errstate(all="ignore"):
        return with_labels(logits, np.zeros_like(logits), labels)


def exact_of(inputs: LossInputs) -> Exact:
    """Loss and gradient in the widest float, from the logits as they are rounded.

    loss = mean(log(sum(exp(z - m))) - (z[y] - m)), m the row's maximum; gradient = (p - t) / B.
    """
    info = np.finfo(inputs.logits.dtype)
    shifted, probs, log_sums = wide_softmax(inputs.logits, np.longdouble)
    batch = len(shifted)
    loss = (log_sums - shifted[np.arange(batch), inputs.labels]).mean()
    targets = inputs.targets.astype(np.longdouble)
    unit = np.maximum((probs + targets) / batch * info.eps, np.longdouble(info.smallest_subnormal))
    return Exact(
        loss, np.maximum(loss * info.eps, info.smallest_subnormal), exact_gradient(probs, targets, batch), unit
    )


def error_of(function: Loss, inputs: LossInputs, exact: Exact) -> tuple[float, float, bool, int]:
    """Error of the loss and largest error of the gradient in ulp, and how much of either is not finite."""
    with np.errstate(all="ignore"):  # overflow is what is studied
        loss, gradient = function(inputs)
        loss_error = float(abs(np.longdouble(loss) - exact.loss) / exact.loss_unit)
        errors = np.abs(gradient.astype(np.longdouble) - exact.gradient) / exact.unit
    return loss_error, float(errors.max()), not np.isfinite(loss), int((~np.isfinite(gradient)).sum())


def _row(
    dtype: str, batch: int, features: int, scale: float, name: str, errors: list[tuple[float, float, bool, int]]
) -> Accuracy:
    losses = sum(one[2] for one in errors)
    elements = sum(one[3] for one in errors)
    reasons = []
    if losses:
        reasons.append(f"loss not finite in {losses} of {len(errors)} draws")
    if elements:
        reasons.append(f"{elements} of {len(errors) * batch * features} elements of the gradient not finite")
    return Accuracy(
        dtype,
        batch,
        features,
        scale,
        name,
        len(errors),
        math.nan if losses else max(one[0] for one in errors),
        math.nan if elements else max(one[1] for one in errors),
        losses,
        elements,
        "; ".join(reasons),
    )


def store(rows: list[Accuracy], folder: Path) -> None:
    """Store the rows, and the machine and versions that they were measured with.

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
    """The article's forward, exp without the maximum subtracted, then two nodes."""
    probs = softmax_unshifted(inputs.logits)
    loss = -(inputs.targets * np.log(probs)).sum(axis=1).mean()
    return loss, two_nodes_vectorized(probs, inputs.targets)
