"""A target's answers to trials: in which convention they fit best, and what is wrong with them."""

import dataclasses
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ...implementations import FloatArray
from ..calling.conventions import Convention, Options
from ..process.failures import Failure
from ..process.subject import Outcome, Subject
from .diagnosis import Diagnosis, diagnose
from .trials import OPERATIONS, PROBING, Trial, trials


@dataclass(frozen=True, eq=False)
class Answer:
    """What a target gave in one trial, and what is wrong with it; ``value`` is its result divided by upstream."""

    trial: Trial
    outcome: Outcome
    value: FloatArray | None
    error_ulp: float
    problem: str

    @property
    def right(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problem


@dataclass(frozen=True)
class Answers:
    """The answers to trials in one convention, judged as gradients of a loss with this ``reduction`` over the batch."""

    convention: Convention
    reduction: str
    answers: tuple[Answer, ...]
    diagnosis: Diagnosis | None = None

    @property
    def right(self) -> bool:
        """Whether every answer that counts is right."""
        return all(answer.right for answer in self.answers if not answer.trial.optional)

    @property
    def rank(self) -> tuple[bool, bool, bool, bool, int]:
        """How well the convention fits: right, right loss, known mistake, without a factor, results of right shape."""
        named = self.diagnosis is not None
        plain = self.diagnosis is not None and (not self.diagnosis.factor or self.diagnosis.name == "scaled")
        return self.right, has_right_loss(self), named, plain, 0 if named else sum(map(_is_shaped, self.answers))

    @property
    def takes_batches(self) -> bool:
        """Whether the target takes a whole batch: its results have the right shape or show a known mistake."""
        named = self.diagnosis is not None and all(answer.value is not None for answer in self.answers)
        return named or any(map(_is_shaped, self.answers[:1]))

    @property
    def failure(self) -> Failure | None:
        """How the first trial failed; None if it did not."""
        return self.answers[0].outcome.failure if self.answers else None


def _is_shaped(answer: Answer) -> bool:
    return answer.value is not None and answer.value.shape == answer.trial.expected.shape


def probe(subject: Subject, options: Options) -> Answers:
    """The answers to the probing trials, in the convention that fits best.

    Single rows are tried only if no convention with batches gives results of the right shape: a function that takes
    a batch is judged on batches.

    Raises:
        UserError: there is no such target.
        TargetFailedError: it cannot be loaded.
    """
    conventions = subject.candidates(options)
    best: Answers | None = None
    for layout, container in _arrangements(subject, options):
        if best is not None and best.takes_batches and (layout not in ("rows", "columns") or container != "array"):
            break
        for convention in conventions:
            arranged = dataclasses.replace(convention, layout=layout, container=container)
            answers = ask(subject, arranged, options, PROBING)
            if answers.right:
                return answers
            if best is None or answers.rank > best.rank:
                best = answers
            if answers.failure is not None and answers.failure.ends_the_search:
                return best
    assert best is not None  # noqa: S101 - there is at least one candidate
    return best


def _arrangements(subject: Subject, options: Options) -> Iterable[tuple[str, str]]:
    layouts = (options.layout,) if options.layout else ("rows", "columns", "vector", "column", "row")
    containers = ("array", "list", "torch") if subject.has_torch() else ("array", "list")
    every = list(itertools.product(layouts, containers))
    # First batches in arrays, then batches in other containers, then single rows.
    return sorted(every, key=lambda pair: (pair[0] not in ("rows", "columns"), pair[1] != "array"))


def ask(
    subject: Subject, convention: Convention, options: Options, shapes: tuple[tuple[int, int, str, str], ...]
) -> Answers:
    """The answers to trials of the given shapes, for the reduction of the loss that fits them best."""
    reductions = (options.reduction,) if options.reduction else ("mean", "sum")
    questions = {
        reduction: trials(convention.operation, reduction, shapes)
        for reduction in (reductions if convention.operation != "softmax" else ("mean",))
    }
    outcomes: list[Outcome] = []
    for trial in next(iter(questions.values())):
        outcomes.append(subject.call(convention, trial.inputs))
        failure = outcomes[-1].failure
        if failure is not None and failure.ends_the_search:
            break
    judged = []
    for reduction, asked in questions.items():
        # There are fewer outcomes than trials if one of them ended the search.
        answers = tuple(judge(trial, outcome, convention) for trial, outcome in zip(asked, outcomes, strict=False))
        judged.append(Answers(convention, reduction, answers))
    with_right_loss = [answers for answers in judged if has_right_loss(answers)]
    right = [answers for answers in with_right_loss if answers.right]
    if right:
        return right[0]
    chosen = with_right_loss[0] if with_right_loss else judged[0]
    given = [(answer.trial, answer.value) for answer in chosen.answers]
    found = diagnose(convention.operation, given, _formula(convention.operation, chosen.reduction))
    return dataclasses.replace(chosen, diagnosis=found)


def has_right_loss(answers: Answers) -> bool:
    """Whether the loss that a forward returned, if any, has the reduction that the gradient is judged by."""
    for answer in answers.answers:
        loss = answer.outcome.forward
        if loss is None or loss.size != 1 or answers.convention.operation == "softmax" or answer.trial.batch < 2:
            continue
        inputs = answer.trial.inputs
        row_losses = -np.log((inputs["probs"] * inputs["targets"]).sum(axis=1))
        right = float(row_losses.mean() if answers.reduction == "mean" else row_losses.sum())
        return bool(abs(float(loss.reshape(())) - right) < 1e-3 * abs(right))
    return True


def _formula(operation: str, reduction: str) -> str:
    formula = OPERATIONS[operation]
    return formula if reduction == "mean" or operation == "softmax" else formula.replace(" / batch", "").strip("()")


def judge(trial: Trial, outcome: Outcome, convention: Convention) -> Answer:
    """What is wrong with the outcome of a trial, if anything."""
    if outcome.failure is not None or outcome.value is None:
        failure = outcome.failure
        summary = " at ".join(filter(None, [failure.summary, failure.culprit])) if failure else "gave nothing"
        return Answer(trial, outcome, None, np.nan, summary)
    upstream = trial.inputs["upstream"] if _takes_upstream(convention) else 1.0
    value = outcome.value / np.asarray(upstream, dtype=outcome.value.dtype)
    if value.shape != trial.expected.shape:
        return Answer(trial, outcome, value, np.nan, f"returned shape {value.shape}, expected {trial.expected.shape}")
    errors = trial.errors(value, convention.recomputes)
    worst = float(errors.max(initial=0.0))
    problem = ""
    if worst > trial.allowed_ulp:
        row, column = (int(place) for place in np.argwhere(errors > trial.allowed_ulp)[0])
        got, expected = _distinguished(float(value[row, column]), float(trial.expected[row, column]))
        problem = f"element [{row}, {column}] is {got}, expected {expected}"
    return Answer(trial, outcome, value, worst, problem)


def _distinguished(left: float, right: float) -> tuple[str, str]:
    """Two numbers as text, with at least six digits and enough to show that they differ."""
    for digits in (6, 9, 12):
        texts = f"{left:.{digits}g}", f"{right:.{digits}g}"
        if texts[0] != texts[1]:
            return texts
    return f"{left:.17g}", f"{right:.17g}"


def _takes_upstream(convention: Convention) -> bool:
    return "upstream" in convention.roles or (convention.style == "node" and convention.operation != "softmax")
