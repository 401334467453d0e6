"""What a contributor is told: a new metric is one field and the line that fills it; which versions are supported."""

import csv
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from softmax_bench.paths import PACKAGE

from tests.conftest import ROOT, SMALL, UNTIMED


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A folder with a copy of the package to which the metric `energy_j` has been added."""
    package = tmp_path / "softmax_bench"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    insert(
        package / "storage" / "results.py", "    first_call_s: Seconds = math.nan", "    energy_j: float = math.nan\n"
    )
    insert(package / "sweep" / "measuring.py", '            status="measured",\n', "            energy_j=1.5,\n")
    return tmp_path


def insert(path: Path, before: str, text: str) -> None:
    content = path.read_text(encoding="utf-8")
    assert content.count(before) == 1
    path.write_text(content.replace(before, text + before), encoding="utf-8")


def run_in(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "softmax_bench.cli", *arguments]  # -m: the folder's package comes first
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_new_metric_is_measured_and_stored(changed: Path) -> None:
    done = run_in(changed, "run", "--run-id=its", *SMALL, "--implementation=vectorized", *UNTIMED)
    assert done.returncode == 0, done.stdout + done.stderr
    with (changed / "results" / "its" / "cases.csv").open(encoding="utf-8") as file:
        assert {row["energy_j"] for row in csv.DictReader(file)} == {"1.5"}


def test_stored_runs_without_the_metric_still_load(changed: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from softmax_bench.storage.results import load_rows\n"
        "rows = load_rows(Path(sys.argv[1])); print(len(rows), {str(row.energy_j) for row in rows})"
    )
    command = [sys.executable, "-c", code, str(ROOT / "results" / "reference")]
    done = subprocess.run(command, cwd=changed, capture_output=True, text=True, check=True)
    count, values = done.stdout.split(maxsplit=1)
    assert int(count) > 800
    assert values.strip() == "{'nan'}"


def test_the_oldest_versions_that_are_tested_are_the_lower_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [Requirement(text) for text in (*project["dependencies"], *project["optional-dependencies"]["test"])]
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    oldest = dict(line.split("==") for line in lines if not line.startswith("#"))
    for requirement in asked:
        (bound,) = requirement.specifier
        assert bound.operator == ">="
        assert Version(oldest[requirement.name]) == Version(bound.version), requirement.name
