"""The regression check: which cases of the working tree are slower, larger or wrong, compared with a base.

A fixed two-stage rule. Every case is screened with a few processes; a suspect is measured again on fresh processes
only, and called slower where an exact signed-rank test of its log ratios against the margin passes after Holm's
correction over the suspects. Nothing is repeated until it is significant. Two controls run with every check: the base
against itself, which must not alarm, and the base against itself with a known padding, which must.
"""

import dataclasses
import itertools
import math
import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
from scipy import stats

from ..implementations import NUMPY, Implementation
from ..operations import operations
from ..operations.cases import ARTICLE_OPERATION, Case
from .duet import Duel, Effort, Side, Task, Value, run_workers

LONGEST_CALL_S = 0.003  # as predicted; a case whose call would take longer is left out
PREDICTION_BYTES_PER_S = 1e10
CONTROL_CASE = Case(ARTICLE_OPERATION, "vectorized", 32, 512, "float64", "normal")
SAME, PADDED = "control: base against itself", "control: base against itself, padded"
CONTROL_PADDING = 0.03
MARGIN = 0.005
SCREENING_EFFORT = Effort(precision=0.004, limit_s=0.4)
CONFIRMING_EFFORT = Effort(precision=0.002, limit_s=1.0)
MEMORY_TOLERANCE_BYTES = 2048  # bookkeeping of the interpreter; the arrays themselves are read to the byte


@dataclass(frozen=True)
class Rule:
    """The rule's numbers, fixed before anything is measured.

    ``margin``: slow-downs up to this share are no concern; over ten processes two copies of identical code differed by
    less, 0.3 % at the most on an idle machine and mostly below 0.1 %. ``suspicion``: a screened median beyond it makes
    a suspect. ``alpha``: the probability of a false alarm in a whole check, Holm-corrected. The efforts: how long a
    process works on a case.
    """

    screening: int = 4
    confirming: int = 14
    margin: float = MARGIN
    suspicion: float = 0.005
    alpha: float = 0.01
    screening_effort: Effort = SCREENING_EFFORT
    confirming_effort: Effort = CONFIRMING_EFFORT

    def refusal(self, tests: int) -> str:
        """Why the rule could never alarm at this number of tests; empty where it can."""
        smallest = 0.5**self.confirming
        if smallest > self.alpha / tests:
            return (
                f"{self.confirming} processes cannot confirm anything: the smallest p they reach is {smallest:.2g}, "
                f"and {tests} tests need {self.alpha / tests:.2g}"
            )
        return ""


class Exit(IntEnum):
    """The exit statuses of a check."""

    PASSED = 0
    REGRESSION = 1
    INCONCLUSIVE = 2


@dataclass(frozen=True)
class Finding:
    """What a check says of one case.

    ``ratio`` is work / base of times with a 99 % interval ``low`` to ``high``; ``detectable`` the smallest slow-down
    that the rule would find here in 95 % of checks, as a share. NaN where nothing was timed.
    """

    label: str
    verdict: str  # slower, faster, unchanged; larger, wrong, mended; removed, added
    ratio: float = math.nan
    low: float = math.nan
    high: float = math.nan
    detectable: float = math.nan
    p_value: float = math.nan
    base_s: float = math.nan
    base_peak_bytes: int | None = None
    work_peak_bytes: int | None = None
    note: str = ""

    @property
    def is_regression(self) -> bool:
        """Whether the finding fails the check."""
        return self.verdict in ("slower", "larger", "wrong", "removed")


@dataclass(frozen=True)
class Check:
    """The outcome of a whole check; ``inconclusive`` says why it has none (empty: it has one)."""

    base_name: str
    findings: list[Finding]
    inconclusive: str = ""

    @property
    def exit(self) -> Exit:
        """Memory, results and missing cases are exact, whatever the controls say of the clock."""
        failing = {finding.verdict for finding in self.findings if finding.is_regression}
        if failing - {"slower"} or (failing and not self.inconclusive):
            return Exit.REGRESSION
        return Exit.INCONCLUSIVE if self.inconclusive else Exit.PASSED

    @property
    def sentence(self) -> str:
        """The outcome in plain words."""
        by_verdict: dict[str, list[str]] = defaultdict(list)
        for finding in self.findings:
            by_verdict[finding.verdict].append(finding.label)
        told = [
            f"{len(labels)} {verdict} ({', '.join(labels[:3])}{', ...' if len(labels) > 3 else ''})"
            for verdict, labels in by_verdict.items()
            if verdict in ("slower", "larger", "wrong", "removed")
        ]
        if self.exit is Exit.REGRESSION:
            return f"Regression against {self.base_name}: {'; '.join(told)}."
        if self.exit is Exit.INCONCLUSIVE:
            return f"Inconclusive: {self.inconclusive}."
        timed = len(by_verdict["unchanged"]) + len(by_verdict["faster"])
        return (
            f"No regression against {self.base_name}: {timed} cases timed, {len(by_verdict['faster'])} of them faster."
        )


Workers = Callable[[Sequence[Task]], list[list[Value]]]
Progress = Callable[[str], None]


def cases_of(implementations: Mapping[tuple[str, str], Implementation]) -> list[Case]:
    """The cases of a check: each implementation at the shapes where a call of it is predicted to be short.

    Ours alone, compiled ones where Numba is installed; not the libraries' own, and not what runs threads: a duel has
    one core.
    """
    checked = [key for key, spec in implementations.items() if _is_checked(spec)]
    return [
        case
        for operation, name in checked
        for batch, features in (operations()[operation].checked_shapes if operation in operations() else ())
        for case in [Case(operation, name, batch, features, "float64", "normal")]
        if implementations[operation, name].traffic(batch, features, case.itemsize) / PREDICTION_BYTES_PER_S
        <= LONGEST_CALL_S
    ]


def _is_checked(spec: Implementation) -> bool:
    """Whether an implementation is checked; one of a revision that knows no libraries needs none."""
    library = getattr(spec, "library", NUMPY)
    return not getattr(spec, "runs_threads", False) and (library == NUMPY or (library == "numba" and spec.installed))


def judge_duels(
    duels: Sequence[Duel],
    controls: tuple[Duel, Duel],
    rule: Rule,
    base_name: str,
    progress: Progress,
    workers: Workers = run_workers,
) -> Check:
    """The check of duels by the rule, with its two controls (the same, and padded).

    Raises:
        UserError: a version does not load.
    """
    refusal = rule.refusal(len(duels) + len(controls)) if duels else "nothing to compare"
    if refusal:
        return Check(base_name, [], refusal)
    try:
        return _judged(duels, controls, rule, base_name, progress, workers)
    except RuntimeError as error:
        return Check(base_name, [], str(error))


def _judged(
    duels: Sequence[Duel],
    controls: tuple[Duel, Duel],
    rule: Rule,
    base_name: str,
    progress: Progress,
    workers: Workers,
) -> Check:
    progress("checking results and memory of both versions")
    shares = [list(duels[first :: _at_once()]) for first in range(_at_once())]
    answers = workers([Task(share, seed=0, effort=None) for share in shares if share])
    examined = {value.label: value for value in itertools.chain.from_iterable(answers)}
    findings = [finding for finding in map(_examined_finding, examined.values()) if finding is not None]
    wrong = {finding.label for finding in findings if finding.verdict == "wrong"}
    timed = [duel for duel in duels if duel.label not in wrong]
    seeds = range(1, 1 + rule.screening)
    screened = _measure(timed, seeds, rule.screening_effort, "screening", progress, workers)
    suspects = [duel for duel in timed if abs(statistics.median(screened[duel.label].ratios)) > rule.suspicion]
    stage = f"confirming {len(suspects)} suspects and the controls"
    seeds = range(1 + rule.screening, 1 + rule.screening + rule.confirming)
    confirmed = _measure([*suspects, *controls], seeds, rule.confirming_effort, stage, progress, workers)
    p_values = _holm({duel.label: _p_value(confirmed[duel.label].ratios, rule.margin) for duel in suspects})
    for duel in timed:
        sample = confirmed.get(duel.label, screened[duel.label])
        findings.append(_timed_finding(sample, p_values.get(duel.label), rule, examined[duel.label]))
    return Check(base_name, findings, _control_complaint(confirmed, rule))


@dataclass
class _Sample:
    """A case's values over processes."""

    label: str
    ratios: list[float] = dataclasses.field(default_factory=list)
    base_s: float = math.inf


def _measure(
    duels: Sequence[Duel], seeds: Iterable[int], effort: Effort, stage: str, progress: Progress, workers: Workers
) -> dict[str, _Sample]:
    samples = {duel.label: _Sample(duel.label) for duel in duels}
    left = iter(seeds if duels else ())
    while some := list(itertools.islice(left, _at_once())):
        progress(f"{stage}: process {' and '.join(map(str, some))}")
        for value in itertools.chain.from_iterable(workers([Task(list(duels), seed, effort) for seed in some])):
            if value.failed:
                raise RuntimeError(f"{value.label}: {value.failed}")
            samples[value.label].ratios.append(value.log_ratio)
            samples[value.label].base_s = min(samples[value.label].base_s, value.base_s)
    return samples


def _at_once() -> int:
    """Processes at a time: a duel is alternating calls on one core, so two cores have room for two."""
    return min(2, os.cpu_count() or 1)


def _p_value(ratios: Sequence[float], margin: float) -> float:
    """Exact one-sided signed-rank p of 'slower by more than the margin'; of 'faster' where the median is below 0."""
    values = np.asarray(ratios) * (1.0 if statistics.median(ratios) > 0 else -1.0) - math.log1p(margin)
    return float(stats.wilcoxon(values, alternative="greater", method="exact").pvalue)


def _holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment: each p times the number of tests left, never below the one before it."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    for place, (label, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - place)))
        adjusted[label] = largest
    return adjusted


def _timed_finding(sample: _Sample, p_value: float | None, rule: Rule, examined: Value) -> Finding:
    ratios = np.asarray(sample.ratios)
    middle, count = float(np.median(ratios)), len(ratios)
    error = float(stats.sem(ratios))
    reach = float(stats.t.ppf(0.995, count - 1)) * error
    # What the confirming stage would find: margin, plus the distances of its two error rates in standard errors.
    spread = error * math.sqrt(count / rule.confirming)
    degrees = rule.confirming - 1
    detectable = math.log1p(rule.margin) + spread * float(
        stats.t.ppf(1 - rule.alpha, degrees) + stats.t.ppf(0.95, degrees)
    )
    verdict = "unchanged"
    if p_value is not None and p_value <= rule.alpha:
        verdict = "slower" if middle > 0 else "faster"
    return Finding(
        label=sample.label,
        verdict=verdict,
        ratio=math.exp(middle),
        low=math.exp(middle - reach),
        high=math.exp(middle + reach),
        detectable=math.expm1(detectable),
        p_value=math.nan if p_value is None else p_value,
        base_s=sample.base_s,
        base_peak_bytes=examined.base_peak_bytes,
        work_peak_bytes=examined.work_peak_bytes,
    )


def _examined_finding(value: Value) -> Finding | None:
    """A finding where memory grew or a result is wrong."""
    finding = Finding(
        value.label, "larger", base_peak_bytes=value.base_peak_bytes, work_peak_bytes=value.work_peak_bytes
    )
    if value.failed or value.work_wrong:
        return dataclasses.replace(finding, verdict="wrong", note=value.failed or value.work_wrong)
    if value.base_wrong:
        return dataclasses.replace(finding, verdict="mended", note=f"the base: {value.base_wrong}")
    growth = memory_growth(value.base_peak_bytes, value.work_peak_bytes)
    return dataclasses.replace(finding, note=growth) if growth else None


def memory_growth(base_bytes: int | None, work_bytes: int | None) -> str:
    """By how much a peak grew, in words; empty where it did not, or by no more than the tolerance."""
    growth = (work_bytes or 0) - (base_bytes or 0)
    return f"peak grew by {growth} bytes" if growth > MEMORY_TOLERANCE_BYTES else ""


def _control_complaint(confirmed: Mapping[str, _Sample], rule: Rule) -> str:
    """What a control did that it must not do; empty where both behaved."""
    same, padded = confirmed[SAME].ratios, confirmed[PADDED].ratios
    if _p_value(same, MARGIN) <= rule.alpha:
        return (
            f"identical code was told apart ({math.expm1(statistics.median(same)):+.2%}); this machine is not fit now"
        )
    if statistics.median(padded) <= 0 or _p_value(padded, MARGIN) > rule.alpha:
        return (
            f"a padding of {CONTROL_PADDING:.0%} was not found (read {math.expm1(statistics.median(padded)):+.2%}); "
            "this machine is too noisy now"
        )
    return ""


def case_label(case: Case) -> str:
    """A case of the check in a few words; what most of them share is left out."""
    return f"{case.implementation} {case.batch} × {case.features} {operations()[case.operation].label}".rstrip()


def duels_of(
    base: Path,
    work: Path,
    of_base: Mapping[tuple[str, str], Implementation],
    of_work: Mapping[tuple[str, str], Implementation],
) -> list[Duel]:
    """The duels of all cases that both versions have, or had."""
    common = [key for key in of_work if key in of_base]
    cases = dict.fromkeys(
        case for registry in (of_base, of_work) for case in cases_of({key: registry[key] for key in common})
    )
    return [
        Duel(
            case_label(case),
            case,
            Side(str(base), case.implementation, case.operation),
            Side(str(work), case.implementation, case.operation),
        )
        for case in cases
    ]


def presence_findings(
    of_base: Iterable[tuple[str, str]], of_work: Iterable[tuple[str, str]], *, allow_removed: bool
) -> list[Finding]:
    """A finding for each implementation that only one version has; removed ones fail unless they are allowed."""
    base, work = dict.fromkeys(of_base), dict.fromkeys(of_work)
    removed = "removed, as allowed" if allow_removed else "removed"
    gone = [Finding(" ".join(key), removed, note="only the base has it") for key in base if key not in work]
    return gone + [Finding(" ".join(key), "added", note="the base has it not") for key in work if key not in base]


def controls_of(base: str) -> tuple[Duel, Duel]:
    """The two controls on a copy of the base's implementations."""
    plain = Side(base, CONTROL_CASE.implementation, padding=0.0)
    padded = dataclasses.replace(plain, padding=CONTROL_PADDING)
    return Duel(SAME, CONTROL_CASE, plain, plain), Duel(PADDED, CONTROL_CASE, plain, padded)
