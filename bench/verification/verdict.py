"""The verdict on somebody's gradient of softmax: whether it is right, and which mistake it makes if it is not."""

import contextlib
import dataclasses
import enum
import functools
import math
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UserError
from ..instruments.machine_lock import hold_machine
from .calling.attention import VALUES
from .calling.classifiers import BASIS, IDENTITY
from .calling.convention import FORWARD_ONLY, LAYOUTS, Convention, Options
from .calling.models import PADDED, THROUGH
from .calling.roles import is_loss
from .cost import CostReport, measure_cost
from .judging.answers import Answers, ask, shows_right_loss
from .judging.bias import has_wrong_bias
from .judging.confirmation import confirm
from .judging.diagnosis import (
    Diagnosis,
    bias_is_wrong,
    buffer_is_shared,
    input_is_overwritten,
    known,
    penalty_is_wrong,
    state_is_kept,
)
from .judging.invariants import broken_invariants
from .judging.labels import COUNTS_LABELS, counts_classes_by_labels
from .judging.limits import SQUARE_ONLY
from .judging.penalty import is_wrongly_penalised
from .judging.search import Found, probe
from .judging.trials import ASCENT, ELEMENTS, SHAPES, patterns
from .judging.worked_example import worked_row
from .process.descent import Descent
from .process.failures import Failure
from .process.isolation import Isolated, TargetFailedError
from .process.subject import Local, Subject

SHOWN_NAMES = 3


class Status(enum.IntEnum):
    """The verdict as the exit status of the command."""

    RIGHT = 0
    WRONG = 1
    NOT_CALLED = 2

    @property
    def words(self) -> str:
        """The verdict in words."""
        return {Status.RIGHT: "right", Status.WRONG: "wrong", Status.NOT_CALLED: "could not be called"}[self]


# What the gradient is with respect to, where matrices that are not asked about were identities.
OF_IDENTITIES = {
    VALUES: "the gradient of its queries: keys and values were identity matrices, so that they are the logits",
    IDENTITY: "the gradient of its weights: its data was an identity matrix in reverse, so that they are the logits",
    PADDED: "the gradient of its last weights: its data was an identity matrix in reverse, so that they are the logits",
    THROUGH: "the gradient of its input: its weights were set to an identity matrix, so that it is the logits",
    BASIS: "the gradient of its input: its weights were an identity matrix, so that it is the logits",
}
# What is judged, if it is not the backward of softmax that one asks about: it is said before anything else.
JUDGED_AS = {
    "log_softmax": "the backward of log-softmax",
    "jacobian": "the Jacobian of softmax, without a gradient to multiply it by",
    "cross_entropy": "the backward of cross-entropy",
    "softmax_cross_entropy": "the backward of softmax and cross-entropy together",
}

NETWORK = "network"  # the operation of a target that is judged by all of its gradients
LARGE_WEIGHTS = "it is right for moderate weights only: where they are large its loss is NaN"

# What else a right gradient comes with and may be wrong, in which of the trials it is looked at, and its name.
BESIDE_THE_GRADIENT = ((is_wrongly_penalised, 0, penalty_is_wrong), (has_wrong_bias, 1, bias_is_wrong))


@dataclass
class Report:
    """What was found out about a target, for people (``command``) and programs (``to_json``)."""

    target: str
    status: Status
    operation: str = ""
    called_as: str = ""
    problems: list[str] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)  # of a right gradient
    thing: str = ""  # what the target is, if it is no plain backward of softmax
    notes: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)  # why a result that looks right is not believed
    diagnosis: Diagnosis | None = None
    right_only: str = ""  # words that follow 'right only'
    broken: list[str] = field(default_factory=list)  # properties of every right gradient that this one lacks
    worked: list[str] = field(default_factory=list)  # one row worked by hand
    max_error_ulp: float = np.nan
    failure: Failure | None = None
    printed: str = ""
    cost: CostReport | None = None
    verdict_s: float = np.nan

    @property
    def right(self) -> bool:
        """Whether the gradient is right, and believed to be so."""
        return self.status is Status.RIGHT and not self.complaints

    @property
    def words(self) -> str:
        """The verdict in words."""
        if self.status is Status.NOT_CALLED and self.thing:
            return "not a backward of softmax"
        if self.status is Status.RIGHT and self.complaints:
            return "not believed"
        return f"{self.status.words}, with a limit" if self.right and self.limits else self.status.words

    def exit_status(self, *, strict: bool) -> int:
        """The exit status of the command; ``strict``: a limit counts as wrong."""
        if self.status is Status.RIGHT and (self.complaints or (strict and self.limits)):
            return Status.WRONG
        return self.status

    def to_json(self) -> dict[str, Any]:
        """The report in the types of JSON; missing is null."""
        content: dict[str, Any] = _finite(dataclasses.asdict(self) | {"right": self.right})
        return content

    def __str__(self) -> str:
        lines = [f"{self.target}: {self.words}" + (f", {self.diagnosis.title}" if self.diagnosis else "")]
        lines += [*self.complaints, *self.limits, *filter(None, [self.thing])]
        if self.diagnosis is not None:
            lines += [self.diagnosis.explanation, f"computes   {self.diagnosis.computes}"]
            lines += [f"should be  {self.diagnosis.should}"]
        lines += [f"right only {self.right_only}"] if self.right_only else []
        lines += [*self.problems, *self.broken, *self.worked]
        if self.failure is not None:
            lines += [self.failure.summary, *filter(None, [self.failure.culprit]), *self.failure.lines]
        return "\n".join(lines)


def _finite(value: Any) -> Any:
    """The value with None in place of every number that is not finite, at any depth."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
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

    A function, a class or an object is called in this process. If ``target`` is a name, ``module:attribute`` or
    ``path.py:attribute``, it is loaded and called in a process of its own, which is ended when it hangs or dies.

    Args:
        target: what to verify, or its name.
        operation: ``softmax``, ``softmax_cross_entropy`` or ``cross_entropy``; found from names if not given.
        signature: the roles of the arguments in order, such as logits, probs, grad_output, targets, labels, upstream.
        forward: name of the forward method, or of the function that makes the cache of a backward function.
        backward: name of the backward method.
        result: the attribute that holds the gradient after the backward.
        axis: 0 for features-first arrays, 1 or -1 for batch-first; found by trying if not given.
        layout: rows, columns, vector, column or row; found by trying if not given.
        reduction: ``mean`` or ``sum`` of a loss over the batch; found by trying if not given.
        cost: whether to measure time and memory if the target is right. If another measurement of this suite is under
            way on the machine, a warning says so, and this one waits for it.

    Raises:
        UserError: the target or an option does not exist.
    """
    options = Options(
        operation=operation,
        signature=tuple(signature),
        forward=forward,
        backward=backward,
        result=result,
        layout=layout or layout_of_axis(axis),
        reduction=reduction,
    )
    alone = functools.partial(hold_machine, "softmax_bench.verify", warnings.warn)
    if not isinstance(target, str):
        name = getattr(target, "__name__", type(target).__name__)
        return examine(Local(target), name, options, with_cost=cost, alone=alone)
    with Isolated(target) as subject:
        return examine(subject, target, options, with_cost=cost, alone=alone)


def assert_vjp(target: Any, *, strict: bool = False, **options: Any) -> None:
    """Fail like ``assert`` unless the target is a right gradient of softmax; ``options`` are those of ``verify``.

    ``strict``: a right gradient with a limit fails, too.

    Raises:
        AssertionError: the target is wrong or could not be called; the message names the mistake.
    """
    __tracebackhide__ = True
    report = verify(target, **options)
    if report.exit_status(strict=strict) != Status.RIGHT:
        raise AssertionError(str(report))


def layout_of_axis(axis: int | None) -> str:
    """The layout for an axis of the features; empty if no axis is given."""
    return {None: "", 0: "columns", 1: "rows", -1: "rows"}[axis]


def examine(
    subject: Subject,
    name: str,
    options: Options,
    *,
    with_cost: bool = False,
    announce: Callable[[Report], None] = lambda _: None,
    alone: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> Report:
    """The report on a subject; ``announce`` is called with it before cost is measured, which takes longer.

    ``alone`` makes the block in which cost is measured.
    """
    started = time.perf_counter()
    probed: Found | None = None
    try:
        probed = probe(subject, options)
    except TargetFailedError as error:
        report = Report(name, Status.NOT_CALLED, failure=error.failure)
    except UserError:  # there is nothing that could be called by itself, but it may be part of a network
        of_network = _report_on_network(subject, name, options)
        if of_network is None:
            raise
        report = of_network
    else:
        report = _report(subject, name, probed, options)
        if _may_be_network(report, probed):
            report = _report_on_network(subject, name, options) or report
        elif report.right and probed.answers.convention.weights:  # those of its last layer are right
            of_network = _report_on_network(subject, name, options)
            report = of_network if of_network is not None and of_network.status is Status.WRONG else report
    report.printed = subject.printed() if isinstance(subject, Isolated) else ""
    if isinstance(subject, Isolated) and subject.forks():
        report.notes.append("it forks processes; they are ended with it")
    if isinstance(subject, Isolated) and report.status is Status.RIGHT and (changed := subject.changed()):
        report.complaints.append(changed)
    report.verdict_s = time.perf_counter() - started
    announce(report)
    if with_cost and report.right and report.operation != NETWORK and probed is not None:
        with alone():
            report.cost = measure_cost(subject, name, probed.answers.convention, inexact=bool(report.limits))
        report.complaints += report.cost.complaints
    return report


def _may_be_network(report: Report, found: Found) -> bool:
    """Whether a target that is not right may be so as a whole network: a penalty is judged elsewhere."""
    if report.failure is not None and report.failure.ends_the_search:
        return False
    is_penalised = report.diagnosis is not None and report.diagnosis.name == "wrong_penalty"
    is_of_weights = bool(found.answers.convention.weights) and not is_penalised
    return report.status is Status.NOT_CALLED or (report.status is Status.WRONG and is_of_weights)


def _report_on_network(subject: Subject, name: str, options: Options) -> Report | None:
    """The report on a target as a whole network; None if nothing can be said of its gradients."""
    found = subject.descent() if options == Options() else Descent()
    if isinstance(found, Failure) or not found.called_as:
        return None
    report = Report(name, Status.WRONG if found.wrong else Status.RIGHT, NETWORK, found.called_as)
    report.thing = f"a network with softmax and cross-entropy {'at its end' if found.ends_in_loss else 'put behind it'}"
    if found.wrong:
        loss = "loss that is returned with it" if found.gives_loss else "cross-entropy"
        report.problems.append(
            f"{', '.join(found.wrong)}: the gradient is not the derivative of the {loss}, by central differences; "
            "those of the others are"
        )
        return report
    report.limits += [LARGE_WEIGHTS] if found.overflows else []
    report.notes += [
        f"compared with central differences of its loss: the gradients of {found.parameters} arrays of parameters "
        "(one factor for all of them, such as a learning rate, is not judged)",
        "the cost of a network is not measured",
    ]
    return report


def _report(subject: Subject, name: str, found: Found, options: Options) -> Report:
    """The report on a target from its answers to all trials, in the convention that was found by probing."""
    probed = found.answers
    convention = probed.convention
    ended = probed.failure is not None and probed.failure.ends_the_search
    report = Report(name, Status.NOT_CALLED, convention.operation, str(convention))
    report.thing = found.thing or _judged_as(convention, probed.reduction)
    if found.thing and not ended:
        report.called_as = ""
        return report
    if ended or not probed.gave:
        report.failure, report.thing = probed.failure, ""
        return report
    answers = ask(subject, convention, dataclasses.replace(options, reduction=probed.reduction), SHAPES)
    if answers.failure is not None and not (answers.fits or answers.diagnosis):
        # It fails on the plainest batch and gives elsewhere what is no known mistake: it is called in another way.
        report.failure, report.thing = answers.failure, ""
        return report
    if not answers.fits and answers.diagnosis is None and _is_far_fetched(answers):
        report.failure, report.thing = Failure("nothing", "takes arguments that fit no backward that is known here"), ""
        return report
    if any(limit.startswith(SQUARE_ONLY) for limit in answers.limits):
        report.failure = Failure("nothing", f"{SQUARE_ONLY}, and is called with other numbers of both")
        return report
    report.status = Status.RIGHT if answers.fits and not found.one_row_only else Status.WRONG
    if not convention.descends:  # what is subtracted from weights is rounded to their digits
        report.max_error_ulp = max((answer.error_ulp for answer in answers.answers if answer.right), default=np.nan)
    if report.right:
        _add_limits(report, answers, found, options)
    else:
        _add_what_is_wrong(report, subject, answers, found)
    _add_side_effects(report, answers)
    for is_wrong, place, diagnosis in BESIDE_THE_GRADIENT:
        if report.status is Status.RIGHT and is_wrong(subject, convention, answers.answers[place].trial):
            report.status, report.diagnosis = Status.WRONG, diagnosis(convention.operation)
            report.limits.clear()
    if report.status is Status.RIGHT and counts_classes_by_labels(subject, convention, answers.answers[0].trial):
        report.limits.append(COUNTS_LABELS)
    if report.status is Status.RIGHT:
        _add_confirmation(report, subject, answers)
    report.notes += _notes(answers, options)
    return report


def _is_far_fetched(answers: Answers) -> bool:
    """Whether no author calls a backward so: with logits and probabilities, as a forward alone, after one of labels.

    A forward that returns the right loss was called rightly, and what it returns beside it is its gradient.
    """
    convention = answers.convention
    own = {*convention.arguments, *convention.cached} if convention.forward else convention.roles
    of_logits = own - ({"logits"} if IDENTITY in convention.roles else set())  # these are weights
    twice = len({"logits", "probs", "log_probs"} & of_logits) > 1
    as_forward = convention.style == FORWARD_ONLY
    if convention.is_forward_called_as_backward:
        as_forward = not shows_right_loss(answers)
    of_labels = convention.style == "pair" and convention.forward_arguments in (("labels",), ("targets",))
    return twice or as_forward or of_labels or bool({"ones", "row_ones"} & convention.roles)


def _judged_as(convention: Convention, reduction: str) -> str:
    """What is judged, in words; empty for the plain backward of softmax."""
    if reduction == ASCENT:
        return "the gradient of the logarithm of one class's probability, as a policy gradient has it"
    if convention.temperature != 1.0 and convention.operation == "softmax":
        return f"the backward of softmax(logits / temperature), with a temperature of {convention.temperature:g}"
    return JUDGED_AS.get(convention.operation, "")


def _add_limits(report: Report, answers: Answers, found: Found, options: Options) -> None:
    """Add what a right gradient cannot do."""
    if answers.diagnosis is not None:
        report.diagnosis = answers.diagnosis
    if answers.limits:
        report.problems = _problems(answers)
        report.limits += answers.limits
    if found.for_rows:
        report.limits.append(
            f"its divisor is right for arrays [features, batch] only: for [batch, features] it is {found.for_rows}"
        )
    if answers.convention.is_single and not options.layout:
        report.limits.append(f"it takes one row at a time: {LAYOUTS[answers.convention.layout]}{_with_a_batch(found)}")


def _with_a_batch(found: Found) -> str:
    """What a target that takes single rows does with a batch, as the end of a sentence; empty if that is not known."""
    batches = found.on_batches
    if batches is None:
        return ""
    if batches.failure is not None:
        where = f" at {batches.failure.culprit}" if batches.failure.culprit else ""
        return f"; a batch fails: {batches.failure.summary}{where}"
    return f"; a batch is wrong: {batches.diagnosis.title}" if batches.diagnosis else "; a batch is wrong"


def _add_what_is_wrong(report: Report, subject: Subject, answers: Answers, found: Found) -> None:
    """Add the mistake, where it shows, a row worked by hand, and the doubt if other readings show other mistakes."""
    if found.one_row_only:
        on_batches = found.on_batches
        report.diagnosis = on_batches.diagnosis if on_batches else None
        report.right_only = "for one row: its code is for batches"
        report.problems = _problems(on_batches) if on_batches else []
        return
    report.diagnosis = answers.diagnosis
    report.problems = _problems(answers)
    report.right_only = _right_only(answers)
    if report.diagnosis is None:
        report.broken = broken_invariants(subject, answers.convention)
    report.worked = worked_row(subject, answers.convention, answers.reduction)
    if found.other_names and answers.convention.operation == "softmax":
        report.notes.append(
            f"called in another way, its mistake would be: {', '.join(found.other_names[:SHOWN_NAMES])}"
        )


def _problems(answers: Answers) -> list[str]:
    """What is wrong in which trials; trials with the same problem share a line. The optional trial is left out."""
    problems: dict[str, list[str]] = {}
    for answer in answers.answers:
        if answer.problem and not answer.trial.optional:
            problems.setdefault(answer.problem, []).append(answer.trial.label)
    lines = [f"{', '.join(labels)}: {problem}" for problem, labels in problems.items()]
    return lines + _wrong_forward(answers)


def _wrong_forward(answers: Answers) -> list[str]:
    """What is wrong with the probabilities that a forward returned."""
    convention = answers.convention
    if convention.operation != "softmax" or convention.is_single or convention.style in ("tensor", "closure"):
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
    """What only the right trials have in common, in words that follow 'right only'."""
    telling = [answer for answer in answers.answers if answer.trial.telling]
    if not any(answer.right for answer in telling):
        return ""
    for words, fits in patterns():
        if all(answer.right == fits(answer.trial) for answer in telling):
            return words
    return "for " + ", ".join(answer.trial.label for answer in telling if answer.right)


def _add_side_effects(report: Report, answers: Answers) -> None:
    """Add what makes even right results wrong: overwritten inputs, or a second call with a different result."""
    overwritten = {role for answer in answers.answers for role in answer.outcome.overwritten}
    if overwritten:
        report.problems.append(f"it overwrites its input: {', '.join(sorted(overwritten))}")
        if report.right and "grad_output" in overwritten and answers.convention.operation == "softmax":
            report.diagnosis = known("softmax", "overwrites_grad_output")
        elif report.right:
            report.diagnosis = input_is_overwritten(answers.convention.operation, min(overwritten))
        report.status = Status.WRONG
    if any(answer.keeps_state for answer in answers.answers):
        report.problems.append("a result depends on the calls before it: something is kept or added up")
        report.diagnosis = report.diagnosis if not report.right else state_is_kept(answers.convention.operation)
        report.status = Status.WRONG
    elif not all(answer.outcome.kept for answer in answers.answers):
        report.problems.append("the result of a call changes when the next call is made: both share one array")
        report.diagnosis = report.diagnosis if not report.right else buffer_is_shared(answers.convention.operation)
        report.status = Status.WRONG


def _add_confirmation(report: Report, subject: Subject, answers: Answers) -> None:
    """Add what is wrong with inputs that the target cannot have met before."""
    dtypes = [answer.trial.dtype for answer in answers.answers if answer.right and answer.trial.logits == "normal"]
    confirmation = confirm(
        subject, answers.convention, dtypes=tuple(dict.fromkeys(dtypes)), inexact=bool(report.limits)
    )
    report.complaints += confirmation.odd
    report.limits += confirmation.limits
    if confirmation.wrong:
        report.status = Status.WRONG
        report.limits.clear()
        report.problems += confirmation.wrong
        report.right_only = "for the inputs of the usual trials"


def _notes(answers: Answers, options: Options) -> list[str]:
    """What is worth knowing but not wrong."""
    convention, notes = answers.convention, []
    valued = [answer for answer in answers.answers if answer.value is not None]
    float32_results = [answer.outcome.value for answer in valued if answer.trial.dtype == "float32"]
    if any(value is not None and value.dtype == np.float64 for value in float32_results):
        notes.append("it upcasts: from float32 inputs it makes a float64 result, twice the memory")
    if convention.layout == "columns" and not options.layout and answers.fits:
        notes.append(
            "it is right for features-first arrays, [features, batch] (axis 0), and wrong for [batch, features]"
        )
    if convention.is_single and not options.layout:
        notes.append("it was called once for each row")
    found_in = {answer.outcome.found_in for answer in valued} - {""}
    if found_in and not options.result:
        notes.append(f"the gradient was found in the attribute {', '.join(sorted(found_in))}")
    notes += [note for role, note in OF_IDENTITIES.items() if role in convention.roles | {convention.weights}]
    if is_loss(convention.operation) and answers.reduction != ASCENT:
        if convention.names_log_probability:
            notes.append("its name says a log-probability; this is the gradient of minus that, as of a loss")
        of_elements = answers.reduction == ELEMENTS
        reduction, over = ("mean", "all elements") if of_elements else (answers.reduction, "the batch")
        notes.append(f"compared with the gradient of the {reduction} of the loss over {over}")
    empty = [answer.problem for answer in answers.answers if answer.trial.optional and answer.problem]
    return notes + [f"with an empty batch it fails: {problem}" for problem in empty]
