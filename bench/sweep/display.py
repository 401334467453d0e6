"""The sweep at the terminal: one bar with the time left for a whole run, a heading a shape, a line a case."""

import dataclasses
import math
import os
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from ..operations.cases import Case
from ..storage.results import Row
from ..terminal import print_line
from ..units import quantity
from .budget import expected_s
from .opening import missing_cases
from .sitting import Sitting, sittings_of
from .summary import shape_label

STYLES = {"measured": "green", "skipped": "yellow", "wrong": "bold red", "failed": "bold red"}
NAME_WIDTH = 30  # of an implementation at the terminal
START_S = 4.0  # of a process that imports a library, for the estimate of the time left


class Display:
    """Shows a run while it is measured. It redraws only between cases: nothing runs during a measurement.

    A context manager: the bar is gone when the block ends, however it ends.
    """

    def __init__(self) -> None:
        # pytest captures descriptor 1 while a case runs: keep the terminal's own.
        self.console = Console(file=os.fdopen(os.dup(1), "w", encoding="utf-8"), highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=self.console,
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        self._task = self._progress.add_task("", total=0, left="")
        self._expected_s: dict[str, float] = {}
        self._done_s = 0.0
        self._started = time.perf_counter()
        self._heading = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress.live.is_started:
            self._progress.stop()
        self.console.file.flush()

    def begun(self, sitting: Sitting) -> None:
        """Announce the run and start the bar, for all cases that the run misses, whichever process measures them."""
        cases = missing_cases(sitting.folder)
        kept = f", {len(sitting.rows)} there already" if sitting.rows else ""
        self.console.print(f"run [bold]{sitting.run.run_id}[/]: {len(cases)} cases to measure{kept}")
        self._expected_s = dict.fromkeys(sittings_of(cases), START_S)
        self._expected_s |= {str(case): expected_s(case, sitting.run.options) for case in cases}
        self._progress.update(self._task, total=len(cases))
        self._started = time.perf_counter()
        if self.console.is_terminal:
            self._progress.start()

    def starting(self, sitting: str) -> None:
        """Show that a library's process starts."""
        library, _, threads = sitting.partition(":")
        self._show(f"{library}, threads: {threads}")
        self._done_s += self._expected_s.pop(sitting, 0.0)

    def started(self, case: Case) -> None:
        """Show the case in hand and the time left."""
        self._show(f"{case.implementation} {_shape(case)}")

    def finished(self, row: Row) -> None:
        """A line for the finished case, under a heading for its shape."""
        heading = f"{row.operation} {_shape(row.case)}"
        if heading != self._heading:
            self._heading = heading
            self.console.print(f"[bold]{heading}[/]")
        print_line(_line(row), self.console)
        self._done_s += self._expected_s.pop(str(row.case), 0.0)
        self._progress.advance(self._task)

    def broken(self, text: str) -> None:
        """Show what went wrong outside of any case."""
        self.console.print(f"[bold red]error[/] {escape(text)}")

    def said(self, text: str) -> None:
        """Show what pytest said."""
        self.console.print(text, markup=False, soft_wrap=True)

    def _show(self, description: str) -> None:
        self._progress.update(self._task, description=description, left=self._time_left())
        if self._progress.live.is_started:
            self._progress.refresh()

    def _time_left(self) -> str:
        """The expected time of what is left, scaled by how the expectation has held so far."""
        elapsed_s = time.perf_counter() - self._started
        scale = elapsed_s / self._done_s if self._done_s > 1.0 else 1.0
        minutes, seconds = divmod(round(scale * sum(self._expected_s.values())), 60)
        return f"about {minutes}:{seconds:02} left"


def _shape(case: Case) -> str:
    return shape_label(dataclasses.asdict(case))


def _line(row: Row) -> Text:
    numbers = ""
    if not math.isnan(row.time_median_s):
        numbers += f" {quantity(row.time_median_s, 's'):>8}"
    if row.peak_bytes is not None:
        numbers += f" {quantity(row.peak_bytes, 'B'):>8}"
    reason = f"  {row.reason}" if row.reason else ""
    return Text.assemble(
        "  ", (f"{row.status:<9}", STYLES[row.status]), f"{row.implementation:<{NAME_WIDTH}}", numbers, reason
    )
