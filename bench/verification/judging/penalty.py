"""Penalties on large weights: a classifier's gradient may have a share of the weights added to it.

The penalty ``c / 2 * sum(weights**2)`` has the gradient ``c * weights``.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from ...implementations import FloatArray
from ..calling.classifiers import IDENTITY, PENALTY
from ..calling.convention import Convention
from ..process.subject import Subject
from .trials import Trial

TRIED = 0.5  # the factor of the penalty with which a target is called once more
NEAR = 1e-5  # how near to a share of the weights a penalty's gradient is, relative to the largest of its elements


def with_own_penalty(
    convention: Convention, results: Sequence[tuple[Trial, FloatArray | None]]
) -> Iterator[Convention]:
    """The convention with the penalty that the first result shows, if any: the same at all sizes, or over the batch."""
    if IDENTITY not in convention.roles or not results:
        return
    trial, value = results[0]
    share = None if value is None else share_of_weights(trial, value)
    if share:
        yield dataclasses.replace(convention, own_penalty=share)
        yield dataclasses.replace(convention, own_penalty=share * trial.batch, penalty_over_batch=True)


def share_of_weights(trial: Trial, value: FloatArray) -> float | None:
    """What of the weights a result has beside the right gradient; None if the rest is no share of them.

    The weights of the first or the last item of the data may be left out: they are a bias where that is always 1.
    """
    weights = trial.inputs["logits"]
    if value.shape != weights.shape or not np.isfinite(value).all():
        return None
    rest = value - trial.expected
    near = NEAR * max(float(np.abs(rest).max(initial=0.0)), trial.largest_term)
    for without in (None, 0, -1) if len(weights) > 1 else (None,):
        penalised = weights.copy()
        if without is not None:
            penalised[without] = 0.0
        share = float((rest * penalised).sum() / (penalised**2).sum())
        if float(np.abs(rest - share * penalised).max(initial=0.0)) <= near:
            return share
    return None


def is_wrongly_penalised(subject: Subject, convention: Convention, trial: Trial) -> bool:
    """Whether a right target, called with a penalty, adds what is no share of the weights to their gradient.

    It may add nothing, unless the loss that is returned with the gradient is larger for the penalty.
    """
    if IDENTITY not in convention.roles or convention.descends:
        return False
    penalised = subject.call(convention, {**trial.inputs, PENALTY: TRIED})
    value = penalised.value
    if value is None or value.shape != trial.expected.shape:
        return False
    share = share_of_weights(trial, value)
    if share is None or abs(share) > NEAR:
        return share is None
    with_it, without = penalised.forward, subject.call(convention, trial.inputs).forward
    if with_it is None or without is None or with_it.size != 1 or without.size != 1:
        return False
    return not np.allclose(with_it, without, rtol=NEAR)
