"""The verdict on somebody's gradient of softmax: how it is called, whether it is right, which mistake it makes."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .calling.conventions import Options
from .cost import CostReport, measure_cost
from .judging.answers import Answers, ask, ask_and_choose
from .judging.diagnosis import Diagnosis, known
from .judging.invariants import broken_invariants
from .judging.trials import SHAPES, patterns
from .judging.worked_example import worked_row
from .process.failures import Failure
from .process.isolation import Isolated, TargetFailedError
from .process.subject import Local, Subject

CALL_S = 10.0
LOAD_S = 30.0
MAX_BYTES = 1 << 30
RIGHT, WRONG, NOT_CALLED = 0, 1, 2


@dataclass
class Report:
    """What was found out about a target, for people (``command``) and programs (``to_json``).

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
        found = ask_and_choose(subject, options)
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


def _report(subject: Subject, name: str, found: Answers, options: Options) -> Report:
    """The report on a target whose convention is known: every trial is asked."""
    convention = found.convention
    ended = found.failure is not None and found.failure.ends_the_search
    if ended or not any(answer.value is not None for answer in found.answers):
        return Report(name, NOT_CALLED, convention.operation, str(convention), failure=found.failure)
    answers = ask(subject, convention, dataclasses.replace(options, reduction=found.reduction), SHAPES)
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
            report.diagnosis = known("softmax", "overwrites_grad_output")
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
