"""The charts: one function each, from a stored table to a Figure; nothing here measures.

A chart shows one slice of the table: one operation, dtype, distribution of logits and number of threads.
"""

import io
import itertools
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from .errors import NothingToDrawError
from .files import replace_file
from .operations import operations
from .results import Run, load_rows, load_run, to_frame
from .units import factor, quantity

# Okabe and Ito's colours and Tol's wine, told apart by readers with any common colour blindness; marks and dashes go on
# where there are more implementations than colours.
COLOURS = ("#D55E00", "#E69F00", "#CC79A7", "#000000", "#0072B2", "#56B4E9", "#009E73", "#882255")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.")
MISSING_COLOUR = "#E6E6E6"
STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E0E0E0",
    "grid.linewidth": 0.6,
    "svg.hashsalt": "softmax-bench",
}
TIMES = "(line: median, band: quartiles)"
PEAKS = "(solid: measured, dotted: predicted, hollow: skipped)"
PANEL_COLUMNS = 3
TITLE_WIDTH = 11.0  # inches
CAPTION_CHARACTERS_PER_INCH = 16
LABEL_ROOM = 0.62  # of a panel's width, added at its right for the lines' names
LABEL_GAP = 0.055  # of a panel's height, between the middles of two names


class Style(NamedTuple):
    """How an implementation looks, in every chart of a run."""

    colour: str
    mark: str
    dash: str

    @property
    def line(self) -> dict[str, Any]:
        """The style as arguments of ``Axes.plot``."""
        return {"color": self.colour, "marker": self.mark, "linestyle": self.dash, "markersize": 3.5, "linewidth": 1.4}


@dataclass(frozen=True)
class Slice:
    """What a chart is drawn from: a part of the table, its run, and each implementation's style."""

    rows: pd.DataFrame
    run: Run
    key: tuple[str, str, str, int]  # operation, dtype, logits, threads

    @property
    def implementations(self) -> list[str]:
        """The slice's implementations in the order of the registry that the run was made with."""
        known = [spec["name"] for spec in self.run.implementations if spec["operation"] == self.key[0]]
        present = list(dict.fromkeys(self.rows["implementation"]))
        return sorted(present, key=lambda name: known.index(name) if name in known else len(known))

    def style(self, implementation: str) -> Style:
        """The implementation's style, from its place in the registry."""
        known = [spec["name"] for spec in self.run.implementations if spec["operation"] == self.key[0]]
        place = known.index(implementation) if implementation in known else len(known)
        turn, colour = divmod(place, len(COLOURS))
        return Style(COLOURS[colour], MARKS[(colour + turn) % len(MARKS)], DASHES[turn % len(DASHES)])

    @property
    def baseline(self) -> str:
        """The implementation that ratios refer to."""
        return operations()[self.key[0]].baseline

    @property
    def caption(self) -> str:
        """The machine and the software, for the foot of every chart."""
        operation, dtype, logits, threads = self.key
        machine, versions = self.run.machine, self.run.versions
        plural = "thread" if threads == 1 else "threads"
        return (
            f"{operations()[operation].title}, {dtype}, {logits} logits, {threads} {plural} · {machine['cpu']}, "
            f"{machine['cores']} cores, {quantity(machine['memory_bytes'], 'B')} memory, {machine['system']} · "
            f"Python {versions['python']}, NumPy {versions['numpy']} · run {self.run.run_id}, {self.run.started[:10]}"
        )


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

    The slice with the most measured cases gives the files named as their chart; other slices add their own name.

    Raises:
        UserError: the run cannot be read, or the folder cannot be written.
        NothingToDrawError: no chart can be drawn from the run.
    """
    run = load_run(folder)
    slices = list(slices_of(to_frame(load_rows(folder), run.ceiling), run))
    drawn = False
    for place, data in enumerate(slices):
        suffix = "" if place == 0 else "-" + "-".join(map(str, data.key))
        for chart in CHARTS:
            try:
                with mpl.rc_context(STYLE):
                    figure = chart(data)
                    for ending in ("png", "svg"):
                        yield write_figure(figure, plots / f"{chart.__name__}{suffix}.{ending}")
                        drawn = True
            except NothingToDrawError:
                continue
    if not drawn:
        raise NothingToDrawError(f"{folder}: nothing to draw; charts need measured cases of two or more sizes")


def slices_of(frame: pd.DataFrame, run: Run) -> list[Slice]:
    """The table's slices, the one with the most measured cases first."""
    slices = [
        Slice(rows, run, key)  # type: ignore[arg-type]  # pandas types a group's key as a scalar
        for key, rows in frame.groupby(["operation", "dtype", "logits", "threads"], sort=False)
    ]
    return sorted(slices, key=lambda data: -int((data.rows["status"] == "measured").sum()))


def write_figure(figure: Figure, path: Path) -> Path:
    """Store a figure whole in the format that the path's ending names.

    Raises:
        UserError: the file cannot be written.
    """
    image = io.BytesIO()
    options: dict[str, Any] = {"metadata": {"Date": None}} if path.suffix == ".svg" else {"dpi": 144}
    figure.savefig(image, format=path.suffix[1:], **options)
    return replace_file(path, image.getvalue())


def _figure(data: Slice, title: str, size_inches: tuple[float, float]) -> Figure:
    """An empty figure, wide enough for its title, its caption in as many lines as it takes."""
    width = max(size_inches[0], TITLE_WIDTH)
    figure = Figure(figsize=(width, size_inches[1]), layout=ConstrainedLayoutEngine(hspace=0.06, wspace=0.03))
    figure.suptitle(title, fontweight="bold", fontsize=13)
    caption = textwrap.fill(data.caption, int(width * CAPTION_CHARACTERS_PER_INCH))
    figure.supxlabel(caption, fontsize=7.5, color="#444444")
    return figure


def _settle(figure: Figure) -> None:
    """Lay the figure out once and for all: what is added next does not move it, and each file is quick to write."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


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
    figure = _figure(data, title, (5.0 * columns, 3.9 * lines + 0.9))
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
    _settle(figure)
    for panel in panels.flat[: len(facets)]:
        _name_lines(panel)
    return figure


def _draw_times(panel: Axes, data: Slice, rows: pd.DataFrame, axis: str) -> None:
    for implementation, style, mine in _lines(data, rows, axis):
        drawn = mine[mine["status"] == "measured"]
        panel.fill_between(
            drawn[axis], drawn["time_q1_s"], drawn["time_q3_s"], color=style.colour, alpha=0.25, linewidth=0
        )
        panel.plot(drawn[axis], drawn["time_median_s"], **style.line, label=implementation)
    _unit_axis(panel, "s")


def _draw_peaks(panel: Axes, data: Slice, rows: pd.DataFrame, axis: str) -> None:
    for implementation, style, mine in _lines(data, rows, axis):
        drawn, skipped = mine[mine["status"] == "measured"], mine[mine["status"] == "skipped"]
        # A user's own implementation has no prediction: its name goes to what was measured.
        named = (
            {"predicted": implementation}
            if mine["predicted_peak_bytes"].notna().any()
            else {"measured": implementation}
        )
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
    _unit_axis(panel, "B")


def _lines(data: Slice, rows: pd.DataFrame, axis: str) -> Iterator[tuple[str, Style, pd.DataFrame]]:
    for implementation in data.implementations:
        mine = rows[rows["implementation"] == implementation].sort_values(axis)
        if not mine.empty:
            yield implementation, data.style(implementation), mine


def _unit_axis(panel: Axes, unit: str) -> None:
    panel.yaxis.set_major_locator(LogLocator(base=10, numticks=12))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value, unit)))
    panel.yaxis.set_minor_locator(NullLocator())


def _name_lines(panel: Axes) -> None:
    """Each line's name right of the data, level with the line's end or as near as other names allow."""
    to_panel = panel.transData + panel.transAxes.inverted()
    ends: list[tuple[float, float, Line2D]] = []
    for line in panel.get_lines():
        points = np.asarray(line.get_xydata(), dtype=float)
        points = points[np.isfinite(points).all(axis=1)]
        if not str(line.get_label()).startswith("_") and len(points):
            x, y = to_panel.transform(points[-1])
            ends.append((float(y), float(x), line))
    ends.sort(key=lambda end: end[:2])
    heights = spread_apart([y for y, _, _ in ends])
    right = max(x for _, x, _ in ends) + 0.05
    for (y, x, line), height in zip(ends, heights, strict=True):
        panel.annotate(
            str(line.get_label()),
            (x, y),
            xycoords="axes fraction",
            xytext=(right, height),
            textcoords="axes fraction",
            color=str(line.get_color()),
            fontsize=8,
            verticalalignment="center",
            arrowprops={"arrowstyle": "-", "color": line.get_color(), "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2},
        )


def spread_apart(wanted: list[float]) -> list[float]:
    """Sorted heights moved apart to ``LABEL_GAP`` with the least total movement of each crowded group."""
    groups: list[list[float]] = []  # wanted heights that stand together
    for height in wanted:
        groups.append([height])
        while len(groups) > 1 and _places(groups[-2])[-1] + LABEL_GAP > _places(groups[-1])[0]:
            last = groups.pop()
            groups[-1].extend(last)
    return [place for group in groups for place in _places(group)]


def _places(group: list[float]) -> list[float]:
    half = LABEL_GAP * (len(group) - 1) / 2
    middle = min(max(float(np.mean(group)), half), 1.0 - half)
    return [middle - half + LABEL_GAP * place for place in range(len(group))]


def _heatmap(data: Slice, title: str, column: str, substitute: str | None = None) -> Figure:
    """Panels per implementation but the baseline, the ratio in figures and colour, a substitute marked with ~."""
    others = [name for name in data.implementations if name != data.baseline]
    if min(data.rows["batch"].nunique(), data.rows["features"].nunique()) < 2 or not data.rows[column].notna().any():
        raise NothingToDrawError(f"needs {data.baseline} and another implementation at two batches and features")
    shown = data.rows.assign(ratio=data.rows[column].fillna(data.rows[substitute or column]))
    columns = min(PANEL_COLUMNS, len(others))
    lines = -(-len(others) // columns)
    figure = _figure(data, title, (4.8 * columns + 1.0, 3.1 * lines + 0.9))
    panels = figure.subplots(lines, columns, squeeze=False)
    norm = LogNorm(shown["ratio"].min(), max(shown["ratio"].max(), 1.001 * shown["ratio"].min()))
    for panel, name in itertools.zip_longest(panels.flat, others):
        if name is None:
            panel.set_visible(False)
        else:
            image = _draw_ratios(panel, shown[shown["implementation"] == name], column, norm)
            panel.set(title=name, xlabel="features", ylabel="batch")
    bar = figure.colorbar(image, ax=panels, shrink=0.8, pad=0.01)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: factor(value)))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    _settle(figure)
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
