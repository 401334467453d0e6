"""The gates that people use, run on the duels of the check: each measures both sides and says what got slower.

pytest-benchmark compares a stored run with a new run by a threshold. asv runs both commits and compares their samples.
Each judges by its own code.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pytest_benchmark.utils import parse_compare_fail

from ...instruments.scratch import temporary_folder
from ..duel import Duel
from .usual_tools import asv_results, commit_all, make_asv_project, run_asv, run_pytest_benchmark

Role = Literal["base", "work"]  # of a side in its duel
STORED_RUN_RULES = ("min:5%", "mean:10%")
STORED_RUN_MAX_TIME_S = 0.1
# asv alarms if a case is slower by more than this factor and by more than its samples spread; 1.1 is asv's default.
ASV_FACTORS = {"asv:5%": 1.05, "asv:10%": 1.1}
LAST_COMMITS = ("HEAD~1", "HEAD")

# Both kinds of benchmark begin with this. They call one side of each duel, which `_write_sides` stored in cases.json.
CALLS = """
import json
import pathlib
from threadpoolctl import threadpool_limits
from softmax_bench.operations.cases import Case
from softmax_bench.operations import operations
from softmax_bench.regression.duel import Side
from softmax_bench.regression.duet import SideLoader

LOADER = SideLoader()

def call_of(entry):
    case = Case(**entry["case"])
    bind = LOADER.load(Side(**entry["side"]), "usual")
    return bind(operations()[case.operation].make_inputs(case, 42))
"""
STORED_RUN_BENCHMARK = f"""
import pytest
{CALLS}
DUELS = json.loads(pathlib.Path(__file__).with_name("cases.json").read_text())

@pytest.mark.parametrize("label", list(DUELS))
def test_case(benchmark, label):
    call = call_of(DUELS[label])
    with threadpool_limits(limits=1):
        benchmark(call)
"""
# asv checks the commit out into the folder `project` of its environment.
ASV_BENCHMARK = f"""
import os
{CALLS}
DUELS = json.loads(pathlib.Path(os.environ["ASV_ENV_DIR"], "project", "cases.json").read_text())

class Cases:
    params = [list(DUELS)]

    def setup(self, label):
        threadpool_limits(limits=1)
        self.call = call_of(DUELS[label])

    def time_case(self, label):
        self.call()
"""


def stored_run_alarms(duels: Sequence[Duel]) -> dict[str, list[str]]:
    """For each rule, the labels that are slower when pytest-benchmark compares a stored run with a new run.

    Raises:
        RuntimeError: a run failed.
    """
    before, after = _benchmark_run(duels, "base"), _benchmark_run(duels, "work")
    checks = {rule: parse_compare_fail(rule) for rule in STORED_RUN_RULES}  # type: ignore[no-untyped-call]
    return {
        rule: [label for label in after if check.fails(after[label], before[label])] for rule, check in checks.items()
    }


def asv_alarms(duels: Sequence[Duel]) -> dict[str, list[str]]:
    """For each factor, the labels that ``asv continuous`` calls slower; all other options are asv's defaults.

    Raises:
        UserError: git is not installed.
        RuntimeError: git could not commit the cases, or asv measured nothing.
    """
    with temporary_folder() as folder:
        repository = make_asv_project(folder, ASV_BENCHMARK)
        roles: tuple[Role, ...] = ("base", "work")
        for role in roles:
            _write_sides(repository, duels, role)
            commit_all(repository, role)
        least, *others = ASV_FACTORS.values()
        reports = [run_asv(folder, "continuous", f"--factor={least}", *LAST_COMMITS)]
        if not asv_results(folder):
            raise RuntimeError(f"asv measured nothing: {reports[0].splitlines()[-1:]}")
        reports += [
            run_asv(folder, "compare", "--only-changed", f"--factor={factor}", *LAST_COMMITS) for factor in others
        ]
    labels = [duel.label for duel in duels]
    return {rule: slower_of(report, labels) for rule, report in zip(ASV_FACTORS, reports, strict=True)}


def slower_of(report: str, labels: Sequence[str]) -> list[str]:
    """The labels on the lines of asv's report that it marks as slower.

    A line is ``| + | 1.2±0μs | 1.5±0μs | 1.25 | cases.Cases.time_case('label') |``.
    """
    slower = set(re.findall(r"^\|\s*\+.*time_case\('(.*?)'\)", report, re.MULTILINE))
    return [label for label in labels if label in slower]


def _write_sides(folder: Path, duels: Sequence[Duel], role: Role) -> None:
    """Store one side of each duel, and its case, for the benchmarks."""
    content = {
        duel.label: {"side": dataclasses.asdict(getattr(duel, role)), "case": dataclasses.asdict(duel.case)}
        for duel in duels
    }
    (folder / "cases.json").write_text(json.dumps(content), encoding="utf-8")


def _benchmark_run(duels: Sequence[Duel], role: Role) -> Mapping[str, Mapping[str, float]]:
    """pytest-benchmark's statistics of one side of each duel, by label, from one pytest process."""
    with temporary_folder() as folder:
        _write_sides(folder, duels, role)
        shortened = (f"--benchmark-max-time={STORED_RUN_MAX_TIME_S}", "--benchmark-warmup-iterations=10")
        return run_pytest_benchmark(folder, STORED_RUN_BENCHMARK, "--benchmark-warmup=on", *shortened)
