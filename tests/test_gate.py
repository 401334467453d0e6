import dataclasses
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import types
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console
from softmax_bench import implementations
from softmax_bench.errors import UserError
from softmax_bench.implementations import NUMPY, Formula, Implementation, registered
from softmax_bench.instruments import host
from softmax_bench.operations import operations
from softmax_bench.operations.cases import Case
from softmax_bench.paths import PACKAGE
from softmax_bench.regression import baseline
from softmax_bench.regression.baseline import STORED_MARGIN, check_against_run, compare_rows
from softmax_bench.regression.duel import Duel, Effort, Side, Task, Value
from softmax_bench.regression.duet import load_implementations, padded
from softmax_bench.regression.gate import (
    MARGIN,
    PADDED,
    REGRESSIONS,
    SAME,
    SCREENING_EFFORT,
    Check,
    Exit,
    Finding,
    Key,
    Rule,
    cases_of,
    controls_of,
    duels_of,
    judge_duels,
    presence_findings,
)
from softmax_bench.regression.output import to_json, to_junit, to_markdown, to_table, worst_first
from softmax_bench.regression.revisions import git as output_of_git
from softmax_bench.regression.revisions import two_versions
from softmax_bench.regression.workers import run_workers
from softmax_bench.storage.results import Row, load_rows
from softmax_bench.storage.tables import write_table
from softmax_bench.verification.calling.convention import Convention

from tests.conftest import COMMAND, ROOT, SoftmaxBench, error_of

IMPLEMENTATIONS = PACKAGE / "implementations"
CASES = [Case("softmax", "vectorized", batch, 64, "float64", "normal") for batch in (1, 2, 4, 8)]
DUELS = [
    Duel(f"case {case.batch}", case, Side("base", "vectorized"), Side("work", "vectorized"), margin=MARGIN)
    for case in CASES
]
CONTROLS = controls_of("base")


def worker_of(shifts: dict[str, float], noise: float = 0.002, **examined: Value) -> Callable[[Task], list[Value]]:
    """A worker that answers at once: with log ratios around the given shifts, or with the given examined values."""

    def work(task: Task) -> list[Value]:
        drawn = random.Random(task.seed)
        if task.effort is None:
            same = {duel.label: Value(duel.label, base_peak_bytes=1000, work_peak_bytes=1000) for duel in task.duels}
            return [examined.get(label.replace(" ", "_"), value) for label, value in same.items()]
        return [
            Value(duel.label, log_ratio=math.log1p(shifts.get(duel.label, 0.0)) + drawn.gauss(0, noise), base_s=1e-5)
            for duel in task.duels
        ]

    return work


def check_of(worker: Callable[[Task], list[Value]], rule: Rule | None = None) -> Check:
    return judge_duels(DUELS, CONTROLS, rule or Rule(), "base", lambda _: None, lambda tasks: list(map(worker, tasks)))


def verdicts(check: Check) -> dict[str, str]:
    return {finding.label: finding.verdict for finding in check.findings}


def test_identical_code_passes() -> None:
    check = check_of(worker_of({PADDED: 0.03}))
    assert check.exit is Exit.PASSED
    assert set(verdicts(check).values()) == {"unchanged"}
    assert check.sentence.startswith("No regression against base: 4 cases timed, 0 of them faster. A slow-down of ")


def test_one_slower_case_is_named_and_no_other() -> None:
    check = check_of(worker_of({PADDED: 0.03, "case 2": 0.02}))
    assert check.exit is Exit.REGRESSION
    assert [label for label, verdict in verdicts(check).items() if verdict == "slower"] == ["case 2"]
    assert check.sentence == "Regression against base: 1 slower (case 2)."
    slower = worst_first(check)[0]
    assert slower.label == "case 2"
    assert slower.low < slower.ratio < slower.high
    assert slower.ratio == pytest.approx(1.02, abs=0.004)
    assert 0.005 < slower.detectable < 0.02


def test_a_uniform_slow_down_is_seen() -> None:
    check = check_of(worker_of({PADDED: 0.03, **{duel.label: 0.05 for duel in DUELS}}))
    assert set(verdicts(check).values()) == {"slower"}


def test_a_faster_case_does_not_fail_the_check() -> None:
    check = check_of(worker_of({PADDED: 0.03, "case 2": -0.1}))
    assert check.exit is Exit.PASSED
    assert verdicts(check)["case 2"] == "faster"


def test_less_than_the_margin_is_no_concern() -> None:
    assert check_of(worker_of({PADDED: 0.03, "case 2": 0.004}, noise=0.0005)).exit is Exit.PASSED


def test_each_case_is_judged_by_its_own_margin() -> None:
    coarse = [dataclasses.replace(duel, margin=0.03) if duel.label == "case 1" else duel for duel in DUELS]
    worker = worker_of({PADDED: 0.03, "case 1": 0.025, "case 2": 0.025})
    check = judge_duels(coarse, CONTROLS, Rule(), "base", lambda _: None, lambda tasks: list(map(worker, tasks)))
    assert [label for label, verdict in verdicts(check).items() if verdict == "slower"] == ["case 2"]
    found = {finding.label: finding.detectable for finding in check.findings}
    assert found["case 1"] > 0.03 > found["case 4"]
    one_margin = judge_duels(
        coarse, CONTROLS, Rule(margin=0.01), "base", lambda _: None, lambda tasks: list(map(worker, tasks))
    )
    assert [label for label, verdict in verdicts(one_margin).items() if verdict == "slower"] == ["case 1", "case 2"]


@pytest.mark.parametrize(("threads", "grown_bytes", "grew"), [(1, 65536, True), (2, 65536, False), (2, 135_000, True)])
def test_buffers_of_threads_that_overlap_are_no_growth(threads: int, grown_bytes: int, *, grew: bool) -> None:
    duel = dataclasses.replace(DUELS[0], case=dataclasses.replace(DUELS[0].case, threads=threads))
    worker = worker_of({PADDED: 0.03}, case_1=Value("case 1", base_peak_bytes=1000, work_peak_bytes=1000 + grown_bytes))
    check = judge_duels([duel], CONTROLS, Rule(), "base", lambda _: None, lambda tasks: list(map(worker, tasks)))
    assert (check.exit is Exit.REGRESSION) is grew


def test_libraries_and_threads_have_processes_and_processors_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "processors", lambda: [3, 5, 6, 7])
    two_threads = dataclasses.replace(DUELS[1], case=dataclasses.replace(DUELS[1].case, threads=2))
    duels = [DUELS[0], two_threads, dataclasses.replace(DUELS[2], library="torch"), DUELS[3]]
    at_once: dict[str, set[tuple[tuple[int, ...], ...]]] = {}

    def workers(tasks: Sequence[Task]) -> list[list[Value]]:
        for task in tasks:
            assert len({duel.sitting for duel in task.duels}) == 1
            if task.effort is not None:
                used = at_once.setdefault(task.duels[0].sitting, set())
                used.add(tuple(other.processors for other in tasks))
        return [worker_of({PADDED: 0.03})(task) for task in tasks]

    assert judge_duels(duels, CONTROLS, Rule(), "base", lambda _: None, workers).exit is Exit.PASSED
    assert at_once == {"numpy": {((), ())}, "numpy:2": {((3, 5),)}, "torch:1": {((3,), (5,))}}


@pytest.mark.parametrize(
    ("shifts", "said"),
    [
        ({SAME: 0.03, PADDED: 0.03}, "identical code differed by +"),
        ({PADDED: 0.0}, "a padding of 3% was not found"),
        ({PADDED: -0.03}, "a padding of 3% was not found"),
    ],
)
def test_a_control_that_misbehaves_makes_the_check_inconclusive(shifts: dict[str, float], said: str) -> None:
    check = check_of(worker_of({**shifts, "case 2": 0.05}))
    assert check.exit is Exit.INCONCLUSIVE
    assert check.sentence.startswith(f"Inconclusive: {said}")


def test_without_screening_every_case_is_confirmed() -> None:
    efforts = []

    def work(task: Task) -> list[Value]:
        efforts.append(task.effort)
        return worker_of({PADDED: 0.03, "case 2": 0.02})(task)

    rule = Rule(screening=None)
    check = check_of(work, rule)
    assert [effort for effort in efforts if effort is not None] == [rule.effort] * rule.confirming
    assert not any(math.isnan(finding.p_value) for finding in check.findings)
    assert [label for label, verdict in verdicts(check).items() if verdict != "unchanged"] == ["case 2"]


def ranked(*below: int) -> list[float]:
    """Fourteen log ratios, 1 to 14 steps above the margin, but as many steps below it where that is in ``below``."""
    return [math.log1p(MARGIN) + (-1 if place in below else 1) * 0.0001 * place for place in range(1, 15)]


def confirmed_with(ratios: dict[str, list[float]]) -> Check:
    """A check without screening, whose cases and controls have these values in the confirming processes."""
    found = {SAME: [0.0005, -0.0005] * 7, PADDED: [0.03] * 14, **ratios}

    def work(task: Task) -> list[Value]:
        if task.effort is None:
            return worker_of({})(task)
        return [Value(duel.label, log_ratio=found[duel.label][task.seed - 1], base_s=1e-5) for duel in task.duels]

    duels = [duel for duel in DUELS if duel.label in ratios]
    rule = Rule(screening=None)
    return judge_duels(duels, CONTROLS, rule, "base", lambda _: None, lambda tasks: list(map(work, tasks)))


# Of the 2**14 signs that 14 ranks can have, 88 have negative ranks with a sum of 13 or less.
NEARLY = ranked(13)
P_NEARLY = 88 / 2**14
P_CLEARLY = 1 / 2**14


def p_values(check: Check) -> dict[str, float]:
    return {finding.label: finding.p_value for finding in check.findings}


def test_a_p_value_is_that_of_the_exact_test() -> None:
    check = confirmed_with({"case 1": NEARLY})
    assert p_values(check) == pytest.approx({"case 1": P_NEARLY})
    assert verdicts(check) == {"case 1": "slower"}  # 0.0054 is at most 0.01
    assert verdicts(confirmed_with({"case 1": ranked(14)})) == {"case 1": "slower"}  # 110 / 2**14 is 0.0067
    assert verdicts(confirmed_with({"case 1": ranked(5, 12)})) == {"case 1": "unchanged"}  # 0.0123


def test_of_several_suspects_each_p_counts_times_the_tests_that_are_left() -> None:
    alike = confirmed_with({"case 1": NEARLY, "case 2": NEARLY})
    assert p_values(alike) == pytest.approx({"case 1": 2 * P_NEARLY, "case 2": 2 * P_NEARLY})
    assert set(verdicts(alike).values()) == {"unchanged"}  # each alone would be slower
    stepped = confirmed_with({"case 1": NEARLY, "case 2": ranked(), "case 4": [0.0] * 13 + [0.001]})
    assert p_values(stepped)["case 2"] == pytest.approx(3 * P_CLEARLY)
    assert p_values(stepped)["case 1"] == pytest.approx(2 * P_NEARLY)
    assert p_values(stepped)["case 4"] == 1.0
    assert verdicts(stepped) == {"case 1": "unchanged", "case 2": "slower", "case 4": "unchanged"}
    down = confirmed_with({"case 1": NEARLY, "case 2": ranked()})
    assert p_values(down) == pytest.approx({"case 1": P_NEARLY, "case 2": 2 * P_CLEARLY})
    assert set(verdicts(down).values()) == {"slower"}


def test_suspects_are_confirmed_in_fourteen_processes_of_their_own() -> None:
    tasks: list[Task] = []

    def work(task: Task) -> list[Value]:
        tasks.append(task)
        return worker_of({PADDED: 0.03, "case 2": 0.02})(task)

    check = check_of(work)
    screening = [task for task in tasks if task.effort == Rule().screening.effort]  # type: ignore[union-attr]
    confirming = [task for task in tasks if task.effort == Rule().effort]
    assert len(screening) == 4
    assert len(confirming) == 14
    seeds = [task.seed for task in (*screening, *confirming)]
    assert len(set(seeds)) == len(seeds)  # no process of the first stage is one of the second
    assert {duel.label for duel in screening[0].duels} == {duel.label for duel in DUELS}
    assert all([duel.label for duel in task.duels] == ["case 2", SAME, PADDED] for task in confirming)
    assert verdicts(check)["case 2"] == "slower"


@pytest.mark.parametrize(("confirmed", "expected"), [(0.0, "unchanged"), (0.04, "slower"), (-0.04, "faster")])
def test_only_what_confirming_processes_measure_counts(confirmed: float, expected: str) -> None:
    def work(task: Task) -> list[Value]:
        screens = task.effort == SCREENING_EFFORT
        return worker_of({PADDED: 0.03, "case 2": 0.08 if screens else confirmed})(task)

    found = {finding.label: finding for finding in check_of(work).findings}["case 2"]
    assert found.verdict == expected
    assert found.ratio == pytest.approx(1.0 + confirmed, abs=0.003)


def test_a_case_that_fails_while_it_is_timed_is_named_and_not_unchanged() -> None:
    def work(task: Task) -> list[Value]:
        values = worker_of({PADDED: 0.03})(task)
        if task.effort is None:
            return values
        return [
            dataclasses.replace(value, failed="ValueError: no gradient") if value.label == "case 2" else value
            for value in values
        ]

    check = check_of(work)
    assert check.exit is Exit.INCONCLUSIVE
    assert check.sentence == "Inconclusive: case 2: ValueError: no gradient."
    assert "unchanged" not in verdicts(check).values()


@pytest.mark.parametrize("seed", [2, 7], ids=["screening", "confirming"])
def test_a_result_that_turns_wrong_while_it_is_timed_fails_the_check(seed: int) -> None:
    def work(task: Task) -> list[Value]:
        values = worker_of({PADDED: 0.03, "case 2": 0.02})(task)
        if task.effort is None or task.seed != seed:
            return values
        return [
            Value(value.label, work_wrong="it returns zeros") if value.label == "case 2" else value for value in values
        ]

    check = check_of(work)
    assert check.exit is Exit.REGRESSION
    assert check.sentence == "Regression against base: 1 wrong (case 2)."
    found = {finding.label: finding for finding in check.findings}
    assert found["case 2"].note == "it returns zeros"
    assert [found[label].verdict for label in ("case 1", "case 4", "case 8")] == ["unchanged"] * 3


def test_a_mended_case_is_timed_against_what_it_was() -> None:
    mended = Value("case 1", base_wrong="wrong by 1e+09 ulp", base_peak_bytes=1000, work_peak_bytes=1000)
    timed = check_of(worker_of({PADDED: 0.03}, case_1=mended))
    found = [(finding.verdict, finding.note) for finding in timed.findings if finding.label == "case 1"]
    assert found == [("mended", "the base: wrong by 1e+09 ulp"), ("unchanged", "")]
    assert timed.exit is Exit.PASSED


def test_a_target_that_was_wrong_in_the_base_is_not_timed() -> None:
    convention = Convention("softmax", "function", ("probs", "grad_output"))
    base, work = (Side("nn.py", "f", convention=convention, root=root) for root in ("base", "work"))
    duels = [Duel(label, CASES[0], base, work, margin=MARGIN) for label in ("mended", "right")]
    timed: set[str] = set()
    worker = worker_of({PADDED: 0.03}, mended=Value("mended", base_wrong="it returns zeros"))

    def noting(task: Task) -> list[Value]:
        if task.effort is not None:
            timed.update(duel.label for duel in task.duels)
        return worker(task)

    check = judge_duels(duels, CONTROLS, Rule(), "base", lambda _: None, lambda tasks: list(map(noting, tasks)))
    assert timed == {"right", SAME, PADDED}
    assert verdicts(check) == {"mended": "mended", "right": "unchanged"}
    assert check.exit is Exit.PASSED


@pytest.mark.parametrize(("memory_margin", "grown_bytes", "grew"), [
    (0.0, 2048, False), (0.0, 2049, True), (0.5, 2548, False), (0.5, 2549, True),
])  # fmt: skip
def test_growth_beyond_the_tolerance_and_the_margin_is_larger(
    memory_margin: float, grown_bytes: int, *, grew: bool
) -> None:
    larger = Value("case 1", base_peak_bytes=1000, work_peak_bytes=1000 + grown_bytes)
    check = check_of(worker_of({PADDED: 0.03}, case_1=larger), Rule(memory_margin=memory_margin))
    notes = {finding.note for finding in check.findings if finding.verdict == "larger"}
    assert notes == ({f"peak grew by {grown_bytes} bytes"} if grew else set())


def test_a_finding_has_the_shortest_calls_of_all_processes_and_the_peaks() -> None:
    def work(task: Task) -> list[Value]:
        values = worker_of({PADDED: 0.03})(task)
        if task.effort is None:
            return values
        return [
            dataclasses.replace(value, base_s=(10 - task.seed) * 1e-6, work_s=(20 - task.seed) * 1e-6)
            for value in values
        ]

    finding = {finding.label: finding for finding in check_of(work).findings}["case 4"]
    assert (finding.base_s, finding.work_s) == pytest.approx((6e-6, 16e-6))  # of the four that screened it
    assert (finding.base_peak_bytes, finding.work_peak_bytes) == (1000, 1000)


def test_interval_and_reach_are_those_of_student_s_t() -> None:
    finding = confirmed_with({"case 1": [0.001, -0.001] * 7}).findings[0]
    error = 0.001 / math.sqrt(13)
    assert finding.ratio == pytest.approx(1.0)
    assert math.log(finding.high) == pytest.approx(3.0123 * error, rel=1e-4)  # t of 99.5 % with 13 degrees
    assert math.log(finding.low) == pytest.approx(-3.0123 * error, rel=1e-4)
    reach = (2.6503 + 1.7709) * error  # t of 99 % and of 95 %
    assert math.log1p(finding.detectable) == pytest.approx(math.log1p(MARGIN) + reach, rel=1e-4)


def test_nothing_is_timed_if_every_result_is_wrong() -> None:
    def work(task: Task) -> list[Value]:
        assert task.effort is None
        return [Value(duel.label, work_wrong="wrong by 1e+09 ulp") for duel in task.duels]

    check = check_of(work)
    assert check.exit is Exit.REGRESSION
    assert verdicts(check) == {duel.label: "wrong" for duel in DUELS}


def test_a_rule_that_could_never_alarm_is_refused_before_measuring() -> None:
    def never_called(task: Task) -> list[Value]:
        raise AssertionError(task)

    check = check_of(never_called, Rule(confirming=5))
    assert check.exit is Exit.INCONCLUSIVE
    assert "5 processes cannot confirm anything: the smallest p they reach is 0.031" in check.inconclusive


def test_nothing_to_compare_is_inconclusive() -> None:
    check = judge_duels([], CONTROLS, Rule(), "base", lambda _: None)
    assert check.exit is Exit.INCONCLUSIVE


def test_a_worker_that_dies_makes_the_check_inconclusive() -> None:
    def dying(task: Task) -> list[Value]:
        raise RuntimeError("a worker process ended without an answer: exit status -9")

    assert check_of(dying).sentence == "Inconclusive: a worker process ended without an answer: exit status -9."


def test_memory_and_results_fail_the_check_even_if_the_machine_is_too_noisy() -> None:
    larger = Value("case 1", base_peak_bytes=1000, work_peak_bytes=9000)
    wrong = Value("case 2", base_peak_bytes=1000, work_peak_bytes=1000, work_wrong="wrong by 1e+09 ulp")
    check = check_of(worker_of({PADDED: 0.0}, case_1=larger, case_2=wrong))
    assert check.inconclusive
    assert check.exit is Exit.REGRESSION
    assert "1 larger (case 1)" in check.sentence
    assert "1 wrong (case 2)" in check.sentence
    assert {finding.note for finding in check.findings if finding.label == "case 2"} == {"wrong by 1e+09 ulp"}


def specs_of(*keys: Key) -> dict[Key, Implementation]:
    """A registry with these operations and names."""
    return {key: dataclasses.replace(registered()["softmax", "vectorized"], name=key[1]) for key in keys}


def test_removed_fails_unless_allowed_and_added_never() -> None:
    base, work = [("softmax", "old"), ("softmax", "kept")], specs_of(("softmax", "kept"), ("softmax", "new"))
    closed = {finding.label: finding for finding in presence_findings(base, work, allow_removed=False)}
    assert closed["softmax old"].verdict in REGRESSIONS
    assert closed["softmax new"].verdict not in REGRESSIONS
    assert set(closed) == {"softmax old", "softmax new"}
    assert not any(finding.verdict in REGRESSIONS for finding in presence_findings(base, work, allow_removed=True))


def test_a_renamed_implementation_is_neither_removed_nor_added_but_compared() -> None:
    old, new = ("softmax", "old"), ("softmax", "new")
    base, work = specs_of(old), specs_of(new)
    work[new] = dataclasses.replace(work[new], formerly="old")
    assert presence_findings(base, work, allow_removed=False) == []
    duels = duels_of(Path("base"), Path("work"), base, work)
    assert len(duels) == len(cases_of(work)) > 0
    assert {(duel.base.name, duel.work.name, duel.case.implementation) for duel in duels} == {("old", "new", "new")}
    # A former name that another implementation has now is no rename.
    both = {**work, **specs_of(old)}
    assert [finding.label for finding in presence_findings(base, both, allow_removed=False)] == ["softmax new"]


def test_every_operation_is_checked_and_every_label_names_one_case() -> None:
    duels = duels_of(IMPLEMENTATIONS, IMPLEMENTATIONS, registered(), registered())
    assert {duel.case.operation for duel in duels} == set(operations())
    assert len({duel.label for duel in duels}) == len(duels)


def test_the_check_has_at_least_24_cases_of_both_families_from_small_to_large() -> None:
    cases = cases_of(registered())
    assert len(cases) >= 24
    assert {"explicit_jacobian", "row_loop", "vectorized", "row_blocks"} <= {case.implementation for case in cases}
    assert {(1, 10), (256, 4096)} <= {(case.batch, case.features) for case in cases}
    assert not Rule().refusal(len(cases) + 2)


def test_the_check_has_the_article_s_baseline_several_threads_and_other_libraries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host, "processors", lambda: [0, 1])
    of_torch = dataclasses.replace(registered()["softmax", "torch_kernel"], library="json")  # one that is installed
    duels = duels_of(Path("base"), Path("work"), *[{**registered(), ("softmax", "torch_kernel"): of_torch}] * 2)
    by_label = {duel.label: duel for duel in duels}
    article, threaded, library = (
        by_label[label]
        for label in (
            "explicit_jacobian 32 × 512",
            "row_blocks_threads 256 × 4096 2 threads",
            "torch_kernel 256 × 4096",
        )
    )
    assert [duel.sitting for duel in (article, threaded, library)] == ["numpy", "numpy:2", "json:1"]
    short = by_label["vectorized 32 × 512"]
    assert short.margin < article.margin < threaded.margin < library.margin


def stated(**facts: object) -> Implementation:
    """What a registry of an old revision states of an implementation: no library, no threads, no `installed`."""
    return types.SimpleNamespace(traffic=registered()["softmax", "vectorized"].traffic, **facts)  # type: ignore[return-value]


def test_forms_of_old_revisions_are_checked_as_today_s() -> None:
    old, today = {("softmax", "vectorized"): stated()}, specs_of(("softmax", "vectorized"))
    assert cases_of(old) == cases_of(today)
    duels = duels_of(Path("base"), Path("work"), old, old)
    assert [duel.case for duel in duels] == cases_of(today)
    assert {(duel.sitting, duel.of_targets) for duel in duels} == {("numpy", False)}
    assert presence_findings(old, old, allow_removed=False) == []


def test_every_form_whose_library_is_there_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "processors", lambda: [0, 1])
    monkeypatch.setattr(implementations, "is_installed", lambda library: True)
    assert {(case.operation, case.implementation) for case in cases_of(registered())} == set(registered())
    monkeypatch.setattr(implementations, "is_installed", lambda library: library == "numba")
    own = {key for key, spec in registered().items() if spec.library in ("numpy", "numba")}
    assert {(case.operation, case.implementation) for case in cases_of(registered())} == own


def test_compiled_forms_are_checked_at_every_shape() -> None:
    numpy_cases = cases_of(specs_of(("softmax", "vectorized")))
    there, absent = (
        {("softmax", "vectorized"): stated(library="numba", installed=installed)} for installed in (True, False)
    )
    assert cases_of(there) == numpy_cases
    assert cases_of(absent) == []


def test_a_machine_of_one_processor_has_no_cases_of_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "processors", lambda: [0])
    assert {case.threads for case in cases_of(registered())} == {1}


@pytest.fixture
def two_copies(tmp_path: Path) -> tuple[Path, Path]:
    """Two copies of the implementations, to be changed."""
    folders = tmp_path / "base", tmp_path / "work"
    for folder in folders:
        shutil.copytree(IMPLEMENTATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folders


def change(folder: Path, old: str, new: str) -> None:
    path = folder / "softmax.py"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def duel_of(folders: tuple[Path, Path]) -> Duel:
    case = Case("softmax", "vectorized", 32, 512, "float64", "normal")
    base, work = (Side(str(folder), "vectorized") for folder in folders)
    return Duel("vectorized", case, base, work)


@pytest.mark.slow
def test_an_extra_copy_is_found_by_memory_and_by_time(two_copies: tuple[Path, Path]) -> None:
    change(two_copies[1], "(grad_output - (grad_output * probs)", "(grad_output.copy() - (grad_output.copy() * probs)")
    controls = controls_of(str(two_copies[0]))
    check = judge_duels([duel_of(two_copies)], controls, Rule(effort=SCREENING_EFFORT), "base", lambda _: None)
    found = {finding.verdict for finding in check.findings}
    assert found == {"larger", "slower"}
    assert check.exit is Exit.REGRESSION


def test_a_wrong_gradient_is_found(two_copies: tuple[Path, Path]) -> None:
    change(two_copies[1], "keepdims=True)) * probs", "keepdims=True)) * probs * (1 + 1e-6)")
    ((value,),) = run_workers([Task([duel_of(two_copies)], seed=1, effort=None)])
    assert value.base_wrong == ""
    assert "ulp of its terms" in value.work_wrong


def test_versions_that_do_not_load_are_named(two_copies: tuple[Path, Path]) -> None:
    change(two_copies[1], "import numpy as np", "import numpie as np")
    with pytest.raises(UserError, match="work: the implementations do not import .*No module named 'numpie'"):
        run_workers([Task([duel_of(two_copies)], seed=1, effort=None)])
    with pytest.raises(UserError, match="none: has no implementations"):
        run_workers([Task([duel_of((two_copies[0], two_copies[0] / "none"))], seed=1, effort=None)])


# A package of implementations with one function. Each binding is noted in a file; every other call takes 1 MiB more.
NOTING = """
import types
from pathlib import Path

import numpy as np


def bind(inputs, threads=1):
    with Path(__file__).with_name("bound").open("a") as file:
        file.write(f"{threads}\\n")
    calls = []

    def call():
        calls.append(None)
        more = np.ones(1 << 17) if len(calls) % 2 else None
        return (inputs.grad_output - (inputs.grad_output * inputs.probs).sum(axis=1, keepdims=True)) * inputs.probs

    return call


def registered():
    return {("softmax", "noting"): types.SimpleNamespace(bind=bind, runs_threads=True)}
"""


@pytest.fixture
def noting(tmp_path: Path) -> Duel:
    """A duel of two copies of `NOTING`."""
    folders = tmp_path / "base", tmp_path / "work"
    for folder in folders:
        folder.mkdir()
        (folder / "__init__.py").write_text(NOTING, encoding="utf-8")
    base, work = (Side(str(folder), "noting") for folder in folders)
    return Duel("noting", Case("softmax", "noting", 4, 64, "float64", "normal"), base, work)


def bindings_of(duel: Duel) -> list[str]:
    """The numbers of threads that the work was bound to when it was timed, once for each time."""
    ((value,),) = run_workers([Task([duel], seed=1, effort=Effort(precision=1.0, limit_s=0.0))])
    assert not value.failed
    return (Path(duel.work.place) / "bound").read_text(encoding="utf-8").split()


def test_another_library_s_form_is_bound_once_in_a_process(noting: Duel) -> None:
    assert bindings_of(dataclasses.replace(noting, library="torch")) == ["1"]


def test_our_own_code_is_bound_to_new_places_and_to_its_threads(noting: Duel) -> None:
    bound = bindings_of(dataclasses.replace(noting, case=dataclasses.replace(noting.case, threads=2)))
    assert set(bound) == {"2"}
    assert len(bound) > 1


def test_a_peak_that_varies_with_the_threads_has_not_grown(noting: Duel) -> None:
    threaded = dataclasses.replace(noting, case=dataclasses.replace(noting.case, threads=2))
    ((value,),) = run_workers([Task([threaded], seed=1, effort=None)])
    assert value.work_wrong == ""
    assert value.base_peak_bytes is not None
    assert value.work_peak_bytes is not None
    assert value.base_peak_bytes - value.work_peak_bytes > 1e6


def test_padding_spins_for_its_share() -> None:
    spun = padded(time.sleep, 1.0)
    start = time.perf_counter()
    spun(0.02)
    assert time.perf_counter() - start >= 0.04


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with three commits, the last two with implementations."""
    root = empty_repository(tmp_path)
    for text in ("first", "second"):
        commit(root, {"__init__.py": f"# {text}\n"})
    return root


def empty_repository(folder: Path) -> Path:
    """A git repository with an empty commit."""
    root = folder / "repository"
    root.mkdir()
    git(root, "init", "-q")
    git(root, "commit", "-q", "--allow-empty", "-m", "empty")
    return root


def commit(root: Path, sources: dict[str, str]) -> None:
    """Commit the sources as the repository's implementations, in place of those that it has."""
    package = root / "bench" / "implementations"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    for name, text in sources.items():
        (package / name).write_text(text, encoding="utf-8")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "implementations")


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def test_base_is_the_commit_before_in_a_clean_tree_and_head_in_a_changed_one(repository: Path) -> None:
    with two_versions(repository, None) as versions:
        assert versions.base_name == "HEAD~1"
        assert (versions.base / "__init__.py").read_text(encoding="utf-8") == "# first\n"
        assert (versions.work / "__init__.py").read_text(encoding="utf-8") == "# second\n"
        assert not versions.identical
    assert not versions.base.exists()
    (repository / "bench" / "implementations" / "new.py").write_text("", encoding="utf-8")
    with two_versions(repository, None) as versions:
        assert versions.base_name == "HEAD"
        assert (versions.work / "new.py").exists()
    with two_versions(repository, "HEAD~1") as versions:
        assert (versions.base / "__init__.py").read_text(encoding="utf-8") == "# first\n"


@pytest.mark.parametrize(
    ("revision", "said"),
    [("nosuch", "no revision 'nosuch'"), ("HEAD~2", "revision HEAD~2 has no bench/implementations")],
)
def test_a_base_that_does_not_exist_is_named(repository: Path, revision: str, said: str) -> None:
    with pytest.raises(UserError, match=said), two_versions(repository, revision):
        pass


def test_outside_a_repository_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a git repository"), two_versions(tmp_path, None):
        pass


OLD_REGISTRY = '''
"""The registry as it was up to revision e5dc8a8: what an implementation states is read from its docstring."""

import importlib
import inspect
import pkgutil
import re
from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True)
class Formula:
    text: str

    def __call__(self, batch, features, itemsize):
        return int(eval(self.text, {}, {"B": batch, "N": features, "s": itemsize}))


@dataclass(frozen=True)
class Implementation:
    name: str
    operation: str
    function: object
    workspace: Formula
    traffic: Formula
    source: str
    writes_out: bool
    arguments: tuple = ("probs", "grad_output")
    runs_threads: bool = False
    library: str = "numpy"

    def bind(self, inputs, threads=1):
        call = partial(self.function, *(getattr(inputs, name) for name in self.arguments))
        return partial(call, out=inputs.out) if self.writes_out else call

    @property
    def installed(self):
        return True


_registry = {}


def implementation(operation):
    def register(function):
        doc = inspect.getdoc(function)
        parameters = tuple(inspect.signature(function).parameters)
        _registry[operation, function.__name__] = Implementation(
            name=function.__name__,
            operation=operation,
            function=function,
            workspace=Formula(stated(doc, "Workspace")),
            traffic=Formula(stated(doc, "Traffic")),
            source=stated(doc, "Source"),
            writes_out="out" in parameters,
            arguments=tuple(parameter for parameter in parameters if parameter != "out"),
        )
        return function

    return register


def stated(doc, heading):
    return re.search(rf"^{heading}: *(.+?)\\.?$", doc, flags=re.MULTILINE).group(1)


def registered():
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}")
    return _registry
'''
OLD_SOFTMAX = '''
import numpy as np

from . import implementation


@implementation("softmax")
def vectorized(probs, grad_output):
    """The one-liner.

    Workspace: 2*B*N*s
    Traffic: 9*B*N*s
    Source: the article's second version, exactly
    """
    return (grad_output - (grad_output * probs).sum(axis=1, keepdims=True)) * probs


@implementation("softmax")
def vectorized_out(probs, grad_output, *, out):
    """The one-liner into a given array.

    Workspace: B*s
    Traffic: 8*B*N*s
    Source: the article's second version
    """
    np.multiply(grad_output, probs, out=out)
    np.subtract(grad_output, out.sum(axis=1, keepdims=True), out=out)
    return np.multiply(out, probs, out=out)
'''
# As up to e5dc8a8: known mistakes were a module of the package, and importing it registered nothing.
OLD_MISTAKES = "from . import stated\nfrom .softmax import vectorized\n\nMISTAKES = {}\n"


@pytest.mark.slow
def test_a_revision_of_the_old_form_is_paired_examined_and_timed(tmp_path: Path) -> None:
    root = empty_repository(tmp_path)
    commit(root, {"__init__.py": OLD_REGISTRY, "softmax.py": OLD_SOFTMAX, "mistaken.py": OLD_MISTAKES})
    commit(root, {path.name: path.read_text(encoding="utf-8") for path in IMPLEMENTATIONS.glob("*.py")})
    presence, check = check_revision(root, "HEAD~1", ("vectorized", "vectorized_out"))
    assert {finding.verdict for finding in presence} == {"added"}
    assert {finding.label.split()[1] for finding in presence} >= {"row_loop", "vectorized_vecdot"}
    assert {label.split()[0] for label in verdicts(check)} == {"vectorized", "vectorized_out"}
    assert all(finding.ratio > 0 and finding.base_s > 0 for finding in check.findings), check.findings


PRE_MOVE = "e5dc8a8"  # the last commit in which the known mistakes were a module of the implementations


@pytest.mark.slow
def test_the_last_revision_before_the_move_is_paired_examined_and_timed() -> None:
    if output_of_git(ROOT, "rev-parse", "--quiet", "--verify", f"{PRE_MOVE}^{{commit}}") is None:
        pytest.skip(f"this clone does not have commit {PRE_MOVE}")
    presence, check = check_revision(ROOT, PRE_MOVE, ("vectorized_vecdot", "one_node"))
    assert "removed" not in {finding.verdict for finding in presence}
    assert {label.split()[0] for label in verdicts(check)} == {"vectorized_vecdot", "one_node"}
    assert all(finding.ratio > 0 and finding.base_s > 0 for finding in check.findings), check.findings


def check_revision(root: Path, revision: str, names: tuple[str, ...]) -> tuple[list[Finding], Check]:
    """Presence in the two versions, and a quick check of these implementations at one small shape."""
    quick = Rule(screening=None, confirming=4, alpha=1.0, effort=Effort(precision=1.0, limit_s=0.0))
    with two_versions(root, revision) as versions:
        of_base = load_implementations(versions.base, f"{root.name}_base")
        of_work = load_implementations(versions.work, f"{root.name}_work")
        duels = duels_of(versions.base, versions.work, of_base, of_work)
        smallest = {duel.case.implementation: duel for duel in reversed(duels)}
        check = judge_duels(
            [smallest[name] for name in names], controls_of(str(versions.base)), quick, revision, lambda _: None
        )
        return presence_findings(of_base, of_work, allow_removed=False), check


@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_no_process_and_no_file(tmp_path: Path, signalled: signal.Signals) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    running = subprocess.Popen(
        [*COMMAND, "gate", "--base=HEAD"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (workers := psutil.Process(running.pid).children()):
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signalled)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 128 + signalled
    assert "Traceback" not in out + err
    _, alive = psutil.wait_procs(workers, timeout=5)  # a worker that was only starting ends by itself
    assert not alive
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []  # the machine's lock stays


def comparison(
    softmax_bench: SoftmaxBench, folder: Path, *arguments: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """What a comparison prints and writes. On a noisy machine it may be inconclusive: what is found is no less true."""
    done = softmax_bench("compare", *arguments, "--json=out.json", timeout_s=600.0)
    content = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert content["exit"] == done.returncode, done.stderr
    return done, content


@pytest.mark.slow
def test_compare_says_ratio_interval_and_memory_of_both(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def slower(probs, grad_output):\n"
        "    once = lambda: (grad_output - (grad_output * probs).sum(axis=1, keepdims=True)) * probs\n"
        "    return once() + 0 * sum(once() for _ in range(7))\n",
        encoding="utf-8",
    )
    done, content = comparison(softmax_bench, tmp_path, "vectorized", "mine.py:slower", "--fail-above=3%")
    assert done.returncode == 1
    assert "mine.py:slower against vectorized at 32 × 512 float64 normal:" in done.stdout
    assert "mine.py:slower against vectorized at 4 × 64 float64 normal:" in done.stdout
    assert "99 % interval" in done.stdout
    assert "peak memory" in done.stdout
    assert any(finding["verdict"] == "slower" and finding["ratio"] > 2 for finding in content["findings"])


@pytest.mark.slow
def test_compare_takes_functions_of_another_operation(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def backward(probs, targets):\n    return (probs - targets) / len(probs)\n\n\n"
        "def summed(p, t):\n    return p - t\n",
        encoding="utf-8",
    )
    case = ("--operation=softmax_cross_entropy_backward", "--batch=16", "--features=64")
    done, content = comparison(softmax_bench, tmp_path, "one_node", "mine.py:backward", *case)
    assert done.returncode == (2 if content["inconclusive"] else 0)
    assert "mine.py:backward against one_node at 16 × 64" in done.stdout
    done = softmax_bench("compare", "one_node", "mine.py:summed", *case)
    assert done.returncode == 1
    assert "(sum over the batch), and the base the gradient of" in done.stdout


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands may be called in this process: in an empty folder, and they leave this process's SIGTERM as it was."""
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.usefixtures("in_process")
def test_compare_says_what_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", {"numpy": "installed"}.get)
    said = error_of("compare", "vectorized", "fused_out", capsys=capsys)
    assert "'fused_out' needs numba, which is not installed; make EXTRAS=compiled" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("compare", "vectorized", "fast"), "'fast': no such implementation of softmax; give one of explicit_jacobian"),
        (("compare", "vectorized", "none.py:f"), "none.py: no such file"),
        (("compare", "vectorized", "nosuch:f"), "nosuch: no such module"),
        (("compare", "vectorized", "math:f"), "math: has no 'f'; "),
        (("compare", "vectorized", "row_blocks", "--fail-above=much"), "--fail-above much: give a share such as 3%"),
        (("compare", "vectorized", "row_blocks", "--dtype=float16"), "--dtype float16: unknown"),
        (("gate",), "is not in a git repository with bench/implementations; run this in a clone"),
    ],
)
@pytest.mark.usefixtures("in_process")
def test_bad_input_is_one_clear_line(arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in error_of(*arguments, capsys=capsys)


@pytest.mark.usefixtures("in_process")
def test_gate_in_a_foreign_repository_or_without_git_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(empty_repository(tmp_path))
    assert "is not in a git repository with bench/implementations" in error_of("gate", capsys=capsys)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git is not installed" in error_of("gate", capsys=capsys)


def test_a_clear_line_is_all_that_the_command_prints(softmax_bench: SoftmaxBench) -> None:
    done = softmax_bench("gate")
    assert done.returncode == 2
    assert done.stderr.startswith("softmax-bench: ")
    assert "Traceback" not in done.stdout + done.stderr


def test_a_suite_that_does_not_import_ends_with_2_and_not_as_a_regression(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "softmax_bench", ignore=shutil.ignore_patterns("__pycache__"))
    change(tmp_path / "softmax_bench" / "implementations", "import numpy as np", "import numpie as np")
    done = subprocess.run(
        [sys.executable, "-m", "softmax_bench.cli", "gate"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "does not import: ModuleNotFoundError: No module named 'numpie'" in done.stderr
    assert "softmax.py:" in done.stderr
    assert "Traceback" not in done.stderr


CHECK = Check(
    "base",
    [
        Finding("calm", "unchanged", 1.0, 0.99, 1.01, 0.007, math.nan, 1e-5, 100, 100),
        Finding("slow", "slower", 1.05, 1.04, 1.06, 0.007, 0.0001, 1e-5, 100, 100),
        Finding("gone", "removed", note="only in the base"),
    ],
)


def test_output_is_worst_first_in_every_form() -> None:
    assert [finding.label for finding in worst_first(CHECK)] == ["gone", "slow", "calm"]
    content = json.loads(to_json(CHECK))
    assert [finding["label"] for finding in content["findings"]] == ["gone", "slow", "calm"]
    assert content["findings"][0]["ratio"] is None
    suite = ET.fromstring(to_junit(CHECK))
    assert suite.get("failures") == "2"
    assert len(suite.findall("testcase/failure")) == 2
    finds = [found.get("value") for found in suite.findall("testcase/properties/property[@name='finds']")]
    assert finds == ["0.70%", "0.70%"]
    assert "| slow | +5.00% | +4.00% to +6.00% | 0.70% | slower |" in to_markdown(CHECK)


@pytest.mark.parametrize(
    ("found", "inconclusive", "expected"),
    [
        (["unchanged", "faster", "added", "mended", "removed, as allowed"], "", Exit.PASSED),
        (["unchanged", "slower"], "", Exit.REGRESSION),
        (["unchanged", "slower"], "too noisy", Exit.INCONCLUSIVE),
        (["slower", "larger"], "too noisy", Exit.REGRESSION),
        (["wrong"], "too noisy", Exit.REGRESSION),
        (["removed"], "too noisy", Exit.REGRESSION),
        ([], "too noisy", Exit.INCONCLUSIVE),
        ([], "", Exit.PASSED),
    ],
)
def test_what_is_exact_fails_a_check_even_if_its_times_say_nothing(
    found: list[str], inconclusive: str, expected: Exit
) -> None:
    assert Check("base", [Finding("f", verdict) for verdict in found], inconclusive).exit is expected


def test_only_the_failing_verdicts_of_a_check_fail_it() -> None:
    check = Check("base", [Finding("f", "larger"), Finding("g", "unchanged")], failing=("slower",))
    assert check.exit is Exit.PASSED
    assert check.sentence == "No regression against base: 1 cases timed, 0 of them faster."
    assert dataclasses.replace(check, failing=("larger",)).sentence == "Regression against base: 1 larger (f)."


def test_the_sentence_names_three_of_each_kind() -> None:
    four = [Finding(label, "slower") for label in "abcd"]
    assert Check("base", four[:3]).sentence == "Regression against base: 3 slower (a, b, c)."
    assert Check("base", [*four, Finding("e", "wrong")]).sentence == (
        "Regression against base: 4 slower (a, b, c, ...); 1 wrong (e)."
    )


@pytest.mark.parametrize(("tests", "refused"), [(163, False), (164, True)])  # 0.01 / 0.5**14 is 163.84
def test_a_rule_of_fourteen_processes_can_judge_163_cases(tests: int, *, refused: bool) -> None:
    assert bool(Rule().refusal(tests)) is refused


def test_a_padding_that_is_found_needs_its_size_and_direction() -> None:
    for shift, said in ((0.006, ""), (0.004, "a padding of 3% was not found (measured +0."), (-0.03, "measured -3.")):
        complaint = check_of(worker_of({PADDED: shift}, noise=0.0001)).inconclusive
        assert said in complaint
        assert bool(complaint) == bool(said)
    for shift, said in ((0.004, ""), (0.006, "differed by +0."), (-0.006, "differed by -0.")):
        complaint = check_of(worker_of({PADDED: 0.03, SAME: shift}, noise=0.0001)).inconclusive
        assert said in complaint
        assert bool(complaint) == bool(said)


def test_controls_are_the_article_s_shape_with_and_without_a_padding_of_3_percent() -> None:
    same, slowed = controls_of("base")
    assert {same.case, slowed.case} == {Case("softmax", "vectorized", 32, 512, "float64", "normal")}
    assert [side.padding for side in (same.base, same.work, slowed.base, slowed.work)] == [0.0, 0.0, 0.0, 0.03]
    assert {side.place for side in (same.base, same.work, slowed.base, slowed.work)} == {"base"}
    assert (same.margin, slowed.margin, slowed.padding) == (0.005, 0.005, 0.03)


def test_margins_follow_the_kind_and_the_length_of_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "processors", lambda: [0, 1])
    monkeypatch.setattr(implementations, "is_installed", lambda library: True)
    duels = duels_of(Path("base"), Path("work"), registered(), registered())
    for duel in duels:
        spec = registered()[duel.case.operation, duel.case.implementation]
        predicted_s = spec.traffic(duel.case.batch, duel.case.features, 8) / 1e10
        assert predicted_s <= 0.05
        of_other = spec.library not in ("numpy", "numba")
        expected = 0.03 if of_other else 0.02 if duel.case.threads > 1 else 0.01 if predicted_s > 0.002 else 0.005
        assert duel.margin == expected, duel.label
    assert {duel.margin for duel in duels} == {0.005, 0.01, 0.02, 0.03}
    assert {duel.case.threads for duel in duels} == {1, 2}


def test_what_shares_a_process_is_checked_at_all_shapes_and_what_needs_its_own_at_few() -> None:
    softmax = operations()["softmax"]
    alone = {("softmax", "vectorized"): stated(library="torch", installed=True)}
    for specs, shapes in (
        (specs_of(("softmax", "vectorized")), softmax.checked_shapes),
        (alone, softmax.checked_alone),
    ):
        assert [(case.batch, case.features) for case in cases_of(specs)] == list(shapes)
    assert len(softmax.checked_alone) < len(softmax.checked_shapes)


def test_cases_of_either_version_are_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    base, work = specs_of(("softmax", "vectorized")), specs_of(("softmax", "vectorized"))
    slow = {("softmax", "vectorized"): dataclasses.replace(work["softmax", "vectorized"], traffic=Formula("B*N*N*N*s"))}
    both = duels_of(Path("base"), Path("work"), base, work)
    assert len({duel.case for duel in both}) == len(both) == len(cases_of(work))
    assert len(cases_of(slow)) < len(both)
    # What is too long in one version is checked if it is not in the other.
    assert {duel.case for duel in duels_of(Path("base"), Path("work"), base, slow)} == {duel.case for duel in both}
    assert {duel.case for duel in duels_of(Path("base"), Path("work"), slow, work)} == {duel.case for duel in both}


def test_at_most_two_processors_are_kept_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "processors", lambda: [4])
    duels = [dataclasses.replace(duel, library="torch") for duel in DUELS]
    sizes: list[int] = []
    used: set[tuple[int, ...]] = set()

    def workers(tasks: Sequence[Task]) -> list[list[Value]]:
        sizes.append(len(tasks))
        used.update(task.processors for task in tasks if task.duels[0].library == "torch")
        return [worker_of({PADDED: 0.03})(task) for task in tasks]

    judge_duels(duels, CONTROLS, Rule(), "base", lambda _: None, workers)
    assert set(sizes) == {1}
    assert used == {(4,)}
    monkeypatch.setattr(host, "processors", lambda: [4, 5, 6])
    sizes.clear()
    used.clear()
    judge_duels(duels, CONTROLS, Rule(), "base", lambda _: None, workers)
    assert max(sizes) == 2
    assert used == {(4,), (5,)}
    monkeypatch.setattr(host, "processors", list)  # a system that does not say
    for cores in (1, 2, 8):
        monkeypatch.setattr(host, "cores", lambda cores=cores: cores)
        sizes.clear()
        used.clear()
        judge_duels(duels, CONTROLS, Rule(), "base", lambda _: None, workers)
        assert max(sizes) == min(2, cores)
        assert used == {()}


def test_a_case_of_two_threads_is_examined_on_two_processors_beside_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "processors", lambda: [6, 7])
    threaded = dataclasses.replace(DUELS[1], case=dataclasses.replace(DUELS[1].case, threads=2))
    together: list[list[tuple[int, ...]]] = []

    def workers(tasks: Sequence[Task]) -> list[list[Value]]:
        if tasks[0].effort is None:
            together.append([task.processors for task in tasks])
        return [worker_of({PADDED: 0.03})(task) for task in tasks]

    judge_duels(
        [dataclasses.replace(DUELS[0], library="torch"), threaded], CONTROLS, Rule(), "base", lambda _: None, workers
    )
    assert together == [[(6,), (6, 7)]]


def test_each_duel_is_examined_once_in_shares_of_our_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "processors", lambda: [0, 1])
    said: list[str] = []
    examined: list[list[str]] = []

    def workers(tasks: Sequence[Task]) -> list[list[Value]]:
        examined.extend([duel.label for duel in task.duels] for task in tasks if task.effort is None)
        return [worker_of({PADDED: 0.03})(task) for task in tasks]

    library = [dataclasses.replace(duel, label=f"torch {duel.label}", library="torch") for duel in DUELS]
    judge_duels([*DUELS, *library], CONTROLS, Rule(), "base", said.append, workers)
    own = [duel.label for duel in DUELS]
    assert examined == [own[::2], own[1::2], [duel.label for duel in library]]
    assert said[0] == "checking results and memory of both versions"
    assert said[1] == "screening: numpy, process 1 and 2"
    assert said[-1] == "confirming 0 suspects and the controls: numpy, process 17 and 18"


def test_the_sentence_says_which_slow_downs_would_have_been_found() -> None:
    calm = CHECK.findings[0]
    findings = [dataclasses.replace(calm, label=f"finds {share}", detectable=share) for share in (0.007, 0.05, 0.009)]
    said = Check("base", [*findings, Finding("new", "added")]).sentence
    assert said.endswith(
        "A slow-down of 0.9% would have been found in half of the cases, of 5.0% in all of them "
        "(finds 0.05 is the last)."
    )


def test_the_table_is_whole_on_a_terminal_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["one_node_integer_targets 32 × 512 backward", "vectorized 32 × 512"]
    timed = [dataclasses.replace(CHECK.findings[0], label=label) for label in labels]
    wrong = Finding("row_loop 32 × 512", "wrong", note="raises ValueError: operands could not be broadcast together")
    Console(width=80).print(to_table(Check("base", [*timed, wrong])))
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "…" not in printed
    assert printed.count("unchanged") == 2
    assert " ".join(printed.split()).count("-1.00% to +1.00%") == 2
    for words in (*labels, wrong.note):
        assert all(word in printed for word in words.split())


def row_of(**values: object) -> Row:
    plain = {"batch": 32, "features": 512, "logits": "uniform", "peak_bytes": 10**6, "settled": 1, **around(1e-5)}
    fields = {**plain, "implementation": "vectorized", "threads": 1, "status": "measured", **values}
    return Row(run_id="r", operation="softmax", dtype="float64", **fields)  # type: ignore[arg-type]


def around(time_s: float) -> dict[str, object]:
    """The columns of a time with an interval of 3 % to either side."""
    return {"time_s": time_s, "time_low_s": 0.97 * time_s, "time_high_s": 1.03 * time_s}


OLD = [row_of(), row_of(implementation="explicit_jacobian", **around(1e-2))]
BEYOND = (1.0 + STORED_MARGIN) * 1.03 / 0.97  # the ratio of two times whose intervals lie apart by the margin


@pytest.mark.parametrize(
    ("new", "expected", "said"),
    [
        (OLD, Exit.PASSED, "No regression"),
        ([row_of(**around(0.99e-5 * BEYOND)), OLD[1]], Exit.PASSED, "2 cases timed, 0 of them faster"),
        ([row_of(**around(1.01e-5 * BEYOND)), OLD[1]], Exit.REGRESSION, "1 slower (vectorized 32 × 512 uniform)"),
        ([row_of(**around(0.99e-5 / BEYOND)), OLD[1]], Exit.PASSED, "2 cases timed, 1 of them faster"),
        ([row_of(**around(9e-5), settled=0), OLD[1]], Exit.PASSED, "1 cases timed"),
        ([row_of(status="skipped", reason="too long"), OLD[1]], Exit.PASSED, "1 cases timed"),
        ([dataclasses.replace(row, settled=0) for row in OLD], Exit.INCONCLUSIVE, "no case is settled in both sweeps"),
        ([row_of(time_low_s=math.nan), OLD[1]], Exit.PASSED, "1 cases timed"),
        ([row_of(peak_bytes=10**6 + 4096), OLD[1]], Exit.REGRESSION, "1 larger"),
        ([row_of(status="wrong", reason="wrong by 1e9 ulp"), OLD[1]], Exit.REGRESSION, "1 wrong"),
        (OLD[1:], Exit.REGRESSION, "1 removed"),
        ([row_of(features=7), row_of(implementation="explicit_jacobian", features=7)], Exit.INCONCLUSIVE, "nothing to"),
    ],
)
def test_check_against_a_stored_run(new: list[Row], expected: Exit, said: str) -> None:
    of_base, of_work = (dict.fromkeys((row.operation, row.implementation) for row in rows) for rows in (OLD, new))
    presence = presence_findings(of_base, specs_of(*of_work), allow_removed=False)
    check = compare_rows("old", OLD, new, presence)
    assert check.exit is expected
    assert said in check.sentence


def test_a_finding_against_a_stored_run_has_ratio_interval_and_what_is_found() -> None:
    (finding,) = compare_rows("old", OLD, [row_of(**around(1.05e-5))], []).findings
    assert finding.verdict == "unchanged"
    assert finding.low < finding.ratio < finding.high
    assert finding.ratio == pytest.approx(1.05)
    # The new estimate may fall on the low bound of its ratio, and its own low bound lies below that.
    assert 1.0 + finding.detectable == pytest.approx(BEYOND * math.exp(math.hypot(math.log(0.97), math.log(1.03))))
    slowed = 1e-5 * (1.0 + finding.detectable)
    (found,) = compare_rows("old", OLD, [row_of(**around(slowed))], []).findings
    assert found.verdict == "slower"


def test_a_case_may_be_larger_and_slower() -> None:
    findings = compare_rows("old", OLD, [row_of(**around(9e-5), peak_bytes=10**7)], []).findings
    assert [finding.verdict for finding in findings] == ["larger", "slower"]


def test_a_stored_run_without_intervals_is_judged_by_memory_only() -> None:
    old = [dataclasses.replace(row, time_low_s=math.nan, time_high_s=math.nan, settled=None) for row in OLD]
    check = compare_rows("old", old, [row_of(**around(9e-5))], [])
    assert check.exit is Exit.INCONCLUSIVE
    assert "the stored run has no intervals of time" in check.sentence
    assert compare_rows("old", old, [row_of(peak_bytes=10**7)], []).exit is Exit.REGRESSION


def test_threads_whose_buffers_overlap_in_one_of_two_sweeps_are_not_larger() -> None:
    threads = {"implementation": "row_blocks_threads", "threads": 2}
    old = [row_of(**threads)]
    grown = [row_of(**threads, peak_bytes=10**6 + growth) for growth in (65536, 200_000)]
    assert [compare_rows("old", old, [new], []).exit for new in grown] == [Exit.PASSED, Exit.REGRESSION]


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (row_of(), row_of(status="skipped", reason="too long"), ("not judged", "skipped now: too long")),
        (row_of(), row_of(status="failed", reason="it died"), ("wrong", "it died")),
        (row_of(), row_of(time_low_s=math.nan), ("not judged", "its time has no interval")),
        (row_of(time_high_s=math.nan), row_of(), ("not judged", "its time has no interval")),
        (row_of(), row_of(settled=0), ("not judged", "not settled now")),
        (row_of(settled=0), row_of(), ("not judged", "not settled in the stored run")),
        (row_of(settled=None), row_of(), ("not judged", "not settled in the stored run")),
        (row_of(), row_of(peak_bytes=10**6 + 2048), ("unchanged", "")),
        (row_of(), row_of(peak_bytes=10**6 + 2049), ("larger", "peak grew by 2049 bytes")),
        (row_of(peak_high_bytes=10**6 + 5000), row_of(peak_bytes=10**6 + 7048), ("unchanged", "")),
        (row_of(peak_high_bytes=10**6 + 5000), row_of(peak_bytes=10**6 + 7049), ("larger", "peak grew by 2049 bytes")),
    ],
)
def test_what_a_new_row_says_beside_the_stored_one(old: Row, new: Row, found: tuple[str, str]) -> None:
    finding = compare_rows("old", [old], [new], []).findings[0]
    assert (finding.verdict, finding.note) == found
    assert finding.label == "vectorized 32 × 512 uniform"
    assert finding.base_s == old.time_s
    assert (finding.base_peak_bytes, finding.work_peak_bytes) == (old.peak_bytes, new.peak_bytes)
    assert math.isnan(finding.ratio) == (
        found[0] in ("wrong", "larger") or "interval" in found[1] or "now: " in found[1]
    )


@pytest.mark.parametrize("status", ["skipped", "wrong", "failed"])
def test_what_was_not_measured_in_the_stored_run_is_not_compared(status: str) -> None:
    check = compare_rows("old", [row_of(status=status), OLD[1]], [row_of(**around(9e-5)), OLD[1]], [])
    assert [finding.label for finding in check.findings] == ["explicit_jacobian 32 × 512 uniform"]
    assert check.exit is Exit.PASSED


def test_intervals_lie_apart_by_a_tenth() -> None:
    for high_s, verdict in ((1.0e-5, "unchanged"), (1.02e-5, "slower")):
        new = row_of(time_low_s=1.1 * 1.03 * high_s, time_s=1.2e-5, time_high_s=1.3e-5)
        new = dataclasses.replace(new, time_low_s=0.999 * new.time_low_s)
        (finding,) = compare_rows("old", [row_of(**around(1e-5))], [new], []).findings
        assert finding.verdict == verdict


def test_the_new_sweep_is_quick_of_our_own_code_and_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands: list[list[str]] = []
    folders: list[Path] = []
    status = 1  # a case is wrong, and its row says so

    def run(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        commands.append(command)
        folder = Path(next(option for option in command if option.startswith("--results=")).partition("=")[2]) / "now"
        folders.append(folder)
        folder.mkdir()
        write_table(folder / "cases.csv", OLD)
        return subprocess.CompletedProcess(command, status, "first\nlast of the output\n", "")

    monkeypatch.setattr(baseline, "subprocess", types.SimpleNamespace(run=run))
    rows, pace_s = baseline._sweep()
    assert rows == OLD
    assert math.isnan(pace_s)  # of a run without visits
    (command,) = commands
    assert {"run", "--grid=quick", "--library=numpy", "--library=numba", "--no-charts"} < set(command)
    assert not folders[0].parent.exists()
    status = 2
    with pytest.raises(RuntimeError, match="^the sweep ended with 2: last of the output$"):
        baseline._sweep()


def test_a_removed_implementation_fails_a_check_against_a_run_and_a_user_s_own_does_not(
    run_of_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads((run_of_here / "run.json").read_text(encoding="utf-8"))
    gone, own = ({**content["implementations"][0], "name": name} for name in ("gone", "mine.py:f"))
    content["implementations"] += [gone, own]
    (run_of_here / "run.json").write_text(json.dumps(content), encoding="utf-8")
    rows = load_rows(run_of_here)
    monkeypatch.setattr(baseline, "_sweep", lambda: (rows, math.nan))
    check = check_against_run(run_of_here, allow_removed=False)
    assert [finding.label for finding in check.findings if finding.verdict == "removed"] == ["softmax gone"]
    assert check.exit is Exit.REGRESSION
    assert check_against_run(run_of_here, allow_removed=True).exit is Exit.PASSED

    def failing() -> tuple[list[Row], float]:
        raise RuntimeError("the sweep ended with 2: no space")

    monkeypatch.setattr(baseline, "_sweep", failing)
    failed = check_against_run(run_of_here, allow_removed=False)
    assert failed.inconclusive == "the sweep ended with 2: no space"
    assert failed.exit is Exit.REGRESSION  # the removed one is certain all the same


def test_a_new_library_version_makes_a_stored_run_incomparable(run_of_here: Path) -> None:
    content = json.loads((run_of_here / "run.json").read_text(encoding="utf-8"))
    content["versions"]["numpy"] = "1.0"
    (run_of_here / "run.json").write_text(json.dumps(content), encoding="utf-8")
    check = check_against_run(run_of_here, allow_removed=False)
    assert check.inconclusive.startswith("incomparable: versions: numpy was 1.0")
    assert check.findings == []


@pytest.fixture
def run_of_here(reference_run: Path, tmp_path: Path) -> Path:
    """The reference run as if it had been measured on this machine."""
    folder = tmp_path / "here"
    shutil.copytree(reference_run, folder)
    content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    content |= {"machine": host.machine(), "versions": host.versions()}
    (folder / "run.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_implementations_that_the_check_does_not_sweep_are_not_removed(
    run_of_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = load_rows(run_of_here)
    swept = [row for row in rows if row.case.spec.library == NUMPY]
    monkeypatch.setattr(baseline, "_sweep", lambda: (swept, math.nan))
    check = check_against_run(run_of_here, allow_removed=False)
    assert check.exit is not Exit.REGRESSION, check.sentence
    assert "torch_kernel" in {row.implementation for row in rows}
    assert "torch_kernel" not in {finding.label.split()[0] for finding in check.findings}


def test_a_sweep_that_fails_makes_the_check_inconclusive(run_of_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    check = check_against_run(run_of_here, allow_removed=False)
    assert check.exit is Exit.INCONCLUSIVE
    assert check.sentence.startswith("Inconclusive: the sweep ended with 1")


def test_a_stored_run_of_another_machine_is_incomparable(
    softmax_bench: SoftmaxBench, reference_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(reference_run, tmp_path / "elsewhere")
    path = tmp_path / "elsewhere" / "run.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["machine"]["cpu"] = "another processor"
    path.write_text(json.dumps(content), encoding="utf-8")
    done = softmax_bench("gate", "--base=elsewhere")
    assert done.returncode == 2
    assert "Inconclusive: incomparable: machine: cpu was another processor" in done.stdout


def test_duels_cover_what_both_versions_have() -> None:
    have = dict(registered())
    less = {key: spec for key, spec in have.items() if key[1] != "row_loop"}
    duels = duels_of(Path("base"), Path("work"), have, less)
    of_numpy = {key[1] for key, spec in less.items() if spec.library == "numpy" and not spec.runs_threads}
    installed = {key[1] for key, spec in less.items() if spec.installed}
    compared = {duel.case.implementation for duel in duels}
    assert of_numpy <= compared <= installed
    assert "row_loop" not in compared
    assert all(duel.base.place == "base" and duel.work.place == "work" for duel in duels)
    assert len({duel.label for duel in duels}) == len(duels)
    assert dataclasses.is_dataclass(duels[0])
