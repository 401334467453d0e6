"""The charts of a stored run: one function each, from its table to a Figure; nothing here measures.

A chart shows one slice of the table: one operation, dtype, distribution of logits and number of threads. Those that
look across threads and logits are in `overviews`.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from ..errors import NothingToDrawError
from ..implementations import NUMPY
from ..operations import operations
from ..storage.results import Run, load_rows, load_run, to_frame
from ..units import factor, quantity
from .overviews import OVERVIEWS, REFERENCE, overviews_of
from .style import (
    COLOURS,
    LABEL_GAP,
    MARKS,
    MISSING_COLOUR,
    STYLE,
    TITLE_WIDTH,
    Style,
    caption_of,
    libraries_in,
    name_lines,
    names_in,
    new_figure,
    settle,
    spread_apart,
    style_in,
    threads_in_words,
    unit_axis,
    write_charts,
)

__all__ = [
    "CHARTS",
    "COLOURS",
    "LABEL_GAP",
    "MARKS",
    "OVERVIEWS",
    "STYLE",
    "TITLE_WIDTH",
    "Slice",
    "draw_run",
    "slices_of",
    "spread_apart",
]

T = TypeVar("T")

LIBRARIES = "libraries"
PANEL_COLUMNS = 3
PANEL_HEIGHT = 3.9  # inches
NAME_HEIGHT = 0.3  # inches that a line's name asks of its panel, where there are many
LABEL_ROOM = 0.62  # of a panel's width, added at its right for the lines' names
TIMES = "(line: median, band: quartiles)"
PEAKS = "(solid: measured, dotted: predicted, hollow: skipped)"


@dataclass(frozen=True)
class Slice:
    """What a chart is drawn from: a part of the table, its run, and each implementation's style.

    ``kind`` is empty where the slice holds NumPy's own implementations, so that a run of those alone has no other,
    and ``LIBRARIES`` where it holds all others, beside the reference that they are to beat.
    """

    rows: pd.DataFrame
    run: Run
    key: tuple[str, str, str, int]  # operation, dtype, logits, threads
    kind: str = ""

    @property
    def implementations(self) -> list[str]:
        """The slice's implementations in the order of the registry that the run was made with."""
        known = names_in(self.run, self.key[0])
        present = list(dict.fromkeys(self.rows["implementation"]))
        return sorted(present, key=lambda name: known.index(name) if name in known else len(known))

    def style(self, implementation: str) -> Style:
        """The implementation's style, from its place in the registry."""
        return style_in(self.run, self.key[0], implementation)

    def label(self, implementation: str) -> str:
        """The implementation's name, with its threads where it stands in for the slice's own number."""
        threads = int(self.rows.loc[self.rows["implementation"] == implementation, "threads"].iloc[0])
        return implementation if threads == self.key[3] else f"{implementation}, {threads_in_words(threads)}"

    @property
    def baseline(self) -> str:
        """The implementation that ratios refer to."""
        return operations()[self.key[0]].baseline

    @property
    def caption(self) -> str:
        """The machine and the software, for the foot of every chart."""
        operation, dtype, logits, threads = self.key
        shown = f"{operations()[operation].title}, {dtype}, {logits} logits, {threads_in_words(threads)}"
        libraries = libraries_in(self.run, operation)
        return caption_of(self.run, shown, [libraries.get(name, NUMPY) for name in self.implementations])


def time_by_features(data: Slice) -> Figure:
    """Median time of a call against features, a panel per batch, with the band between the quartiles."""
    return _growth(data, "features", "batch", _draw_times, f"Time of one call against features  {TIMES}")


def time_by_batch(data: Slice) -> Figure:
    """Median time of a call against batch, a panel per number of features, with the band between the quartiles."""
    return _growth(data, "batch", "features", _draw_times, f"Time of one call against batch  {TIMES}")


def memory_by_features(data: Slice) -> Figure:
    """Peak memory of a call against features, a panel per batch: measured, predicted, skipped, and the machine's."""
    return _growth(data, "features", "batch", _draw_peaks, f"Peak memory of one call against features  {PEAKS}")


def memory_by_batch(data: Slice) -> Figure:
    """Peak memory of a call against batch, a panel per number of features: measured, predicted, skipped, machine's."""
    return _growth(data, "batch", "features", _draw_peaks, f"Peak memory of one call against batch  {PEAKS}")


def speedup_heatmap(data: Slice) -> Figure:
    """Speed-up over the operation's baseline on batch × features, a panel per implementation."""
    title = f"How many times faster than {data.baseline}  (grey: one of the two was skipped)"
    return _heatmap(data, title, "speedup")


def memory_ratio_heatmap(data: Slice) -> Figure:
    """The baseline's peak memory over each implementation's on batch × features."""
    title = f"How many times less peak memory than {data.baseline}  (~: its predicted peak, where it was skipped)"
    return _heatmap(data, title, "memory_ratio", "predicted_memory_ratio")


CHARTS: tuple[Callable[[Slice], Figure], ...] = (
    time_by_features,
    time_by_batch,
    memory_by_features,
    memory_by_batch,
    speedup_heatmap,
    memory_ratio_heatmap,
)


def draw_run(folder: Path, plots: Path) -> Iterator[Path]:
    """Draw every chart of a stored run into ``plots``, as PNG and SVG, and yield the files as they are written.

    The slice with the most measured cases gives the files named as their chart; other slices add their own name, and
    the compiled and the libraries' implementations of any slice their kind.

    Raises:
        UserError: the run cannot be read, or the folder cannot be written.
        NothingToDrawError: no chart can be drawn from the run.
    """
    run = load_run(folder)
    frame = to_frame(load_rows(folder), run.ceiling)
    drawn = False
    for name, figure in _figures(frame, run):
        yield from write_charts(figure, plots, name)
        drawn = True
    if not drawn:
        raise NothingToDrawError(f"{folder}: nothing to draw; charts need measured cases of two or more sizes")


def _figures(frame: pd.DataFrame, run: Run) -> Iterator[tuple[str, Figure]]:
    """Every figure that the table has the rows for, with the name of its files."""
    slices = slices_of(frame, run)
    keys = list(dict.fromkeys(data.key for data in slices))
    for data in slices:
        parts = [*(map(str, data.key) if data.key != keys[0] else ()), *([data.kind] if data.kind else ())]
        for chart in CHARTS:
            if figure := _drawn(chart, data):
                yield "-".join([chart.__name__, *parts]), figure
    wholes = overviews_of(frame, run)
    for overview in OVERVIEWS:
        figures = [(whole.dtype, figure) for whole in wholes if (figure := _drawn(overview, whole))]
        for place, (dtype, figure) in enumerate(figures):
            yield overview.__name__ + (f"-{dtype}" if place else ""), figure


def _drawn(chart: Callable[[T], Figure], data: T) -> Figure | None:
    """The chart of the data, none where it lacks what the chart shows."""
    try:
        with mpl.rc_context(STYLE):
            return chart(data)
    except NothingToDrawError:
        return None


def slices_of(frame: pd.DataFrame, run: Run) -> list[Slice]:
    """The table's slices, those of the key with the most measured cases first, NumPy's own before the libraries'."""
    groups = sorted(
        frame.groupby(["operation", "dtype", "logits", "threads"], sort=False),
        key=lambda group: -int((group[1]["status"] == "measured").sum()),
    )
    slices: list[Slice] = []
    for (operation, dtype, logits, threads), rows in groups:
        key = (str(operation), str(dtype), str(logits), int(str(threads)))
        own = rows["implementation"].map(libraries_in(run, key[0])).fillna(NUMPY) == NUMPY
        if own.any():
            slices.append(Slice(rows[own], run, key))
        if not own.all():
            beside = [*_reference(frame, key, rows[~own]).index, *rows.index[~own]]
            slices.append(Slice(frame.loc[beside], run, key, LIBRARIES))
    return slices


def _reference(frame: pd.DataFrame, key: tuple[str, str, str, int], others: pd.DataFrame) -> pd.DataFrame:
    """The form that others are held against at their shapes, with one thread where it runs no more."""
    shapes = pd.MultiIndex.from_frame(others[["batch", "features"]])
    mine = frame[
        (frame[["operation", "dtype", "logits"]] == list(key[:3])).all(axis=1)
        & (frame["implementation"] == REFERENCE)
        & pd.MultiIndex.from_frame(frame[["batch", "features"]]).isin(shapes)
    ]
    own = mine[mine["threads"] == key[3]]
    return mine[mine["threads"] == 1] if own.empty else own


def _growth(
    data: Slice, axis: str, facet: str, draw: Callable[[Axes, Slice, pd.DataFrame, str], None], title: str
) -> Figure:
    """Panels per value of ``facet``, log-log against ``axis``, sharing both scales."""
    measured = data.rows[data.rows["status"] == "measured"]
    if measured[axis].nunique() < 2:
        raise NothingToDrawError(f"needs two values of {axis}")
    facets = sorted(measured[facet].unique())
    columns = min(PANEL_COLUMNS, len(facets))
    lines = -(-len(facets) // columns)
    height = max(PANEL_HEIGHT, NAME_HEIGHT * len(data.implementations) + 0.6)
    figure = new_figure(title, data.caption, (5.0 * columns, height * lines + 0.9))
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    values = sorted(data.rows[axis].unique())
    for panel, value in itertools.zip_longest(panels.flat, facets):
        if value is None:
            panel.set_visible(False)
            continue
        panel.set(xscale="log", yscale="log", title=f"{facet} {value}", xlabel=axis)
        panel.set_xticks(values, [str(one) for one in values])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.tick_params(labelbottom=True, labelleft=True)
        room = (values[-1] / values[0]) ** LABEL_ROOM
        panel.set_xlim(values[0] / room**0.06, values[-1] * room)
        draw(panel, data, data.rows[data.rows[facet] == value], axis)
    settle(figure)
    for panel in panels.flat[: len(facets)]:
        name_lines(panel)
    return figure


def _draw_times(panel: Axes, data: Slice, rows: pd.DataFrame, axis: str) -> None:
    for implementation, style, mine in _lines(data, rows, axis):
        drawn = mine[mine["status"] == "measured"]
        panel.fill_between(
            drawn[axis], drawn["time_q1_s"], drawn["time_q3_s"], color=style.colour, alpha=0.25, linewidth=0
        )
        panel.plot(drawn[axis], drawn["time_median_s"], **style.line, label=data.label(implementation))
    unit_axis(panel.yaxis, "s")


def _draw_peaks(panel: Axes, data: Slice, rows: pd.DataFrame, axis: str) -> None:
    for implementation, style, mine in _lines(data, rows, axis):
        drawn, skipped = mine[mine["status"] == "measured"], mine[mine["status"] == "skipped"]
        # A user's own implementation has no prediction: its name goes to what was measured.
        named = {"predicted" if mine["predicted_peak_bytes"].notna().any() else "measured": data.label(implementation)}
        panel.plot(
            mine[axis],
            mine["predicted_peak_bytes"],
            color=style.colour,
            linestyle=":",
            linewidth=1.0,
            label=named.get("predicted"),
        )
        panel.plot(
            skipped[axis],
            skipped["predicted_peak_bytes"],
            **(style.line | {"markerfacecolor": "white", "linestyle": "none", "markersize": 5.5}),
        )
        panel.plot(drawn[axis], drawn["peak_bytes"], **style.line, label=named.get("measured"))
    wall = data.run.machine["memory_bytes"]
    panel.axhline(wall, color="#888888", linewidth=1.2)
    panel.annotate(
        f"this machine's memory, {quantity(wall, 'B')}",
        (0.01, wall),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        fontsize=7.5,
        color="#555555",
    )
    unit_axis(panel.yaxis, "B")


def _lines(data: Slice, rows: pd.DataFrame, axis: str) -> Iterator[tuple[str, Style, pd.DataFrame]]:
    for implementation in data.implementations:
        mine = rows[rows["implementation"] == implementation].sort_values(axis)
        if not mine.empty:
            yield implementation, data.style(implementation), mine


def _heatmap(data: Slice, title: str, column: str, substitute: str | None = None) -> Figure:
    """Panels per implementation but the baseline, the ratio in figures and colour, a substitute marked with ~."""
    others = [name for name in data.implementations if name != data.baseline]
    if min(data.rows["batch"].nunique(), data.rows["features"].nunique()) < 2 or not data.rows[column].notna().any():
        raise NothingToDrawError(f"needs {data.baseline} and another implementation at two batches and features")
    shown = data.rows.assign(ratio=data.rows[column].fillna(data.rows[substitute or column]))
    columns = min(PANEL_COLUMNS, len(others))
    lines = -(-len(others) // columns)
    figure = new_figure(title, data.caption, (4.8 * columns + 1.0, 3.1 * lines + 0.9))
    panels = figure.subplots(lines, columns, squeeze=False)
    norm = LogNorm(shown["ratio"].min(), max(shown["ratio"].max(), 1.001 * shown["ratio"].min()))
    for panel, name in itertools.zip_longest(panels.flat, others):
        if name is None:
            panel.set_visible(False)
        else:
            image = _draw_ratios(panel, shown[shown["implementation"] == name], column, norm)
            panel.set(title=data.label(name), xlabel="features", ylabel="batch")
    bar = figure.colorbar(image, ax=panels, shrink=0.8, pad=0.01, aspect=max(20, 10 * lines))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: factor(value)))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    settle(figure)
    return figure


def _draw_ratios(panel: Axes, rows: pd.DataFrame, column: str, norm: LogNorm) -> AxesImage:
    ratios = rows.pivot(index="batch", columns="features", values="ratio")
    exact = rows.pivot(index="batch", columns="features", values=column).notna().to_numpy()
    colours = mpl.colormaps["cividis"].with_extremes(bad=MISSING_COLOUR)
    values = ratios.to_numpy(dtype=float)
    image = panel.imshow(np.ma.masked_invalid(values), norm=norm, cmap=colours, aspect="auto", origin="lower")
    for (line, place), ratio in np.ndenumerate(values):
        shade = "black" if np.isnan(ratio) or norm(ratio) > 0.55 else "white"
        mark = "" if exact[line, place] or np.isnan(ratio) else "~"
        panel.text(place, line, mark + factor(ratio), ha="center", va="center", color=shade, fontsize=8)
    panel.set_xticks(range(ratios.shape[1]), [str(value) for value in ratios.columns])
    panel.set_yticks(range(ratios.shape[0]), [str(value) for value in ratios.index])
    panel.grid(visible=False)
    return image
