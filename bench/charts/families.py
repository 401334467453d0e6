"""The picture to take away: time and memory of the explicit Jacobian and of the vectorized form against features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ..errors import NothingToDrawError
from ..units import quantity
from .style import COLOURS, STYLE, name_lines, new_figure, settle, unit_axis

SIZE_INCHES = (11.5, 4.9)
NAME_ROOM = 0.4  # share of the width of the data (in logarithms) that is added at the right for the lines' names
ABOVE_WALL = 8.0  # times the memory, where the axis ends
LEADERS_FROM = 0.65  # of a panel's width: further left a leader would look like data
POINTS = 60  # of a predicted line


HOLLOW = {"linestyle": "none", "label": "_unsettled"}  # a time that has not settled


class Theme(NamedTuple):
    """The colours of a figure that are not of its data."""

    ground: str
    ink: str
    grid: str
    wall: str


LIGHT = Theme("#FFFFFF", "#222222", "#E0E0E0", "#B3261E")
DARK = Theme("#16181C", "#E6E6E6", "#3A3D44", "#FF8A80")


@dataclass(frozen=True)
class Line:
    """An implementation's line: its rows, sorted by features, and its predicted peak in bytes, if it states one.

    ``rows`` have ``features``, ``status``, ``time_s``, ``time_low_s``, ``time_high_s``, ``settled`` and ``peak_bytes``.
    """

    label: str
    rows: pd.DataFrame
    colour: str
    peak_bytes: Callable[[int], int] | None = None
    highlighted: bool = False

    def measured(self, column: str) -> pd.DataFrame:
        """The measured rows that have a value in a column."""
        return self.rows[(self.rows["status"] == "measured") & self.rows[column].notna()]

    @property
    def look(self) -> dict[str, Any]:
        """How it is drawn, as arguments of ``Axes.plot``."""
        width = 2.8 if self.highlighted else 1.6
        return {"color": self.colour, "label": self.label, "marker": "o", "markersize": 4.5, "linewidth": width}


def families(lines: Sequence[Line], memory_bytes: int, title: str, caption: str, theme: Theme = LIGHT) -> Figure:
    """Time of a call and its peak memory against features, and the wall at which the machine's memory ends.

    ``memory_bytes`` is 0 where it is not known.

    Raises:
        NothingToDrawError: no line has two measured sizes.
    """
    measured = [line.rows[line.rows["status"] == "measured"] for line in lines]
    if not any(rows["features"].nunique() > 1 for rows in measured):
        raise NothingToDrawError("needs an implementation at two numbers of features")
    with mpl.rc_context(STYLE | _themed(theme)):
        figure = new_figure(title, caption, SIZE_INCHES)
        figure.set_facecolor(theme.ground)
        figure.supxlabel(figure.get_supxlabel(), fontsize=7.5, color=theme.ink)
        time, memory = figure.subplots(1, 2)
        _draw_times(time, lines, theme)
        _draw_peaks(memory, lines)
        _draw_wall(memory, lines, memory_bytes, theme)
        features = sorted({int(size) for rows in measured for size in rows["features"]})
        for panel, heading in ((time, "time of one call"), (memory, "peak memory of one call")):
            panel.set_title(heading, loc="left")
            panel.set(xscale="log", xlabel="features")
            panel.set_xticks(features, [str(size) for size in features])
            panel.xaxis.set_minor_locator(NullLocator())
            panel.set_xlim(features[0] * 0.85, features[-1] * (features[-1] / features[0]) ** NAME_ROOM)
        settle(figure)
        for panel in (time, memory):
            name_lines(panel, gap=0.07, leaders_from=LEADERS_FROM)
        return figure


def _themed(theme: Theme) -> dict[Any, Any]:
    """The theme as matplotlib's settings."""
    inked = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
    ground = ("figure.facecolor", "axes.facecolor")
    return {**dict.fromkeys(inked, theme.ink), **dict.fromkeys(ground, theme.ground), "grid.color": theme.grid}


def _draw_times(panel: Axes, lines: Sequence[Line], theme: Theme) -> None:
    panel.set_yscale("log")
    for line in lines:
        rows = line.measured("time_s")
        panel.plot(rows["features"], rows["time_s"], **line.look)
        panel.vlines(
            rows["features"], rows["time_low_s"], rows["time_high_s"], color=line.colour, linewidth=4, alpha=0.4
        )
        hollow = rows[rows["settled"] == 0]
        panel.plot(hollow["features"], hollow["time_s"], **line.look | HOLLOW | {"markerfacecolor": theme.ground})
    unit_axis(panel.yaxis, "s")


def _draw_peaks(panel: Axes, lines: Sequence[Line]) -> None:
    panel.set_yscale("log")
    for line in lines:
        rows = line.measured("peak_bytes")
        panel.plot(rows["features"], rows["peak_bytes"], **line.look)
    unit_axis(panel.yaxis, "B")


def _draw_wall(panel: Axes, lines: Sequence[Line], memory_bytes: int, theme: Theme) -> None:
    """The machine's memory, and the predicted peak of each line from where it was last measured up to there."""
    if not memory_bytes:
        return
    panel.axhspan(memory_bytes, memory_bytes * ABOVE_WALL, color=theme.wall, alpha=0.14, linewidth=0)
    panel.axhline(memory_bytes, color=theme.wall, linewidth=1.6, label="_wall")
    panel.annotate(
        f"this machine's memory ends: {quantity(memory_bytes, 'B')}",
        (0.02, memory_bytes),
        xycoords=("axes fraction", "data"),
        xytext=(0, -4),
        textcoords="offset points",
        va="top",
        fontsize=8.5,
        color=theme.wall,
    )
    largest = max(int(line.rows["features"].max()) for line in lines)
    for line in lines:
        measured = line.rows.loc[line.rows["status"] == "measured", "features"]
        if line.peak_bytes is None or measured.empty or measured.max() >= largest:
            continue
        sizes = np.geomspace(float(measured.max()), float(largest), POINTS).astype(int)
        peaks = [line.peak_bytes(int(size)) for size in sizes]
        panel.plot(sizes, peaks, linestyle=":", linewidth=1.8, color=line.colour, label="_predicted")
    panel.set_ylim(top=memory_bytes * ABOVE_WALL)


def colours_of(theme: Theme) -> tuple[str, str]:
    """The Jacobian's colour and the vectorized form's, legible on the theme's ground."""
    return (COLOURS[0], COLOURS[4]) if theme is LIGHT else ("#FF8F3F", COLOURS[5])
