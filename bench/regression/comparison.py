"""Two functions against each other: implementations of the suite in one process, or users' own in one each."""

from pathlib import Path

from ..errors import UserError
from ..implementations import Implementation, registered
from ..paths import IMPLEMENTATIONS
from ..verification.calling.convention import Options
from ..verification.judging.trials import OPERATIONS
from .duel import Duel, Side
from .gate import Check, Progress, Rule, controls_of, judge_duels, margin_of
from .targets import (
    VERIFIED,
    Asked,
    Contender,
    Verifying,
    duels_between,
    own_contender,
    place_of,
    target_controls,
    verdict_on,
    verified,
)


def compared(a: str, b: str, asked: Asked, logits: str, operation: str | None, progress: Progress) -> Check:
    """The check of B against A: names of implementations, or ``module:function`` or ``path.py:function``.

    Raises:
        UserError: there is no such function or operation, or two functions compute two operations.
    """
    rule = Rule(screening=None, margin=asked.fail_above, memory_margin=asked.fail_memory_above or 0.0)
    failing = ["wrong"]
    if asked.fail_above is not None or asked.fail_memory_above is not None:
        failing.append("larger")
    if asked.fail_above is not None:
        failing.append("slower")
    if ":" in a or ":" in b:
        check = _of_targets(a, b, asked, logits, operation, rule, progress)
    else:
        check = _of_implementations(a, b, asked, logits, operation or "softmax", rule, progress)
    return Check(check.base_name, check.findings, check.inconclusive, tuple(failing))


def _of_implementations(
    a: str, b: str, asked: Asked, logits: str, operation: str, rule: Rule, progress: Progress
) -> Check:
    specs = [_installed(name, operation) for name in (a, b)]
    base, work = (Side(str(IMPLEMENTATIONS), spec.name, operation) for spec in specs)
    duels = [
        Duel(
            f"{b} against {a} at {place_of(case)}",
            case,
            base,
            work,
            margin=max(margin_of(spec, case) for spec in specs),
        )
        for case in asked.cases(operation, f"{b}-against-{a}", logits)
    ]
    return judge_duels(duels, controls_of(str(IMPLEMENTATIONS)), rule, a, progress)


def _of_targets(
    a: str, b: str, asked: Asked, logits: str, operation: str | None, rule: Rule, progress: Progress
) -> Check:
    cases = asked.cases(logits=logits)
    base, work = (_contender(text, operation, progress) for text in (a, b))
    if base.side.operation != work.side.operation:
        raise UserError(
            f"{a} is judged as {base.side.operation}, {b} as {work.side.operation}: give --operation if both are one"
        )
    label = f"{b} against {a}"
    if found := verdict_on(base, work, label):
        return Check(a, [found])
    return judge_duels(duels_between(base, work, f"{label} at", cases), target_controls(), rule, a, progress)


def _contender(text: str, operation: str | None, progress: Progress) -> Contender:
    """A side of a comparison in which at least one is a target."""
    if ":" not in text:
        operation = operation or "softmax"
        if operation not in VERIFIED:
            raise UserError(f"--operation {operation}: functions of your own are compared as {' or '.join(VERIFIED)}")
        return own_contender(_installed(text, operation))
    judged_as = VERIFIED.get(operation or "", operation or "")
    if judged_as and judged_as not in OPERATIONS:
        raise UserError(f"--operation {operation}: functions are compared as one of {', '.join(OPERATIONS)}")
    progress(f"verifying {text}")
    place, _, name = text.rpartition(":")
    target = f"{Path(place).resolve()}:{name}" if place.endswith(".py") else text
    return verified(target, Verifying(Options(operation=judged_as)), name=text)


def _installed(name: str, operation: str) -> Implementation:
    """An implementation of the suite by its name.

    Raises:
        UserError: there is no such implementation, or its library is not installed.
    """
    if (operation, name) not in registered():
        known = ", ".join(known for its_operation, known in registered() if its_operation == operation)
        raise UserError(
            f"{name!r}: no such implementation of {operation}; give one of {known}, "
            "or a function as module:function or path.py:function"
        )
    spec = registered()[operation, name]
    if not spec.installed:
        raise UserError(
            f"{name!r} needs {spec.library}, which is not installed; make EXTRAS=compiled,torch,jax installs it"
        )
    return spec
