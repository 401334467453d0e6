"""One network trained with one gradient, an epoch a row, and the stored table: epochs.csv and run.json."""

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

from ..errors import UserError
from ..instruments.host import machine, now_utc, versions
from ..storage.descriptions import load_description, store_description
from ..storage.tables import Table, load_table
from .digits import Digits, load
from .gradients import Clock, Gradient
from .graph import NotFiniteError, Parameter, SoftmaxCrossEntropy
from .networks import NETWORKS, Network

Indices = npt.NDArray[np.int64]
TRAINED, DIVERGED, RAISED = "trained", "diverged", "raised"
TABLE = "epochs.csv"
HINT = "make train stores it anew"


@dataclass(frozen=True)
class Plan:
    """What every training shares: the seed, the sizes, the number of epochs; the same batches in the same order."""

    seed: int = 42
    epochs: int = 30
    batch: int = 32
    train_images: int = 1280
    test_images: int | None = None  # None: all others, 517


@dataclass(frozen=True)
class Epoch:
    """One row: an epoch of one network trained with one gradient; epoch 0 is the state before training.

    ``loss`` is the mean over the training images after the epoch, by a loss that is right whatever the gradient;
    ``test_accuracy`` the share of the test images that are told right; ``epoch_s`` the time of the training steps
    alone; ``softmax_backward_s`` the part of it in softmax's backward, or in that of softmax and loss where they are
    one node. Missing is NaN, and ``reason`` says why.
    """

    network: str
    kind: str
    operation: str
    gradient: str
    epoch: int
    loss: float = math.nan
    test_accuracy: float = math.nan
    epoch_s: float = math.nan
    softmax_backward_s: float = math.nan
    outcome: str = TRAINED
    reason: str = ""


@dataclass(frozen=True)
class Study:
    """What run.json holds: when, where and with what the table was made."""

    started: str  # ISO 8601, UTC
    plan: dict[str, Any]
    networks: dict[str, dict[str, Any]]
    machine: dict[str, Any]
    versions: dict[str, str]
    wall_s: float = math.nan


def train(network: Network, gradient: Gradient, digits: Digits, plan: Plan) -> Iterator[Epoch]:
    """Train a network from its first weights; a row an epoch, the last one where it diverges or raises.

    Plain gradient descent: an optimizer that scales its steps would hide a gradient that is wrong by a factor.
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
            with np.errstate(all="ignore"):  # what overflows is an outcome
                row = _trained(row, network, gradient, leaves, digits, batches)
                row = _evaluated(row, network, gradient, leaves, digits)
        except (FloatingPointError, NotFiniteError) as error:
            row = dataclasses.replace(row, outcome=DIVERGED, reason=str(error))
        except ValueError as error:  # of another shape than the node's
            row = dataclasses.replace(row, outcome=RAISED, reason=str(error))
        yield row
        if row.outcome != TRAINED:
            return


def _trained(
    row: Epoch, network: Network, gradient: Gradient, leaves: list[Parameter], digits: Digits, batches: list[Indices]
) -> Epoch:
    """The row with the times of one step down each batch's gradient.

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
    """The row with the loss over the training images and the share of the test images told right."""
    on_train = network.logits(leaves, digits.train_images, gradient, Clock())
    on_test = network.logits(leaves, digits.test_images, gradient, Clock())
    loss = float(SoftmaxCrossEntropy(on_train, digits.train_targets).data)
    right = on_test.data.argmax(axis=1) == digits.test_targets
    return dataclasses.replace(row, loss=loss, test_accuracy=float(right.mean()))


def make_study(folder: Path, plan: Plan, progress: Callable[[str], None]) -> None:
    """Train every network with every gradient, and put the table in the stored one's place when it is complete.

    ``progress`` is told what is under way.

    Raises:
        UserError: scikit-learn is not installed, the folder cannot be written, or another process trains into it.
    """
    digits = load(plan.train_images, plan.test_images, plan.seed)
    study, started_s = _study(plan), time.perf_counter()
    with _fresh_table(folder) as table, threadpool_limits(limits=1):
        for network in NETWORKS:
            trainings = [train(network, gradient, digits, plan) for gradient in network.gradients()]
            for row in _in_turns(trainings):
                progress(f"{network.title}: epoch {row.epoch} of {plan.epochs}, {len(trainings)} gradients")
                table.append(row)
    study = dataclasses.replace(study, wall_s=round(time.perf_counter() - started_s, 1))
    store_description(folder, study)


def _in_turns(trainings: list[Iterator[Epoch]]) -> Iterator[Epoch]:
    """An epoch of each training at a time: a slow minute of the machine then is a slow minute for all of them."""
    going = list(trainings)
    while going:
        for training in list(going):
            row = next(training, None)
            if row is None:
                going.remove(training)
            else:
                yield row


def _study(plan: Plan) -> Study:
    return Study(
        started=now_utc(),
        plan=dataclasses.asdict(plan),
        networks={one.name: {"width": one.width, "learning_rate": one.learning_rate} for one in NETWORKS},
        machine=machine(),
        versions=versions(("scikit-learn",)),
    )


@contextlib.contextmanager
def _fresh_table(folder: Path) -> Iterator[Table[Epoch]]:
    """An empty table beside the stored one, which takes its place where the block ends well."""
    beside = folder / f".{TABLE}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from None
    Table(beside, Epoch).close()  # refused where another process holds it; rows of one that was killed go
    beside.unlink()
    try:
        with Table(beside, Epoch) as table:
            yield table
            beside.replace(folder / TABLE)
    finally:
        beside.unlink(missing_ok=True)


def load_study(folder: Path) -> tuple[Study, list[Epoch]]:
    """The stored study and its table, a row an epoch.

    Raises:
        UserError: there is none, or it is damaged; the message names the file.
    """
    study = load_description(folder, Study, HINT)
    return study, [row for _, row in load_table(folder / TABLE, Epoch, HINT)]
