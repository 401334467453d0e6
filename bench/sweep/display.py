"""The sweep at the terminal: one bar, first over the cases to be examined and then over the time of their visits."""

import os
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from ..operations.cases import Case
from ..storage.results import Row
from ..terminal import print_line, print_sentence
from .open_run import Observer, OpenRun
from .opening import missing_cases
from .rounds import Rounds

STYLES = {"skipped": "yellow", "wrong": "bold red", "failed": "bold red"}
NAME_WIDTH = 54  # of a case at the terminal
REDRAWN_S = 0.25


class Display(Observer):
    """Shows a run while it is measured. It redraws only between visits: nothing runs during a measurement.

    A context manager: the bar is gone when the block ends, however it ends.
    """

    def __init__(self) -> None:
        # pytest captures descriptor 1 while a case runs: keep the terminal's own.
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        own = os.fdopen(os.dup(1), "w", encoding=encoding, errors="replace")
        self.console = Console(file=own, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[left]}"),
            console=self.console,
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        self._task = self._progress.add_task("", total=1, left="")
        self._shown: set[Case] = set()
        self._drawn_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress.live.is_started:
            self._progress.stop()
        self.console.file.flush()

    def begun(self, run: OpenRun) -> None:
        """Announce the run and start the bar."""
        cases = missing_cases(run.folder)
        kept = f", {len(run.rows)} examined already" if run.rows else ""
        self.console.print(f"run [bold]{run.run.run_id}[/]: {len(cases)} cases to measure{kept}")
        if cases and run.time_is_up:
            used = f"{run.now_s() / 60.0:.2g} minutes are behind it, and all of them count"
            print_sentence(f"Its time box is used up: {used}. Give more with --minutes.", self.console)
        self._progress.update(self._task, total=len([case for case in cases if case not in run.rows]))
        if self.console.is_terminal:
            self._progress.start()

    def examining(self, case: Case) -> None:
        """Show which case is examined."""
        self._redraw(f"examining {case}", left="")

    def examined(self, row: Row) -> None:
        """A line for a case that is not going to be visited, with the reason."""
        self._progress.advance(self._task)
        if row.status != "measured":
            self.reported(row)

    def visiting(self, rounds: Rounds) -> None:
        """Show how many cases have settled, and the time left."""
        settled, cases = rounds.cases
        minutes, seconds = divmod(round(rounds.left_s), 60)
        self._progress.update(self._task, completed=settled, total=cases)
        self._redraw(
            f"round {rounds.number}: {settled} of {cases} settled", left=f"at most {minutes}:{seconds:02} left"
        )

    def reported(self, row: Row) -> None:
        """A line for a case that has no time, once."""
        if row.status != "measured" and row.case not in self._shown:
            self._shown.add(row.case)
            print_line(_line(row), self.console)

    def said(self, text: str) -> None:
        """Show a text as it is."""
        self.console.print(text, markup=False, soft_wrap=True)

    def _redraw(self, description: str, left: str) -> None:
        now_s = time.monotonic()
        if now_s - self._drawn_s >= REDRAWN_S:
            self._drawn_s = now_s
            self._progress.update(self._task, description=description, left=left)
            if self._progress.live.is_started:
                self._progress.refresh()


def _line(row: Row) -> Text:
    return Text.assemble((f"{row.status:<8}", STYLES[row.status]), f"{row.case!s:<{NAME_WIDTH}}", f"  {row.reason}")
