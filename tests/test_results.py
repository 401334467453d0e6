import dataclasses
import json
import math
from pathlib import Path

import pytest
from softmax_bench.errors import UserError
from softmax_bench.instruments.bandwidth import CeilingPoint
from softmax_bench.storage.results import (
    COLUMNS,
    Row,
    Run,
    RunOptions,
    find_run,
    load_rows,
    load_run,
    open_rows,
    to_frame,
    write_run,
)

OPTIONS = RunOptions(max_call_s=1.0, max_bytes=None, benchmark={"max_time": 0.3}, stream_bytes_per_s=1e10)
MACHINE = {"cpu": "x", "cores": 2, "memory_bytes": 10**10, "system": "Linux"}
VERSIONS = {"python": "3.11", "numpy": "2"}
RUN = Run("r1", "2026-01-01T00:00:00+00:00", 42, {}, OPTIONS, MACHINE, VERSIONS, {"a.py": "1"}, [])


def row_of(implementation: str = "vectorized", **values: object) -> Row:
    identity: dict[str, object] = {"batch": 32, "features": 512, "dtype": "float64", "logits": "normal", "threads": 1}
    return Row("r1", "softmax", implementation, **{**identity, "status": "measured", **values})  # type: ignore[arg-type]


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    with open_rows(tmp_path) as table:
        table.append(row_of("explicit_jacobian", time_s=0.05, peak_bytes=1000, visits=3, max_error_ulp=0.5))
        table.append(row_of("vectorized", time_s=0.0001, peak_bytes=10))
        table.append(row_of("row_loop", status="skipped", reason="predicted 2 s, over\nthe budget", peak_bytes=None))
    return tmp_path


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "cases.csv"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_rows_come_back_as_they_were_stored(stored: Path) -> None:
    rows = load_rows(stored)
    assert [row.implementation for row in rows] == ["explicit_jacobian", "vectorized", "row_loop"]
    assert rows[0].time_s == 0.05
    assert rows[0].visits == 3
    assert rows[2].reason == "predicted 2 s, over the budget"


def test_missing_is_empty_when_stored_and_nan_or_none_when_loaded(stored: Path) -> None:
    assert ",0.0," not in (stored / "cases.csv").read_text(encoding="utf-8").splitlines()[-1]
    skipped = load_rows(stored)[-1]
    assert math.isnan(skipped.time_s)
    assert skipped.peak_bytes is None


def test_derived_columns_refer_to_the_explicit_jacobian_of_the_same_shape(stored: Path) -> None:
    frame = to_frame(load_rows(stored)).set_index("implementation")
    assert frame.loc["vectorized", "speedup"] == pytest.approx(500.0)
    assert frame.loc["vectorized", "memory_ratio"] == pytest.approx(100.0)
    assert math.isnan(float(frame["speedup"]["row_loop"]))


def test_a_row_of_more_threads_is_compared_with_the_baseline_on_as_many_or_else_on_one() -> None:
    single = row_of("explicit_jacobian", time_s=0.05)
    double = row_of("explicit_jacobian", time_s=0.03, threads=2)
    parallel = row_of("fused_parallel", time_s=0.001, threads=2)
    assert to_frame([single, parallel])["speedup"].tolist() == pytest.approx([1.0, 50.0])
    assert to_frame([single, double, parallel])["speedup"].tolist() == pytest.approx([1.0, 1.0, 30.0])


def test_share_of_the_ceiling_is_of_the_same_working_set_and_threads() -> None:
    rows = [row_of("vectorized", time_s=1e-5), row_of("fused_parallel", time_s=1e-5, threads=2)]
    working_set = 3 * 32 * 512 * 8  # two arrays read and one written
    ceiling = [
        CeilingPoint(threads=1, working_set_bytes=working_set // 4, bytes_per_s=160e9),
        CeilingPoint(threads=1, working_set_bytes=working_set * 4, bytes_per_s=40e9),
    ]
    frame = to_frame(rows, ceiling)
    assert frame["working_set_bytes"].tolist() == [working_set] * 2
    assert frame["bytes_per_s"][0] == pytest.approx(working_set / 1e-5)
    assert frame["ceiling_share"][0] == pytest.approx(working_set / 1e-5 / 80e9)  # halfway on logarithms
    assert math.isnan(frame["ceiling_share"][1])  # not measured with two threads


def test_a_run_of_before_the_ceiling_was_measured_still_loads(stored: Path) -> None:
    write_run(RUN, stored)
    path = stored / "run.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["ceiling"]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert load_run(stored).ceiling == []
    assert to_frame(load_rows(stored), [])["ceiling_share"].isna().all()


def test_a_speedup_has_settled_where_both_of_its_times_have() -> None:
    for slow, fast in ((1, 1), (0, 1), (1, 0), (0, 0)):
        rows = [row_of("explicit_jacobian", time_s=0.05, settled=slow), row_of("vectorized", time_s=0.1, settled=fast)]
        assert to_frame(rows)["speedup_settled"].tolist() == [slow, slow * fast]


def test_no_ratio_to_a_baseline_of_another_shape() -> None:
    rows = [row_of("explicit_jacobian", batch=8, time_s=0.05), row_of("vectorized", time_s=0.1)]
    assert to_frame(rows)["speedup"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("features,", "", "cases.csv:1: column 'features' is missing"),
        ("run_id,", "run_id,colour,", "cases.csv:1: column 'colour' is unknown"),
        (",512,", ",many,", "cases.csv:2: column 'features': 'many' is not a whole number, 1 or more"),
        (",512,", ",-512,", "cases.csv:2: column 'features': '-512' is not a whole number, 1 or more"),
        ("0.0001", "fast", "cases.csv:3: column 'time_s': 'fast' is not a number"),
        (",skipped,", ",lost,", "cases.csv:4: column 'status': 'lost' is not one of measured, skipped, wrong, failed"),
        (
            ",row_loop,",
            ",vectorized,",
            "cases.csv:3: softmax-vectorized-B32-N512-float64-normal",
        ),
        ("r1,softmax,vectorized,32,", "r1,softmax,vectorized,32,7,", "cases.csv:3: 29 values where the header has 28"),
    ],
)
def test_a_damaged_table_is_told_by_file_line_and_column(stored: Path, old: str, new: str, said: str) -> None:
    edit(stored, old, new)
    with pytest.raises(UserError) as caught:
        load_rows(stored)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_row_cut_off_is_told_and_repaired_on_opening(stored: Path) -> None:
    path = stored / "cases.csv"
    whole = path.read_bytes()
    path.write_bytes(whole + b"r1,softmax,row_bl")
    with pytest.raises(UserError, match=r"cases.csv:5: the last row is cut off"):
        load_rows(stored)
    open_rows(stored).close()
    assert path.read_bytes() == whole


def test_two_processes_do_not_write_one_run(stored: Path) -> None:
    with open_rows(stored), pytest.raises(UserError, match="another process is writing this table"):
        open_rows(stored)
    open_rows(stored).close()


def test_text_that_is_not_utf8_is_told(stored: Path) -> None:
    (stored / "cases.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"cases.csv: not a text in UTF-8"):
        load_rows(stored)


def test_run_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    write_run(RUN, tmp_path / "r1")
    assert load_run(tmp_path / "r1") == RUN
    assert [path.name for path in (tmp_path / "r1").iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "not JSON"), ("[]", "not a run"), ('{"run_id": "r1"}', "not a run .*missing required field `started`")],
)
def test_a_foreign_run_file_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        load_run(tmp_path)


def test_a_missing_run_is_told_with_those_that_exist(tmp_path: Path) -> None:
    write_run(RUN, tmp_path / "r1")
    with pytest.raises(UserError, match="no run 'r2' in .*; there is r1"):
        find_run("r2", tmp_path)
    assert find_run("r1", tmp_path) == tmp_path / "r1"
    assert find_run(str(tmp_path / "r1"), tmp_path / "elsewhere") == tmp_path / "r1"


def test_differences_between_machines_versions_and_code_are_named() -> None:
    other = dataclasses.replace(
        RUN, machine=MACHINE | {"cpu": "y"}, versions=VERSIONS | {"numpy": "3"}, code={"a.py": "2", "b.py": "1"}
    )
    assert RUN.differences(other) == [
        "machine: cpu was x, is y",
        "versions: numpy was 2, is 3",
        "code: a.py changed",
        "code: b.py changed",
    ]
    assert RUN.differences(RUN) == []


def test_the_stored_run_is_plain_json(tmp_path: Path) -> None:
    write_run(RUN, tmp_path)
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["seed"] == 42


def test_columns_are_the_rows_fields_in_order() -> None:
    assert list(COLUMNS)[:11] == [
        "run_id", "operation", "implementation", "batch", "features", "dtype", "logits", "threads",
        "machine", "attempt", "status",
    ]  # fmt: skip
