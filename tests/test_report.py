"""The report: made by real command lines from stored runs, read back as a browser and as a reader would."""

import csv
import dataclasses
import json
import math
import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from softmax_bench.operations.cases import Case
from softmax_bench.report.left_out import MOST_ROWS
from softmax_bench.report.page import Page, page_of, to_html, to_markdown
from softmax_bench.report.power_law import Estimate
from softmax_bench.report.source import Source
from softmax_bench.storage.results import CASES, Row, open_rows, write_run
from softmax_bench.storage.tables import write_table
from softmax_bench.units import factor, quantity, significant, spread

from .conftest import SoftmaxBench
from .figures import NUMBER
from .test_diff import OTHER_MACHINE, RUN, row_of

ATTACK = "</script><script>alert(1)</script>"
NAME = "own.py:<img src=x onerror=alert(1)>"  # a slash would be refused when it is read
SIZES = ((32, 10), (32, 128), (32, 512), (32, 2048))
VOID = {"meta", "link", "img", "br", "input", "source", "hr"}


class Reader(HTMLParser):
    """The visible text of each section of a page, its tags, and what else a test asks for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.section = "top"
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self._script = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append((tag, named))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = str(named["id"])
        if tag == "script":
            self._script = named.get("id") or f"script-{len(self.scripts)}"
            self.scripts[self._script] = ""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[self._script] += data
        elif data.strip() and not (self.open and self.open[-1] == "style"):
            self.sections.setdefault(self.section, []).append(data.strip())

    def text(self, *sections: str) -> str:
        return "\n".join(line for name in sections for line in self.sections.get(name, []))


def store(folder: Path, rows: Sequence[Row], **run: Any) -> Path:
    """A run as a sweep stores it."""
    folder.mkdir(parents=True)
    write_run(dataclasses.replace(RUN, run_id=folder.name, **run), folder)
    if rows:
        write_table(folder / CASES, [dataclasses.replace(row, run_id=folder.name) for row in rows])
    else:
        open_rows(folder).close()
    return folder


def normal_rows() -> Iterator[Row]:
    for batch, features in SIZES:
        fields: dict[str, Any] = {"batch": batch, "features": features, "logits": "normal"}
        yield row_of(
            "vectorized",
            1e-8 * batch * features,
            **fields,
            peak_bytes=9 * batch * features,
            peak_high_bytes=9 * batch * features,
        )
        yield row_of(
            "explicit_jacobian",
            1e-8 * batch * features**2,
            **fields,
            peak_bytes=17 * batch * features**2,
            peak_high_bytes=17 * batch * features**2,
        )


def page_from(folder: Path) -> Reader:
    return Reader(to_html(page_of(Source.load(folder))))


@pytest.fixture(scope="module")
def reference_page(reference_run: Path) -> Page:
    return page_of(Source.load(reference_run))


@pytest.fixture(scope="module")
def reference(reference_page: Page) -> Reader:
    return Reader(to_html(reference_page))


def test_the_page_asks_for_nothing_and_its_markup_is_whole(reference: Reader) -> None:
    assert reference.open == []
    for tag, attributes in reference.tags:
        for name in ("src", "href", "srcset"):
            address = attributes.get(name) or ""
            assert address.startswith(("data:", "#")) or not address, (tag, address[:80])
    policies = [named.get("content") or "" for tag, named in reference.tags if tag == "meta"]
    assert any(policy.startswith("default-src 'none'") for policy in policies)


def test_pictures_and_controls_are_named(reference: Reader) -> None:
    findings = [named.get("alt") or "" for tag, named in reference.tags if tag == "img"]
    assert len(findings) >= 2
    assert all(re.search(NUMBER, finding) and "chart" not in finding for finding in findings)
    keys = [named["id"] for tag, named in reference.tags if tag == "section"]
    assert len(keys) == len(set(keys))


def test_the_answers_are_the_runs_own_figures(reference: Reader, reference_run: Path) -> None:
    with (reference_run / "cases.csv").open(encoding="utf-8") as file:
        article = {
            row["implementation"]: row
            for row in csv.DictReader(file)
            if (row["operation"], row["batch"], row["features"], row["dtype"], row["logits"], row["threads"])
            == ("softmax", "32", "512", "float64", "uniform", "1")
        }
    jacobian, vectorized = article["explicit_jacobian"], article["vectorized"]
    ratio = float(jacobian["time_s"]) / float(vectorized["time_s"])
    memory = float(jacobian["peak_bytes"]) / float(vectorized["peak_bytes"])
    text = reference.text("answers")
    assert f"{factor(ratio)} (" in text
    assert f"{factor(memory)} less memory" in text
    for row in (jacobian, vectorized):
        for column in ("time_s", "time_low_s", "time_high_s"):
            assert quantity(float(row[column]), "s") in text
    assert "65.1 ms and 31.9 µs" in text
    memory_bytes = json.loads((reference_run / "run.json").read_bytes())["machine"]["memory_bytes"]
    wall = next(
        n for n in range(1, 100_000) if n * n * 8 + 2 * 32 * n * n * 8 + min(8192, 32 * n * n) * 8 > memory_bytes
    )
    assert f"{quantity(memory_bytes, 'B')} at {wall} features" in text


def test_every_number_of_the_run_follows_from_its_tables(reference: Reader, reference_run: Path) -> None:
    source = Source.load(reference_run)
    known = set(numbers_of(source))
    text = reference.text("answers", "picture", "growth", "left-out", "weather", "provenance")
    for reason in {row.reason for row in source.rows if row.reason}:
        text = text.replace(reason, "")
    for value in (*source.run.versions.values(), source.run.started, source.run.commit):
        text = text.replace(str(value), "")
    unknown = sorted({found for found in re.findall(NUMBER, text) if found not in known})
    assert unknown == []


def numbers_of(source: Source) -> Iterator[str]:
    """Every number that may stand on a run's page: of its rows, what follows from them, and what is no measurement."""
    rows = source.rows
    for row in rows:
        yield from (str(row.batch), str(row.features), str(row.threads))
        yield from (quantity(value, "s") for value in (row.time_s, row.time_low_s, row.time_high_s))
        if row.peak_bytes is not None:
            yield quantity(row.peak_bytes, "B")
        if row.settled == 0:
            yield spread(row.time_s, row.time_low_s, row.time_high_s).removeprefix("±")
    yield from ratios_of(source)
    yield from counts_of(source)
    for growth in source.growths:
        yield from (str(count) for count in (*(growth.theory or ()), growth.points, growth.left_out))
        yield from (f"{part:.2f}".removeprefix("-") for part in parts_of(growth.features, growth.batch))
        yield f"{significant(growth.step)}×"
        yield quantity(growth.boundary_bytes, "B")
        if growth.features and growth.batch:
            for vocabulary in (50_257, 128_256, 262_144):
                unit = "s" if growth.quantity == "time" else "B"
                yield from (quantity(part, unit) for part in parts_of(growth.at(8192, vocabulary)))
    for features in (50_000, 50_257, 128_256, 262_144):
        for batch in (32, 8192):
            jacobian = features**2 * 8 + 2 * batch * features**2 * 8 + 8192 * 8
            yield from (str(features), quantity(jacobian, "B"), quantity(batch * features * 8 + batch * 8 + 1100, "B"))
    run = source.run
    yield from map(str, (*run.machine.values(), run.seed, *dataclasses.asdict(run.options).values()))
    yield from map(str, run.options.benchmark.values())
    yield from (quantity(value, "B") for name, value in run.machine.items() if name.endswith("_bytes"))
    # The article's figures; digits of 95 % intervals; the fit's range; names of libraries and formulas.
    yield from (
        "65.1 ms",
        "31.9 µs",
        "95",
        "95 %",
        "100",
        "5",
        "8",
        "8192",
        "2",
        "1",
        "0",
        "10%",
        str(MOST_ROWS),
        str(wall_of(run.machine["memory_bytes"])),
    )


def wall_of(memory_bytes: int) -> int:
    """The first number of features at batch 32 at which the Jacobian's peak, N²s + 2BN²s and a buffer, is too large."""
    return next(
        n for n in range(1, 100_000) if n * n * 8 + 2 * 32 * n * n * 8 + min(8192, 32 * n * n) * 8 > memory_bytes
    )


def parts_of(*estimates: Estimate | None) -> Iterator[float]:
    for estimate in estimates:
        yield from dataclasses.astuple(estimate) if estimate else ()


def ratios_of(source: Source) -> Iterator[str]:
    """Speed-ups, memory ratios and their intervals, from the rows alone."""
    by_case = source.by_case
    fastest: dict[tuple[int, int], float] = {}
    for row in rows_measured(source):
        if row.case.spec.library == "numpy" and is_shaped(row):
            fastest[row.batch, row.features] = min(fastest.get((row.batch, row.features), math.inf), row.time_s)
    for row in rows_measured(source):
        if is_shaped(row) and row.implementation == "vectorized":
            yield factor(row.time_s / fastest[row.batch, row.features])
        jacobian = by_case.get(dataclasses.replace(row.case, implementation="explicit_jacobian"))
        if jacobian is None or jacobian.status != "measured":
            continue
        ratio = jacobian.time_s / row.time_s
        down = math.hypot(math.log(jacobian.time_s / jacobian.time_low_s), math.log(row.time_high_s / row.time_s))
        up = math.hypot(math.log(jacobian.time_high_s / jacobian.time_s), math.log(row.time_s / row.time_low_s))
        for value in (ratio, ratio * math.exp(-down), ratio * math.exp(up)):
            yield from (factor(value), factor(value).removesuffix("×"))
        if row.peak_bytes and jacobian.peak_bytes:
            yield factor(jacobian.peak_bytes / row.peak_bytes)


def rows_measured(source: Source) -> list[Row]:
    return [row for row in source.rows if row.status == "measured"]


def is_shaped(row: Row) -> bool:
    return (row.operation, row.dtype, row.logits, row.threads) == ("softmax", "float64", "normal", 1)


def _vectorized(row: Row) -> Case:
    return dataclasses.replace(row.case, implementation="vectorized")


def counts_of(source: Source) -> Iterator[str]:
    """Counts of rows and visits, and shares of them."""
    measured = rows_measured(source)
    skipped = sum(row.status == "skipped" for row in source.rows)
    unsettled = sum(row.settled == 0 for row in measured)
    noted = sum(bool(row.reason) for row in measured)
    times = {str(row.case): row.time_s for row in measured}
    visits = [visit for visit in source.visits if visit.case in times]
    slowed = sum(visit.fastest_s > 1.1 * times[visit.case] for visit in visits) / len(visits)
    pairs = [row for row in measured if is_shaped(row) and row.implementation == "explicit_jacobian"]
    shapes = {(row.batch, row.features) for row in source.rows if is_shaped(row)}
    disturbed = sorted(row.disturbed for row in measured)
    typical = 100 * ((disturbed[(len(disturbed) - 1) // 2] + disturbed[len(disturbed) // 2]) / 2 - 1)
    settled = f"{len(measured) - unsettled} of {len(measured)}"
    yield from (*settled.split(" of "), str(unsettled), str(unsettled - 5), str(skipped), str(noted))
    yield from (str(len(source.rows)), str(len(source.visits)), str(len(visits)), f"{slowed:.0%}", f"{typical:.2g}%")
    both_settled = [row for row in pairs if row.settled and source.by_case[_vectorized(row)].settled]
    yield from (str(len(pairs)), str(len(both_settled)), str(len(shapes)), str(skipped + unsettled + noted))
    yield f"{sum(sitting.wall_s for sitting in source.run.sittings):.0f} s"


def test_the_markdown_says_the_same(reference_page: Page) -> None:
    plain = to_markdown(reference_page).replace("\\", "")
    for answer in reference_page.opening[0].answers:
        assert answer.question in plain
        assert answer.text in plain
    assert "| 32 × 512 |" in plain


def test_the_data_of_the_charts_are_the_rows(reference: Reader, reference_run: Path) -> None:
    data = json.loads(reference.scripts["data"])
    with (reference_run / "cases.csv").open(encoding="utf-8") as file:
        stored = list(csv.DictReader(file))
    place = {name: number for number, name in enumerate(data["columns"])}
    assert len(data["rows"]) == len(stored)
    for shown, row in zip(data["rows"], stored, strict=True):
        for name in ("implementation", "status", "reason"):
            assert shown[place[name]] == row[name]
        for name in ("batch", "features", "time_s", "time_low_s", "peak_bytes", "predicted_peak_bytes"):
            given = shown[place[name]]
            assert given == pytest.approx(float(row[name]), rel=1e-5) if row[name] else given is None


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row_of(status="skipped", reason="too large", time_s=math.nan, peak_bytes=None, settled=None, visits=None)],
        [row_of()],
        [row for row in normal_rows() if row.implementation == "vectorized"],
        [row for row in normal_rows() if row.implementation == "explicit_jacobian"],
        [dataclasses.replace(row, implementation="own.py:f") for row in normal_rows()][::2],
    ],
    ids=["empty", "only skipped", "one row", "only vectorized", "only the Jacobian", "only one's own"],
)
def test_a_run_with_hardly_anything_in_it(tmp_path: Path, rows: list[Row]) -> None:
    page = page_from(store(tmp_path / "results" / "small", rows))
    assert f"{len(rows)} rows" in page.text("provenance") or not rows
    assert "How do I run it again?" in page.text("answers")


def test_names_and_reasons_are_shown_and_not_run(tmp_path: Path) -> None:
    bad = row_of(NAME, status="failed", reason=ATTACK, logits="normal")
    machine = {**RUN.machine, "cpu": ATTACK}
    folder = store(tmp_path / "results" / "r", [*normal_rows(), bad], machine=machine, not_installed={ATTACK: 3})
    page = page_from(folder)
    assert NAME in page.text("left-out")
    assert "alert(1)" not in "".join(text for name, text in page.scripts.items() if name != "data")
    assert "<script" not in page.scripts["data"]
    assert ATTACK in page.text("left-out")
    assert ATTACK in page.text("provenance")
    assert "<script" not in to_markdown(page_of(Source.load(folder)))


@pytest.mark.slow
def test_fifty_thousand_rows_are_all_in_the_page(tmp_path: Path) -> None:
    rows = [
        row_of(f"form_{number % 50}.py:f", 1e-3, batch=1 + number // 50, features=512, logits="normal", reason="a note")
        for number in range(50_000)
    ]
    page = page_from(store(tmp_path / "results" / "large", rows))
    assert len(json.loads(page.scripts["data"])["rows"]) == 50_000
    assert "50000 measured with a note, the first 200 of them" in page.text("left-out")


def test_the_command_writes_both_files_and_says_where(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    old = store(tmp_path / "results" / "old", list(normal_rows()), machine=OTHER_MACHINE.machine)
    slower = [dataclasses.replace(row, time_s=2 * row.time_s, time_low_s=2 * row.time_low_s) for row in normal_rows()]
    slower = [dataclasses.replace(row, time_high_s=2 * row.time_high_s) for row in slower]
    store(tmp_path / "results" / "middle", list(normal_rows()))
    store(tmp_path / "results" / "new", slower)
    done = softmax_bench("report", old.name, "middle", "new")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "report: plots/new/report.html and plots/new/report.md"
    page = Reader((tmp_path / "plots" / "new" / "report.html").read_text(encoding="utf-8"))
    assert "cpu was another processor, is a processor" in page.text("compared-1")
    assert "8 cases compared, 8 differ beyond both intervals: 8 slower." in page.text("compared-2")
    assert "3 runs" in page.text("history")


def test_outcomes_of_other_commands_have_a_section(tmp_path: Path, softmax_bench: SoftmaxBench) -> None:
    store(tmp_path / "results" / "r", list(normal_rows()))
    finding = {"label": "vectorized 32 × 512", "verdict": "slower", "ratio": 1.25, "low": 1.2, "high": 1.3}
    finding |= {"base_s": 2e-5, "base_peak_bytes": 1000, "work_peak_bytes": 1000, "note": ""}
    check = {"base": "HEAD", "sentence": "1 case is slower.", "findings": [finding]}
    cost = [
        {"implementation": name, "batch": 16, "features": features, "time_s": 1e-6 * features, "peak_bytes": 100}
        for name in ("mine.py:backward", "explicit_jacobian", "vectorized")
        for features in (32, 128)
    ]
    verdict = {"target": "mine.py:backward", "right": True, "cost": {"rows": cost, "advice": []}}
    for name, content in (("check", check), ("verdict", verdict)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    options = ("--outcome=check.json", "--outcome=verdict.json", "--output=page.html", "--format=html")
    done = softmax_bench("report", "r", *options)
    assert done.returncode == 0, done.stderr
    page = Reader((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "1.25×" in page.text("outcome-1")
    assert "At 128 features mine.py:backward takes 128 µs a call" in page.text("outcome-2")
    assert not (tmp_path / "page.md").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "not JSON"), ("{}", "not an outcome"), ("[]", "not an outcome"), (None, "cannot be read")],
)
def test_a_file_that_is_no_outcome_is_one_line(
    tmp_path: Path, softmax_bench: SoftmaxBench, content: str | None, said: str
) -> None:
    store(tmp_path / "results" / "r", [row_of()])
    if content is not None:
        (tmp_path / "x.json").write_text(content, encoding="utf-8")
    done = softmax_bench("report", "r", "--outcome=x.json")
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "plots").exists()


HOMEWORK = """
def backward(probs, grad_output):
    return (grad_output - (grad_output * probs).sum(1, keepdims=True)) * probs
"""


@pytest.mark.slow
def test_verify_draws_a_picture_of_what_is_right(tmp_path: Path, softmax_bench: SoftmaxBench) -> None:
    (tmp_path / "homework.py").write_text(HOMEWORK, encoding="utf-8")
    done = softmax_bench("verify", "homework.py:backward", "--plot=mine.svg")
    assert done.returncode == 0, done.stderr
    assert "picture: mine.svg. At" in done.stdout
    picture = (tmp_path / "mine.svg").read_text(encoding="utf-8")
    for words in (
        "homework.py:backward: right",
        "yours",
        "explicit_jacobian",
        "vectorized",
        "peak memory of one call",
    ):
        assert f"<!-- {words} -->" in picture  # what a text drawn as outlines says


def test_a_picture_that_cannot_be_drawn_is_refused_first(tmp_path: Path, softmax_bench: SoftmaxBench) -> None:
    done = softmax_bench("verify", "homework.py:backward", "--plot=mine.gif")
    assert done.returncode == 2
    assert done.stderr == "softmax-bench: --plot mine.gif: the name must end in .png, .svg, .pdf\n"
