"""A target's answers to trials: what is wrong with each, and which known mistake they show together."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...implementations import FloatArray
from ..calling.arrays import MANY_AXES
from ..calling.attention import VALUES
from ..calling.convention import Convention, Options
from ..calling.roles import INCOMING, LOSS_GRADIENT, is_loss
from ..process.failures import Failure
from ..process.subject import Outcome, Subject
from .diagnosis import Diagnosis, diagnose, known
from .limits import (
    ALL_COUNT,
    EQUAL_WEIGHTS,
    IGNORES_UPSTREAM,
    IN_HALF,
    IN_PLACE,
    MODERATE,
    ONE_LOSS,
    OWN_PENALTY,
    allowed_ulp,
    is_half_precision,
    limits_of,
)
from .penalty import with_own_penalty
from .trials import ASCENT, ELEMENTS, OPERATIONS, PROBING, Trial, trials

MANY_FEATURES = 50
OTHER_LOSSES = "the losses of the rows that its forward gives are not those of cross-entropy"


@dataclass(frozen=True, eq=False)
class Answer:
    """What a target gave in one trial, and what is wrong with it; ``value`` is its result divided by upstream."""

    trial: Trial
    outcome: Outcome
    value: FloatArray | None
    error_ulp: float
    problem: str
    keeps_state: bool = False  # whether a right result depends on the calls before it

    @property
    def right(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problem

    @property
    def is_shaped(self) -> bool:
        """Whether the result has the right shape."""
        return self.value is not None and self.value.shape == self.trial.expected.shape


@dataclass(frozen=True)
class Answers:
    """The answers to trials in one convention, judged as gradients of a loss with this ``reduction`` over the batch."""

    convention: Convention
    reduction: str
    answers: tuple[Answer, ...]
    diagnosis: Diagnosis | None = None
    limits: tuple[str, ...] = ()  # of a gradient that is right within them

    @property
    def right(self) -> bool:
        """Whether every answer that counts is right."""
        return all(answer.right for answer in self.answers if not answer.trial.optional)

    @property
    def fits(self) -> bool:
        """Whether this is the gradient, with or without limits."""
        return self.right or bool(self.limits)

    @property
    def has_other_loss(self) -> bool:
        """Whether the loss that is returned has another reduction than the gradient."""
        return not has_right_loss(self)

    @property
    def gave(self) -> bool:
        """Whether the target gave any numbers."""
        return any(answer.value is not None for answer in self.answers)

    @property
    def rank(self) -> tuple[bool, bool, bool, bool, int, bool]:
        """How well the convention fits: right, right loss, known mistake, no factor, results of right shape, any."""
        named = self.diagnosis is not None
        plain = self.diagnosis is not None and (not self.diagnosis.factor or self.diagnosis.name == "scaled")
        shaped = 0 if named else sum(answer.is_shaped for answer in self.answers)
        return self.fits, self.gave and has_right_loss(self), named, plain, shaped, self.gave

    @property
    def takes_batches(self) -> bool:
        """Whether the target takes a whole batch: its results have the right shape or show a known mistake."""
        return self.diagnosis is not None or any(answer.is_shaped for answer in self.answers[:1])

    @property
    def failure(self) -> Failure | None:
        """How the first trial failed; None if it did not."""
        return self.answers[0].outcome.failure if self.answers else None


def ask(
    subject: Subject, convention: Convention, options: Options, shapes: tuple[tuple[int, int, str, str], ...]
) -> Answers:
    """The answers to trials of the given shapes, for the reduction of the loss that fits them best."""
    if "index" in convention.arguments:  # then there are as many calls as features, each of a whole Jacobian perhaps
        shapes = tuple(shape for shape in shapes if shape[1] <= MANY_FEATURES)
    reductions: tuple[str, ...] = (options.reduction,) if options.reduction else ("mean", "sum")
    if convention.forward and not options.reduction:  # which may return its loss
        reductions += (ELEMENTS,)
    if LOSS_GRADIENT in convention.arguments:
        reductions = ("sum",)  # what is divided by the batch has been so before
        # What comes in is 1 / probs, of which little is left where these underflow.
        shapes = tuple(shape for shape in shapes if shape[3] in MODERATE)
    if convention.of_log_probability and convention.operation == "softmax_cross_entropy" and not options.reduction:
        reductions += (ASCENT,)
    questions = {
        reduction: trials(convention.operation, reduction, shapes, convention.temperature)
        for reduction in (reductions if is_loss(convention.operation) else ("mean",))
    }
    outcomes = list(
        _outcomes(subject, convention, next(iter(questions.values())), is_probing=len(shapes) <= len(PROBING))
    )
    chosen = _judged(convention, questions, outcomes)
    if chosen.right:
        return chosen
    for limited in _with_a_limit(convention, chosen):
        judged = _judged(limited, questions, outcomes)
        if judged.fits:
            return judged
    return dataclasses.replace(chosen, diagnosis=_diagnosed(chosen))


def _outcomes(
    subject: Subject, convention: Convention, asked: Sequence[Trial], *, is_probing: bool
) -> Iterator[Outcome]:
    """What each trial gave; fewer than trials if one ends the search. After a slow one, only smaller ones are tried."""
    slow: tuple[int, Failure] | None = None
    for trial in asked:
        if slow is not None and trial.expected.size >= slow[0]:
            yield Outcome(failure=slow[1])
            continue
        outcome = subject.call(convention, trial.inputs)
        yield outcome
        if (failure := outcome.failure) is None:
            continue
        if _is_slow(failure, trial):
            slow = trial.expected.size, failure
        elif failure.ends_the_search or (convention.is_single and is_probing):
            return


def _with_a_limit(convention: Convention, answers: Answers) -> Iterator[Convention]:
    """What else may be said of a target whose answers do not fit: limits that are known before it is called again."""
    if answers.fits:
        return
    if convention.takes_upstream:
        yield dataclasses.replace(convention, ignores_upstream=True)
    results = [(answer.trial, answer.value) for answer in answers.answers]
    if is_half_precision(results):
        yield dataclasses.replace(convention, in_half=True)
    yield from with_own_penalty(convention, results)


def _judged(convention: Convention, questions: Mapping[str, list[Trial]], outcomes: Sequence[Outcome]) -> Answers:
    """The answers as those of the reduction that fits them best, or else of the first one with the right loss."""
    # There are fewer outcomes than trials if one of them ended the search.
    judged = [
        _with_limits(convention, reduction, [judge(*pair, convention) for pair in zip(asked, outcomes, strict=False)])
        for reduction, asked in questions.items()
    ]
    # A mean over all elements is what a loss may be that says so; what says nothing has one of the usual reductions.
    judged = [each for each in judged if each.reduction != ELEMENTS or _tells_its_loss(each)] or judged
    with_right_loss = [answers for answers in judged if has_right_loss(answers)]
    fitting = [answers for answers in with_right_loss if answers.fits]
    others = [_of_other_loss(answers) for answers in judged if answers.fits and is_root(convention)]
    return (fitting or others or with_right_loss or judged)[0]


def is_root(convention: Convention) -> bool:
    """Whether a loss ends a network, and shows its value elsewhere: what its backward starts from is its author's own.

    A value that is returned with the gradient is what the gradient is of.
    """
    return convention.style == "pair" and not convention.roles & set(INCOMING)


def _of_other_loss(answers: Answers) -> Answers:
    """The answers with the limit that their gradient is that of the sum, and the loss beside it the mean, or so."""
    told = _first_told(answers) or {}
    other = next((reduction for reduction, is_told in told.items() if is_told), "")
    beside = f"their {other}" if other else "another one"
    limit = f"it is the gradient of the {answers.reduction} of the rows' losses, and the loss beside it is {beside}"
    mistake = known(answers.convention.operation, "average_missing") if other == "mean" else None
    return dataclasses.replace(answers, limits=(limit, *answers.limits), diagnosis=mistake)


def _with_limits(convention: Convention, reduction: str, answers: list[Answer]) -> Answers:
    slow = [answer for answer in answers if _is_slow(answer.outcome.failure, answer.trial)]
    others = [answer for answer in answers if answer not in slow]
    entries = [(answer.trial, answer.value, answer.problem) for answer in others]
    limits = limits_of(entries, of_attention=VALUES in convention.roles)
    if _have_other_losses(answers):
        limits = ()
    elif limits or all(answer.right or answer.trial.optional for answer in others):
        limits = (*limits, *(f"it is slow ({answer.trial.label}: it {answer.problem})" for answer in slow[:1]))
        known = [
            (IN_HALF, convention.in_half),
            (IGNORES_UPSTREAM, convention.ignores_upstream),
            (IN_PLACE, convention.works_in_place),
            (ALL_COUNT, convention.all_labels_count),
            (EQUAL_WEIGHTS, "ones" in convention.roles),
            (ONE_LOSS, convention.is_of_one_loss),
            (OWN_PENALTY, bool(convention.own_penalty)),
        ]
        limits = (*(limit for limit, holds in known if holds), *limits)
    climbs, of_elements = reduction == ASCENT, reduction == ELEMENTS
    judged = dataclasses.replace(convention, of_log_probability=climbs, of_elements=of_elements)
    return Answers(judged, reduction, tuple(answers), limits=limits)


def _is_slow(failure: Failure | None, trial: Trial) -> bool:
    """Whether there was no answer in time, at so many features that this need not mean that there never is one."""
    return failure is not None and failure.kind == "hung" and trial.features >= MANY_FEATURES


def _diagnosed(answers: Answers) -> Diagnosis | None:
    """The known mistake that the answers show; that of a limit only if there is no other.

    A forward that overflows hides the backward's own mistake where logits are extreme: it is then looked for elsewhere.
    """
    operation = answers.convention.operation
    if _have_other_losses(answers.answers):
        return None
    given = [(answer.trial, answer.value) for answer in answers.answers]
    should = _formula(operation, answers.reduction)
    found = diagnose(operation, given, should)
    moderate = [answer for answer in answers.answers if answer.trial.logits in MODERATE]
    if found is None and not answers.limits and not all(answer.right for answer in moderate):
        found = diagnose(operation, [pair for pair in given if pair[0].logits in MODERATE], should)
    of_one_item = answers.convention.layout in ("row", "column", *MANY_AXES)
    is_zero_anyway = of_one_item or {"logits", "probs"} <= answers.convention.roles  # subtracted from each other
    if found is not None and is_zero_anyway and found.name == "jacobian_summed":
        return None  # the other axis has length 1: code that works along it gives 0
    if found is None and "grad_output" not in answers.convention.roles and _are_ones(answers.answers):
        return known(operation, "pass_through") if operation == "softmax" else None
    return None if found is not None and answers.limits and not found.is_limit else found


def has_right_loss(answers: Answers) -> bool:
    """Whether the loss that a forward returned, if any, has the reduction that the gradient is judged by."""
    told = _first_told(answers)
    # A number that is returned beside a gradient may be anything.
    may_be_anything = answers.convention.style == "function" and told is not None and not any(told.values())
    return told is None or may_be_anything or told[answers.reduction if answers.reduction in told else "sum"]


def _first_told(answers: Answers) -> dict[str, bool] | None:
    """Which reductions the first loss that was returned may have; None if none can tell."""
    return next(filter(None, map(_reductions_told, _with_losses(answers))), None)


def shows_right_loss(answers: Answers) -> bool:
    """Whether a loss that was returned is the mean or the sum of the rows' losses."""
    return any(any((_reductions_told(answer) or {}).values()) for answer in _with_losses(answers))


def _with_losses(answers: Answers) -> Sequence[Answer]:
    """The answers that may tell the loss of a whole batch; of single rows, it is the last one's."""
    single = answers.convention.is_single or not is_loss(answers.convention.operation)
    return () if single else answers.answers


def _reductions_told(answer: Answer) -> dict[str, bool] | None:
    """Which reductions the loss that was returned may have; None if there is none, or if it cannot tell."""
    loss = answer.outcome.forward
    if loss is None or loss.size != 1 or answer.trial.batch < 2:
        return None
    row_losses = _row_losses(answer.trial)
    total = float(row_losses.sum())
    values = {"mean": total / len(row_losses), "sum": total, ELEMENTS: total / answer.trial.expected.size}
    return {reduction: abs(float(loss.reshape(())) - right) < 1e-3 * right for reduction, right in values.items()}


def _tells_its_loss(answers: Answers) -> bool:
    """Whether a loss that was returned is what the gradient is judged by."""
    return any((_reductions_told(answer) or {}).get(answers.reduction, False) for answer in _with_losses(answers))


def _are_ones(answers: Sequence[Answer]) -> bool:
    """Whether every result is an array of ones."""
    needed = [answer for answer in answers if not answer.trial.optional]
    return all(answer.is_shaped and answer.value is not None and (answer.value == 1.0).all() for answer in needed)


def _have_other_losses(answers: Sequence[Answer]) -> bool:
    """Whether the losses beside any answer say that the gradient is that of something else."""
    return any(answer.problem == OTHER_LOSSES for answer in answers)


def _shows_other_loss(trial: Trial, forward: FloatArray | None, convention: Convention) -> bool:
    """Whether a forward gave numbers for each row, and their sums are no share of the rows' cross-entropies.

    Of single rows the last one's loss is known: it is a sum over the classes, or their mean.
    """
    row_losses = _row_losses(trial)
    if forward is None or len(row_losses) < 2 or not (row_losses > 0).all():
        return False
    if convention.is_single:
        usual = [row_losses[-1], row_losses[-1] / trial.features]
        return forward.size in (1, trial.features) and not np.isclose(forward.sum(), usual, rtol=1e-3).any()
    if forward.size not in (trial.batch, trial.expected.size):
        return False
    by_row = forward.T if forward.shape == trial.expected.T.shape != trial.expected.shape else forward
    shares = by_row.reshape(trial.batch, -1).sum(axis=1) / row_losses
    return not (shares[0] > 0 and np.allclose(shares, shares[0], rtol=1e-3))


def _row_losses(trial: Trial) -> FloatArray:
    """The cross-entropy of each row, -sum_k targets[k] ln probs[k], [B]."""
    picked: FloatArray = (trial.inputs["probs"] * trial.inputs["targets"]).sum(axis=1)
    return -np.log(picked)


def _formula(operation: str, reduction: str) -> str:
    formula = OPERATIONS[operation]
    if reduction == ASCENT:
        return "targets - probs"
    if reduction == ELEMENTS:
        return formula.replace("/ batch", "/ (batch * features)")
    return formula if reduction == "mean" or not is_loss(operation) else formula.replace(" / batch", "").strip("()")


def judge(trial: Trial, outcome: Outcome, convention: Convention) -> Answer:
    """What is wrong with the outcome of a trial, if anything."""
    if outcome.failure is not None or outcome.value is None:
        failure = outcome.failure
        summary = " at ".join(filter(None, [failure.summary, failure.culprit])) if failure else "gave nothing"
        return Answer(trial, outcome, None, np.nan, summary)
    upstream = trial.inputs["upstream"] if convention.takes_upstream else 1.0
    value = outcome.value / np.asarray(upstream, dtype=outcome.value.dtype)
    value = convention.without_penalty(value, trial.inputs["logits"], trial.batch)
    if value.shape != trial.expected.shape:
        return Answer(trial, outcome, value, np.nan, f"returned shape {value.shape}, expected {trial.expected.shape}")
    errors = trial.errors(value, convention.recomputes)
    worst = float(errors.max(initial=0.0))
    problem = ""
    if (off := errors > _allowed(trial, convention)).any():
        place = tuple(int(index) for index in np.argwhere(off)[0])
        got, expected = _distinguished(float(value[place]), float(trial.expected[place]))
        problem = f"element {list(place)} is {got}, expected {expected}"
    if convention.operation == "cross_entropy" and _shows_other_loss(trial, outcome.forward, convention):
        problem = OTHER_LOSSES
    keeps_state = not outcome.repeatable or (not problem and not _is_right_turned(trial, outcome, convention, upstream))
    return Answer(trial, outcome, value, worst, problem, keeps_state)


def _is_right_turned(trial: Trial, outcome: Outcome, convention: Convention, upstream: float) -> bool:
    """Whether the result for the turned inputs, the rows reversed and grad_output negated, is right, too."""
    if outcome.turned is None or outcome.turned.shape != trial.expected.shape:
        return outcome.turned is None
    sign = -1.0 if convention.operation in ("softmax", "log_softmax") else 1.0
    turned = outcome.turned[::-1] / np.asarray(sign * upstream, dtype=outcome.turned.dtype)
    turned = convention.without_penalty(turned, trial.inputs["logits"], trial.batch)
    return bool((trial.errors(turned, convention.recomputes) <= _allowed(trial, convention)).all())


def _allowed(trial: Trial, convention: Convention) -> float | FloatArray:
    """The largest error of a right result in ulp of the terms; the difference of two weights has fewer digits."""
    return allowed_ulp(trial, in_half=convention.in_half, inexact=convention.descends)


def _distinguished(left: float, right: float) -> tuple[str, str]:
    """Two numbers as text, with at least six digits and enough to show that they differ."""
    for digits in (6, 9, 12):
        texts = f"{left:.{digits}g}", f"{right:.{digits}g}"
        if texts[0] != texts[1]:
            return texts
    return f"{left:.17g}", f"{right:.17g}"
