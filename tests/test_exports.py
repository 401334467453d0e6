"""Exports: each format read back by the tool that it is for, or held against the service's schema."""

import dataclasses
import importlib.util
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import softmax_bench
from softmax_bench.report.exports.asv import AXES
from softmax_bench.report.exports.command import FORMATS
from softmax_bench.report.exports.parquet import METADATA, neutralised
from softmax_bench.storage.results import Row, load_rows, load_run, load_visits, open_rows, open_visits, write_run

from .conftest import ROOT, SoftmaxBench

NAMES, SHAPES = ("explicit_jacobian", "vectorized"), ((1, 2048), (32, 512), (32, 2048))
NOT_BLANK: dict[str, Any] = {"type": "string", "minLength": 1}
NUMBER: dict[str, Any] = {"type": "number", "minimum": 0}
GITHUB_ACTION_BENCHMARK: dict[str, Any] = {  # what its extraction of customSmallerIsBetter takes
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
        "properties": {
            "name": NOT_BLANK,
            "unit": NOT_BLANK,
            "value": NUMBER,
            "range": {"type": "string", "pattern": "^[0-9.e+]+–[0-9.e+]+$"},
            "extra": {"type": "string"},
        },
    },
}
METRIC: dict[str, Any] = {
    "type": "object",
    "required": ["value"],
    "additionalProperties": False,
    "properties": {"value": NUMBER, "lower_value": NUMBER, "upper_value": NUMBER},
}
BENCHER: dict[str, Any] = {  # Bencher Metric Format: benchmarks, of each its measures by their slugs
    "type": "object",
    "minProperties": 1,
    "propertyNames": {"minLength": 1, "maxLength": 1024},
    "additionalProperties": {
        "type": "object",
        "required": ["latency"],
        "additionalProperties": False,
        "properties": {"latency": METRIC, "bytes": METRIC},
    },
}


@pytest.fixture
def stored(tmp_path: Path, reference_run: Path) -> Path:
    """A part of the reference run with its visits, one row skipped, one failed."""
    folder = tmp_path / "results" / "part"
    rows = [row for row in load_rows(reference_run) if row.implementation in NAMES and row.operation == "softmax"]
    rows = [
        row for row in rows if (row.batch, row.features) in SHAPES and (row.dtype, row.logits) == ("float64", "normal")
    ]
    rows = [
        dataclasses.replace(row, run_id="part", status="failed", time_s=math.nan, peak_bytes=None)
        if row == rows[-1]
        else dataclasses.replace(row, run_id="part")
        for row in rows
    ]
    skipped = Row("part", "softmax", "explicit_jacobian", 512, 2048, "float64", "normal", 1, "skipped", "=too large")
    cases = {str(row.case) for row in rows}
    write_run(dataclasses.replace(load_run(reference_run), run_id="part"), folder)
    with open_rows(folder) as table:
        for row in [*rows, skipped]:
            table.append(row)
    with open_visits(folder) as table_of_visits:
        for visit in load_visits(reference_run):
            if visit.case in cases:
                table_of_visits.append(visit)
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit from before the run began."""
    folder = tmp_path / "repository"
    folder.mkdir()
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    made = {
        "GIT_COMMITTER_DATE": "2026-01-02T00:00:00Z",
        "GIT_AUTHOR_DATE": "2026-01-02T00:00:00Z",
        "PATH": "/usr/bin:/bin",
    }
    subprocess.run(["git", *who, "commit", "-q", "--allow-empty", "-m", "first"], cwd=folder, env=made, check=True)
    return folder


def exported(softmax_bench: SoftmaxBench, folder: Path, kind: str, output: Path, *more: str) -> Path:
    done = softmax_bench("export", str(folder), f"--format={kind}", f"--output={output}", *more)
    assert done.returncode == 0, done.stderr
    assert str(output) in done.stdout.replace("\n", "")
    return output


def frame_of(folder: Path) -> pd.DataFrame:
    return softmax_bench.load_run(folder)


def measured(folder: Path) -> pd.DataFrame:
    frame = frame_of(folder)
    return frame[frame["status"] == "measured"]


def test_pytest_benchmark_compares_and_draws_it(softmax_bench: SoftmaxBench, stored: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("pygal") is None:  # not imported: its import hook is of a former Python
        pytest.skip("pytest-benchmark's histogram needs pygal")
    file = exported(softmax_bench, stored, "pytest-benchmark", tmp_path / "run.json")
    tool = Path(sys.executable).with_name("pytest-benchmark")
    columns = ["--columns=min,median,rounds", "--sort=name", f"--csv={tmp_path / 'read'}"]
    histogram = f"--histogram={tmp_path / 'drawn'}"
    done = subprocess.run(
        [sys.executable, tool, "compare", file, histogram, *columns],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = measured(stored)
    read = pd.read_csv(tmp_path / "read.csv").set_index("param:case")
    assert set(read.index) == set(rows["case"])
    for _, row in rows.iterrows():
        fastest = [visit.fastest_s for visit in load_visits(stored) if visit.case == row["case"]]
        assert read.loc[row["case"], "min"] == pytest.approx(min(fastest))
        assert read.loc[row["case"], "rounds"] == len(fastest)
    (drawing,) = tmp_path.glob("drawn*.svg")
    assert "vectorized-B32-N512" in drawing.read_text(encoding="utf-8")
    stated = {one["param"]: one["extra_info"] for one in json.loads(file.read_text())["benchmarks"]}
    for _, row in rows.iterrows():
        assert stated[row["case"]]["time_low_s"] < stated[row["case"]]["time_s"] == row["time_s"]
        assert stated[row["case"]]["peak_bytes"] == row["peak_bytes"]


def test_asv_publishes_it(softmax_bench: SoftmaxBench, stored: Path, repository: Path, tmp_path: Path) -> None:
    results_of_asv = pytest.importorskip("asv.results")
    folder = tmp_path / "asv"
    done = subprocess.run(
        [Path(sys.executable).with_name("softmax-bench"), "export", stored, "--format=asv", f"--output={folder}"],
        capture_output=True,
        text=True,
        cwd=repository,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    settings = {"version": 1, "project": "p", "repo": str(repository), "branches": ["main"], "results_dir": str(folder)}
    settings |= {"html_dir": str(tmp_path / "html"), "environment_type": "existing"}
    (tmp_path / "asv.conf.json").write_text(json.dumps(settings))
    published = subprocess.run(
        [sys.executable, "-m", "asv", "publish"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert published.returncode == 0, published.stdout + published.stderr
    index = json.loads((tmp_path / "html" / "index.json").read_text())
    assert set(index["benchmarks"]) == {f"softmax.{kind}{name}" for kind in ("time_", "peakmem_") for name in NAMES}
    (file,) = folder.glob("*/*part*.json")
    loaded = results_of_asv.Results.load(str(file))
    rows = measured(stored)
    for name in NAMES:
        described = index["benchmarks"][f"softmax.time_{name}"]
        assert tuple(described["param_names"]) == AXES
        values = loaded.get_result_value(f"softmax.time_{name}", described["params"])
        mine = rows[rows["implementation"] == name].set_index(["batch", "features"])["time_s"]
        for (batch, features, *_), value in zip(itertools.product(*described["params"]), values, strict=True):
            shape = int(batch), int(features)
            if shape in mine.index:
                assert value == mine[shape]
            else:
                assert value is None or math.isnan(value)
    assert sum(value is None for value in loaded.get_result_value("softmax.time_vectorized", described["params"])) == 1


def test_pandas_reads_the_parquet_with_the_run(softmax_bench: SoftmaxBench, stored: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file = exported(softmax_bench, stored, "parquet", tmp_path / "run.parquet")
    table = parquet.read_table(file)
    own = frame_of(stored)
    assert table.column_names == list(own.columns)
    read = table.to_pandas()
    for column in ("case", "time_s", "peak_bytes", "speedup", "ceiling_share"):
        pd.testing.assert_series_equal(read[column], own[column], check_dtype=False)
    assert str(table.schema.field("batch").type) == str(table.schema.field("peak_bytes").type) == "int64"
    assert json.loads(table.schema.metadata[METADATA])["machine"]["cores"] == 2
    assert "'=too large" in set(read["reason"])


@pytest.mark.parametrize(
    ("kind", "schema"), [("github-action-benchmark", GITHUB_ACTION_BENCHMARK), ("bencher", BENCHER)]
)
def test_what_a_service_reads_has_its_schema(
    kind: str, schema: dict[str, Any], softmax_bench: SoftmaxBench, stored: Path, tmp_path: Path
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    content = json.loads(exported(softmax_bench, stored, kind, tmp_path / "run.json").read_text(encoding="utf-8"))
    jsonschema.validate(content, schema)
    for _, row in measured(stored).iterrows():
        nanoseconds = [1e9 * row[column] for column in ("time_s", "time_low_s", "time_high_s")]
        if kind == "bencher":
            assert list(content[row["case"]]["latency"].values()) == pytest.approx(nanoseconds)
            assert content[row["case"]]["bytes"]["value"] == row["peak_bytes"]
        else:
            (time,) = [entry for entry in content if entry["name"] == f"{row['case']} time"]
            (peak,) = [entry for entry in content if entry["name"] == f"{row['case']} peak memory"]
            low, high = map(float, time["range"].split("–"))
            assert [time["value"], low, high] == pytest.approx(nanoseconds)
            assert (time["unit"], peak["unit"], peak["value"]) == ("ns", "B", row["peak_bytes"])


def test_formulas_of_spreadsheets_are_neutralised() -> None:
    texts = ["=1+1", "+1", "-1", "@a", "\tb", "a=b", ""]
    frame = neutralised(pd.DataFrame({"reason": texts, "time_s": [-1.0] * len(texts)}))
    assert list(frame["reason"]) == ["'=1+1", "'+1", "'-1", "'@a", "'\tb", "a=b", ""]
    assert set(frame["time_s"]) == {-1.0}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "--format=bencher"], "no run 'nowhere'"),
        (["part", "--format=excel"], "'excel' is not one of"),
        (["part", "--format=bencher", "--output=/proc/nothing/here.json"], "cannot be written"),
        (["part", "--format=asv", "--output=/proc/nothing", "--commit=nowhere"], "nowhere: give --commit=REVISION"),
        (["part", "--format=bencher", "--commit=HEAD"], "only asv files results under commits"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_file(
    arguments: list[str], said: str, softmax_bench: SoftmaxBench, stored: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    done = softmax_bench("export", *arguments, f"--results={stored.parent}")
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "parquet"])
def test_a_run_without_a_measured_case_is_not_exported(
    kind: str, softmax_bench: SoftmaxBench, stored: Path, tmp_path: Path
) -> None:
    rows = [row for row in load_rows(stored) if row.status == "skipped"]
    (stored / "cases.csv").unlink()
    with open_rows(stored) as table:
        for row in rows:
            table.append(row)
    done = softmax_bench("export", str(stored), f"--format={kind}", f"--output={tmp_path / 'out'}")
    assert (done.returncode, "no case of this run was measured" in done.stderr) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_run_is_loaded_as_a_frame_with_derived_columns(stored: Path) -> None:
    frame = softmax_bench.load_run(stored)
    assert {"time_s", "peak_bytes", "speedup", "speedup_low", "memory_ratio", "ceiling_share"} <= set(frame.columns)
    assert frame.attrs["run_id"] == "part"
    assert frame.attrs["machine"]["cores"] == 2


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, softmax_bench; print({'numpy', 'pandas', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"
