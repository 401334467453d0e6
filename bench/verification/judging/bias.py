"""The bias of a model's last layer: its gradient is the sum of the logits' gradients over the rows."""

import dataclasses

import numpy as np

from ..calling.convention import Convention
from ..calling.models import TRAINED, TURNED
from ..process.subject import Subject
from .limits import INEXACT
from .trials import Trial


def has_wrong_bias(subject: Subject, convention: Convention, trial: Trial) -> bool:
    """Whether a target whose weights have the right gradient gives another one of its bias; no bias is no mistake.

    ``trial``: one in which no other weights have the shape of the last ones, so that the features are not batch + 3.
    """
    if convention.weights not in (TRAINED, TURNED) or convention.descends:
        return False
    value = subject.call(dataclasses.replace(convention, of_bias=True), trial.inputs).value
    if value is None:
        return False
    expected = trial.expected.sum(axis=0)  # [N]
    return value.size != expected.size or not np.allclose(value.reshape(-1), expected, atol=INEXACT)
