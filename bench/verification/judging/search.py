"""The search for a convention in which a target is right, or in which its mistake is the least surprising."""

import ast
import dataclasses
import itertools
import re
import textwrap
import time
from collections.abc import Iterable
from dataclasses import dataclass

from ...implementations import FloatArray
from ..calling.arrays import FLOAT32, MANY_AXES
from ..calling.convention import FORWARD_ONLY, SINGLE, Convention, Options
from ..calling.roles import is_loss
from ..process.subject import Subject
from .answers import Answers, ask
from .own_forward import OF_OWN_FORWARD, OWN_FORWARD, is_of_own_forward
from .things import (
    LOG_SOFTMAX,
    LOSS,
    SOFTMAX,
    forward_named,
    is_of_binary,
    is_squared_error,
    named_as_relative,
    named_otherwise,
    temperature_of,
)
from .trials import PROBING, Trial, trials

OF_SQUARED_ERROR = "the gradient of a squared error, not of cross-entropy"
MOST_NUMBERS = 3  # that a function may return beside each other, none of which is an array
# No more readings are tried after so long, or when calls as slow as that have taken so long: they may train a network.
LONGEST_SEARCH_S, LONGEST_IN_SLOW_S, SLOW_S = 12.0, 5.0, 0.4
MOST_UNUSUAL = 24  # conventions that are tried with nested lists, and with more axes: the likeliest
# Mistakes that a batch shows when the code is meant for one vector at a time.
OF_VECTORS = (
    "whole_array_as_one_row",
    "normalised_over_array",
    "normalised_over_array_then_rows",
    "jacobian_of_flattened_batch",
)
_SQUARES = re.compile(r"mse|squared?|quadratic|euclid", re.IGNORECASE)
_WEIGHTS = re.compile(r"\bself\.([wW](_?(\d+|[a-z]{1,2}|out))?|weights?(_?\w+)?|kernel)\b")
_OF_AGENT = re.compile(r"def (\w+\([^)]*\b(states?|obs|observations?)|\w*policy\w*\([^)]*\b(weights?|theta|w))\b")
_AGENT = re.compile(r"action|reward|polic|agent|episode", re.IGNORECASE)
_NAMES_BATCH = re.compile(r"batch|n_?samples", re.IGNORECASE)
_REDUCTIONS = ("sum", "max", "mean", "amax")
_SAYS_BACKWARD = re.compile(r"back|bwd|grad|deriv|prime|diff|jacob|vjp|^d[A-Z_]", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """The answers to the probing trials in the convention that fits best, and what else is known about the target."""

    answers: Answers
    on_batches: Answers | None = None  # of a target that takes single rows: what it does with a batch
    one_row_only: bool = False  # whether it is code of batches that is right for one row alone
    thing: str = ""  # what the target is, if it is no backward of softmax
    for_rows: str = ""  # of a loss that is right features first, by its divisor alone: what it is batch first
    other_names: tuple[str, ...] = ()  # of mistakes that it makes in other readings that the code admits


def probe(subject: Subject, options: Options) -> Found:
    """The convention in which the target is right; if there is none, what it is, or the likeliest mistake.

    Raises:
        UserError: there is no such target.
        TargetFailedError: it cannot be loaded.
    """
    conventions = subject.candidates(options)
    found = _search(subject, options, conventions)
    failure = found.answers.failure
    if not options.operation and (thing := _thing_by_its_result(subject, found.answers)):
        is_right = thing == OF_SQUARED_ERROR and is_of_own_forward(subject, conventions)
        return dataclasses.replace(found, thing=f"{thing}: {OWN_FORWARD}" if is_right else thing)
    if found.answers.fits or options.operation or (failure is not None and failure.ends_the_search):
        return found
    trial, forward = _forward_of(subject, found.answers, conventions)
    name = forward_named(forward, trial)
    temperature = temperature_of(forward, trial)
    if name == LOG_SOFTMAX:
        return _search(subject, options, subject.candidates(dataclasses.replace(options, operation="log_softmax")))
    if temperature != 1.0:
        scaled = [dataclasses.replace(convention, temperature=temperature) for convention in conventions]
        return _search(subject, options, scaled)
    thing = _thing(name, found, conventions)
    if not thing and not found.answers.convention.forward:  # else it is compared with that
        thing = named_as_relative(f"{found.answers.convention.owner}_{found.answers.convention.backward}")
    shown = found.answers.diagnosis
    says_little = shown is None or (bool(shown.factor) and found.answers.convention.is_single)
    if not thing and not name and says_little and is_of_own_forward(subject, conventions):
        thing = OF_OWN_FORWARD
    if not thing and shown is None:
        thing = _thing_without_a_mistake(subject, found.answers)
    return dataclasses.replace(found, thing=thing)


def _thing_by_its_result(subject: Subject, answers: Answers) -> str:
    """What a target is by what it returned, or by what it takes, in words; empty if it may be a backward of softmax."""
    if _is_of_squared_error(answers):
        return OF_SQUARED_ERROR
    if any(is_of_binary(each.value, each.trial) for each in answers.answers[:1]):
        return "the gradient of binary cross-entropy, not of softmax's"
    source = "" if answers.fits else subject.source(answers.convention)
    is_of_agent = _OF_AGENT.search(source) and _AGENT.search(source)
    return "a function of an agent's state, with weights of its own" if is_of_agent else ""


def _thing_without_a_mistake(subject: Subject, answers: Answers) -> str:
    """What a target is that shows no known mistake, in words; empty if it may be a backward of softmax."""
    convention = answers.convention
    # A loss's weights are those of its classes.
    if not convention.names_loss and _WEIGHTS.search(subject.source(convention)):
        return "a layer with weights of its own, not softmax alone"
    return named_otherwise(f"{convention.owner}_{convention.backward}") or _numbers(answers)


def _numbers(answers: Answers) -> str:
    """What a target is that returns a number, or as few of them for every shape, in words; empty if it does not."""
    sizes = {
        each.value.size
        for each in answers.answers
        if each.value is not None and each.trial.expected.size > MOST_NUMBERS
    }
    if sizes == {1}:
        return "a number, not a gradient"
    shapes = {each.trial.expected.shape for each in answers.answers}
    are_few = len(sizes) == 1 and max(sizes) <= MOST_NUMBERS and len(shapes) > 1
    return f"{max(sizes)} numbers, not a gradient" if are_few else ""


def _is_of_squared_error(answers: Answers) -> bool:
    """Whether the loss that a forward returned, or a name, says that this is the gradient of another loss."""
    convention = answers.convention
    if not is_loss(convention.operation):
        return False
    named = _SQUARES.search(f"{convention.owner} {convention.backward}") is not None
    known = answers.fits or answers.diagnosis is not None
    return (named and known) or any(is_squared_error(each.outcome.forward, each.trial) for each in answers.answers[:1])


def _thing(name: str, found: Found, conventions: list[Convention]) -> str:
    """What a target is whose forward has this name, in words; empty if it is a backward of softmax."""
    gave = found.answers.gave and found.answers.convention.style in ("tensor", "closure", "transform")
    has_backward = gave or any(convention.style in ("pair", "node", "method") for convention in conventions)
    if name == SOFTMAX:
        shown = found.answers.convention
        is_backward = has_backward or shown.is_flagged or _SAYS_BACKWARD.search(shown.backward)
        return "" if is_backward else "the forward of softmax, without a backward"
    if name == LOSS:
        gave_both = any(answer.is_shaped for answer in found.answers.answers)
        return "" if has_backward or gave_both else "the value of a loss, not its gradient"
    return f"{name}, not softmax" if name else ""


def _forward_of(subject: Subject, best: Answers, conventions: list[Convention]) -> tuple[Trial, FloatArray | None]:
    """What the target's forward computed in a trial: that of the best convention, else that of the forward alone."""
    for answer in best.answers[:1]:
        if answer.outcome.forward is not None and not best.convention.is_single:
            return answer.trial, answer.outcome.forward
    trial = trials("softmax", shapes=PROBING)[0]
    alone = [convention for convention in conventions if convention.style == FORWARD_ONLY]
    for convention in alone:
        value = subject.call(convention, trial.inputs).value
        if value is not None and (forward_named(value, trial) or temperature_of(value, trial) != 1.0):
            return trial, value
    return trial, None


def _search(subject: Subject, options: Options, conventions: list[Convention]) -> Found:
    """The best of all readings; single rows are tried only if no reading of batches fits or shows its own mistake."""
    best: Answers | None = None
    names: list[str] = []
    misfits: set[Convention] = set()  # whose arguments are not those of the target, in whatever they come
    conventions = [each for each in conventions if each.style != FORWARD_ONLY] or conventions
    started_s, in_slow_s = time.monotonic(), 0.0
    for layout, container in _arrangements(subject, options):
        if best is not None and _is_settled(best, layout, container):
            continue
        is_unusual = container == "list" or layout in MANY_AXES
        for convention in conventions[: MOST_UNUSUAL if is_unusual else None]:
            if convention in misfits or not convention.admits(layout, container):
                continue
            arranged = dataclasses.replace(convention, layout=layout, container=container)
            asked_s = time.monotonic()
            if best is not None and (asked_s - started_s > LONGEST_SEARCH_S or in_slow_s > LONGEST_IN_SLOW_S):
                continue
            answers = ask(subject, arranged, options, PROBING)
            took_s = time.monotonic() - asked_s
            in_slow_s += took_s if took_s > SLOW_S else 0.0
            if answers.fits and not answers.has_other_loss:
                found = _found(subject, answers, best, options)
                if not (found.one_row_only and convention.is_of_one_loss):
                    return found
            if best is not None and not _may_show_a_mistake(answers, best):
                continue
            if answers.failure is not None and answers.failure.is_of_arguments:
                misfits.add(convention)
            names += [answers.diagnosis.title] if answers.diagnosis else []
            if best is None or answers.rank > best.rank:
                best = answers
            if answers.failure is not None and answers.failure.ends_the_search:
                return Found(best)
    assert best is not None  # noqa: S101 - there is at least one candidate
    mine = best.diagnosis.title if best.diagnosis else ""
    return Found(best, other_names=tuple(name for name in dict.fromkeys(names) if name != mine))


def _may_show_a_mistake(answers: Answers, best: Answers) -> bool:
    """Whether a reading that is not right may be the author's, so that its mistake is one."""
    convention = answers.convention
    if convention.is_of_one_loss or convention.operation == "jacobian":
        return answers.fits  # what is not right so is judged as a backward
    shown = answers.diagnosis.name if answers.diagnosis else ""
    if convention.weights and (not shown or (shown == "pass_through" and not _forward_is_softmax(answers))):
        return answers.fits  # with other weights than its own, a model shows only what is known, and any lets through
    if convention.is_single and best.diagnosis is not None and best.diagnosis.name in OF_VECTORS:
        return answers.fits  # each of these is right for single rows
    # Arrays in something else show a mistake only where arrays alone give nothing.
    return not convention.wrapping or answers.fits or not (best.gave or answers.diagnosis is None)


def _found(subject: Subject, answers: Answers, best: Answers | None, options: Options) -> Found:
    """The reading that fits, unless it hides that code of batches is right for one row alone."""
    if not answers.convention.is_single or options.layout:
        return Found(answers, for_rows="" if options.layout else _decided_by_a_divisor(answers, best))
    if best is not None and (_forward_takes_batches(best) or says_batch(subject.source(answers.convention))):
        same = dataclasses.replace(answers.convention, layout="rows")
        on_batches = ask(subject, same, options, PROBING)
        is_called = on_batches.takes_batches or not best.takes_batches
        return Found(answers, on_batches if is_called else best, one_row_only=True)
    is_the_same = best is not None and best.diagnosis is not None and best.diagnosis.name == "jacobian_unmultiplied"
    return Found(answers, None if is_the_same else best)


def _decided_by_a_divisor(answers: Answers, best: Answers | None) -> str:
    """The mistake that a loss's gradient has batch first, if it is right features first and only a factor differs."""
    convention = answers.convention
    if convention.layout != "columns" or not is_loss(convention.operation) or best is None or best.diagnosis is None:
        return ""
    is_the_same = best.convention == dataclasses.replace(convention, layout="rows")
    return best.diagnosis.title if is_the_same and best.diagnosis.factor else ""


def _forward_takes_batches(on_batches: Answers) -> bool:
    """Whether the forward is right for a batch, whose backward is not but has the right shape."""
    return _forward_is_softmax(on_batches) and all(answer.is_shaped for answer in on_batches.answers[:1])


def _forward_is_softmax(answers: Answers) -> bool:
    """Whether the forward of the first answer computed softmax or its logarithm."""
    return any(
        forward_named(answer.outcome.forward, answer.trial) in (SOFTMAX, LOG_SOFTMAX) for answer in answers.answers[:1]
    )


def says_batch(source: str) -> bool:
    """Whether code is meant for batches: it reduces along axis 1, picks one of each row, or a name speaks of a batch.

    Code that makes one row of whatever comes is not.
    """
    try:
        nodes = list(ast.walk(ast.parse(textwrap.dedent(source))))
    except SyntaxError:  # such as a lambda in the middle of a call
        return False
    if any(isinstance(node, ast.Call) and _makes_one_row(node) for node in nodes):
        return False
    names = [node.id for node in nodes if isinstance(node, ast.Name)]
    names += [node.arg for node in nodes if isinstance(node, ast.arg)]
    names += [node.attr for node in nodes if isinstance(node, ast.Attribute)]
    picks = any(isinstance(node, ast.Subscript) and _of_rows(node) for node in nodes)
    reduces = any(isinstance(node, ast.Call) and _along_1(node) for node in nodes)
    return picks or reduces or any(map(_NAMES_BATCH.search, names))


def _makes_one_row(call: ast.Call) -> bool:
    """Whether a call is ``x.reshape(1, -1)``."""
    is_reshape = isinstance(call.func, ast.Attribute) and call.func.attr == "reshape"
    return is_reshape and ast.unparse(call).replace(" ", "").endswith(("reshape(1,-1)", "reshape((1,-1))"))


def _of_rows(picked: ast.Subscript) -> bool:
    """Whether one element is picked of each row: ``x[range(m), labels]`` or ``x[np.arange(m), labels]``."""
    if not isinstance(picked.slice, ast.Tuple) or len(picked.slice.elts) != 2:
        return False
    rows, labels = picked.slice.elts
    is_range = isinstance(rows, ast.Call) and ast.unparse(rows.func).rpartition(".")[2] in ("range", "arange")
    return is_range and not isinstance(labels, ast.Slice | ast.Constant)


def _along_1(call: ast.Call) -> bool:
    """Whether a call states axis 1: by name, or as the only argument of a reduction."""
    values = [word.value for word in call.keywords if word.arg in ("axis", "dim")]
    if isinstance(call.func, ast.Attribute) and call.func.attr in _REDUCTIONS and len(call.args) == 1:
        values += call.args
    return any(isinstance(value, ast.Constant) and value.value == 1 for value in values)


def _is_settled(best: Answers, layout: str, container: str) -> bool:
    """Whether an arrangement need not be tried after the best reading so far."""
    if best.fits:  # but for the loss beside it
        return layout not in ("rows", "columns") or container not in ("array", best.convention.container)
    if container == FLOAT32 and best.gave:
        return True
    if best.takes_batches and container not in ("array", best.convention.container):
        return True
    named = best.diagnosis is not None and best.diagnosis.name not in OF_VECTORS
    return named and layout in (*SINGLE, *MANY_AXES, "flat")


def _arrangements(subject: Subject, options: Options) -> Iterable[tuple[str, str]]:
    layouts = (options.layout,) if options.layout else ("rows", "columns", "flat", *SINGLE, *MANY_AXES)
    containers = ("array", "list", "torch", FLOAT32) if subject.has_torch() else ("array", "list")
    every = list(itertools.product(layouts, containers))
    # First batches in arrays, then batches in other containers, then single rows, then arrays with more axes.
    return sorted(
        (pair for pair in every if pair[0] not in MANY_AXES or pair[1] != "list"),
        key=lambda pair: (
            pair[0] in MANY_AXES,
            pair[0] in SINGLE,
            pair[1] != "array",
        ),
    )
