"""Damaged files of a stored run: each damage is refused in one line by every reader, or changes nothing."""

import csv
import dataclasses
import io
import itertools
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from softmax_bench.accuracy.study import Accuracy
from softmax_bench.errors import UserError
from softmax_bench.regression.baseline import compare_rows
from softmax_bench.regression.quality.study import Trial
from softmax_bench.repeatability.study import Row as Session
from softmax_bench.report.differences import StoredRun, compare
from softmax_bench.report.output import comparison_json, opening_sentences, result_sentences
from softmax_bench.storage.results import Row, Visit, load_rows, load_run, load_visits
from softmax_bench.storage.tables import columns_of, load_table, write_table
from softmax_bench.sweep.opening import missing_cases
from softmax_bench.sweep.summary import sum_up
from softmax_bench.sweep.table import store_times
from softmax_bench.tolerances.study import Outcome
from softmax_bench.training.study import Epoch

from .conftest import SoftmaxBench

CASES, VISITS, RUN = "cases.csv", "visits.csv", "run.json"
KEPT = ("-B1-N10-float64-normal", "-B1-N32-float64-normal")
NAMES = ("explicit_jacobian", "vectorized")


@pytest.fixture(scope="session")
def whole(reference_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small stored run: the reference's, with two implementations at two shapes and their visits."""
    folder = tmp_path_factory.mktemp("whole") / "small"
    folder.mkdir()
    ids = {f"softmax-{name}{shape}" for name in NAMES for shape in KEPT}
    rows = (reference_run / CASES).read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [str(row.case) in ids for row in load_rows(reference_run)]
    rows = [rows[0], *(line for line, keep in zip(rows[1:], kept, strict=True) if keep)]
    (folder / CASES).write_text("".join(rows).replace("reference,", "small,"), encoding="utf-8")
    visits = (reference_run / VISITS).read_text(encoding="utf-8").splitlines(keepends=True)
    visits = [line for line in visits if line.startswith(("case,", *ids)) or "ceiling-ordinary-S16384-T1" in line]
    (folder / VISITS).write_text("".join(visits), encoding="utf-8")
    content = json.loads((reference_run / RUN).read_text(encoding="utf-8"))
    content |= {"run_id": "small", "ceiling": content["ceiling"][:3], "code": {}}
    content["implementations"] = content["implementations"][:1]
    content["versions"] = {name: content["versions"][name] for name in ("python", "numpy")}
    (folder / RUN).write_text(json.dumps(content, indent=1), encoding="utf-8")
    rows_of_today = load_rows(folder)
    assert len(rows_of_today) == 4
    write_table(folder / CASES, rows_of_today)  # with all columns of today
    visits_of_today = [
        dataclasses.replace(visit, began_s=1.8e9 + visit.when_s, took_s=0.01) for visit in load_visits(folder)
    ]
    write_table(folder / VISITS, visits_of_today)
    return folder


def read_by_all(folder: Path, whole: Path) -> list[Row]:
    """What every reader makes of a stored run; the rows."""
    run, rows = load_run(folder), load_rows(folder)
    load_visits(folder)
    missing_cases(folder)
    sum_up(folder, Console(file=io.StringIO()))
    comparison = compare(StoredRun("old", load_run(whole), load_rows(whole)), StoredRun("new", run, rows))
    assert [*opening_sentences(comparison), *result_sentences(comparison), comparison_json(comparison)]
    assert compare_rows("old", rows, load_rows(whole), []).sentence
    store_times(folder)
    return rows


def refused(folder: Path, whole: Path) -> str:
    """In what words a run is refused; empty where it is read."""
    try:
        rows = read_by_all(folder, whole)
    except UserError as error:
        said = str(error)
    else:
        check_sense(rows)
        return ""
    assert said.splitlines() == [said]
    assert any(name in said for name in (CASES, VISITS, RUN))
    return said


def check_sense(rows: list[Row]) -> None:
    """Rows that are read say nothing that cannot be."""
    for row in rows:
        times = [row.time_low_s, row.time_s, row.time_high_s]
        assert not any(later < earlier for earlier, later in itertools.pairwise(times))
        assert not any(seconds <= 0 for seconds in times)
        assert row.dtype in ("float32", "float64")
        assert min(row.batch, row.features, row.threads) > 0
        assert row.run_id == "small"


class Damaged:
    """A copy of the run, one of whose files is damaged."""

    def __init__(self, whole: Path, folder: Path) -> None:
        self.whole, self.folder = whole, folder / "small"

    def with_file(self, name: str, content: str | bytes) -> str:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.whole, self.folder)
        (self.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return refused(self.folder, self.whole)

    def with_cell(self, name: str, column: str, line: int, value: str) -> str:
        rows = list(csv.reader(io.StringIO((self.whole / name).read_text(encoding="utf-8"))))
        rows[line][rows[0].index(column)] = value
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return self.with_file(name, text.getvalue())


@pytest.fixture
def damaged(whole: Path, tmp_path: Path) -> Damaged:
    return Damaged(whole, tmp_path)


def test_the_whole_run_is_read_by_all(damaged: Damaged) -> None:
    assert damaged.with_file(CASES, (damaged.whole / CASES).read_bytes()) == ""


NO_NUMBERS = [
    "nan",
    "-5",
    "1_000",
    "٣",
    "many",
    "0x1f",
    "1e999",
    " 7",
    "9" * 400,
    "7,7",
    "=cmd()",
    "\x00",
    "true",
    "null",
]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=range(len(NO_NUMBERS)))
def test_what_is_no_number_is_refused_in_every_column_of_numbers(damaged: Damaged, value: str) -> None:
    for name, kind in ((CASES, Row), (VISITS, Visit)):
        for column, its in kind.__annotations__.items():
            if its is not str:
                said = damaged.with_cell(name, column, 2, value)
                assert f"{name}:3: column {column!r}: " in said, (column, said)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("run_id", "another"),
        ("run_id", ""),
        ("operation", "hardmax"),
        ("implementation", "fastest"),
        ("implementation", "../../up.py:f"),
        ("dtype", "float65"),
        ("dtype", "../../up"),
        ("logits", "../../up"),
        ("status", "lost"),
        ("reason", "two\nlines"),
        ("reason", "\x1b[31mred"),
        ("threads", "0"),
        ("batch", "0"),
        ("features", "2000000000000"),
        ("settled", "2"),
        ("time_s", "1e-12"),
        ("time_min_s", "2e-10"),  # moving the three arrays takes 2.1e-10 s at the least
        ("time_s", "0"),
        ("time_s", "inf"),
        ("peak_bytes", "99999999999999"),
        ("time_low_s", "1.0"),
        ("time_high_s", "1e-7"),
        ("time_q1_s", "1.0"),
        ("time_q3_s", "1e-6"),
        ("time_min_s", "1.0"),
    ],
)
def test_what_a_row_cannot_say_is_refused_by_file_line_and_column(damaged: Damaged, column: str, value: str) -> None:
    said = damaged.with_cell(CASES, column, 2, value)
    assert "cases.csv:3: column '" in said or "cases.csv:4: column '" in said


def test_swapped_time_columns_are_refused(damaged: Damaged) -> None:
    text = (damaged.whole / CASES).read_text(encoding="utf-8")
    swapped = text.replace("time_low_s,time_high_s", "time_high_s,time_low_s", 1)
    assert "is less than" in damaged.with_file(CASES, swapped)


@pytest.mark.parametrize(("name", "where"), [(CASES, "cases.csv:3"), (VISITS, "visits.csv:3")])
def test_a_doubled_row_or_column_is_refused(damaged: Damaged, name: str, where: str) -> None:
    lines = (damaged.whole / name).read_text(encoding="utf-8").splitlines(keepends=True)
    assert where in damaged.with_file(name, "".join([*lines[:2], *lines[1:]]))
    doubled = "".join(f"{line.partition(',')[0]},{line}" for line in lines)
    assert f"{name}:1: column" in damaged.with_file(name, doubled)


def test_a_table_that_is_not_there_or_a_folder_is_refused(damaged: Damaged) -> None:
    for name in (CASES, VISITS, RUN):
        damaged.with_file(name, (damaged.whole / name).read_bytes())
        (damaged.folder / name).unlink()
        if name == CASES:
            assert "cases.csv: cannot be read (No such file or directory)" in refused(damaged.folder, damaged.whole)
        (damaged.folder / name).mkdir()
        assert f"{name}: cannot be read (Is a directory)" in refused(damaged.folder, damaged.whole)


def test_visits_of_a_table_without_rows_are_no_times(damaged: Damaged) -> None:
    header, _, _ = (damaged.whole / CASES).read_text(encoding="utf-8").partition("\n")
    assert damaged.with_file(CASES, f"{header}\n") == ""
    assert store_times(damaged.folder) == 0


def test_each_missing_column_is_named_or_was_optional_once(damaged: Damaged) -> None:
    for name in (CASES, VISITS):
        rows = list(csv.reader(io.StringIO((damaged.whole / name).read_text(encoding="utf-8"))))
        for place, column in enumerate(rows[0]):
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([row[:place] + row[place + 1 :] for row in rows])
            said = damaged.with_file(name, text.getvalue())
            assert said == "" or f"column {column!r} is missing" in said


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"\xef\xbb\xbfrun_id,", b'"', b'a"b,"c\n', b"\n\n", b",,,\n", b'"' + 200_000 * b"x" + b'"\n'],
    ids=range(8),
)
@pytest.mark.parametrize("name", [CASES, VISITS, RUN])
def test_a_file_of_something_else_is_refused(damaged: Damaged, name: str, content: bytes) -> None:
    assert name in damaged.with_file(name, content)


def values_in(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value in a JSON document."""
    yield path
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from values_in(value, (*path, key))


def replaced(content: Any, path: tuple[Any, ...], value: object) -> Any:
    """The document with one value replaced."""
    if not path:
        return value
    copy = content.copy()
    copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


WRONG: list[object] = [None, -1, "../up", [None], True, 0, 1e300, "", "text", "$\\frac{x$", [], {}, {"a": []}]
FIRST = 2  # of them are tried in each run of the tests, the others with those of faults


@pytest.mark.parametrize(
    "value", [*WRONG[:FIRST], *(pytest.param(value, marks=pytest.mark.faults) for value in WRONG[FIRST:])], ids=repr
)
def test_a_wrong_value_anywhere_in_run_json_is_refused_or_harmless(damaged: Damaged, value: object) -> None:
    content = json.loads((damaged.whole / RUN).read_text(encoding="utf-8"))
    for path in values_in(content):
        said = damaged.with_file(RUN, json.dumps(replaced(content, path, value)))
        if path in ((), ("run_id",), ("started",), ("seed",), ("machine", "memory_bytes")) and value not in (0, "text"):
            assert RUN in said or CASES in said, (path, value)


@pytest.mark.parametrize(
    ("added", "beside", "name"),
    [
        ('"seed": 7, ', '"seed": ', "seed"),
        ('"memory_bytes": 9, ', '"memory_bytes": ', "memory_bytes"),  # within another object
        ('"sessions": [], ', '"sittings": ', "sittings"),  # what earlier versions called it
    ],
)
def test_a_doubled_name_in_run_json_is_refused(damaged: Damaged, added: str, beside: str, name: str) -> None:
    text = (damaged.whole / RUN).read_text(encoding="utf-8")
    assert text.count(beside) == 1
    said = damaged.with_file(RUN, text.replace(beside, added + beside))
    assert (
        said == f"{damaged.folder / RUN}: the name {name!r} is there 2 times in one object; make bench stores a new run"
    )


DAMAGES: list[Callable[[random.Random, bytes], bytes]] = [
    lambda rng, data: data[: rng.randrange(len(data))],
    lambda rng, data: data[: (at := rng.randrange(len(data)))] + bytes([rng.randrange(256)]) + data[at + 1 :],
    lambda rng, data: data[: (at := rng.randrange(len(data)))] + data[at + rng.randrange(1, 40) :],
    lambda rng, data: data[: (at := rng.randrange(len(data)))] + data[at : at + 30] + data[at:],
    lambda rng, data: b"\n".join(rng.sample(lines := data.split(b"\n"), len(lines))),
    lambda rng, data: data.replace(rng.choice(b'0123456789.,-e"{}[]:').to_bytes(), rng.choice([b"", b"-", b"9"]), 1),
    lambda rng, data: data.replace(rng.choice([b"5", b",", b"e-", b"."]), rng.choice([b"1", b"null", b"_"])),
]


def damage_at_random(damaged: Damaged, seed: int, count: int) -> int:
    """Damage the run so often, each time anew; how often it was refused."""
    rng = random.Random(seed)
    refusals = 0
    for _ in range(count):
        name = rng.choice([CASES, VISITS, RUN])
        data = (damaged.whole / name).read_bytes()
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            data = rng.choice(DAMAGES)(rng, data) if data else data
        refusals += bool(damaged.with_file(name, data))
    return refusals


@pytest.mark.faults
def test_many_random_damages_are_refused_or_harmless(damaged: Damaged) -> None:
    assert damage_at_random(damaged, seed=7, count=300) > 150


def test_random_damages_are_refused_or_harmless(damaged: Damaged) -> None:
    assert damage_at_random(damaged, seed=42, count=30) > 15


def changed_run(whole: Path, folder: Path, **parts: object) -> Path:
    """A copy of the run, with other values in run.json."""
    copy = folder / "small"
    shutil.copytree(whole, copy)
    content = json.loads((copy / RUN).read_text(encoding="utf-8"))
    (copy / RUN).write_text(json.dumps(content | parts), encoding="utf-8")
    return copy


@pytest.mark.faults
@pytest.mark.parametrize("parts", [{"machine": []}, {"versions": 3}, {"implementations": [{"name": 1}]}], ids=range(3))
def test_a_check_against_a_damaged_run_is_no_regression(
    softmax_bench: SoftmaxBench, whole: Path, tmp_path: Path, parts: dict[str, object]
) -> None:
    done = softmax_bench("gate", f"--base={changed_run(whole, tmp_path, **parts)}")
    assert done.returncode == 2
    assert "run.json: not a run" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.faults
def test_a_name_with_dollar_signs_is_drawn_as_it_is(softmax_bench: SoftmaxBench, whole: Path, tmp_path: Path) -> None:
    name = r"$\frac{x$.py:f"
    machine: dict[str, Any] = {"cpu": r"$\frac{1 $2", "cores": 2, "memory_bytes": 10**10, "system": "Linux"}
    folder = changed_run(whole, tmp_path, machine=machine)
    table = folder / CASES
    table.write_text(table.read_text(encoding="utf-8").replace(",vectorized,", f",{name},"), encoding="utf-8")
    done = softmax_bench("plot", str(folder), f"--plots={tmp_path / 'plots'}")
    assert (done.returncode, done.stderr) == (0, "")
    drawn = (tmp_path / "plots" / "small" / "time_by_features.svg").read_text(encoding="utf-8")
    assert name in drawn
    assert machine["cpu"] in drawn


@pytest.mark.parametrize(
    ("table", "row_type"),
    [
        ("accuracy/errors.csv", Accuracy),
        ("tolerances/outcomes.csv", Outcome),
        ("training/epochs.csv", Epoch),
        ("repeatability/sessions.csv", Session),
        ("gate-quality/trials.csv", Trial),
    ],
)
def test_a_damaged_table_of_a_study_is_refused_in_every_column_of_numbers(
    reference_run: Path, tmp_path: Path, table: str, row_type: type
) -> None:
    stored = (reference_run.parent / table).read_text(encoding="utf-8")
    (tmp_path / "table.csv").write_text(stored, encoding="utf-8")
    assert len(list(load_table(tmp_path / "table.csv", row_type, ""))) == stored.count("\n") - 1
    rows = list(csv.reader(io.StringIO(stored)))[:3]
    numbers = [column for column, kind in columns_of(row_type).items() if kind is not str]
    for column, value in itertools.product(numbers, ["-5", "nan", "1_0", "many"]):
        place = rows[0].index(column)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*rows[:2], [*rows[2][:place], value, *rows[2][place + 1 :]]])
        (tmp_path / "table.csv").write_text(text.getvalue(), encoding="utf-8")
        with pytest.raises(UserError, match=f"table.csv:3: column '{column}': '{value}' is not a "):
            list(load_table(tmp_path / "table.csv", row_type, ""))
