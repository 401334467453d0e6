"""pytest-benchmark and asv as commands: a script of benchmarks is run in a folder of its own, and what they store read.

Neither sees the configuration, the files or the home folder of whoever runs the suite.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..revisions import git

COMMITTER = ("-c", "user.name=softmax-bench", "-c", "user.email=softmax-bench@localhost", "-c", "commit.gpgsign=false")


def run_pytest_benchmark(folder: Path, script: str, *options: str) -> dict[str, dict[str, float]]:
    """pytest-benchmark's statistics by the benchmarks' parameter ``label``, from one process in a folder without tests.

    Raises:
        RuntimeError: the run failed.
    """
    (folder / "test_cases.py").write_text(script, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "--benchmark-json=out.json", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"pytest-benchmark's run failed: {done.stdout.splitlines()[-1:]}")
    report = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    return {benchmark["params"]["label"]: benchmark["stats"] for benchmark in report["benchmarks"]}


def make_asv_project(folder: Path, benchmark: str) -> Path:
    """Make a project of asv in an empty folder. Returns its repository, which has no commit yet.

    ``benchmark`` is the source of its module ``cases``. Its environment is the interpreter at hand.

    Raises:
        UserError: git is not installed.
    """
    repository = folder / "repository"
    git(folder, "init", "--quiet", str(repository))
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks" / "__init__.py").touch()
    (folder / "benchmarks" / "cases.py").write_text(benchmark, encoding="utf-8")
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
    return repository


def commit_all(repository: Path, message: str) -> None:
    """Commit every file of a repository.

    Raises:
        RuntimeError: git could not.
    """
    git(repository, "add", "--all")
    if git(repository, *COMMITTER, "commit", "--quiet", "--allow-empty", f"--message={message}") is None:
        raise RuntimeError("git could not commit the cases for asv")


def run_asv(folder: Path, command: str, *arguments: str) -> str:
    """What asv prints when it is run in its project. Its exit status says nothing more."""
    # asv stores its list of machines in the home folder; nothing of a user's own may be written to.
    environment = {**os.environ, "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "asv", command, "--machine=here", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def asv_results(folder: Path) -> list[dict[str, Any]]:
    """What asv stored in its project: a table for each commit; none where it measured nothing."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("results/here/*-*.json"))]
