"""Training a network with a gradient, and the stored study: run.json, and epochs.csv with a row for each epoch."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from ..implementations import former_names
from ..instruments.host import machine, now_utc, versions
from ..storage.descriptions import load_description, store_description
from ..storage.files import make_folder
from ..storage.kinds import Count, Elapsed, Error, Share
from ..storage.tables import Table, load_table
from .digits import Digits, load
from .gradients import RIGHT, Clock, Gradient
from .graph import NotFiniteError, Parameter, SoftmaxCrossEntropy
from .networks import NETWORKS, Network

Indices = npt.NDArray[np.int64]
TRAINED, DIVERGED, RAISED = "trained", "diverged", "raised"
TABLE = "epochs.csv"
HINT = "make train stores a new one"


@dataclass(frozen=True)
class Plan:
    """What all trainings of a study share: the seed, the sizes, the number of epochs, and so the batches."""

    seed: int = 42
    epochs: int = 30
    batch: int = 32
    train_images: int = 1280
    test_images: int | None = None  # None: all other images, 517


@dataclass(frozen=True)
class Epoch:
    """A row: an epoch of a network trained with a gradient. Epoch 0 is the state before training.

    ``loss`` is the mean over the training images after the epoch; it is always computed correctly. ``test_accuracy`` is
    the share of test images that are classified correctly. ``epoch_s`` is the time of the training steps alone.
    ``softmax_backward_s`` is the part of it in the backward of softmax, or of softmax and loss if they are one node.
    Missing is NaN, and ``reason`` says why.
    """

    network: str
    kind: str
    operation: str
    gradient: str
    epoch: Count
    loss: Error = math.nan
    test_accuracy: Share = math.nan
    epoch_s: Elapsed = math.nan
    softmax_backward_s: Elapsed = math.nan
    outcome: str = TRAINED
    reason: str = ""


@dataclass(frozen=True)
class Study:
    """The content of run.json: when, where and with what the table was made."""

    started: str  # ISO 8601, UTC
    plan: dict[str, Any]
    networks: dict[str, dict[str, Any]]
    machine: dict[str, Any]
    versions: dict[str, str]
    wall_s: float


def train(network: Network, gradient: Gradient, digits: Digits, plan: Plan) -> Iterator[Epoch]:
    """Train a network from its first weights, and yield a row for each epoch. It ends early if it diverges or raises.

    It is plain gradient descent: an optimizer that scales its steps would hide a gradient that is wrong by a factor.
    """
    leaves = network.parameters(np.random.default_rng([plan.seed, 0]))
    shuffling = np.random.default_rng([plan.seed, 1])
    untrained = Epoch(network.name, gradient.kind, gradient.operation, gradient.name, 0, reason="before training")
    yield _evaluated(untrained, network, gradient, leaves, digits)
    for epoch in range(1, plan.epochs + 1):
        order = shuffling.permutation(len(digits.train_images))
        batches = [order[start : start + plan.batch] for start in range(0, len(order), plan.batch)]
        row = dataclasses.replace(untrained, epoch=epoch, reason="")
        try:
            with np.errstate(all="ignore"):  # an overflow is an outcome, not a warning
                row = _trained(row, network, gradient, leaves, digits, batches)
                row = _evaluated(row, network, gradient, leaves, digits)
        except (FloatingPointError, NotFiniteError) as error:
            row = dataclasses.replace(row, outcome=DIVERGED, reason=str(error))
        except ValueError as error:  # the gradient has another shape than its node
            row = dataclasses.replace(row, outcome=RAISED, reason=str(error))
        yield row
        if row.outcome != TRAINED:
            return


def _trained(
    row: Epoch, network: Network, gradient: Gradient, leaves: list[Parameter], digits: Digits, batches: list[Indices]
) -> Epoch:
    """The row with its times, after one step of gradient descent for each batch.

    Raises:
        FloatingPointError: a gradient is not finite.
    """
    clock, started_s = Clock(), time.perf_counter()
    for step, batch in enumerate(batches, start=1):
        for leaf in leaves:
            leaf.grad[...] = 0
        images, targets = digits.train_images[batch], digits.train_targets[batch]
        network.loss(leaves, images, targets, gradient, clock).backward()
        for leaf in leaves:
            if not np.isfinite(leaf.grad).all():
                raise FloatingPointError(f"the gradient of step {step} is not finite")
            leaf.data -= network.learning_rate * leaf.grad
    epoch_s = time.perf_counter() - started_s
    return dataclasses.replace(row, epoch_s=round(epoch_s, 7), softmax_backward_s=round(clock.spent_s, 7))


def _evaluated(row: Epoch, network: Network, gradient: Gradient, leaves: list[Parameter], digits: Digits) -> Epoch:
    """The row with the loss over the training images and the accuracy on the test images."""
    on_train = network.logits(leaves, digits.train_images, gradient, Clock())
    on_test = network.logits(leaves, digits.test_images, gradient, Clock())
    loss = float(SoftmaxCrossEntropy(on_train, digits.train_targets).data)
    right = on_test.data.argmax(axis=1) == digits.test_targets
    return dataclasses.replace(row, loss=loss, test_accuracy=float(right.mean()))


def make_study(folder: Path, plan: Plan, progress: Callable[[str], None]) -> None:
    """Train every network with every gradient. The new table replaces the stored one when it is complete.

    ``progress`` is called with a text that says what is under way.

    Raises:
        UserError: scikit-learn is not installed, the folder cannot be written, or another process trains into it.
    """
    digits = load(plan.train_images, plan.test_images, plan.seed)
    started, started_s = now_utc(), time.perf_counter()
    with _fresh_table(folder) as table, threadpool_limits(limits=1):
        for network in NETWORKS:
            trainings = [train(network, gradient, digits, plan) for gradient in network.gradients()]
            for row in _in_turns(trainings):
                progress(f"{network.title}: epoch {row.epoch} of {plan.epochs}, {len(trainings)} gradients")
                table.append(row)
    study = Study(
        started=started,
        plan=dataclasses.asdict(plan),
        networks={
            network.name: {"width": network.width, "learning_rate": network.learning_rate} for network in NETWORKS
        },
        machine=machine(),
        versions=versions(("scikit-learn",)),
        wall_s=round(time.perf_counter() - started_s, 1),
    )
    store_description(folder, study)


def _in_turns(trainings: list[Iterator[Epoch]]) -> Iterator[Epoch]:
    """The rows of all trainings, epoch by epoch, so that a slow minute of the machine is slow for all of them."""
    unfinished = list(trainings)
    while unfinished:
        for training in list(unfinished):
            row = next(training, None)
            if row is None:
                unfinished.remove(training)
            else:
                yield row


@contextlib.contextmanager
def _fresh_table(folder: Path) -> Iterator[Table[Epoch]]:
    """An empty table, which replaces the stored one if the block ends without an error."""
    partial = folder / f".{TABLE}.partial"
    make_folder(folder)
    Table(partial, Epoch).close()  # raises if another process holds it
    partial.unlink()  # the rows of a process that was killed
    try:
        with Table(partial, Epoch) as table:
            yield table
            partial.replace(folder / TABLE)
    finally:
        partial.unlink(missing_ok=True)


def load_study(folder: Path) -> tuple[Study, list[Epoch]]:
    """The stored study and the rows of its table. An implementation that was renamed has its name of today.

    Raises:
        UserError: the study is missing or damaged; the message names the file.
    """
    study = load_description(folder, Study, HINT)
    rows = [row for _, row in load_table(folder / TABLE, Epoch, HINT)]
    today = former_names()
    return study, [
        dataclasses.replace(row, gradient=today.get((row.operation, row.gradient), row.gradient))
        if row.kind == RIGHT
        else row
        for row in rows
    ]
