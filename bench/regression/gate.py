"""The regression check: which cases of the working tree are slower, larger or wrong, compared with a base.

The rule has two stages and is fixed before anything is measured. A few processes screen every case. Suspects are timed
again in fresh processes, and only these new values count. A suspect is slower if an exact signed-rank test of its log
ratios against the margin passes after Holm's correction over the suspects. Nothing is repeated until it is significant.
Two controls run with every check: the base against itself must give no alarm, and the base against itself with a known
padding must give one.
"""

import dataclasses
import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np

from ..implementations import NUMPY, Implementation
from ..instruments import host
from ..instruments.memory import TOLERANCE_BYTES
from ..operations import Operation, operations
from ..operations.cases import ARTICLE_OPERATION, Case
from .duel import OWN_LIBRARIES, TARGETS, Duel, Effort, Side, Task, Value
from .workers import run_workers

LONGEST_CALL_S = 0.05  # cases with a longer predicted call are left out
SHORT_CALL_S = 0.002  # predicted as well: longer ones, and those on arrays of 8 MB, have a wider margin
PREDICTION_BYTES_PER_S = 1e10
SEVERAL_THREADS = 2  # of the cases of several threads, whatever the machine has, so that a check is the same everywhere
CONTROL_CASE = Case(ARTICLE_OPERATION, "vectorized", 32, 512, "float64", "normal")
SAME, PADDED = "control: base against itself", "control: base against itself, padded"
CONTROL_PADDING = 0.03
# The largest slow-down, as a share, that is no concern, for each kind of case. On identical code, over processes that
# screened it, short calls had a standard deviation of 0.15 to 0.5 %, long ones of 0.4 to 1.2 %, two threads of 0.2 to
# 1.6 %, other libraries of 0.1 to 1.7 % (2.6 % where JAX runs each operation by itself).
MARGIN = 0.005
LONG_MARGIN = 0.01
THREADS_MARGIN = 0.02
LIBRARY_MARGIN = 0.03
SCREENING_EFFORT = Effort(precision=0.004, limit_s=0.4)
CONFIRMING_EFFORT = Effort(precision=0.002, limit_s=1.0)


@dataclass(frozen=True)
class Screening:
    """The first stage: ``processes`` time every case; a median beyond the case's margin makes it a suspect."""

    processes: int = 4
    effort: Effort = SCREENING_EFFORT


@dataclass(frozen=True)
class Rule:
    """The rule's numbers, fixed before anything is measured.

    ``screening`` is the first stage; if it is None, every case is a suspect. ``confirming`` is the number of processes
    of the second stage, and ``effort`` how long each of them times a case. ``margin`` is the largest slow-down, as a
    share, that is no concern; None: each case has its own. ``memory_margin`` is the same for peak memory. ``alpha`` is
    the probability of a false alarm in a whole check.
    """

    screening: Screening | None = Screening()
    confirming: int = 14
    margin: float | None = None
    memory_margin: float = 0.0
    alpha: float = 0.01
    effort: Effort = CONFIRMING_EFFORT

    def margin_of(self, duel: Duel) -> float:
        """The margin that a duel is judged by."""
        return duel.margin if self.margin is None else self.margin

    def refusal(self, tests: int) -> str:
        """Why the rule could never alarm with this number of tests; empty if it can."""
        smallest = 0.5**self.confirming  # the p of the exact test when all values lie on one side of the margin
        if smallest > self.alpha / tests:
            return (
                f"{self.confirming} processes cannot confirm anything: the smallest p they reach is {smallest:.2g}, "
                f"and {tests} tests need {self.alpha / tests:.2g}"
            )
        return ""


REGRESSIONS = ("wrong", "removed", "larger", "slower")  # the verdicts that fail a check, the worst first


class Exit(IntEnum):
    """The exit statuses of a check."""

    PASSED = 0
    REGRESSION = 1
    INCONCLUSIVE = 2


@dataclass(frozen=True)
class Finding:
    """What a check found of a case.

    ``ratio`` is time of work / time of base, with its 99 % interval from ``low`` to ``high``. ``detectable`` is the
    smallest slow-down, as a share, that the rule would find in 95 % of checks of this case. ``base_s`` and ``work_s``
    are the shortest calls. NaN: nothing was timed.
    """

    label: str
    verdict: str  # slower, faster, unchanged; larger, wrong, mended; removed, added
    ratio: float = math.nan
    low: float = math.nan
    high: float = math.nan
    detectable: float = math.nan
    p_value: float = math.nan
    base_s: float = math.nan
    work_s: float = math.nan
    base_peak_bytes: int | None = None
    work_peak_bytes: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Check:
    """The outcome of a whole check; ``inconclusive`` says why times have no verdict (empty: they have one).

    ``failing`` are the verdicts that fail it.
    """

    base_name: str
    findings: list[Finding]
    inconclusive: str = ""
    failing: tuple[str, ...] = REGRESSIONS

    def fails_by(self, finding: Finding) -> bool:
        """Whether a finding fails the check."""
        return finding.verdict in self.failing

    @property
    def exit(self) -> Exit:
        """The exit status. Memory, results and removed cases are exact, so they count in an inconclusive check too."""
        failing = {finding.verdict for finding in self.findings if self.fails_by(finding)}
        if failing - {"slower"} or (failing and not self.inconclusive):
            return Exit.REGRESSION
        return Exit.INCONCLUSIVE if self.inconclusive else Exit.PASSED

    @property
    def sentence(self) -> str:
        """The outcome in plain words."""
        by_verdict: dict[str, list[str]] = defaultdict(list)
        for finding in self.findings:
            by_verdict[finding.verdict].append(finding.label)
        regressions = [
            f"{len(labels)} {verdict} ({', '.join(labels[:3])}{', ...' if len(labels) > 3 else ''})"
            for verdict, labels in by_verdict.items()
            if verdict in self.failing
        ]
        if self.exit is Exit.REGRESSION:
            return f"Regression against {self.base_name}: {'; '.join(regressions)}."
        if self.exit is Exit.INCONCLUSIVE:
            return f"Inconclusive: {self.inconclusive}."
        timed = len(by_verdict["unchanged"]) + len(by_verdict["faster"])
        return (
            f"No regression against {self.base_name}: {timed} cases timed, {len(by_verdict['faster'])} of them faster."
            f"{self._reach}"
        )

    @property
    def _reach(self) -> str:
        """Which slow-downs would have been found, in a sentence after a space; empty if no finding says that."""
        known = sorted((finding.detectable, finding.label) for finding in self.findings if finding.detectable > 0)
        if not known:
            return ""
        (middle, _), (largest, label) = known[len(known) // 2], known[-1]
        return (
            f" A slow-down of {middle:.1%} would have been found in half of the cases, of {largest:.1%} in all of them "
            f"({label} is the last)."
        )


Key = tuple[str, str]  # of an implementation in a registry: operation and name
Registry = Mapping[Key, Implementation]
Workers = Callable[[Sequence[Task]], list[list[Value]]]
Progress = Callable[[str], None]


def cases_of(implementations: Registry) -> list[Case]:
    """The cases of a check: each installed implementation, at the shapes whose predicted call is not too long.

    Our own code is checked at all shapes, with several threads if it runs them. What needs a process of its own, for
    several threads or another library, is checked at few.
    """
    return [
        case
        for (operation, name), spec in implementations.items()
        if operation in operations() and _can_run(spec)
        for threads in [SEVERAL_THREADS if _runs_several(spec) else 1]
        for batch, features in _shapes_of(spec, operations()[operation])
        for case in [Case(operation, name, batch, features, "float64", "normal", threads)]
        if _predicted_s(spec, case) <= LONGEST_CALL_S
    ]


def _library_of(spec: Implementation) -> str:
    return getattr(spec, "library", NUMPY)  # implementations of old revisions do not name it


def _can_run(spec: Implementation) -> bool:
    """Whether its library is installed and this machine has the processors."""
    installed = _library_of(spec) == NUMPY or spec.installed
    return installed and (not _runs_several(spec) or _processor_count() >= SEVERAL_THREADS)


def _runs_several(spec: Implementation) -> bool:
    """Whether it is checked with several threads: our own code is, another library's threads are not our concern."""
    return getattr(spec, "runs_threads", False) and _library_of(spec) in OWN_LIBRARIES


def _shapes_of(spec: Implementation, operation: Operation) -> Sequence[tuple[int, int]]:
    shares_process = _library_of(spec) in OWN_LIBRARIES and not _runs_several(spec)
    return operation.checked_shapes if shares_process else operation.checked_alone


def _predicted_s(spec: Implementation, case: Case) -> float:
    return spec.traffic(case.batch, case.features, case.itemsize) / PREDICTION_BYTES_PER_S


def margin_of(spec: Implementation, case: Case) -> float:
    """The largest slow-down of an implementation at a case, as a share, that is no concern."""
    if _library_of(spec) not in OWN_LIBRARIES:
        return LIBRARY_MARGIN
    if case.threads > 1:
        return THREADS_MARGIN
    return LONG_MARGIN if _predicted_s(spec, case) > SHORT_CALL_S else MARGIN


def judge_duels(
    duels: Sequence[Duel],
    controls: tuple[Duel, Duel],
    rule: Rule,
    base_name: str,
    progress: Progress,
    workers: Workers = run_workers,
) -> Check:
    """The check of duels by the rule, with the two controls that `controls_of` makes.

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
    examined = _examine(duels, workers)
    found = (_examined_finding(duel, examined[duel.label], rule) for duel in duels)
    findings = [finding for finding in found if finding is not None]
    verdicts = {finding.label: finding.verdict for finding in findings}
    # A target whose result is wrong has no time that is believed, not even as the base.
    suspects = timed = [
        duel
        for duel in duels
        if verdicts.get(duel.label) != "wrong" and not (duel.of_targets and verdicts.get(duel.label) == "mended")
    ]
    if not timed:
        return Check(base_name, findings)
    screened: dict[str, _Sample] = {}
    screening = rule.screening
    if screening is not None:
        seeds = range(1, 1 + screening.processes)
        screened = _measure(timed, seeds, screening.effort, "screening", progress, workers)
        suspects = [
            duel
            for duel in timed
            if not screened[duel.label].wrong
            and abs(statistics.median(screened[duel.label].ratios)) > rule.margin_of(duel)
        ]
    first_seed = 1 + (0 if screening is None else screening.processes)  # fresh processes have seeds of their own
    seeds = range(first_seed, first_seed + rule.confirming)
    stage = f"confirming {len(suspects)} suspects and the controls"
    confirmed = _measure([*suspects, *controls], seeds, rule.effort, stage, progress, workers)
    samples = {**screened, **confirmed}
    p_values = _holm(
        {
            duel.label: _p_value(confirmed[duel.label].ratios, rule.margin_of(duel))
            for duel in suspects
            if not confirmed[duel.label].wrong
        }
    )
    findings += [
        _timed_finding(duel, samples[duel.label], p_values.get(duel.label), rule, examined[duel.label])
        for duel in timed
    ]
    return Check(base_name, findings, _control_complaint(controls, confirmed, rule))


@dataclass
class _Sample:
    """The values of a case, one a process; the shortest calls in any of them; and what was wrong with a result."""

    ratios: list[float] = dataclasses.field(default_factory=list)
    base_s: float = math.inf
    work_s: float = math.inf
    wrong: str = ""


def _examine(duels: Sequence[Duel], workers: Workers) -> dict[str, Value]:
    """What is found of each duel without timing it, by label."""
    tasks = []
    for sitting, its in _by_sitting(duels).items():
        shares = _at_once() if sitting in (NUMPY, TARGETS) else 1  # another library takes seconds to start
        tasks += [Task(its[first::shares], seed=0, effort=None) for first in range(min(shares, len(its)))]
    answers: list[list[Value]] = []
    while together := tasks[len(answers) : len(answers) + _at_once()]:
        answers += workers([_confined(task, place) for place, task in enumerate(together)])
    return {value.label: value for value in itertools.chain.from_iterable(answers)}


def _measure(
    duels: Sequence[Duel], seeds: Sequence[int], effort: Effort, stage: str, progress: Progress, workers: Workers
) -> dict[str, _Sample]:
    """The values of each duel, by label: one for each seed, from a process of its own."""
    samples = {duel.label: _Sample() for duel in duels}
    for sitting, its in _by_sitting(duels).items():
        at_once = _at_once(its[0].case.threads)
        for together in (seeds[first : first + at_once] for first in range(0, len(seeds), at_once)):
            progress(f"{stage}: {sitting}, process {' and '.join(map(str, together))}")
            tasks = [_confined(Task(its, seed, effort), place) for place, seed in enumerate(together)]
            for value in itertools.chain.from_iterable(workers(tasks)):
                if value.failed:
                    raise RuntimeError(f"{value.label}: {value.failed}")
                sample = samples[value.label]
                if value.work_wrong:
                    sample.wrong = value.work_wrong
                    continue
                sample.ratios.append(value.log_ratio)
                sample.base_s, sample.work_s = min(sample.base_s, value.base_s), min(sample.work_s, value.work_s)
    return samples


def _by_sitting(duels: Sequence[Duel]) -> dict[str, list[Duel]]:
    """The duels that share processes."""
    groups: dict[str, list[Duel]] = defaultdict(list)
    for duel in duels:
        groups[duel.sitting].append(duel)
    return groups


def _at_once(threads: int = 1) -> int:
    """The number of processes at a time: at most two processors are kept busy."""
    return max(1, min(2, _processor_count()) // threads)


def _processor_count() -> int:
    """How many processors this process may use, or how many there are if the system does not say."""
    return len(host.processors()) or host.cores()


def _confined(task: Task, place: int) -> Task:
    """The task with as many processors as it has threads, others for each place among those that run at once.

    Our own code of one thread may run on any: it starts no threads, and can move away from a processor that is busy.
    """
    duel = task.duels[0]
    if duel.sitting == NUMPY:
        return task
    processors = host.processors()
    first = place * duel.case.threads
    if first + duel.case.threads > len(processors):
        first = 0
    return dataclasses.replace(task, processors=tuple(processors[first : first + duel.case.threads]))


def _p_value(ratios: Sequence[float], margin: float) -> float:
    """The exact p of a one-sided signed-rank test for 'slower by more than the margin'; for 'faster' if median < 0."""
    from scipy import stats  # noqa: PLC0415 - slow to import

    values = np.asarray(ratios) * (1.0 if statistics.median(ratios) > 0 else -1.0) - math.log1p(margin)
    return float(stats.wilcoxon(values, alternative="greater", method="exact").pvalue)


def _holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment: each p times the number of tests left, never below the one before it."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    for place, (label, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p_value * (len(p_values) - place)))
        adjusted[label] = largest
    return adjusted


def _timed_finding(duel: Duel, sample: _Sample, p_value: float | None, rule: Rule, examined: Value) -> Finding:
    from scipy import stats  # noqa: PLC0415 - slow to import

    if sample.wrong:
        return Finding(duel.label, "wrong", note=sample.wrong)
    ratios = np.asarray(sample.ratios)
    middle, count = float(np.median(ratios)), len(ratios)
    error = float(stats.sem(ratios))
    reach = float(stats.t.ppf(0.995, count - 1)) * error
    # What the confirming stage would find in 95 % of checks: margin + (t of alpha + t of 5 %) * its standard error.
    confirming_error = error * math.sqrt(count / rule.confirming)
    degrees = rule.confirming - 1
    quantiles = float(stats.t.ppf(1 - rule.alpha, degrees) + stats.t.ppf(0.95, degrees))
    detectable = math.log1p(rule.margin_of(duel)) + quantiles * confirming_error
    verdict = "unchanged"
    if p_value is not None and p_value <= rule.alpha:
        verdict = "slower" if middle > 0 else "faster"
    return Finding(
        label=duel.label,
        verdict=verdict,
        ratio=math.exp(middle),
        low=math.exp(middle - reach),
        high=math.exp(middle + reach),
        detectable=math.expm1(detectable),
        p_value=math.nan if p_value is None else p_value,
        base_s=sample.base_s,
        work_s=sample.work_s,
        base_peak_bytes=examined.base_peak_bytes,
        work_peak_bytes=examined.work_peak_bytes,
    )


def _examined_finding(duel: Duel, value: Value, rule: Rule) -> Finding | None:
    """A finding if the peak grew or a result is, or was, wrong; otherwise None."""
    finding = Finding(
        value.label, "larger", base_peak_bytes=value.base_peak_bytes, work_peak_bytes=value.work_peak_bytes
    )
    if value.failed or value.work_wrong:
        return dataclasses.replace(finding, verdict="wrong", note=value.failed or value.work_wrong)
    if value.base_wrong:
        return dataclasses.replace(finding, verdict="mended", note=f"the base: {value.base_wrong}")
    slack_bytes = duel.case.peak_slack_bytes + round(rule.memory_margin * (value.base_peak_bytes or 0))
    growth = memory_growth(value.base_peak_bytes, value.work_peak_bytes, slack_bytes)
    return dataclasses.replace(finding, note=growth) if growth else None


def memory_growth(base_bytes: int | None, work_bytes: int | None, slack_bytes: int = 0) -> str:
    """By how much a peak grew, in words; empty if by no more than the tolerance and the slack."""
    growth = (work_bytes or 0) - (base_bytes or 0)
    return f"peak grew by {growth} bytes" if growth > TOLERANCE_BYTES + slack_bytes else ""


def _control_complaint(controls: tuple[Duel, Duel], confirmed: Mapping[str, _Sample], rule: Rule) -> str:
    """What a control did that it must not do; empty if there is nothing."""
    (same, padded), (of_same, of_padded) = controls, (confirmed[duel.label].ratios for duel in controls)
    if _p_value(of_same, same.margin) <= rule.alpha:
        return f"identical code differed by {math.expm1(statistics.median(of_same)):+.2%}; this machine is not fit now"
    if statistics.median(of_padded) <= 0 or _p_value(of_padded, padded.margin) > rule.alpha:
        measured = math.expm1(statistics.median(of_padded))
        return (
            f"a padding of {padded.padding:.0%} was not found (measured {measured:+.2%}); this machine is too noisy now"
        )
    return ""


def case_label(case: Case) -> str:
    """A case of the check in a few words, without what all cases of the check share."""
    threads = "" if case.threads == 1 else f"{case.threads} threads"
    shape = f"{case.batch} × {case.features}"
    return " ".join(filter(None, (case.implementation, shape, operations()[case.operation].label, threads)))


def pairs_of(of_base: Collection[Key], of_work: Registry) -> dict[Key, Key]:
    """The implementations that both versions have: from the key in the work to the key in the base.

    The keys differ if the implementation was renamed and states in ``formerly`` the name that it had.
    """
    pairs: dict[Key, Key] = {}
    for key, spec in of_work.items():
        former_key = key[0], getattr(spec, "formerly", "")  # copies of old revisions do not have the attribute
        if key in of_base:
            pairs[key] = key
        elif former_key in of_base and former_key not in of_work:
            pairs[key] = former_key
    return pairs


def duels_of(base: Path, work: Path, of_base: Registry, of_work: Registry) -> list[Duel]:
    """The duels of all cases that both versions have and that are checked in either, by the names in the work."""
    pairs = pairs_of(of_base, of_work)
    cases = cases_of({key: of_base[base_key] for key, base_key in pairs.items()})
    cases += cases_of({key: of_work[key] for key in pairs})
    return [
        Duel(
            case_label(case),
            case,
            Side(str(base), pairs[case.operation, case.implementation][1], case.operation),
            Side(str(work), case.implementation, case.operation),
            library=_library_of(of_work[case.operation, case.implementation]),
            margin=margin_of(of_work[case.operation, case.implementation], case),
        )
        for case in dict.fromkeys(cases)
    ]


def presence_findings(of_base: Collection[Key], of_work: Registry, *, allow_removed: bool) -> list[Finding]:
    """A finding for each implementation that only one version has; a removed one fails the check unless allowed."""
    pairs = pairs_of(of_base, of_work)
    kept = set(pairs.values())
    removed = "removed, as allowed" if allow_removed else "removed"
    return [
        *(Finding(" ".join(key), removed, note="only in the base") for key in of_base if key not in kept),
        *(Finding(" ".join(key), "added", note="not in the base") for key in of_work if key not in pairs),
    ]


def controls_of(base: str) -> tuple[Duel, Duel]:
    """The two controls on a copy of the base's implementations: the same code, and the same code padded."""
    plain = Side(base, CONTROL_CASE.implementation, padding=0.0)
    slowed = dataclasses.replace(plain, padding=CONTROL_PADDING)
    return (
        Duel(SAME, CONTROL_CASE, plain, plain, margin=MARGIN),
        Duel(PADDED, CONTROL_CASE, plain, slowed, margin=MARGIN, padding=CONTROL_PADDING),
    )
