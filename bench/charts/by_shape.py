"""The charts of time and memory by shape: one function for each, from a slice of the table to a Figure.

A slice has one operation, dtype, distribution of logits and number of threads. The charts across threads and logits
are in `overviews`.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

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
from ..operations.cases import is_own
from ..storage.results import Run
from ..units import gain, quantity, spread
from .lines import colours_of, pale_note, styles_of
from .style import (
    COLOURS,
    MISSING_COLOUR,
    PALE,
    REFERENCE,
    Style,
    caption_of,
    draw_unsettled,
    in_registry_order,
    libraries_in,
    name_lines,
    new_figure,
    settle,
    threads_in_words,
    unit_axis,
)

LIBRARIES = "libraries"
PANEL_COLUMNS = 3
PANEL_HEIGHT = 3.9  # inches
NAME_HEIGHT = 0.3  # inches of a panel's height for each line's name
# What the lines' names at the right take of a panel's width: each character, at least those of the suite's own names,
# and at most so much, beyond which a name is cut off.
CHARACTER_SHARE, LEAST_CHARACTERS, MOST_SHARE = 0.0213, 18, 0.7
TIMES = "(pale bar: 95 % interval, hollow: not settled)"
PEAKS = "(solid: measured, dotted: predicted, hollow: skipped)"


@dataclass(frozen=True)
class Slice:
    """The data of a chart by shape: a part of a run's table.

    ``kind`` is empty if the implementations use NumPy only. It is ``LIBRARIES`` if they use other libraries; then the
    slice has NumPy's ``REFERENCE`` and a user's own as well, for comparison.
    """

    rows: pd.DataFrame
    run: Run
    key: tuple[str, str, str, int]  # operation, dtype, logits, threads
    kind: str = ""
    asked: tuple[str, ...] = ()  # implementations that are to have a colour of their own
    colours: Mapping[str, str] = field(default_factory=dict)  # of the implementations in all slices of the kind

    @property
    def implementations(self) -> list[str]:
        """The slice's implementations in the registry's order when the run was made."""
        return in_registry_order(self.run, self.key[0], self.rows["implementation"])

    @cached_property
    def styles(self) -> dict[str, Style]:
        """Each implementation's style, the same in all charts of the slice."""
        return styles_of(self.run, self.key[0], self.rows, self.always, self.asked, self.colours)

    @property
    def always(self) -> list[str]:
        """The implementations that have a colour of their own in any chart."""
        return [name for name in (self.baseline, REFERENCE) if name in self.implementations]

    def label(self, implementation: str) -> str:
        """The implementation's name, with its number of threads if that is not the slice's."""
        threads = int(self.rows.loc[self.rows["implementation"] == implementation, "threads"].iloc[0])
        return implementation if threads == self.key[3] else f"{implementation}, {threads_in_words(threads)}"

    @property
    def baseline(self) -> str:
        """The implementation that ratios refer to."""
        return operations()[self.key[0]].baseline

    @property
    def caption(self) -> str:
        """The text below every chart: the slice, the machine and the software."""
        operation, dtype, logits, threads = self.key
        shown = f"{operations()[operation].title}, {dtype}, {logits} logits, {threads_in_words(threads)}"
        libraries = libraries_in(self.run, operation)
        return caption_of(self.run, shown, [libraries.get(name, NUMPY) for name in self.implementations])

    @property
    def lines_caption(self) -> str:
        """The caption of a chart with a line for each implementation: it says which of them are pale."""
        return self.caption + pale_note(self.run, self.styles, self.always)


def time_by_features(data: Slice) -> Figure:
    """Time of a call against features, with its interval; a panel for each batch."""
    return _growth(data, "features", "batch", "time_s", _draw_times, f"Time of one call against features  {TIMES}")


def time_by_batch(data: Slice) -> Figure:
    """Time of a call against batch, with its interval; a panel for each number of features."""
    return _growth(data, "batch", "features", "time_s", _draw_times, f"Time of one call against batch  {TIMES}")


def memory_by_features(data: Slice) -> Figure:
    """Measured and predicted peak memory of a call against features; a panel for each batch."""
    return _growth(
        data, "features", "batch", "peak_bytes", _draw_peaks, f"Peak memory of one call against features  {PEAKS}"
    )


def memory_by_batch(data: Slice) -> Figure:
    """Measured and predicted peak memory of a call against batch; a panel for each number of features."""
    return _growth(
        data, "batch", "features", "peak_bytes", _draw_peaks, f"Peak memory of one call against batch  {PEAKS}"
    )


def speedup_heatmap(data: Slice) -> Figure:
    """Speed-up over the operation's baseline at each batch and features; a panel for each implementation."""
    title = f"How many times faster than {data.baseline}  (±: 95 % interval, in brackets: not settled, grey: skipped)"
    return _heatmap(data, title, data.rows["speedup"], _speedup_label, "slower")


def memory_ratio_heatmap(data: Slice) -> Figure:
    """The baseline's peak memory over each implementation's, at each batch and features."""
    marks = "~: by its predicted peak; grey: skipped"
    title = f"How many times less peak memory than {data.baseline}  ({marks})"
    ratios = data.rows["memory_ratio"].fillna(data.rows["predicted_memory_ratio"])
    return _heatmap(data, title, ratios, _memory_label, "more")


def _speedup_label(row: pd.Series) -> str:
    """The ratio, in brackets if one of its times has not settled, and below it how far its interval reaches."""
    ratio = gain(row["speedup"], "slower")
    if row["speedup_settled"] == 0:
        ratio = f"({ratio})"
    return "\n".join(filter(None, [ratio, spread(row["speedup"], row["speedup_low"], row["speedup_high"])]))


def _memory_label(row: pd.Series) -> str:
    """The ratio, with ~ if it comes from a predicted peak."""
    return ("~" if math.isnan(row["memory_ratio"]) and not math.isnan(row["ratio"]) else "") + gain(
        row["ratio"], "more"
    )


def slices_of(frame: pd.DataFrame, run: Run, asked: tuple[str, ...] = ()) -> list[Slice]:
    """The table's slices: the key with the most measured cases first; for each key, NumPy first, then libraries.

    The implementations that are ``asked`` for have colours of their own where others are pale.
    """
    groups = sorted(
        frame.groupby(["operation", "dtype", "logits", "threads"], sort=False),
        key=lambda group: -int((group[1]["status"] == "measured").sum()),
    )
    slices: list[Slice] = []
    for (operation, dtype, logits, threads), rows in groups:
        key = (str(operation), str(dtype), str(logits), int(str(threads)))
        in_numpy = rows["implementation"].map(libraries_in(run, key[0])).fillna(NUMPY) == NUMPY
        if in_numpy.any():
            slices.append(Slice(rows[in_numpy], run, key, asked=asked))
        others = rows[~in_numpy]
        if not others.empty:
            compared = [*_compared_with(frame, key, others).index, *others.index]
            slices.append(Slice(frame.loc[compared], run, key, LIBRARIES, asked))
    return [dataclasses.replace(data, colours=_colours_of(data, slices)) for data in slices]


def _colours_of(data: Slice, slices: Sequence[Slice]) -> dict[str, str]:
    """The colours of the implementations in all slices of one operation and kind, so that they keep them."""
    alike = [other.rows for other in slices if (other.key[0], other.kind) == (data.key[0], data.kind)]
    return colours_of(data.run, data.key[0], pd.concat(alike), data.always)


def _compared_with(frame: pd.DataFrame, key: tuple[str, str, str, int], others: pd.DataFrame) -> pd.DataFrame:
    """Rows of the reference and of a user's own at the others' shapes, with the key's threads or else with one."""
    shapes = pd.MultiIndex.from_frame(others[["batch", "features"]])
    mine = frame[
        (frame[["operation", "dtype", "logits"]] == list(key[:3])).all(axis=1)
        & ((frame["implementation"] == REFERENCE) | frame["implementation"].map(is_own))
        & pd.MultiIndex.from_frame(frame[["batch", "features"]]).isin(shapes)
    ]
    same_threads = mine[mine["threads"] == key[3]]
    return mine[mine["threads"] == 1] if same_threads.empty else same_threads


def _growth(
    data: Slice,
    axis: str,
    facet: str,
    column: str,
    draw: Callable[[Axes, Slice, pd.DataFrame, str], None],
    title: str,
) -> Figure:
    """A panel for each value of ``facet``, ``column`` log-log against ``axis``; all panels have the same scales."""
    measured = data.rows[(data.rows["status"] == "measured") & data.rows[column].notna()]
    if measured[axis].nunique() < 2:
        raise NothingToDrawError(f"needs two values of {axis}")
    facets = sorted(measured[facet].unique())
    columns = min(PANEL_COLUMNS, len(facets))
    lines = -(-len(facets) // columns)
    height = max(PANEL_HEIGHT, NAME_HEIGHT * min(len(data.implementations), len(COLOURS)) + 0.6)
    figure = new_figure(title, data.lines_caption, (5.0 * columns, height * lines + 0.9))
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    values, names_room = sorted(data.rows[axis].unique()), _names_room(data)
    for panel, value in itertools.zip_longest(panels.flat, facets):
        if value is None:
            panel.set_visible(False)
            continue
        panel.set(xscale="log", yscale="log", title=f"{facet} {value}", xlabel=axis)
        panel.set_xticks(values, [str(number) for number in values])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.tick_params(labelbottom=True, labelleft=True)
        room = (values[-1] / values[0]) ** names_room
        panel.set_xlim(values[0] / room**0.06, values[-1] * room)
        draw(panel, data, data.rows[data.rows[facet] == value], axis)
    settle(figure)
    for panel in panels.flat[: len(facets)]:
        name_lines(panel)
    return figure


def _names_room(data: Slice) -> float:
    """What is added at the right for the lines' names, as a share of the data's width (in logarithms)."""
    longest = max(len(data.label(name)) for name, style in data.styles.items() if style != PALE)
    share = min(MOST_SHARE, CHARACTER_SHARE * max(LEAST_CHARACTERS, longest))
    return share / (1.0 - share)


def _draw_times(panel: Axes, data: Slice, rows: pd.DataFrame, axis: str) -> None:
    for implementation, style, mine in _lines(data, rows, axis):
        drawn = mine[mine["status"] == "measured"]
        panel.plot(drawn[axis], drawn["time_s"], **style.line, label=_name(data, implementation))
        if style == PALE:
            continue
        panel.vlines(
            drawn[axis], drawn["time_low_s"], drawn["time_high_s"], color=style.colour, linewidth=3.0, alpha=0.4
        )
        draw_unsettled(panel, drawn, axis, "time_s", style)
    unit_axis(panel.yaxis, "s")


def _draw_peaks(panel: Axes, data: Slice, rows: pd.DataFrame, axis: str) -> None:
    for implementation, style, mine in _lines(data, rows, axis):
        drawn, skipped = mine[mine["status"] == "measured"], mine[mine["status"] == "skipped"]
        if style == PALE:
            panel.plot(drawn[axis], drawn["peak_bytes"], **style.line, label=_name(data, implementation))
            continue
        # The name is at the predicted line, which reaches skipped cases; without a prediction, at the measured line.
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
    memory_bytes = data.run.machine["memory_bytes"]
    panel.axhline(memory_bytes, color="#888888", linewidth=1.2)
    panel.annotate(
        f"this machine's memory, {quantity(memory_bytes, 'B')}",
        (0.01, memory_bytes),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        fontsize=7.5,
        color="#555555",
    )
    unit_axis(panel.yaxis, "B")


def _name(data: Slice, implementation: str) -> str:
    """The name at the line; a pale line's begins with _ and is not written."""
    label = data.label(implementation)
    return f"_{label}" if data.styles[implementation] == PALE else label


def _lines(data: Slice, rows: pd.DataFrame, axis: str) -> Iterator[tuple[str, Style, pd.DataFrame]]:
    for implementation in data.implementations:
        mine = rows[rows["implementation"] == implementation].sort_values(axis)
        if not mine.empty:
            yield implementation, data.styles[implementation], mine


def _heatmap(data: Slice, title: str, ratios: pd.Series, label: Callable[[pd.Series], str], loss: str) -> Figure:
    """A panel for each implementation except the baseline: the ratios, one for each of the slice's rows, as colours.

    ``label`` makes the text of a field from its row; ``loss`` is the word for a ratio below 1.
    """
    others = [name for name in data.implementations if name != data.baseline]
    shown = data.rows.assign(ratio=ratios)
    known = shown.loc[shown["implementation"].isin(others), "ratio"].notna().any()
    if min(shown["batch"].nunique(), shown["features"].nunique()) < 2 or not known:
        raise NothingToDrawError(f"needs {data.baseline} and another implementation at two batches and features")
    columns = min(PANEL_COLUMNS, len(others))
    lines = -(-len(others) // columns)
    figure = new_figure(title, data.caption, (5.4 * columns + 1.2, 3.1 * lines + 0.9))
    panels = figure.subplots(lines, columns, squeeze=False)
    norm = LogNorm(shown["ratio"].min(), max(shown["ratio"].max(), 1.001 * shown["ratio"].min()))
    for panel, name in itertools.zip_longest(panels.flat, others):
        if name is None:
            panel.set_visible(False)
        else:
            image = _draw_ratios(panel, shown[shown["implementation"] == name], label, norm)
            panel.set(xlabel="features", ylabel="batch")
            panel.set_title(data.label(name), fontweight="bold" if is_own(name) else "normal")
    bar = figure.colorbar(image, ax=panels, shrink=0.8, pad=0.01, aspect=max(20, 10 * lines))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: gain(value, loss)))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    settle(figure)
    return figure


def _draw_ratios(panel: Axes, rows: pd.DataFrame, label: Callable[[pd.Series], str], norm: LogNorm) -> AxesImage:
    ratios = rows.pivot(index="batch", columns="features", values="ratio")
    labels = rows.assign(text=rows.apply(label, axis=1)).pivot(index="batch", columns="features", values="text")
    colours = mpl.colormaps["cividis"].with_extremes(bad=MISSING_COLOUR)
    values = ratios.to_numpy(dtype=float)
    image = panel.imshow(np.ma.masked_invalid(values), norm=norm, cmap=colours, aspect="auto", origin="lower")
    for (line, place), ratio in np.ndenumerate(values):
        shade = "black" if np.isnan(ratio) or norm(ratio) > 0.55 else "white"
        text = str(labels.iloc[line, place])
        panel.text(place, line, text, ha="center", va="center", color=shade, fontsize=7.0)
    panel.set_xticks(range(ratios.shape[1]), [str(value) for value in ratios.columns])
    panel.set_yticks(range(ratios.shape[0]), [str(value) for value in ratios.index])
    panel.grid(visible=False)
    return image
