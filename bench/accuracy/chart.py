"""The charts of the accuracy study, from its stored rows."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ..charts.style import COLOURS, MARKS, STYLE, made_with, new_figure, write_charts
from .study import CHARTED_SHAPE, DTYPES, SHAPES, Study

CHARTED_SCALE = 10.0
LEAST_ULP = 0.05  # smaller errors are chance; they are drawn here
ERRORS = {"loss_error_ulp": "loss", "grad_error_ulp": "gradient, worst element"}
OFFSET = 0.1  # horizontal distance between the marks of two implementations, so that equal errors stay visible


def draw_study(study: Study, rows: pd.DataFrame, folder: Path) -> Iterator[Path]:
    """Draw the charts of a stored study into a folder, as PNG and SVG. Yields each file when it is written.

    Raises:
        UserError: a file cannot be written.
    """
    caption = (
        f"Largest of {rows['draws'].max()} draws: normal logits, uniform labels. Loss: ulp of the exact loss; "
        f"gradient: ulp of (probs + targets) / batch. "
        f"{made_with(study.machine, study.versions, ['torch'])} · {study.started[:10]}"
    )
    for chart in (accuracy_by_scale, accuracy_by_shape):
        yield from write_charts(chart(rows, caption), folder, chart.__name__)


def accuracy_by_scale(rows: pd.DataFrame, caption: str) -> Figure:
    """Errors of loss and gradient against the scale of the logits, with a panel per dtype."""
    batch, features = CHARTED_SHAPE
    mine = rows[(rows["batch"] == batch) & (rows["features"] == features)]
    scales = sorted(mine["scale"].unique())
    title = f"How exact are loss and gradient as logits grow?  ({batch} × {features})"
    places = mine["scale"].map(scales.index)
    names = [f"{scale:g}" for scale in scales]
    return _figure(mine.assign(place=places), names, "standard deviation of the logits", title, caption)


def accuracy_by_shape(rows: pd.DataFrame, caption: str) -> Figure:
    """Errors of loss and gradient against the shape at one scale of the logits, with a panel per dtype."""
    mine = rows[rows["scale"] == CHARTED_SCALE]
    title = f"How exact are loss and gradient by shape?  (standard deviation of the logits {CHARTED_SCALE:g})"
    names = [f"{batch} × {features}" for batch, features in SHAPES]
    shapes = zip(mine["batch"], mine["features"], strict=True)
    places = [SHAPES.index((int(batch), int(features))) for batch, features in shapes]
    return _figure(mine.assign(place=places), names, "batch × features", title, caption)


def _figure(rows: pd.DataFrame, names: Sequence[str], label: str, title: str, caption: str) -> Figure:
    """A row of panels per kind of error, with a panel per dtype; the horizontal axis is the column ``place``."""
    with mpl.rc_context(STYLE):
        figure = new_figure(title, caption, (16.0, 8.0))
        panels = figure.subplots(len(ERRORS), len(DTYPES), sharey="row")
        for of_error, (column, name) in zip(panels, ERRORS.items(), strict=True):
            for panel, dtype in zip(of_error, DTYPES, strict=True):
                _draw(panel, rows[rows["dtype"] == dtype], column, wall=30.0 * float(rows[column].max()))
                panel.set(title=f"{dtype}: {name}", xlabel=label, xlim=(-0.5, len(names) - 0.5))
                panel.set_xticks(range(len(names)), names)
            of_error[0].set_ylabel("error in ulp")
        handles = {str(line.get_label()): line for panel in panels.flat for line in panel.get_lines()[1::2]}
        figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False)
        return figure


def _draw(panel: Axes, rows: pd.DataFrame, column: str, wall: float) -> None:
    """A line per implementation. What is not finite is drawn on a grey line, the wall, above all errors."""
    panel.set_yscale("log")
    panel.axhline(wall, color="#888888", linewidth=1.0)
    panel.annotate(
        "NaN or infinity",
        (0.005, wall),
        xycoords=("axes fraction", "data"),
        xytext=(0, 7),
        textcoords="offset points",
        fontsize=7.5,
        color="#555555",
    )
    for number, name in enumerate(dict.fromkeys(rows["implementation"])):
        mine = rows[rows["implementation"] == name]
        style: dict[str, Any] = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKS[number % len(MARKS)],
            "markersize": 4.5,
        }
        x = mine["place"].to_numpy(dtype=float) + OFFSET * (number - 3)
        errors = mine[column].to_numpy(dtype=float)
        panel.plot(x, np.maximum(errors, LEAST_ULP), linewidth=1.1, label=name, **style)
        panel.plot(x, np.where(np.isnan(errors), wall, np.nan), linestyle="none", **style)
    panel.set_ylim(LEAST_ULP / 2, 8 * wall)
    panel.yaxis.set_major_locator(LogLocator(base=10, numticks=12))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value < 1e5 else f"{value:.0e}"))
    panel.yaxis.set_minor_locator(NullLocator())
