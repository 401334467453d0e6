"""The gates that people use, run on the duels of the check: each measures both sides and says what got slower.

pytest-benchmark compares a stored run with a new run by a threshold. asv runs both commits and compares their samples.
Each judges by its own code.
"""

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pytest_benchmark.utils import parse_compare_fail

from ..duet import Duel
from ..revisions import git

Role = Literal["base", "work"]  # of a side in its duel
STORED_RUN_RULES = ("min:5%", "mean:10%")
STORED_RUN_MAX_TIME_S = 0.1
# asv alarms if a case is slower by more than this factor and by more than its samples spread; 1.1 is asv's default.
ASV_FACTORS = {"asv:5%": 1.05, "asv:10%": 1.1}

COMMITTER = ("-c", "user.name=softmax-bench", "-c", "user.email=softmax-bench@localhost", "-c", "commit.gpgsign=false")

# Both kinds of benchmark begin with this. They call one side of each duel, which `_write_sides` stored in cases.json.
CALLS = """
import json
import pathlib
from threadpoolctl import threadpool_limits
from softmax_bench.operations.cases import Case
from softmax_bench.operations import operations
from softmax_bench.regression.duet import Side, SideLoader

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
    with tempfile.TemporaryDirectory(prefix="softmax-bench-") as name:
        folder = Path(name)
        repository = folder / "repository"
        git(folder, "init", "--quiet", str(repository))
        roles: tuple[Role, ...] = ("base", "work")
        for role in roles:
            _write_sides(repository, duels, role)
            git(repository, "add", "cases.json")
            if git(repository, *COMMITTER, "commit", "--quiet", f"--message={role}") is None:
                raise RuntimeError("git could not commit the cases for asv")
        _write_asv_project(folder, repository)
        least, *others = ASV_FACTORS.values()
        reports = [_asv(folder, "continuous", f"--factor={least}")]
        if not list(folder.glob("results/here/*-*.json")):
            raise RuntimeError(f"asv measured nothing: {reports[0].splitlines()[-1:]}")
        reports += [_asv(folder, "compare", "--only-changed", f"--factor={factor}") for factor in others]
    labels = [duel.label for duel in duels]
    return {rule: slower_of(report, labels) for rule, report in zip(ASV_FACTORS, reports, strict=True)}


def _asv(folder: Path, command: str, *options: str) -> str:
    """What asv prints about the last two commits. Its exit status says nothing more."""
    # asv stores its list of machines in the home folder; nothing of a user's own may be written to.
    environment = {**os.environ, "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "asv", command, "--machine=here", *options, "HEAD~1", "HEAD"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def slower_of(report: str, labels: Sequence[str]) -> list[str]:
    """The labels on the lines of asv's report that it marks as slower.

    A line is ``| + | 1.2±0μs | 1.5±0μs | 1.25 | cases.Cases.time_case('label') |``.
    """
    slower = set(re.findall(r"^\|\s*\+.*time_case\('(.*?)'\)", report, re.MULTILINE))
    return [label for label in labels if label in slower]


def _write_asv_project(folder: Path, repository: Path) -> None:
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks" / "__init__.py").touch()
    (folder / "benchmarks" / "cases.py").write_text(ASV_BENCHMARK, encoding="utf-8")
    settings = {
        "version": 1,
        "project": "softmax",
        "repo": str(repository),
        "branches": ["HEAD"],
        "plugins": [".softmax_bench.regression.quality.asv_interpreter"],  # the dot: not one of asv's own modules
        "environment_type": "interpreter",
        "build_command": [],
        "install_command": [],
        "uninstall_command": [],
    }
    (folder / "asv.conf.json").write_text(json.dumps(settings), encoding="utf-8")
    machine = {"machine": "here", "os": "", "arch": "", "cpu": "", "num_cpu": "", "ram": ""}
    (folder / ".asv-machine.json").write_text(json.dumps({"here": machine, "version": 1}), encoding="utf-8")


def _write_sides(folder: Path, duels: Sequence[Duel], role: Role) -> None:
    """Store one side of each duel, and its case, for the benchmarks."""
    content = {
        duel.label: {"side": dataclasses.asdict(getattr(duel, role)), "case": dataclasses.asdict(duel.case)}
        for duel in duels
    }
    (folder / "cases.json").write_text(json.dumps(content), encoding="utf-8")


def _benchmark_run(duels: Sequence[Duel], role: Role) -> Mapping[str, Mapping[str, float]]:
    """pytest-benchmark's statistics of one side of each duel, by label, from one pytest process."""
    with tempfile.TemporaryDirectory(prefix="softmax-bench-") as name:
        folder = Path(name)
        _write_sides(folder, duels, role)
        (folder / "test_usual.py").write_text(STORED_RUN_BENCHMARK, encoding="utf-8")
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "--benchmark-json=out.json", "--benchmark-warmup=on"]
        command += [f"--benchmark-max-time={STORED_RUN_MAX_TIME_S}", "--benchmark-warmup-iterations=10"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"pytest-benchmark's run failed: {done.stdout.splitlines()[-1:]}")
        report = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    return {benchmark["params"]["label"]: benchmark["stats"] for benchmark in report["benchmarks"]}
