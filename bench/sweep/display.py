"""The sweep at the terminal: a bar with the time left, one line a case, a summary; a pytest plugin."""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from ..operations.cases import ARTICLE_OPERATION
from ..storage.results import STATUSES, Row, to_frame
from ..units import quantity
from . import sitting as sweep
from .summary import article_sentence, summary_tables

STYLES = {"measured": "green", "skipped": "yellow", "wrong": "bold red", "failed": "bold red"}


class Display:
    """pytest's hooks that show the sweep. It redraws only between cases: nothing runs beside a measurement."""

    def __init__(self) -> None:
        # pytest captures descriptor 1 while a case runs: keep the terminal's own.
        self._console = Console(file=os.fdopen(os.dup(1), "w", encoding="utf-8"), highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]} left"),
            console=self._console,
            auto_refresh=False,
            transient=True,
        )
        self._expected_s: dict[str, float] = {}
        self._done_s = 0.0
        self.folder: Path | None = None  # of the run, once it has begun
        self.interrupted = False
        self._started = 0.0

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str]:
        """Say nothing in pytest's own voice."""
        return report.outcome, "", ""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Announce the run and start the bar."""
        current = session.config.stash.get(sweep.CURRENT, None)
        if current is None:
            return
        self.folder = current.folder
        self._expected_s = {
            item.nodeid: current.expected_s(item.callspec.params["case"])  # type: ignore[attr-defined]
            for item in session.items
        }
        library, _, threads = (session.config.getoption("sweep_sitting") or "").partition(":")
        apart = f" in a process of their own: {library}, threads: {threads}" if library else ""
        kept = f", {len(current.rows)} there already" if current.rows else ""
        cases = [item.callspec.params["case"] for item in session.items]  # type: ignore[attr-defined]
        self._console.print(f"run [bold]{current.run.run_id}[/]: {len(cases)} cases to measure{apart}{kept}")
        self._task = self._progress.add_task("", total=len(session.items), left="")
        self._started = time.perf_counter()
        self._progress.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Show the case in hand and the time left."""
        if nodeid in self._expected_s:
            self._progress.update(self._task, description=_case_id(nodeid), left=self._time_left())
            self._progress.refresh()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A line for the finished case."""
        if report.when != "call":
            if report.failed:
                self._console.print(f"[bold red]error[/] {escape(report.nodeid)}\n{escape(report.longreprtext)}")
            return
        row = dict(report.user_properties).get("row")
        if isinstance(row, Row):
            self._console.print(_line(row), soft_wrap=True)
        self._done_s += self._expected_s.pop(report.nodeid, 0.0)
        self._progress.advance(self._task)

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Remember it: pytest may fail to tell where an interrupt struck, between two lines."""
        self.interrupted = True

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Take the bar away and sum the run up."""
        self._progress.stop()
        current = config.stash.get(sweep.CURRENT, None)
        if current is not None:
            current.close()
            if self.interrupted or not sweep.sittings(current.folder):  # else another process goes on
                self._sum_up(current)
        self._console.file.close()

    def _sum_up(self, current: sweep.Sweep) -> None:
        frame = to_frame(current.rows.values(), current.run.ceiling)
        for table in summary_tables(frame):
            self._console.print(table)
        if (frame["operation"] == ARTICLE_OPERATION).any():
            self._console.print(article_sentence(frame), soft_wrap=True)
        for line in run_sentences(current, frame):
            self._console.print(line, soft_wrap=True)

    def _time_left(self) -> str:
        """The expected time of what is left, scaled by how the expectation has held so far."""
        elapsed = time.perf_counter() - self._started
        scale = elapsed / self._done_s if self._done_s > 1.0 else 1.0
        minutes, seconds = divmod(round(scale * sum(self._expected_s.values())), 60)
        return f"about {minutes}:{seconds:02}"


def run_sentences(current: sweep.Sweep, frame: pd.DataFrame) -> Iterator[str]:
    """How the run went and what can be done with it."""
    counts = frame["status"].value_counts()
    wall_s, measuring_s = (
        sum(getattr(sitting, part) for sitting in current.run.sittings) for part in ("wall_s", "measuring_s")
    )
    told = ", ".join(f"{counts[status]} {status}" for status in STATUSES if status in counts)
    yield (
        f"{told or 'nothing measured'}; {wall_s:.0f} s, of which {1 - measuring_s / wall_s:.0%} outside measuring. "
        f"Stored in {current.folder}."
    )
    if absent := current.run.not_installed:
        count, libraries = sum(absent.values()), ", ".join(absent)
        yield f"{count} cases left out, not installed: {libraries} (make's EXTRAS=compiled,torch,jax has them)"
    if current.missing:
        yield f"{current.missing} cases are missing: make bench RESUME={current.run.run_id}"


def _case_id(nodeid: str) -> str:
    return nodeid.partition("[")[2].removesuffix("]")


def _line(row: Row) -> Text:
    numbers = ""
    if not math.isnan(row.time_median_s):
        numbers += f" {quantity(row.time_median_s, 's'):>9}"
    if row.peak_bytes is not None:
        numbers += f" {quantity(row.peak_bytes, 'B'):>9}"
    return Text.assemble(
        (f"{row.status:<9}", STYLES[row.status]), f"{row.case!s:<58}", numbers, f"  {row.reason}".rstrip()
    )
