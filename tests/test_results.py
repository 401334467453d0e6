import csv
import dataclasses
import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from softmax_bench.errors import UserError
from softmax_bench.instruments.agreement import Moment
from softmax_bench.instruments.bandwidth import CeilingPoint
from softmax_bench.storage import results
from softmax_bench.storage.files import append_text, make_folder, replace_file
from softmax_bench.storage.frames import ratio_with_interval, to_frame
from softmax_bench.storage.machines import LEFT_OUT, Machine, load_machines, store_machines
from softmax_bench.storage.results import (
    COLUMNS,
    Row,
    Run,
    RunOptions,
    SittingTimes,
    Visit,
    find_run,
    load_rows,
    load_run,
    load_visits,
    of_one_machine,
    open_rows,
    write_run,
)
from softmax_bench.storage.tables import columns_of, write_table

VISIT = Visit("softmax-vectorized-B1-N10-float64-normal", 0, 0.5, 100, 2e-6, 3e-6)
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


def test_a_short_write_is_an_error_and_leaves_whole_rows(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored / "cases.csv"
    whole, write = path.read_bytes(), os.write
    with open_rows(stored) as table:
        monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:-1]))
        with pytest.raises(UserError, match=r"cases.csv: cannot be written \(No space left on device\)"):
            table.append(row_of("row_blocks", time_s=0.1))
        assert path.read_bytes() == whole
        monkeypatch.undo()
        table.append(row_of("row_blocks", time_s=0.1))
    assert path.read_bytes().startswith(whole)
    assert load_rows(stored)[-1].implementation == "row_blocks"


def test_a_table_that_could_not_be_begun_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda file, data: 0)
    with pytest.raises(UserError, match=r"cases.csv: cannot be written \(No space left on device\)"):
        open_rows(tmp_path)
    monkeypatch.undo()
    with open_rows(tmp_path) as table:
        table.append(row_of())
    assert load_rows(tmp_path) == [row_of()]


def test_a_table_that_cannot_be_read_is_one_line(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"cases.csv: cannot be written \(Permission denied\)"):
        open_rows(stored)


def test_rows_are_appended_together(stored: Path) -> None:
    before = load_rows(stored)
    with open_rows(stored) as table:
        table.append(row_of("row_blocks"), row_of("fused_parallel", threads=2))
    assert [row.case for row in load_rows(stored)] == [
        *(row.case for row in before), row_of("row_blocks").case, row_of("fused_parallel", threads=2).case,
    ]  # fmt: skip


def test_opening_keeps_whole_rows_and_begins_an_empty_table_with_its_header(stored: Path, tmp_path: Path) -> None:
    whole = (stored / "cases.csv").read_bytes()
    open_rows(stored).close()
    assert (stored / "cases.csv").read_bytes() == whole
    (stored / "cases.csv").write_bytes(b"run_id,oper")  # cut off in the header
    open_rows(stored).close()
    assert load_rows(stored) == []


def test_a_table_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere/cases.csv: cannot be written \(No such file or directory\)"):
        open_rows(tmp_path / "nowhere")


def test_a_whole_table_replaces_what_was_there(stored: Path) -> None:
    row = row_of("row_blocks", reason="a \x1b[31mred\ttext", time_s=2.5e-05, visits=7)
    assert write_table(stored / "cases.csv", [row]) == stored / "cases.csv"
    assert load_rows(stored) == [dataclasses.replace(row, reason="a [31mred text")]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("batch", "0", "'0' is not a whole number, 1 or more, at most 1.1e+12"),
        ("batch", "", "'' is not a whole number, 1 or more, at most 1.1e+12"),
        ("time_s", "0", "'0' is not a number, more than 0, at most 1e+09"),
        ("time_s", "2e9", "'2e9' is not a number, more than 0, at most 1e+09"),
        ("visits", "-1", "'-1' is not a whole number, 0 or more, at most 1.153e+18"),
        ("settled", "2", "'2' is not a whole number, 0 or more, at most 1"),
        ("peak_bytes", "-1", "'-1' is not a whole number, 0 or more, at most 1.153e+18"),
        ("max_error_ulp", "-0.5", "'-0.5' is not a number, 0 or more"),
        ("reason", "\x07", "'\\x07' is not one line of printable text"),
    ],
)
def test_a_value_out_of_bounds_is_told_with_the_bounds(stored: Path, column: str, value: str, said: str) -> None:
    row = dict.fromkeys(COLUMNS, "") | {
        "run_id": "r1", "operation": "softmax", "implementation": "row_blocks", "batch": "4", "features": "4",
        "dtype": "float64", "logits": "normal", "threads": "1", "status": "measured", column: value,
    }  # fmt: skip
    with (stored / "cases.csv").open("a", encoding="utf-8") as file:
        file.write(",".join(row.values()) + "\n")
    with pytest.raises(UserError) as caught:
        load_rows(stored)
    assert str(caught.value).endswith(f"cases.csv:5: column {column!r}: {said}")


def test_the_largest_and_the_smallest_numbers_come_back(stored: Path) -> None:
    row = row_of("row_blocks", batch=1, features=1, time_s=1e9, visits=0, settled=1, max_error_ulp=math.inf)
    tiny = row_of("row_loop", batch=2, status="failed", time_s=5e-324, peak_bytes=0, max_error_ulp=0.0)
    with open_rows(stored) as table:
        table.append(row, tiny)
    assert load_rows(stored)[-2:] == [row, tiny]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"time_s": 2e-5, "time_low_s": 3e-5}, "column 'time_s': 2e-05 is less than the 3e-05 of 'time_low_s'"),
        ({"time_low_s": 2e-5, "time_high_s": 1e-5}, "column 'time_high_s': 1e-05 is less than the 2e-05 of 'time_low"),
        ({"time_min_s": 2e-5, "time_q1_s": 1e-5}, "column 'time_q1_s': 1e-05 is less than the 2e-05 of 'time_min_s'"),
        ({"peak_bytes": 9, "peak_high_bytes": 8}, "column 'peak_high_bytes': 8 is less than the 9 of 'peak_bytes'"),
        ({"time_low_s": 2e-5, "time_s": 2e-5, "time_high_s": 2e-5, "peak_bytes": 8, "peak_high_bytes": 8}, ""),
        ({"run_id": "r2"}, "column 'run_id': 'r2' is another run than 'r1'"),
        ({"peak_bytes": 10**10 + 1}, "column 'peak_bytes': 10000000001 is more than the machine's 10000000000 bytes"),
        ({"peak_bytes": 10**10}, ""),
        ({"status": "wrong", "peak_bytes": 10**10 + 1}, ""),
        ({"batch": 1 << 40, "features": 1 << 14}, "column 'features': no memory holds"),
        ({"status": "skipped", "batch": 1 << 40, "features": 1 << 13}, ""),  # 2**56 bytes
        ({"time_min_s": 3.4e-7, "time_s": 1e-5}, "column 'time_min_s': 3.4e-07 is less than the 3.41e-07 s that"),
        ({"time_min_s": 3.5e-7, "time_s": 1e-5}, ""),  # 3 arrays of 32 × 512 at 1.152 TB/s
        ({"threads": 2, "time_min_s": 1.8e-7}, ""),
        ({"status": "failed", "time_min_s": 3e-7}, ""),
    ],
)  # fmt: skip
def test_what_arithmetic_forbids_is_refused_and_nothing_else(
    tmp_path: Path, values: dict[str, object], said: str
) -> None:
    write_run(RUN, tmp_path)
    row = dataclasses.replace(row_of("row_blocks"), **values)  # type: ignore[arg-type]
    write_table(tmp_path / "cases.csv", [row])
    if not said:
        assert load_rows(tmp_path) == [row]
        return
    with pytest.raises(UserError) as caught:
        load_rows(tmp_path)
    assert f"cases.csv:2: {said}" in str(caught.value)


def test_names_of_today_of_the_run_and_of_users_files_are_known(tmp_path: Path) -> None:
    spec = {"operation": "softmax", "name": "gone_since", "library": "numpy"}
    write_run(dataclasses.replace(RUN, implementations=[spec]), tmp_path)
    known = [row_of(name) for name in ("vectorized", "gone_since", "mine.py:f")]
    write_table(tmp_path / "cases.csv", known)
    assert load_rows(tmp_path) == known
    for name in ("never_there", "folder/mine.py:f"):
        write_table(tmp_path / "cases.csv", [row_of(name)])
        with pytest.raises(UserError, match=f"cases.csv:2: column 'implementation': '{name}' is not one of"):
            load_rows(tmp_path)


def test_one_case_on_two_machines_is_two_rows_and_on_one_a_double(stored: Path) -> None:
    rows = [row_of("vectorized", machine=machine) for machine in ("a", "b")]
    write_table(stored / "cases.csv", rows)
    assert load_rows(stored) == rows
    with pytest.raises(UserError, match=r"a table of several machines; softmax-bench diff"):
        of_one_machine(rows, stored)
    assert of_one_machine(rows[:1], stored) == rows[:1]
    write_table(stored / "cases.csv", [rows[0], rows[1], rows[0]])
    with pytest.raises(UserError, match=r"cases.csv:4: the same case as .*cases.csv:2: .*-normal a$"):
        load_rows(stored)


def test_a_median_of_earlier_tables_is_the_time_and_what_was_not_installed_is_left_out(stored: Path) -> None:
    rows = [
        row_of("vectorized", time_median_s=2e-5),
        row_of("row_loop", time_median_s=3e-5, visits=0),
        row_of("fused", status="skipped", reason="not installed: numba"),
        row_of("row_blocks", status="skipped", reason="too large"),
    ]
    write_table(stored / "cases.csv", rows)
    vectorized, row_loop, row_blocks = load_rows(stored)
    assert vectorized.time_s == 2e-5
    assert math.isnan(row_loop.time_s)
    assert row_blocks.reason == "too large"


def test_a_renamed_implementation_has_its_name_of_today(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "former_names", lambda: {("softmax", "plain"): "vectorized"})
    specs = [
        {"operation": operation, "name": name, "library": "numpy"}
        for operation, name in (("softmax", "plain"), ("softmax", "row_loop"), ("softmax_cross_entropy", "plain"))
    ]
    write_run(dataclasses.replace(RUN, implementations=specs), stored)
    assert [spec["name"] for spec in load_run(stored).implementations] == ["vectorized", "row_loop", "plain"]
    assert load_run(stored).implementations[0]["library"] == "numpy"
    write_table(stored / "cases.csv", [row_of("plain"), row_of("row_loop")])
    assert [row.implementation for row in load_rows(stored)] == ["vectorized", "row_loop"]


def test_sittings_were_called_sessions_once(tmp_path: Path) -> None:
    sittings = [SittingTimes(2.0, 1.0)]
    write_run(dataclasses.replace(RUN, sittings=sittings), tmp_path)
    path = tmp_path / "run.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"sittings"', '"sessions"'), encoding="utf-8")
    assert load_run(tmp_path).sittings == sittings


def test_what_earlier_versions_did_not_store_means_what_it_meant_then(tmp_path: Path) -> None:
    write_run(RUN, tmp_path)
    path = tmp_path / "run.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for name in ("sittings", "ceiling", "not_installed", "commit", "machine_id", "fleet", "ended"):
        del content[name]
    for name in ("minutes", "every_round"):
        del content["options"][name]
    path.write_text(json.dumps(content), encoding="utf-8")
    run = load_run(tmp_path)
    assert run == RUN
    assert run.ended
    assert not run.options.every_round
    assert run.options.minutes is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"started": "yesterday"}, "started: 'yesterday' is no time in ISO 8601"),
        ({"machine": MACHINE | {"cpu": 7}}, "machine: cpu: 7 is not a text"),
        ({"machine": MACHINE | {"system": None}}, "machine: system: None is not a text"),
        ({"machine": MACHINE | {"cores": 0}}, "machine: cores: 0 is not a whole number, 1 or more"),
        ({"machine": MACHINE | {"cores": True}}, "machine: cores: True is not a whole number"),
        ({"machine": MACHINE | {"memory_bytes": 0.5}}, "machine: memory_bytes: 0.5 is not a whole number"),
        ({"machine": MACHINE | {"memory_bytes": (1 << 60) + 1}}, "machine: memory_bytes: "),
        ({"machine": MACHINE | {"cores": 1, "memory_bytes": 1 << 60}}, ""),
        ({"versions": {"numpy": "2"}}, "versions: python is missing"),
        ({"implementations": [{"name": "f"}]}, "implementations: operation: None is not a text"),
        ({"implementations": [{"operation": "softmax", "name": 3}]}, "implementations: name: 3 is not a text"),
        (
            {"implementations": [{"operation": "softmax", "name": "f", "library": 3}]},
            "implementations: library: 3 is not a text",
        ),
        ({"implementations": [{"operation": "softmax", "name": "f"}]}, ""),
        ({"ceiling": [CeilingPoint(1, 8, 0.0)]}, "ceiling: CeilingPoint(threads=1, working_set_bytes=8, bytes_per_s"),
        ({"ceiling": [CeilingPoint(0, 8, 1.0)]}, "ceiling: CeilingPoint(threads=0"),
        ({"ceiling": [CeilingPoint(1, 1, 0.5)]}, ""),
        ({"run_id": "../up"}, "run_id"),
        ({"run_id": "a" * 101}, "run_id"),
        ({"run_id": "a" * 100}, ""),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_a_run_cannot_say_is_refused_by_its_field(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    write_run(dataclasses.replace(RUN, **changed), tmp_path)
    if not said:
        assert load_run(tmp_path).run_id
        return
    with pytest.raises(UserError) as caught:
        load_run(tmp_path)
    assert "run.json: not a run (" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(("visits", "said"), [
    ([VISIT, VISIT], r"visits.csv:3: the same visit as .*visits.csv:2"),
    ([dataclasses.replace(VISIT, median_s=1e-6)], r"visits.csv:2: column 'median_s': 1e-06 is less than the 2e-06"),
    ([dataclasses.replace(VISIT, fastest_s=math.nan)], r"visits.csv:2: column 'fastest_s': missing"),
    ([dataclasses.replace(VISIT, when_s=math.nan)], r"visits.csv:2: column 'when_s': missing"),
])  # fmt: skip
def test_visits_that_cannot_be_are_refused(tmp_path: Path, visits: list[Visit], said: str) -> None:
    write_table(tmp_path / "visits.csv", visits)
    with pytest.raises(UserError, match=said):
        load_visits(tmp_path)


def test_visits_come_back_in_order_and_a_run_without_any_has_none(tmp_path: Path) -> None:
    assert load_visits(tmp_path) == []
    visits = [VISIT, dataclasses.replace(VISIT, round=1, when_s=2.0, median_s=2e-6)]
    write_table(tmp_path / "visits.csv", visits)
    assert [dataclasses.astuple(visit)[:6] for visit in load_visits(tmp_path)] == [
        dataclasses.astuple(visit)[:6] for visit in visits
    ]
    assert visits[1].moment == Moment(2.0, 2e-6, 2e-6)


def test_ratios_have_intervals_from_those_of_both_times() -> None:
    slow = {"time_s": 4.0, "time_low_s": 4.0 / 1.2, "time_high_s": 4.0 * 1.3}
    fast = {"time_s": 2.0, "time_low_s": 2.0 / 1.1, "time_high_s": 2.0 * 1.4}
    ratio, low, high = ratio_with_interval(slow, fast)
    assert ratio == 2.0
    assert math.log(high / ratio) == pytest.approx(math.hypot(math.log(1.3), math.log(1.1)))
    assert math.log(ratio / low) == pytest.approx(math.hypot(math.log(1.2), math.log(1.4)))


def test_memory_ratios_have_intervals_from_the_readings_and_only_of_what_was_measured() -> None:
    rows = [
        row_of("explicit_jacobian", peak_bytes=1000, peak_high_bytes=1200, predicted_peak_bytes=900),
        row_of("vectorized", peak_bytes=10, peak_high_bytes=20),
        row_of("row_blocks", peak_bytes=0),
        row_of("row_loop", status="wrong", peak_bytes=10, time_s=1e-5),
        row_of("vectorized_out", peak_bytes=10),
    ]
    frame = to_frame(rows)
    columns = ["memory_ratio", "memory_ratio_low", "memory_ratio_high", "predicted_memory_ratio"]
    jacobian, vectorized, row_blocks, row_loop, vectorized_out = frame[columns].to_numpy().tolist()
    assert jacobian == pytest.approx([1.0, 1000 / 1200, 1.2, 0.9])
    assert vectorized == pytest.approx([100.0, 50.0, 120.0, 90.0])
    assert vectorized_out == pytest.approx([100.0, 100.0, 120.0, 90.0])
    assert all(map(math.isnan, [*row_blocks, *row_loop, frame["bytes_per_s"][3]]))


def test_a_baseline_that_was_skipped_still_has_its_predicted_peak() -> None:
    rows = [
        row_of("explicit_jacobian", status="skipped", predicted_peak_bytes=10**12),
        row_of("vectorized", peak_bytes=10**6, time_s=1e-5),
    ]
    frame = to_frame(rows).set_index("implementation")
    assert frame["predicted_memory_ratio"]["vectorized"] == pytest.approx(10**6)
    assert math.isnan(float(frame["speedup"]["vectorized"]))


def test_ratios_and_ceilings_are_of_the_same_machine() -> None:
    rows = [
        row_of(name, machine=machine, time_s=time_s)
        for machine, name, time_s in (
            ("a", "explicit_jacobian", 0.04), ("a", "vectorized", 0.02), ("b", "explicit_jacobian", 0.05),
            ("b", "vectorized", 0.01),
        )
    ]  # fmt: skip
    frame = to_frame(rows, [CeilingPoint(1, 3 * 32 * 512 * 8, 1e9, machine="b")])
    assert frame["speedup"].tolist() == pytest.approx([1.0, 2.0, 1.0, 5.0])
    assert frame["ceiling_share"].isna().tolist() == [True, True, False, False]
    assert frame["ceiling_share"][3] == pytest.approx(3 * 32 * 512 * 8 / 0.01 / 1e9)
    assert to_frame([row_of(dtype="float32")])["working_set_bytes"].tolist() == [3 * 32 * 512 * 4]


def test_a_run_is_found_by_its_folder_or_its_id_and_never_by_an_empty_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run 'r1' in .*; there is none yet: make bench"):
        find_run("r1", tmp_path)
    for name in ("r2", "r1"):
        write_run(RUN, tmp_path / name)
    write_run(RUN, tmp_path)
    with pytest.raises(UserError, match="no run '' in .*; there is r1, r2$"):
        find_run("", tmp_path)
    with pytest.raises(UserError, match="no run 'aaa"):
        find_run("a" * 5000, tmp_path)
    with pytest.raises(UserError, match="no run"):
        find_run("a\x00b", tmp_path)


def test_a_missing_run_file_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run.json: cannot be read \(No such file or directory\); make bench stores"):
        load_run(tmp_path)


def test_machines_come_back_and_a_run_of_one_machine_has_none(tmp_path: Path) -> None:
    assert load_machines(tmp_path) == []
    one = Machine("m1", "x", 2, 10**10, "Linux", "0-1", "python 3.11.7, numpy 2.4.6", "abc", l1_bytes=32768)
    other = dataclasses.replace(one, machine="m2", versions="", l1_bytes=None, kept=LEFT_OUT, reason="too slow")
    assert store_machines([one, other], tmp_path) == tmp_path / "machines.csv"
    assert [machine.machine for machine in load_machines(tmp_path)] == ["m1", "m2"]
    assert load_machines(tmp_path)[1].reason == "too slow"
    assert one.facts == {"cpu": "x", "cores": 2, "memory_bytes": 10**10, "l1_bytes": 32768, "system": "Linux"}
    assert one.installed == {"python": "3.11.7", "numpy": "2.4.6"}
    assert other.installed == {}


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("kept", "perhaps", "'perhaps' is not one of yes, apart, no"),
        ("versions", "python", "'python' is no list of names and versions"),
        ("versions", "python 3.11.7, ", "'python 3.11.7, ' is no list"),
        ("cores", "0", "'0' is not a whole number, 1 or more"),
        ("memory_bytes", "-1", "'-1' is not a whole number, 0 or more"),
        ("l2_bytes", "-1", "'-1' is not a whole number, 0 or more"),
        ("ceiling_bytes_per_s", "0", "'0' is not a number, more than 0"),
        ("calibrations", "-1", "'-1' is not a whole number, 0 or more"),
        ("drift", "-0.1", "'-0.1' is not a number, 0 or more"),
    ],
)
def test_a_machine_that_cannot_be_is_refused(tmp_path: Path, column: str, value: str, said: str) -> None:
    names = columns_of(Machine)
    cells = dict.fromkeys(names, "") | {
        "machine": "m1", "cpu": "x", "cores": "2", "memory_bytes": "10", "system": "Linux", "kept": "yes",
        "calibrations": "0", "versions": "python 3.11.7, numpy 2.4.6", column: value,
    }  # fmt: skip
    with (tmp_path / "machines.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([names, cells.values()])
    with pytest.raises(UserError) as caught:
        load_machines(tmp_path)
    assert f"machines.csv:2: column {column!r}: {said}" in str(caught.value)


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "file.txt"
    assert replace_file(path, "first") == path
    assert replace_file(path, b"second").read_bytes() == b"second"

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def spy(file: int) -> None:
        synced.append(os.fstat(file).st_size)

    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", spy)
    replace_file(path, "second")
    assert synced == [6]  # all of it, before it has its name
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"file.txt: cannot be written \(No space left on device\)"):
        replace_file(path, "third")
    assert [(each.name, each.read_bytes()) for each in path.parent.iterdir()] == [("file.txt", b"second")]


def test_a_text_is_added_to_the_end_of_a_file_of_somebody_else_s(tmp_path: Path) -> None:
    for text in ("first\n", "second\n"):
        append_text(tmp_path / "summary.md", text)
    assert (tmp_path / "summary.md").read_text(encoding="utf-8") == "first\nsecond\n"
    with pytest.raises(UserError, match=r"cannot be written \(Is a directory\)"):
        append_text(tmp_path, "third")


def test_a_folder_in_which_nothing_can_be_written_is_known_beforehand(tmp_path: Path) -> None:
    make_folder(tmp_path / "deep" / "down")
    make_folder(tmp_path / "deep" / "down")
    assert list((tmp_path / "deep" / "down").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file: cannot be written \(File exists\)"):
        make_folder(tmp_path / "file")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder in which nobody can make files")
def test_a_folder_that_is_there_and_takes_no_file_is_known_beforehand() -> None:
    with pytest.raises(UserError, match=r"/proc/self: cannot be written"):
        make_folder(Path("/proc/self"))
