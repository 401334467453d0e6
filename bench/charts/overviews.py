"""The charts of softmax's backward across threads, logits and libraries: one function each, from table to Figure."""

import itertools
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator

from ..errors import NothingToDrawError
from ..implementations import NUMPY
from ..operations import operations
from ..operations.cases import ARTICLE_INPUTS, ARTICLE_OPERATION, ARTICLE_SHAPE
from ..storage.results import Run
from ..units import factor, quantity
from .style import (
    LIBRARY_NAMES,
    caption_of,
    libraries_in,
    name_lines,
    names_in,
    new_figure,
    settle,
    style_in,
    threads_in_words,
    unit_axis,
)

REFERENCE = "vectorized"  # what other forms are held against: the best known one that everybody can write
LIBRARY_COLOURS = {NUMPY: "#0072B2", "numba": "#D55E00", "torch": "#CC79A7", "jax": "#009E73", "numexpr": "#E69F00"}
OTHER_COLOUR = "#882255"
PALE = 0.45  # of the colour, the rest white: the first bar of a pair
LEAST_SHARE = 0.01  # of the ceiling: forms that never reach it are bound by something else than memory
LEAST_WORKING_SETS = 3
BIN = 4.0  # working sets within this factor are one point of a line
NAMES_AT, NAME_GAP = 1.03, 0.045  # of a panel of the roofline
CEILING_COLOUR = "#9A9A9A"
CACHES = {"l1_bytes": "L1", "l2_bytes": "L2", "l3_bytes": "L3"}
LABEL_SHARE = 0.30  # of a panel's width, right of the longest bar for what is written there
BAR_HEIGHT, GROUP_GAP = 0.19, 0.5  # inches; of a bar
NOTE_CHARACTERS = 90  # in a line below a panel of bars
SUBNORMAL_PANELS = 3


@dataclass(frozen=True)
class Overview:
    """What a chart is drawn from: softmax's rows of one dtype, with all shapes, logits and threads, and their run."""

    rows: pd.DataFrame
    run: Run
    dtype: str

    @property
    def measured(self) -> pd.DataFrame:
        """The rows with a time."""
        return self.rows[self.rows["status"] == "measured"]

    @property
    def threads(self) -> list[int]:
        """The fewest and the most threads that anything was measured with."""
        found = self.measured["threads"]
        return sorted({int(found.min()), int(found.max())}) if len(found) else []

    def in_order(self, implementations: Sequence[str]) -> list[str]:
        """The implementations in the order of the registry that the run was made with."""
        known = names_in(self.run, ARTICLE_OPERATION)
        return sorted(set(implementations), key=lambda name: (known.index(name) if name in known else len(known), name))

    def library(self, implementation: str) -> str:
        """The library that the implementation needs."""
        return libraries_in(self.run, ARTICLE_OPERATION).get(implementation, NUMPY)

    def colour(self, implementation: str) -> str:
        """The colour of the implementation's library."""
        return LIBRARY_COLOURS.get(self.library(implementation), OTHER_COLOUR)

    def caption(self, shown: str, rows: pd.DataFrame) -> str:
        """What is shown besides operation and dtype, the machine and the software, for the foot of a chart."""
        title = operations()[ARTICLE_OPERATION].title
        libraries = [self.library(name) for name in rows["implementation"].unique()]
        return caption_of(self.run, f"{title}, {self.dtype}, {shown}", libraries)


def overviews_of(frame: pd.DataFrame, run: Run) -> list[Overview]:
    """The table's overviews, the dtype with the most measured cases first."""
    mine = frame[frame["operation"] == ARTICLE_OPERATION]
    wholes = [Overview(rows, run, str(dtype)) for dtype, rows in mine.groupby("dtype", sort=False)]
    return sorted(wholes, key=lambda whole: -len(whole.measured))


def roofline(data: Overview) -> Figure:
    """Bytes a second against the working set, a panel per number of threads, below what memory was measured to give."""
    rows = data.measured[data.measured["logits"] == "normal"]
    rows = rows[rows["threads"].isin(data.threads) & rows["ceiling_share"].notna()]
    if rows["working_set_bytes"].nunique() < LEAST_WORKING_SETS:
        raise NothingToDrawError(f"needs {LEAST_WORKING_SETS} working sets of normal logits and the ceiling of memory")
    best = rows.groupby("implementation")["ceiling_share"].max()
    slow = data.in_order(list(best[best < LEAST_SHARE].index))
    shown = rows[~rows["implementation"].isin(slow)]
    if shown.empty:
        raise NothingToDrawError(f"needs an implementation that reaches {100 * LEAST_SHARE:g} % of the ceiling")
    note = f"\nLeft out, as never at {100 * LEAST_SHARE:g} % of the ceiling: {', '.join(slow)}" if slow else ""
    counts = sorted(shown["threads"].unique())
    title = "How close each form comes to the rate of memory  (point: a shape, line: median)"
    caption = data.caption("normal logits", shown) + note
    figure = new_figure(title, caption, (8.6 * len(counts), 7.6))
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)
    for panel, threads in zip(panels.flat, counts, strict=True):
        panel.set(xscale="log", yscale="log", xlabel="working set: the arrays that must be moved, counted once")
        panel.set_title(threads_in_words(threads), pad=26)  # the caches' names stand between
        panel.tick_params(labelleft=True)
        _draw_rates(panel, data, shown[shown["threads"] == threads])
        _draw_ceiling(panel, data.run, shown, threads)
    for panel in panels.flat:  # when all limits stand
        name_lines(panel, NAMES_AT, NAME_GAP)
    panels[0, 0].set_ylabel("working set over the time of one call")
    settle(figure)
    return figure


def _draw_rates(panel: Axes, data: Overview, rows: pd.DataFrame) -> None:
    """A faint point for each shape, and a line through the medians of working sets that are about as large."""
    bins = np.floor(np.log(rows["working_set_bytes"].astype(float)) / np.log(BIN)).rename("bin")
    for name in data.in_order(list(rows["implementation"])):
        mine, style = rows[rows["implementation"] == name], style_in(data.run, ARTICLE_OPERATION, name)
        panel.scatter(mine["working_set_bytes"], mine["bytes_per_s"], s=9, color=style.colour, alpha=0.25, linewidth=0)
        medians = mine.groupby(bins.loc[mine.index])[["working_set_bytes", "bytes_per_s"]].median()
        panel.plot(medians["working_set_bytes"], medians["bytes_per_s"], **style.line, label=name)


def _draw_ceiling(panel: Axes, run: Run, shown: pd.DataFrame, threads: int) -> None:
    """The measured ceiling, the caches as far as there are data, and the limits that hold all of it."""
    points = sorted((one.working_set_bytes, one.bytes_per_s) for one in run.ceiling if one.threads == threads)
    sizes, rates = np.array(points).T
    caches = {name: run.machine[key] for key, name in CACHES.items() if run.machine.get(key)}
    low, high = shown["working_set_bytes"].min() / 1.6, shown["working_set_bytes"].max() * 1.6
    high = max([high, *(2.0 * size for size in caches.values() if size < 10.0 * high)])
    top = max(one.bytes_per_s for one in run.ceiling)
    panel.set_xlim(low, high)
    panel.set_ylim(shown["bytes_per_s"].min() / 1.6, max(top, shown["bytes_per_s"].max()) * 2.2)
    panel.plot(sizes, rates, color=CEILING_COLOUR, linewidth=4.0, alpha=0.8, zorder=1.5, solid_capstyle="round")
    seen = (sizes >= low) & (sizes <= high)
    if seen.any():
        panel.annotate(
            "measured ceiling: the rate at which memory streams",
            (sizes[seen][0], rates[seen].max()),
            xytext=(0, 6),
            textcoords="offset points",
            fontsize=8,
            color="#555555",
            bbox={"color": "white", "pad": 0.5},  # over the caches' lines
        )
    for name, size in caches.items():
        if low < size < high:
            panel.axvline(size, color="#666666", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.4)
            label = f"{name}\n{quantity(size, 'B')}"
            place = (size, 1.005)
            panel.text(
                *place,
                label,
                transform=panel.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=7.5,
                color="#444444",
            )
    unit_axis(panel.xaxis, "B")
    unit_axis(panel.yaxis, "B/s")


def bars(data: Overview) -> Figure:
    """Time of one call of every implementation, in the article's case and at the largest shape, fastest first."""
    if data.dtype != ARTICLE_INPUTS[0][2]:
        raise NothingToDrawError(f"needs {ARTICLE_INPUTS[0][2]}")
    cases = list(_compared(data))
    if not cases:
        raise NothingToDrawError(f"needs {REFERENCE} with one thread")
    rows = pd.concat([rows for _, rows in cases])
    counts = sorted(rows["threads"].unique())
    title = f"Time of one call of every implementation  (at each bar: time, × as fast as {REFERENCE})"
    shades = dict(zip(counts, _shades(len(counts)), strict=True))
    panels = {heading: _timed(data, mine, shades) for heading, mine in cases}
    shown = f"{' and '.join(map(str, counts))} {'thread' if counts == [1] else 'threads'}"
    legend = _legend(data, rows, {threads_in_words(count): shades[count] for count in counts})
    figure = _bar_figure(title, data.caption(shown, rows), panels, legend)
    for panel, (_, mine) in zip(figure.axes, cases, strict=True):
        absent = data.in_order(
            [name for name in data.rows["implementation"] if name not in set(mine["implementation"])]
        )
        if absent:
            told = textwrap.fill("not measured here: " + ", ".join(absent), NOTE_CHARACTERS)
            panel.set_xlabel(told, fontsize=7.5, color="#444444")
    settle(figure)
    return figure


def _compared(data: Overview) -> Iterator[tuple[str, pd.DataFrame]]:
    """A heading and the measured rows of the article's case and of the largest shape, where the reference is there."""
    rows = data.measured[data.measured["threads"].isin([1, *data.threads])]
    single = rows[(rows["implementation"] == REFERENCE) & (rows["threads"] == 1)]
    batch, features, _, logits = ARTICLE_INPUTS[0]
    if len(_at(single, (batch, features), logits)):
        yield f"the article's case: {batch} × {features}, {logits} logits", _at(rows, (batch, features), logits)
    normal = single[single["logits"] == "normal"]
    if len(normal):
        shape = max(_shapes_of(normal), key=math.prod)
        yield f"the largest shape: {shape[0]} × {shape[1]}, normal logits", _at(rows, shape, "normal")


def _shapes_of(rows: pd.DataFrame) -> set[tuple[int, int]]:
    return {(int(batch), int(features)) for batch, features in zip(rows["batch"], rows["features"], strict=True)}


def _at(rows: pd.DataFrame, shape: tuple[int, int], logits: str) -> pd.DataFrame:
    return rows[(rows["batch"] == shape[0]) & (rows["features"] == shape[1]) & (rows["logits"] == logits)]


class Bar(NamedTuple):
    """A bar: how long, in which colour, and what is written at its end."""

    time_s: float
    colour: str
    label: str


def _timed(data: Overview, rows: pd.DataFrame, shades: Mapping[int, float]) -> dict[str, list[Bar]]:
    """Each implementation's bars, one per number of threads, the fastest implementation first."""
    reference = rows[(rows["implementation"] == REFERENCE) & (rows["threads"] == 1)]["time_median_s"].iloc[0]
    groups = {}
    for name in rows.groupby("implementation")["time_median_s"].min().sort_values().index:
        mine = rows[rows["implementation"] == name].sort_values("threads")
        groups[str(name)] = [
            Bar(
                time_s,
                _paled(data.colour(name), shades[threads]),
                f"{quantity(time_s, 's')}  {factor(reference / time_s)}",
            )
            for threads, time_s in zip(mine["threads"], mine["time_median_s"], strict=True)
        ]
    return groups


def subnormals(data: Overview) -> Figure:
    """Time of one call at normal and at peaked logits, whose probabilities are often subnormal, the dearest first."""
    rows = data.measured[(data.measured["threads"] == 1) & data.measured["logits"].isin(["normal", "peaked"])]
    axes = ["batch", "features", "implementation"]
    pairs = rows.pivot(index=axes, columns="logits", values="time_median_s").dropna().reset_index()
    if pairs.empty or not {"normal", "peaked"} <= set(pairs.columns):
        raise NothingToDrawError("needs a shape with normal and with peaked logits, one thread")
    shapes = sorted(_shapes_of(pairs), key=lambda shape: (shape != ARTICLE_SHAPE, -math.prod(shape)))
    light, full = _shades(2)
    pairs["factor"] = pairs["peaked"] / pairs["normal"]
    panels: dict[str, dict[str, list[Bar]]] = {}
    for batch, features in shapes[:SUBNORMAL_PANELS]:
        mine = pairs[(pairs["batch"] == batch) & (pairs["features"] == features)].sort_values("factor", ascending=False)
        panels[f"{batch} × {features}"] = {
            name: [
                Bar(normal, _paled(data.colour(name), light), quantity(normal, "s")),
                Bar(peaked, _paled(data.colour(name), full), f"{quantity(peaked, 's')}  {factor(ratio)}"),
            ]
            for name, normal, peaked, ratio in zip(
                mine["implementation"], mine["normal"], mine["peaked"], mine["factor"], strict=True
            )
        }
    title = "What subnormal probabilities cost  (×: time at peaked over time at normal logits)"
    shades = {"normal logits: hardly any subnormal": light, "peaked logits: many subnormal": full}
    caption = data.caption("normal and peaked logits, 1 thread", pairs)
    figure = _bar_figure(title, caption, panels, _legend(data, pairs, shades))
    settle(figure)
    return figure


OVERVIEWS: tuple[Callable[[Overview], Figure], ...] = (roofline, bars, subnormals)


def _bar_figure(
    title: str, caption: str, panels: Mapping[str, Mapping[str, Sequence[Bar]]], legend: Sequence[Patch]
) -> Figure:
    """Panels of horizontal bars side by side under their headings, the legend outside of them."""
    slots = max(sum(len(group) + GROUP_GAP for group in groups.values()) for groups in panels.values())
    figure = new_figure(title, caption, (7.0 * len(panels) + 2.0, BAR_HEIGHT * slots + 1.8))
    for panel, (heading, groups) in zip(
        figure.subplots(1, len(panels), squeeze=False).flat, panels.items(), strict=True
    ):
        panel.set_title(heading)
        _draw_bars(panel, groups)
        panel.set_ylim(slots - GROUP_GAP - 0.4, -0.7)  # bars are as thick in every panel
    figure.legend(handles=legend, loc="outside right center", frameon=False)
    return figure


def _draw_bars(panel: Axes, groups: Mapping[str, Sequence[Bar]]) -> None:
    """Groups of bars from the top down, each with its name at the left and its figures at the right."""
    top, middles = 0.0, []
    for group in groups.values():
        middles.append(top + (len(group) - 1) / 2)
        for place, bar in enumerate(group):
            panel.barh(top + place, bar.time_s, height=0.9, color=bar.colour)
            panel.annotate(
                bar.label,
                (bar.time_s, top + place),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
            )
        top += len(group) + GROUP_GAP
    times = [bar.time_s for bar in itertools.chain.from_iterable(groups.values())]
    left = min(times) / 2.0
    panel.set(xscale="log", xlim=(left, left * (max(times) / left) ** (1.0 / (1.0 - LABEL_SHARE))))
    panel.set_yticks(middles, list(groups))
    panel.tick_params(axis="y", length=0)
    panel.grid(visible=False, axis="y")
    panel.set_axisbelow(True)
    unit_axis(panel.xaxis, "s")
    if max(times) < 30.0 * min(times):
        panel.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=12))


def _legend(data: Overview, rows: pd.DataFrame, shades: Mapping[str, float]) -> list[Patch]:
    """A patch for each library in the rows and, in grey, one for each shade where there are several."""
    present = {data.library(name): data.colour(name) for name in data.in_order(list(rows["implementation"]))}
    patches = [Patch(color=colour, label=LIBRARY_NAMES.get(library, library)) for library, colour in present.items()]
    if len(shades) > 1:
        patches += [Patch(color=_paled("#555555", shade), label=label) for label, shade in shades.items()]
    return patches


def _shades(number: int) -> list[float]:
    """How much of its colour each bar of a group keeps, the last all of it."""
    return [float(shade) for shade in np.linspace(PALE, 1.0, number)] if number > 1 else [1.0]


def _paled(colour: str, share: float) -> str:
    """The colour mixed with white."""
    red, green, blue = (1.0 - share * (1.0 - part) for part in to_rgb(colour))
    return to_hex((red, green, blue))
