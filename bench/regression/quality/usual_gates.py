"""The gates that people use, tried on the duels of the check: each measures both sides and says what got slower.

pytest-benchmark compares a stored run with a new one by a threshold; asv runs both commits and compares their samples.
Both judge by their own code.
"""

import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_benchmark.utils import parse_compare_fail

from ..duet import Duel, Side
from ..revisions import git

STORED_RUN_RULES = ("min:5%", "mean:10%")
STORED_RUN_MAX_TIME_S = 0.1
# Slower by more than this factor, and beyond the spread of asv's samples, is an alarm; 1.1 is asv's default.
ASV_FACTORS = {"asv:5%": 1.05, "asv:10%": 1.1}

COMMITTER = ("-c", "user.name=softmax-bench", "-c", "user.email=softmax-bench@localhost", "-c", "commit.gpgsign=false")

# What both kinds of benchmark begin with: the calls of one side, from the file of `_write_sides`.
CALLS = """
import json
import pathlib
from threadpoolctl import threadpool_limits
from softmax_bench.operations.cases import Case
from softmax_bench.operations import operations
from softmax_bench.regression.duet import Side, SideLoader

LOAD = SideLoader()

def call_of(one):
    case = Case(**one["case"])
    return LOAD(Side(**one["side"]), "usual")(operations()[case.operation].make_inputs(case, 42))
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
    """The labels that pytest-benchmark's comparison of a stored run with a new one calls slower, by its rule."""
    before, after = (_benchmark_run([(duel, getattr(duel, role)) for duel in duels]) for role in ("base", "work"))
    checks = {rule: parse_compare_fail(rule) for rule in STORED_RUN_RULES}  # type: ignore[no-untyped-call]
    return {
        rule: [label for label in after if check.fails(after[label], before[label])] for rule, check in checks.items()
    }


def asv_alarms(duels: Sequence[Duel]) -> dict[str, list[str]]:
    """The labels that ``asv continuous`` calls slower, by factor; all else is as asv does it unasked.

    Raises:
        UserError: git is not installed.
        RuntimeError: git could not commit the cases, or asv measured nothing.
    """
    with tempfile.TemporaryDirectory(prefix="softmax-bench-") as name:
        folder = Path(name)
        repository = folder / "repository"
        git(folder, "init", "--quiet", str(repository))
        for role in ("base", "work"):
            _write_sides(repository, [(duel, getattr(duel, role)) for duel in duels])
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
    """What asv says of the last two commits; its exit status says no more."""
    # asv keeps what it knows of machines in the home folder, which is not ours to write to.
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


def asv_is_here() -> bool:
    """Whether asv is installed (the extra ``asv``)."""
    return importlib.util.find_spec("asv") is not None


def _write_asv_project(folder: Path, repository: Path) -> None:
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks" / "__init__.py").touch()
    (folder / "benchmarks" / "cases.py").write_text(ASV_BENCHMARK, encoding="utf-8")
    settings = {
        "version": 1,
        "project": "softmax",
        "repo": str(repository),
        "branches": ["HEAD"],
        "plugins": [".softmax_bench.regression.quality.asv_interpreter"],  # the dot: a module of ours, not of asv's
        "environment_type": "interpreter",
        "build_command": [],
        "install_command": [],
        "uninstall_command": [],
    }
    (folder / "asv.conf.json").write_text(json.dumps(settings), encoding="utf-8")
    machine = {"machine": "here", "os": "", "arch": "", "cpu": "", "num_cpu": "", "ram": ""}
    (folder / ".asv-machine.json").write_text(json.dumps({"here": machine, "version": 1}), encoding="utf-8")


def _write_sides(folder: Path, players: Sequence[tuple[Duel, Side]]) -> None:
    content = {
        duel.label: {"side": dataclasses.asdict(side), "case": dataclasses.asdict(duel.case)} for duel, side in players
    }
    (folder / "cases.json").write_text(json.dumps(content), encoding="utf-8")


def _benchmark_run(players: Sequence[tuple[Duel, Side]]) -> Mapping[str, Mapping[str, float]]:
    """pytest-benchmark's statistics of each duel's one side, by label, from one pytest process."""
    with tempfile.TemporaryDirectory(prefix="softmax-bench-") as name:
        folder = Path(name)
        _write_sides(folder, players)
        (folder / "test_usual.py").write_text(STORED_RUN_BENCHMARK, encoding="utf-8")
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "--benchmark-json=out.json", "--benchmark-warmup=on"]
        command += [f"--benchmark-max-time={STORED_RUN_MAX_TIME_S}", "--benchmark-warmup-iterations=10"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"pytest-benchmark's run failed: {done.stdout.splitlines()[-1:]}")
        report = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    return {benchmark["params"]["label"]: benchmark["stats"] for benchmark in report["benchmarks"]}
