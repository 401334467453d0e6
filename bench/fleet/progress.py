"""A run on many machines at the terminal: a line of progress, and above it what happens."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from .driver import Driver, Follower

REDRAWN_S = 0.5


class FleetDisplay(Follower):
    """Shows how many machines and shares there are and how much time is left. A context manager."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[left]}"))
        self._progress = Progress(*columns, console=console, auto_refresh=False, transient=True, expand=True)
        self._task = self._progress.add_task("", total=1, left="")
        self._began_s, self._drawn_s = time.monotonic(), 0.0
        self._left_at_first: int | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress.live.is_started:
            self._progress.stop()

    def said(self, text: str) -> None:
        """Show a text above the bar."""
        self.console.print(text, markup=False, soft_wrap=True)

    def moved_on(self, driver: Driver) -> None:
        """Draw the bar anew, if it is time."""
        now_s = time.monotonic()
        if now_s - self._drawn_s < REDRAWN_S:
            return
        self._drawn_s = now_s
        self._left_at_first = max(self._left_at_first or 0, driver.left)
        done = self._left_at_first - driver.left
        left_s = driver.left * (now_s - self._began_s) / done if done else None
        minutes, seconds = divmod(round(left_s or 0.0), 60)
        machines = f"{len(driver.machines)} machine{'' if len(driver.machines) == 1 else 's'}"
        self._progress.update(
            self._task,
            completed=done,
            total=self._left_at_first,
            description=f"{machines}: {done} of {self._left_at_first} shares",
            left="" if left_s is None else f"about {minutes}:{seconds:02} left",
        )
        if self._progress.live.is_started:
            self._progress.refresh()
