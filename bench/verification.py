"""The verdict on somebody's gradient of softmax: how it is called, whether it is right, which mistake it makes."""

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import diagnosis as known_mistakes
from .conventions import Convention, Options
from .costing import CostReport, measure_cost
from .diagnosis import Diagnosis, diagnose
from .implementations import FloatArray
from .invariants import broken_invariants
from .isolation import Isolated, TargetFailedError
from .subject import Failure, Local, Outcome, Subject
from .trials import OPERATIONS, PROBING, SHAPES, Trial, patterns, trials
from .worked import worked_row

CALL_S = 10.0
LOAD_S = 30.0
MAX_BYTES = 1 << 30
RIGHT, WRONG, NOT_CALLED = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Answer:
    """What a target gave in one trial: its result freed of the upstream factor, and what is wrong with it."""

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
    """A convention, and the answers to its trials; ``reduction`` of a loss over the batch is what fits them."""

    convention: Convention
    reduction: str
    answers: tuple[Answer, ...]
    diagnosis: Diagnosis | None = None

    @property
    def right(self) -> bool:
        """Whether every answer that counts is right."""
        return all(answer.right for answer in self.answers if not answer.trial.optional)

    @property
    def rank(self) -> tuple[bool, bool, bool, int]:
        """How likely the convention is meant: right, with a right loss, a known mistake, the number of results."""
        named = self.diagnosis is not None
        return self.right, _forward_fits(self), named, 0 if named else sum(map(_is_shaped, self.answers))

    @property
    def takes_batches(self) -> bool:
        """Whether a batch was taken without complaint, and not for a single row: its result has the right shape."""
        named = self.diagnosis is not None and all(answer.value is not None for answer in self.answers)
        return named or any(map(_is_shaped, self.answers[:1]))

    @property
    def failure(self) -> Failure | None:
        """How the first trial failed, None if it did not."""
        return self.answers[0].outcome.failure if self.answers else None


def _is_shaped(answer: Answer) -> bool:
    return answer.value is not None and answer.value.shape == answer.trial.expected.shape


@dataclass
class Report:
    """What was found out about a target, for people (``bench.verify_command``) and programs (``to_json``).

    ``status`` is the exit status: 0 right, 1 wrong, 2 could not be called.
    """

    target: str
    status: int
    operation: str = ""
    called_as: str = ""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    diagnosis: Diagnosis | None = None
    right_only: str = ""
    broken: list[str] = field(default_factory=list)  # what every right gradient keeps and this one does not
    worked: list[str] = field(default_factory=list)
    max_error_ulp: float = np.nan
    failure: Failure | None = None
    printed: str = ""
    cost: CostReport | None = None
    verdict_s: float = np.nan

    @property
    def right(self) -> bool:
        """Whether the gradient is right."""
        return self.status == RIGHT

    def to_json(self) -> dict[str, Any]:
        """The report as what JSON can hold; missing is null."""
        whole: dict[str, Any] = _finite(dataclasses.asdict(self) | {"right": self.right})
        return whole

    def __str__(self) -> str:
        verdict = {RIGHT: "right", WRONG: "wrong", NOT_CALLED: "could not be called"}[self.status]
        lines = [f"{self.target}: {verdict}" + (f", {self.diagnosis.title}" if self.diagnosis else "")]
        if self.diagnosis is not None:
            lines += [self.diagnosis.explanation, f"computes   {self.diagnosis.computes}"]
            lines += [f"should be  {self.diagnosis.should}"]
        lines += [f"right only {self.right_only}"] if self.right_only else []
        lines += [*self.problems, *self.broken, *self.worked]
        if self.failure is not None:
            lines += [self.failure.summary, *filter(None, [self.failure.culprit]), *self.failure.lines]
        return "\n".join(lines)


def _finite(value: Any) -> Any:
    """The value with None for every number, at whatever depth, that is not finite."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def verify(
    target: Any,
    *,
    operation: str = "",
    signature: Sequence[str] = (),
    forward: str = "",
    backward: str = "",
    result: str = "",
    axis: int | None = None,
    layout: str = "",
    reduction: str = "",
    cost: bool = False,
) -> Report:
    """The report on a gradient of softmax.

    A function, a class or an object is called in this process. The name of one, ``module:attribute`` or
    ``path.py:attribute``, is loaded and called in a process of its own, which is ended when it hangs or dies.

    Args:
        target: what to verify, or its name.
        operation: ``softmax`` (unless parameters are named like targets), ``softmax_cross_entropy``, ``cross_entropy``.
        signature: roles of the arguments in order, of logits, probs, grad_output, targets, labels, upstream.
        forward: name of the forward method (or of the function beside a backward that takes its cache).
        backward: name of the backward method.
        result: attribute in which the gradient is left.
        axis: 0 for features-first arrays, 1 or -1 for batch-first; tried if not given.
        layout: rows, columns, vector, column or row; tried if not given.
        reduction: ``mean`` or ``sum`` of a loss over the batch; tried if not given.
        cost: whether to measure time and memory where the target is right.

    Raises:
        UserError: the target or an option does not exist.

    """
    options = Options(operation, tuple(signature), forward, backward, result, layout or layout_of_axis(axis), reduction)
    if not isinstance(target, str):
        return examine(Local(target), getattr(target, "__name__", type(target).__name__), options, with_cost=cost)
    with Isolated(target, CALL_S, LOAD_S, MAX_BYTES) as subject:
        return examine(subject, target, options, with_cost=cost)


def assert_vjp(target: Any, **options: Any) -> None:
    """Fail, as ``assert`` does, unless the target is a right gradient of softmax; ``options`` are those of ``verify``.

    Raises:
        AssertionError: it is wrong or cannot be called; the message names the mistake.

    """
    __tracebackhide__ = True
    report = verify(target, **options)
    if not report.right:
        raise AssertionError(str(report))


def layout_of_axis(axis: int | None) -> str:
    """The layout that an axis of the features means; empty where none is given."""
    return {None: "", 0: "columns", 1: "rows", -1: "rows"}[axis]


def examine(
    subject: Subject,
    name: str,
    options: Options,
    *,
    with_cost: bool = False,
    announce: Callable[[Report], None] = lambda _: None,
) -> Report:
    """The report on a subject; ``announce`` gets it as soon as there is a verdict, before any cost is measured."""
    started = time.perf_counter()
    found: Answers | None = None
    try:
        found = _search(subject, options)
    except TargetFailedError as error:
        report = Report(name, NOT_CALLED, failure=error.failure)
    else:
        report = _report(subject, name, found, options)
    report.printed = subject.printed() if isinstance(subject, Isolated) else ""
    if isinstance(subject, Isolated) and subject.forks():
        report.notes.append("it forks processes; they are ended with it")
    report.verdict_s = time.perf_counter() - started
    announce(report)
    if with_cost and report.right and found is not None:
        report.cost = measure_cost(subject, name, found.convention)
    return report


def find_convention(subject: Subject, options: Options) -> Convention:
    """The convention in which a subject is best called.

    Raises:
        UserError: there is no such target.
        TargetFailedError: it cannot be loaded.

    """
    return _search(subject, options).convention


def _search(subject: Subject, options: Options) -> Answers:
    """The convention that fits best, with its answers to the probing trials.

    Batches are tried before single rows, and single rows only if no way of passing batches gives results of their
    shape: a function that takes a batch without complaint is judged on batches.
    """
    conventions = subject.candidates(options)
    best: Answers | None = None
    for layout, container in _arrangements(subject, options):
        if best is not None and best.takes_batches and (layout not in ("rows", "columns") or container != "array"):
            break
        for convention in conventions:
            arranged = dataclasses.replace(convention, layout=layout, container=container)
            answers = _answers(subject, arranged, options, PROBING)
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
    # Arrays in every layout that takes a batch, then what else takes a batch, then single rows.
    return sorted(every, key=lambda one: (one[0] not in ("rows", "columns"), one[1] != "array"))


def _answers(
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
        answers = tuple(judge(trial, one, convention) for trial, one in zip(asked, outcomes, strict=False))
        judged.append(Answers(convention, reduction, answers))
    fitting = [one for one in judged if one.right and _forward_fits(one)]
    if fitting:
        return fitting[0]
    chosen = next((one for one in judged if _forward_fits(one)), judged[0])
    given = [(answer.trial, answer.value) for answer in chosen.answers]
    found = diagnose(convention.operation, given, _formula(convention.operation, chosen.reduction))
    return dataclasses.replace(chosen, diagnosis=found)


def _forward_fits(answers: Answers) -> bool:
    """Whether the loss that a forward returned, if it did, is the mean or the sum that the gradient is held against."""
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
    """The answer that an outcome is."""
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
        got, expected = _told_apart(float(value[row, column]), float(trial.expected[row, column]))
        problem = f"element [{row}, {column}] is {got}, expected {expected}"
    return Answer(trial, outcome, value, worst, problem)


def _told_apart(left: float, right: float) -> tuple[str, str]:
    """Two numbers with as many digits, six at least, as show that they differ."""
    for digits in (6, 9, 12):
        texts = f"{left:.{digits}g}", f"{right:.{digits}g}"
        if texts[0] != texts[1]:
            return texts
    return f"{left:.17g}", f"{right:.17g}"


def _takes_upstream(convention: Convention) -> bool:
    return "upstream" in convention.roles or (convention.style == "node" and convention.operation != "softmax")


def _report(subject: Subject, name: str, found: Answers, options: Options) -> Report:
    """The report on a target whose convention is known: every trial is asked."""
    convention = found.convention
    ended = found.failure is not None and found.failure.ends_the_search
    if ended or not any(answer.value is not None for answer in found.answers):
        return Report(name, NOT_CALLED, convention.operation, str(convention), failure=found.failure)
    answers = _answers(subject, convention, dataclasses.replace(options, reduction=found.reduction), SHAPES)
    report = Report(name, RIGHT if answers.right else WRONG, convention.operation, str(convention))
    report.max_error_ulp = max((one.error_ulp for one in answers.answers if one.right), default=np.nan)
    report.diagnosis = answers.diagnosis if not answers.right else None
    if not answers.right:
        report.problems = _problems(answers)
        report.right_only = _right_only(answers)
        if report.diagnosis is None:
            report.broken = broken_invariants(subject, convention)
        report.worked = worked_row(subject, convention, answers.reduction)
    _side_effects(report, answers)
    report.notes += _notes(answers, options)
    return report


def _problems(answers: Answers) -> list[str]:
    """What is wrong, trial by trial, where that counts; failures with the same words once."""
    problems: dict[str, list[str]] = {}
    for answer in answers.answers:
        if answer.problem and not answer.trial.optional:
            problems.setdefault(answer.problem, []).append(answer.trial.label)
    told = [f"{', '.join(labels)}: {problem}" for problem, labels in problems.items()]
    return told + _wrong_forward(answers)


def _wrong_forward(answers: Answers) -> list[str]:
    """What is wrong with the probabilities that a forward returned."""
    convention = answers.convention
    if convention.operation != "softmax" or convention.is_single:
        return []
    for answer in answers.answers:
        forward, probs = answer.outcome.forward, answer.trial.inputs["probs"]
        if forward is None or forward.size != probs.size or not probs.size:
            continue
        forward = forward.T if convention.layout == "columns" else forward
        if forward.shape == probs.shape and not np.allclose(forward, probs, rtol=1e-3, atol=1e-6):
            total = float(forward[0].sum())
            return [f"its forward is not softmax of each row ({answer.trial.label}: the first row sums to {total:.6g})"]
    return []


def _right_only(answers: Answers) -> str:
    """What the right trials have in common that the wrong ones have not, in words that follow 'right only'."""
    telling = [answer for answer in answers.answers if answer.trial.telling]
    if not any(answer.right for answer in telling):
        return ""
    for words, fits in patterns():
        if all(answer.right == fits(answer.trial) for answer in telling):
            return words
    return "for " + ", ".join(answer.trial.label for answer in telling if answer.right)


def _side_effects(report: Report, answers: Answers) -> None:
    """Add what a right result does not excuse: inputs that are overwritten, a second call that gives something else."""
    overwritten = {role for answer in answers.answers for role in answer.outcome.overwritten}
    if overwritten:
        report.problems.append(f"it overwrites its input: {', '.join(sorted(overwritten))}")
        if report.right and "grad_output" in overwritten and answers.convention.operation == "softmax":
            report.diagnosis = known_mistakes.known("softmax", "overwrites_grad_output")
        report.status = WRONG
    if not all(answer.outcome.repeatable for answer in answers.answers):
        report.problems.append("a second call with the same inputs gives another result: something is kept or added up")
        report.status = WRONG


def _notes(answers: Answers, options: Options) -> list[str]:
    """What is worth knowing and not wrong."""
    convention, notes = answers.convention, []
    valued = [answer for answer in answers.answers if answer.value is not None]
    upcast = [one for one in valued if one.trial.dtype == "float32" and one.outcome.value is not None]
    if any(one.outcome.value.dtype == np.float64 for one in upcast if one.outcome.value is not None):
        notes.append("it upcasts: float32 comes in and float64 goes out, twice the memory")
    if convention.layout == "columns" and not options.layout:
        notes.append("it fits features-first arrays, [features, batch] (axis 0); for [batch, features] it is wrong")
    if convention.is_single and not options.layout:
        notes.append("it takes a single row at a time, not a batch; it was called once a row")
    found_in = {one.outcome.found_in for one in valued} - {""}
    if found_in and not options.result:
        notes.append(f"the gradient was found in the attribute {', '.join(sorted(found_in))}")
    if convention.operation != "softmax":
        notes.append(f"held against the gradient of the {answers.reduction} of the loss over the batch")
    empty = [answer.problem for answer in answers.answers if answer.trial.optional and answer.problem]
    return notes + [f"with an empty batch it fails: {problem}" for problem in empty]
