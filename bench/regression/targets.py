"""Users' own functions as the sides of duels: what is asked of them, and their verdict; a wrong one is not timed."""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..configuration import Configuration, configuration
from ..errors import UserError
from ..implementations import NUMPY, Implementation
from ..operations.cases import ARTICLE_SHAPE, Case
from ..sweep.selection import Selection
from ..verification.calling.convention import Convention, Options
from ..verification.judging.search import probe
from ..verification.process.failures import Failure
from ..verification.process.isolation import Isolated, TargetFailedError
from ..verification.verdict import NETWORK, Report, Status, examine, layout_of_axis
from . import named
from .duel import Duel, Side
from .gate import CONTROL_CASE, PADDED, SAME, Finding

SHAPES = (
    (4, 64),
    (32, 512),
    (256, 128),
)  # (batch, features) where none are given: little work, the article's, many rows
DTYPE, LOGITS = "float64", "normal"
# The largest slow-down that is no concern. On identical code, over fresh pairs of processes on a busy machine, the
# value of a pair had a standard deviation of 2 to 3 %: two processes have two layouts of memory.
TARGET_MARGIN = 0.03
# What verify knows of the suite's operations. The others have no backward that it could judge.
VERIFIED = {"softmax": "softmax", "softmax_cross_entropy_backward": "softmax_cross_entropy"}
COMPILING_S = 60.0  # for the requests of what may have to be compiled at its first call


@dataclass(frozen=True)
class Asked:
    """What a user asks of a check: the targets, the sizes (empty: the default ones), and the growth that fails it."""

    targets: tuple[str, ...]
    batch: tuple[int, ...] = ()
    features: tuple[int, ...] = ()
    dtype: tuple[str, ...] = ()
    fail_above: float | None = None
    fail_memory_above: float | None = None
    shapes: tuple[tuple[int, int], ...] = SHAPES  # if no size is given

    def cases(self, operation: str = "softmax", implementation: str = "", logits: str = LOGITS) -> list[Case]:
        """A case for each dtype and shape.

        Raises:
            UserError: a dtype or a distribution of logits does not exist.
        """
        Selection(dtype=self.dtype, logits=(logits,)).cases()  # raises if a value does not exist
        batch, features = ARTICLE_SHAPE
        shapes: Sequence[tuple[int, int]] = self.shapes
        if self.batch or self.features:
            shapes = list(itertools.product(self.batch or (batch,), self.features or (features,)))
        return [
            Case(operation, implementation, *shape, dtype, logits)
            for dtype in self.dtype or (DTYPE,)
            for shape in dict.fromkeys(shapes)
        ]


@dataclass(frozen=True)
class Contender:
    """A side with what was found out about it: how it is called, and whether it is right (None: it is the suite's own).

    ``name`` is what the user calls it.
    """

    name: str
    side: Side
    report: Report | None = None
    strict: bool = False

    @property
    def wrong(self) -> str:
        """What is wrong with it, in words; empty if nothing is."""
        report = self.report
        if report is None or report.exit_status(strict=self.strict) == Status.RIGHT:
            return ""
        if report.failure is not None:
            return f"could not be called: {_of_failure(report.failure, self.side.root)}"
        if report.diagnosis is not None and not report.right:
            return report.diagnosis.title
        if report.complaints:
            return f"not believed: it {report.complaints[0]}"
        return "; ".join([*report.limits, *report.problems[:1]]) or report.words

    @property
    def computes(self) -> str:
        """Which of the right gradients it computes, in words."""
        convention = self.side.convention
        divided = (
            f", logits divided by {convention.temperature:g}" if convention and convention.temperature != 1 else ""
        )
        return f"the gradient of {self.side.operation} ({self.side.reduction} over the batch{divided})"

    @property
    def limits(self) -> tuple[str, ...]:
        """What it cannot do although it is right."""
        return tuple(self.report.limits) if self.report else ()


@dataclass(frozen=True)
class Verifying:
    """How a target is verified: what is stated about its calls, its limits, and whether a limit counts as wrong."""

    options: Options = Options()  # noqa: RUF009 - frozen
    timeout_s: float | None = None
    max_bytes: int | None = None
    strict: bool = False


def configured(asked: Asked) -> tuple[Asked, Verifying]:
    """What is asked, with what the repository's pyproject.toml states where nothing is given; and how to verify.

    Raises:
        UserError: the table in pyproject.toml is wrong.
    """
    stated, folder = configuration(Path())
    given = dataclasses.replace(
        asked,
        targets=asked.targets or tuple(str(folder / target) for target in stated.targets),
        dtype=asked.dtype or stated.dtypes,
        shapes=stated.shapes or SHAPES,
        fail_above=_either(asked.fail_above, stated.margin, "margin"),
        fail_memory_above=_either(asked.fail_memory_above, stated.memory_margin, "memory-margin"),
    )
    return given, _verifying(stated)


def _either(given: float | None, stated: float | str | None, key: str) -> float | None:
    return given if given is not None or stated is None else share_of(str(stated), f"pyproject.toml: {key}")


def _verifying(stated: Configuration) -> Verifying:
    roles = (stated.signature or "").split(",")
    options = Options(
        operation=stated.operation or "",
        signature=tuple(role.strip() for role in roles if role.strip()),
        forward=stated.forward or "",
        backward=stated.backward or "",
        result=stated.result or "",
        layout=stated.layout or layout_of_axis(stated.axis),
        reduction=stated.reduction or "",
    )
    return Verifying(options, stated.timeout, stated.max_bytes, bool(stated.strict))


def share_of(text: str, place: str) -> float:
    """A share, given as ``3%`` or ``0.03``; ``place`` is the option or the key that it is the value of.

    Raises:
        UserError: it is no such share.
    """
    try:
        share = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        share = -1.0
    if not 0.0 <= share < 10.0:
        raise UserError(f"{place} {text}: give a share such as 3% or 0.03")
    return share


def own_contender(spec: Implementation) -> Contender:
    """An implementation of the suite, to be timed against a target in the same way."""
    operation = VERIFIED[spec.operation]
    of_library = Convention(operation, "closure", ("grad_output",), forward_arguments=spec.arguments)
    is_ours = spec.library == NUMPY
    convention = Convention(operation, "function", spec.arguments) if is_ours else of_library
    timeout_s = None if is_ours else COMPILING_S
    attribute = f"{spec.operation}__{spec.name}"
    return Contender(spec.name, Side(named.__name__, attribute, operation, convention=convention, timeout_s=timeout_s))


def verified(target: str, verifying: Verifying, name: str = "", root: Path | None = None) -> Contender:
    """A user's target, verified in a process of its own. ``name`` is what messages call it: ``target`` if empty.

    Raises:
        UserError: there is no such target, it cannot be imported, or it is no backward of softmax.
    """
    name = name or target
    with Isolated.limited(target, verifying.timeout_s, verifying.max_bytes, root) as subject:
        try:
            subject.candidates(verifying.options)
            report = examine(subject, target, verifying.options)
            if report.thing and report.status is Status.NOT_CALLED:
                raise UserError(f"{name} is {report.thing}; see softmax-bench verify")
            if report.operation == NETWORK:
                raise UserError(f"{name} is {report.thing}: softmax-bench verify judges it, and nothing times it")
            answers = probe(subject, verifying.options).answers
        except TargetFailedError as error:
            raise UserError(f"{name}: does not import: {_of_failure(error.failure, str(root))}") from None
    place, _, attribute = target.rpartition(":")
    side = Side(
        place,
        attribute,
        answers.convention.operation,
        convention=answers.convention,
        root=str(root or ""),
        reduction=answers.reduction,
        limited=bool(report.limits),
        timeout_s=verifying.timeout_s,
        max_bytes=verifying.max_bytes,
    )
    return Contender(name, side, report, verifying.strict)


def _of_failure(failure: Failure, root: str) -> str:
    """A failure in words, with the line to blame; a file of the project is named by its path in there."""
    where = f" ({failure.culprit.removeprefix(f'{root}/')})" if failure.culprit else ""
    return f"{failure.summary}{where}"


def verdict_on(base: Contender, work: Contender, label: str) -> Finding | None:
    """A finding if a side is wrong, or if the work has a limit that the base does not have; None if both are right."""
    if work.wrong:
        return Finding(label, "wrong", note=work.wrong)
    if base.wrong:
        return Finding(label, "mended", note=f"the base: {base.wrong}")
    if work.computes != base.computes:
        return Finding(label, "wrong", note=f"{work.computes}, and the base {base.computes}")
    new = [limit for limit in work.limits if limit not in base.limits]
    return Finding(label, "wrong", note=f"a limit that the base does not have: {'; '.join(new)}") if new else None


def duels_between(base: Contender, work: Contender, label: str, cases: Sequence[Case]) -> list[Duel]:
    """The duels of two right contenders at the cases."""
    return [Duel(f"{label} {place_of(case)}", case, base.side, work.side, margin=TARGET_MARGIN) for case in cases]


def target_controls() -> tuple[Duel, Duel]:
    """The two controls, timed as targets are: the same function in two processes, and the same one padded."""
    plain, slowed = (
        Side(named.__name__, name, convention=Convention("softmax", "function", ("probs", "grad_output")))
        for name in (named.plain.__name__, named.slowed.__name__)
    )
    return (
        Duel(SAME, CONTROL_CASE, plain, plain, margin=TARGET_MARGIN),
        Duel(PADDED, CONTROL_CASE, plain, slowed, margin=TARGET_MARGIN, padding=named.PADDING),
    )


def place_of(case: Case) -> str:
    """The shape and the kind of arrays of a case, in words."""
    return f"{case.batch} × {case.features} {case.dtype} {case.logits}"
