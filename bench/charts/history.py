"""The chart of times over several stored runs."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ..storage.results import Row
from ..units import quantity
from .style import COLOURS, MARKS, STYLE, name_lines, new_figure, settle

FAR_APART = 10.0  # first times with a larger ratio are not drawn on one axis of seconds
STEEP = 5.0  # from this ratio of the largest to the smallest value on, the axis is logarithmic
SIZE_INCHES = (12.0, 5.8)
NAMES_SHARE = 0.3  # of the panel's width, for the lines' names
EDGE = 0.06  # of the distance from the first run to the last, at the left of the points and at their right
LEAST_MARGIN = 1.1  # the axis reaches so far beyond all intervals: differences within them look small
INCHES_OF_RUNS = 7.0
INCHES_A_CHARACTER = 0.085
SHIFT = 0.03  # of the distance of two runs, from one line's points to the next line's
MOST_RUN_NAMES = 36  # below the axis, slanted
LEGEND = "Point: estimate, bar: interval, hollow: not settled, thick line: a step beyond both intervals."
BREAK_COLOUR = "#666666"


class Line(NamedTuple):
    """A case's line: its name, its row in each run, None where it has no time, and the places of its steps."""

    label: str
    rows: Sequence[Row | None]
    steps: frozenset[int]


def history(lines: Sequence[Line], runs: Sequence[str], breaks: Mapping[int, str], caption: str) -> Figure:
    """Time of one call with its interval, a line for each case, over the runs in the order in which they are given.

    ``lines`` are at most as many as there are colours. ``breaks`` says at a run's place how it is unlike the run before
    it. Where the first times are far apart, the axis shows the time over that in the first run.
    """
    with mpl.rc_context(STYLE):
        relative = _are_far_apart(lines)
        title = f"Time of one call over {len(runs)} runs{', as a multiple of the first' if relative else ''}"
        figure = new_figure(title, f"{LEGEND}\n{caption}", SIZE_INCHES)
        panel = figure.subplots()
        for number, line in enumerate(lines):
            shift = SHIFT * (number - (len(lines) - 1) / 2)
            _draw(panel, line, COLOURS[number], MARKS[number], shift, _first_s(line) if relative else 1.0, breaks)
        _set_time_axis(panel, lines, relative=relative)
        _set_run_axis(panel, runs)
        for place, label in breaks.items():
            _draw_break(panel, place, label)
        settle(figure)
        name_lines(panel, names_at=1.0 - NAMES_SHARE + 0.02)
        return figure


def _are_far_apart(lines: Sequence[Line]) -> bool:
    first = [_first_s(line) for line in lines]
    return max(first) > FAR_APART * min(first)


def _first_s(line: Line) -> float:
    return next(row.time_s for row in line.rows if row is not None)


def _draw(
    panel: Axes, line: Line, colour: str, mark: str, shift: float, unit_s: float, breaks: Collection[int]
) -> None:
    """Draw a line in units of ``unit_s``, its points moved aside by ``shift`` so that equal ones stay visible."""
    timed = [(place, row) for place, row in enumerate(line.rows) if row is not None]
    low, middle, high = (
        np.array([getattr(row, name) for _, row in timed]) / unit_s for name in ("time_low_s", "time_s", "time_high_s")
    )
    x = [place + shift for place, _ in timed]
    panel.plot(x, middle, linestyle="none", color=colour, label=line.label)  # carries the name
    panel.errorbar(x, middle, yerr=(middle - low, high - middle), fmt="none", ecolor=colour, capsize=3, elinewidth=1.0)
    for number, (place, row) in enumerate(timed):
        fill = colour if row.settled == 1 else "white"
        panel.plot(x[number], middle[number], marker=mark, color=colour, markerfacecolor=fill, markersize=6, zorder=3)
        if number:
            broken = any(timed[number - 1][0] < at <= place for at in breaks)
            look = ":" if broken else "-"
            width = 4.0 if place in line.steps else 1.2
            ends = slice(number - 1, number + 1)
            panel.plot(x[ends], middle[ends], color=colour, linestyle=look, linewidth=width)


def _set_time_axis(panel: Axes, lines: Sequence[Line], *, relative: bool) -> None:
    """Limits around all intervals, and ticks."""
    bounds = [
        bound / (_first_s(line) if relative else 1.0)
        for line in lines
        for row in line.rows
        if row is not None
        for bound in (row.time_low_s, row.time_s, row.time_high_s)
    ]
    smallest, largest = float(np.nanmin(bounds)), float(np.nanmax(bounds))
    if largest > STEEP * smallest:
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=12))
        panel.yaxis.set_minor_locator(NullLocator())
    else:
        panel.yaxis.set_major_locator(MaxNLocator(8))
    panel.set_ylim(smallest / LEAST_MARGIN, largest * LEAST_MARGIN)
    panel.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:.4g}×" if relative else quantity(value, "s"))
    )
    panel.set_ylabel("time / time in the first run" if relative else "time of one call")


def _set_run_axis(panel: Axes, runs: Sequence[str]) -> None:
    span = len(runs) - 1
    left = -EDGE * span
    panel.set_xlim(left, left + (1.0 + 2.0 * EDGE) * span / (1.0 - NAMES_SHARE))
    places = range(0, len(runs), math.ceil(len(runs) / MOST_RUN_NAMES))
    names = [runs[place] for place in places]
    fits = max(map(len, names)) * INCHES_A_CHARACTER * len(names) < INCHES_OF_RUNS
    slanted: dict[str, Any] = {} if fits else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    panel.set_xticks(places, names, **slanted)
    panel.grid(visible=False, axis="x")


def _draw_break(panel: Axes, place: int, label: str) -> None:
    """A vertical line before a run that is unlike the one before it; its label stands on end above the panel."""
    panel.axvline(place - 0.5, color=BREAK_COLOUR, linewidth=0.9, linestyle=(0, (4, 3)), label="_break")
    panel.text(
        place - 0.5,
        1.01,
        label,
        transform=panel.get_xaxis_transform(),
        rotation=90,
        ha="center",
        va="bottom",
        fontsize=7.5,
        color=BREAK_COLOUR,
    )
