"""Labels from which code may count the classes: it is then right only where the last class occurs among them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..calling.convention import Convention
from ..process.subject import Subject
from .trials import Trial

COUNTS_LABELS = "it takes the highest label for the last class: it fails where no row has that one"


def counts_classes_by_labels(subject: Subject, convention: Convention, trial: Trial) -> bool:
    """Whether a right target fails for a batch [B, N] in which no row is of the last class."""
    if not {"labels", "targets"} & convention.roles or trial.features < 2 or convention.is_single:
        return False
    return subject.call(convention, without_last_class(trial.inputs)).failure is not None


def without_last_class(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The same inputs with another class where a row is of the last one."""
    features = inputs["logits"].shape[1]
    labels: npt.NDArray[np.intp] = np.where(inputs["labels"] == features - 1, 0, inputs["labels"])
    return {**inputs, "labels": labels, "targets": np.eye(features, dtype=inputs["targets"].dtype)[labels]}
