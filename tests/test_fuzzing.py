"""Inputs that nobody thought of: loaders, options and targets take them, or refuse them in one line."""

import json
import math
import os
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from softmax_bench.errors import UserError
from softmax_bench.loading import load
from softmax_bench.operations.cases import DISTRIBUTIONS, DTYPES
from softmax_bench.storage.descriptions import load_description, store_description
from softmax_bench.storage.results import Run, load_rows, load_run, load_visits, open_rows
from softmax_bench.sweep.options import Options

from .test_results import RUN, row_of

T = TypeVar("T")
# Of each kind of input; with those of faults, 100 000 in all.
FEW, MANY = 200, 40_000
DETERMINISTIC: Any = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}
TEXT = st.text(max_size=12) | st.sampled_from(["nan", "inf", "-0", "1_0", "٣", "null", "true", "=cmd()", "../..", "$"])
NUMBERS = st.integers() | st.floats() | TEXT
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for one file after the other."""
    from softmax_bench.instruments.scratch import scratch_folder  # noqa: PLC0415

    with scratch_folder() as made:
        yield made


def counts(few: int, many: int) -> pytest.MarkDecorator:
    """So many inputs in each run of the tests, and more with those of faults."""
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.faults)])


def taken(read: Callable[[], T]) -> T | None:
    """What is read, or None where it is refused in one line."""
    try:
        return read()
    except UserError as error:
        said = str(error)
    assert said.isprintable()
    assert said
    return None


@counts(FEW, MANY)
def test_cells_of_a_table(folder: Path, count: int) -> None:
    (folder / "cases.csv").unlink(missing_ok=True)
    with open_rows(folder) as table:
        table.append(row_of(time_s=1e-4, time_low_s=9e-5, time_high_s=2e-4, visits=3, peak_bytes=10))
    header, line = (folder / "cases.csv").read_bytes().decode().splitlines()
    cells = line.split(",")

    @settings(max_examples=count, **DETERMINISTIC)
    @given(st.integers(0, len(cells) - 1), NUMBERS)
    def look(place: int, value: object) -> None:
        changed = [*cells[:place], str(value), *cells[place + 1 :]]
        (folder / "cases.csv").write_bytes(f"{header}\n{','.join(changed)}\n".encode(errors="surrogatepass"))
        for row in taken(lambda: load_rows(folder)) or []:
            assert row.dtype in DTYPES
            assert row.logits in DISTRIBUTIONS
            assert min(row.batch, row.features, row.threads) > 0
            assert not row.time_s <= 0
            assert not row.time_low_s > row.time_s

    look()


@counts(FEW, MANY)
def test_bytes_of_a_table_of_visits(folder: Path, count: int) -> None:
    text = b"case,round,when_s,calls,fastest_s,median_s\na,0,0.5,86,5e-06,6e-06\nb,1,1.5,86,5e-06,6e-06\n"

    @settings(max_examples=count, **DETERMINISTIC)
    @given(st.integers(0, len(text)), st.integers(0, 20), st.binary(max_size=8) | st.sampled_from([b'"', b"\n", b","]))
    def look(place: int, gone: int, new: bytes) -> None:
        (folder / "visits.csv").write_bytes(text[:place] + new + text[place + gone :])
        for visit in taken(lambda: load_visits(folder)) or []:
            assert 0 < visit.fastest_s <= visit.median_s < math.inf

    look()


@counts(FEW, MANY // 2)
def test_values_in_a_description(folder: Path, count: int) -> None:
    store_description(folder, RUN)
    content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    places = [(key, None) for key in content]
    places += [(key, inner) for key, value in content.items() if isinstance(value, dict) for inner in value]

    @settings(max_examples=count, **DETERMINISTIC)
    @given(st.sampled_from(places), VALUES)
    def look(place: tuple[str, str | None], value: object) -> None:
        key, inner = place
        changed = content | {key: value if inner is None else content[key] | {inner: value}}
        (folder / "run.json").write_text(json.dumps(changed), encoding="utf-8")
        run = taken(lambda: load_run(folder))
        if run is None:
            return
        assert run.seed >= 0
        assert run.machine["memory_bytes"] > 0
        store_description(folder, run)
        assert load_description(folder, Run, "") == run

    look()


@counts(50, 1500)
def test_options_of_a_sweep(count: int) -> None:
    sizes = st.lists(st.integers(-2, 1 << 70), max_size=2).map(tuple)
    names = st.lists(TEXT.filter(lambda text: ":" not in text), max_size=2).map(tuple)

    @settings(max_examples=count, **DETERMINISTIC)
    @given(
        st.sampled_from(["quick", ""]),
        st.fixed_dictionaries({}, optional=dict.fromkeys(("batch", "features", "threads"), sizes)),
        st.fixed_dictionaries({}, optional=dict.fromkeys(("operation", "implementation", "dtype", "logits"), names)),
        st.fixed_dictionaries({}, optional={"seed": st.integers(), "minutes": st.floats(), "max_call_s": st.floats()}),
    )
    def look(grid: str, numbers: dict[str, Any], texts: dict[str, Any], rest: dict[str, Any]) -> None:
        assert taken(lambda: list(Options(grid, **numbers, **texts, **rest).selection.cases())) != []

    look()


@counts(50, 2000)
def test_names_of_targets_import_nothing_that_is_not_there(tmp_path: Path, count: int) -> None:
    before = os.environ.copy()

    @settings(max_examples=count, **DETERMINISTIC)
    @given(st.text(alphabet=string.printable + "é\x00", max_size=30))
    def look(text: str) -> None:
        assert taken(lambda: load(f"{tmp_path}/{text}.py:{text}")) is None

    look()
    assert os.environ.copy() == before
