"""The charts of softmax's backward across threads, logits and libraries: one function for each, table to Figure."""

import itertools
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from ..operations.cases import ARTICLE_INPUTS, ARTICLE_OPERATION, ARTICLE_SHAPE, is_own
from ..storage.results import Run
from ..units import factor, gain, quantity
from .lines import pale_note, styles_of
from .style import (
    LIBRARY_NAMES,
    PALE,
    REFERENCE,
    Style,
    caption_of,
    in_registry_order,
    libraries_in,
    name_lines,
    new_figure,
    settle,
    threads_in_words,
    unit_axis,
)

LIBRARY_COLOURS = {NUMPY: "#0072B2", "numba": "#D55E00", "torch": "#CC79A7", "jax": "#009E73", "numexpr": "#E69F00"}
OTHER_COLOUR = "#882255"
PALE_SHARE = 0.45  # share of the colour in the first bar of a group, the rest is white
LEAST_SHARE = 0.01  # of the ceiling: something else than memory limits an implementation that never reaches it
LEAST_WORKING_SETS = 3
BIN = 4.0  # working sets within this factor are one point of a line
NAMES_AT, NAME_GAP = 1.03, 0.045  # in shares of a panel of the roofline
CEILING_COLOUR = "#9A9A9A"
CACHES = {"l1_bytes": "L1", "l2_bytes": "L2", "l3_bytes": "L3"}
LABEL_SHARE = 0.30  # share of a panel's width for the label at the right of the longest bar
BAR_HEIGHT = 0.19  # inches
GROUP_GAP = 0.5  # of a bar's height
NOTE_CHARACTERS = 90  # in a line of text below a panel of bars
SUBNORMAL_PANELS = 3


@dataclass(frozen=True)
class Overview:
    """The data of an overview: a run's rows of softmax in one dtype, with all shapes, logits and threads."""

    rows: pd.DataFrame
    run: Run
    dtype: str
    asked: tuple[str, ...] = ()  # implementations that are to have a colour of their own

    @property
    def measured(self) -> pd.DataFrame:
        """The rows with a time."""
        return self.rows[(self.rows["status"] == "measured") & self.rows["time_s"].notna()]

    @property
    def threads(self) -> list[int]:
        """The smallest and the largest number of threads that were measured."""
        found = self.measured["threads"]
        return sorted({int(found.min()), int(found.max())}) if len(found) else []

    def in_order(self, implementations: Iterable[str]) -> list[str]:
        """The implementations, each once, in the registry's order when the run was made."""
        return in_registry_order(self.run, ARTICLE_OPERATION, implementations)

    def library(self, implementation: str) -> str:
        """The library that the implementation needs."""
        return libraries_in(self.run, ARTICLE_OPERATION).get(implementation, NUMPY)

    def colour(self, implementation: str) -> str:
        """The colour of the implementation's library."""
        return LIBRARY_COLOURS.get(self.library(implementation), OTHER_COLOUR)

    def caption(self, shown: str, rows: pd.DataFrame) -> str:
        """The text below a chart: operation, dtype and what else is shown, the machine and the software."""
        title = operations()[ARTICLE_OPERATION].title
        libraries = [self.library(name) for name in rows["implementation"].unique()]
        return caption_of(self.run, f"{title}, {self.dtype}, {shown}", libraries)


def overviews_of(frame: pd.DataFrame, run: Run, asked: tuple[str, ...] = ()) -> list[Overview]:
    """The data of the overviews, one for each dtype; the dtype with the most measured cases first."""
    mine = frame[frame["operation"] == ARTICLE_OPERATION]
    overviews = [Overview(rows, run, str(dtype), asked) for dtype, rows in mine.groupby("dtype", sort=False)]
    return sorted(overviews, key=lambda overview: -len(overview.measured))


def roofline(data: Overview) -> Figure:
    """Bytes per second against the working set, with the measured ceiling; a panel for each number of threads."""
    rows = data.measured[data.measured["logits"] == "normal"]
    rows = rows[rows["threads"].isin(data.threads) & rows["ceiling_share"].notna()]
    if rows["working_set_bytes"].nunique() < LEAST_WORKING_SETS:
        raise NothingToDrawError(f"needs {LEAST_WORKING_SETS} working sets with normal logits and the measured ceiling")
    best = rows.groupby("implementation")["ceiling_share"].max()
    slow = data.in_order(best[best < LEAST_SHARE].index)
    shown = rows[~rows["implementation"].isin(slow)]
    if shown.empty:
        raise NothingToDrawError(f"needs an implementation that reaches {100 * LEAST_SHARE:g} % of the ceiling")
    note = f"\nNot shown, as always below {100 * LEAST_SHARE:g} % of the ceiling: {', '.join(slow)}" if slow else ""
    counts = sorted(shown["threads"].unique())
    marks = "faint point: a shape, hollow: not settled, line: median"
    title = f"How close each implementation comes to the rate of memory  ({marks})"
    styles = styles_of(data.run, ARTICLE_OPERATION, shown, [REFERENCE], data.asked)
    caption = data.caption("normal logits", shown) + pale_note(data.run, styles, [REFERENCE]) + note
    figure = new_figure(title, caption, (8.6 * len(counts), 7.6))
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)
    for panel, threads in zip(panels.flat, counts, strict=True):
        panel.set(xscale="log", yscale="log", xlabel="working set: the arrays that must be moved, counted once")
        panel.set_title(threads_in_words(threads), pad=26)  # leaves room for the caches' names
        panel.tick_params(labelleft=True)
        _draw_rates(panel, shown[shown["threads"] == threads], styles)
        _draw_ceiling(panel, data.run, shown, threads)
    for panel in panels.flat:  # the panels share the y axis: names are placed after the last panel has set its limits
        name_lines(panel, NAMES_AT, NAME_GAP)
    panels[0, 0].set_ylabel("working set / time of one call")
    settle(figure)
    return figure


def _draw_rates(panel: Axes, rows: pd.DataFrame, styles: Mapping[str, Style]) -> None:
    """A faint point for each shape, and a line through the medians of working sets of similar size."""
    bins = np.floor(np.log(rows["working_set_bytes"].astype(float)) / np.log(BIN)).rename("bin")
    for name, style in styles.items():
        mine = rows[rows["implementation"] == name]
        medians = mine.groupby(bins.loc[mine.index])[["working_set_bytes", "bytes_per_s"]].median()
        label = f"_{name}" if style == PALE else name
        panel.plot(medians["working_set_bytes"], medians["bytes_per_s"], **style.line, label=label)
        if style == PALE:
            continue
        panel.scatter(mine["working_set_bytes"], mine["bytes_per_s"], s=9, color=style.colour, alpha=0.25, linewidth=0)
        hollow = mine[mine["settled"] == 0]
        panel.scatter(
            hollow["working_set_bytes"], hollow["bytes_per_s"], s=9, facecolor="white", edgecolor=style.colour
        )


def _draw_ceiling(panel: Axes, run: Run, shown: pd.DataFrame, threads: int) -> None:
    """The measured ceiling, and the sizes of those caches that are near the data; sets the limits of both axes."""
    points = sorted((point.working_set_bytes, point.bytes_per_s) for point in run.ceiling if point.threads == threads)
    sizes, rates = np.array(points).T
    caches = {name: run.machine[key] for key, name in CACHES.items() if run.machine.get(key)}
    low, high = shown["working_set_bytes"].min() / 1.6, shown["working_set_bytes"].max() * 1.6
    high = max([high, *(2.0 * size for size in caches.values() if size < 10.0 * high)])
    top = max(point.bytes_per_s for point in run.ceiling)
    panel.set_xlim(low, high)
    panel.set_ylim(shown["bytes_per_s"].min() / 1.6, max(top, shown["bytes_per_s"].max()) * 2.2)
    panel.plot(sizes, rates, color=CEILING_COLOUR, linewidth=4.0, alpha=0.8, zorder=1.5, solid_capstyle="round")
    visible = (sizes >= low) & (sizes <= high)
    if visible.any():
        panel.annotate(
            "measured ceiling: the rate at which memory can be streamed",
            (sizes[visible][0], rates[visible].max()),
            xytext=(0, 6),
            textcoords="offset points",
            fontsize=8,
            color="#555555",
            bbox={"color": "white", "pad": 0.5},  # hides the caches' lines behind the text
        )
    for name, size in caches.items():
        if low < size < high:
            panel.axvline(size, color="#666666", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.4)
            panel.text(
                size,
                1.005,
                f"{name}\n{quantity(size, 'B')}",
                transform=panel.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=7.5,
                color="#444444",
            )
    unit_axis(panel.xaxis, "B")
    unit_axis(panel.yaxis, "B/s")


def bars(data: Overview) -> Figure:
    """Time of one call of every implementation in the article's case and at the largest shape, the fastest first."""
    if data.dtype != ARTICLE_INPUTS[0][2]:
        raise NothingToDrawError(f"needs {ARTICLE_INPUTS[0][2]}")
    cases = list(_compared(data))
    if not cases:
        raise NothingToDrawError(f"needs {REFERENCE} with one thread")
    rows = pd.concat([rows for _, rows in cases])
    counts = sorted(rows["threads"].unique())
    marks = f"at each bar: time, speed-up over {REFERENCE}; line: 95 % interval, hollow: not settled"
    title = f"Time of one call of every implementation  ({marks})"
    shades = dict(zip(counts, _shades(len(counts)), strict=True))
    panels = {heading: _timed(data, mine, shades) for heading, mine in cases}
    shown = f"{' and '.join(map(str, counts))} {'thread' if counts == [1] else 'threads'}"
    legend = _legend(data, rows, {threads_in_words(count): shades[count] for count in counts})
    figure = _bar_figure(title, data.caption(shown, rows), panels, legend)
    for panel, (_, mine) in zip(figure.axes, cases, strict=True):
        if absent := data.in_order(set(data.rows["implementation"]) - set(mine["implementation"])):
            note = textwrap.fill("not measured here: " + ", ".join(absent), NOTE_CHARACTERS)
            panel.set_xlabel(note, fontsize=7.5, color="#444444")
    settle(figure)
    return figure


def _compared(data: Overview) -> Iterator[tuple[str, pd.DataFrame]]:
    """A heading and the measured rows, for the article's case and for the largest shape.

    Each needs the reference with one thread.
    """
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
    """A bar: its length and interval, its colour, whether it is hollow, and the label at its end."""

    time_s: float
    low_s: float
    high_s: float
    colour: str
    label: str
    hollow: bool


def _timed(data: Overview, rows: pd.DataFrame, shades: Mapping[int, float]) -> dict[str, list[Bar]]:
    """Each implementation's bars, one for each number of threads; the fastest implementation first."""
    reference = rows[(rows["implementation"] == REFERENCE) & (rows["threads"] == 1)]["time_s"].iloc[0]
    groups = {}
    for name in rows.groupby("implementation")["time_s"].min().sort_values().index:
        mine = rows[rows["implementation"] == name].sort_values("threads")
        groups[str(name)] = [
            _bar(data, row, shades[row["threads"]], gain(reference / row["time_s"], "slower"))
            for _, row in mine.iterrows()
        ]
    return groups


def _bar(data: Overview, row: pd.Series, shade: float, ratio: str = "") -> Bar:
    """The bar of a row, its time at its end, and a ratio if there is one to be shown."""
    return Bar(
        time_s=row["time_s"],
        low_s=row["time_low_s"],
        high_s=row["time_high_s"],
        colour=_paled(data.colour(row["implementation"]), shade),
        label="  ".join(filter(None, [quantity(row["time_s"], "s"), ratio])),
        hollow=row["settled"] == 0,
    )


def subnormals(data: Overview) -> Figure:
    """Time of one call with normal and with peaked logits, the largest ratio of the two first.

    Peaked logits give many subnormal probabilities.
    """
    rows = data.measured[(data.measured["threads"] == 1) & data.measured["logits"].isin(["normal", "peaked"])]
    pairs: dict[tuple[int, int], list[tuple[pd.Series, pd.Series]]] = {}
    for (batch, features, _), mine in rows.groupby(["batch", "features", "implementation"]):
        by_logits = {str(row["logits"]): row for _, row in mine.iterrows()}
        if len(by_logits) == 2:
            shape = int(str(batch)), int(str(features))
            pairs.setdefault(shape, []).append((by_logits["normal"], by_logits["peaked"]))
    if not pairs:
        raise NothingToDrawError("needs a shape with normal and with peaked logits, with one thread")
    light, full = _shades(2)
    panels: dict[str, dict[str, list[Bar]]] = {}
    for shape in sorted(pairs, key=lambda shape: (shape != ARTICLE_SHAPE, -math.prod(shape)))[:SUBNORMAL_PANELS]:
        found = sorted(pairs[shape], key=lambda pair: -pair[1]["time_s"] / pair[0]["time_s"])
        panels[f"{shape[0]} × {shape[1]}"] = {
            normal["implementation"]: [
                _bar(data, normal, light),
                _bar(data, peaked, full, factor(peaked["time_s"] / normal["time_s"])),
            ]
            for normal, peaked in found
        }
    title = "What subnormal probabilities cost  (×: time with peaked logits / time with normal logits)"
    shades = {"normal logits: hardly any subnormals": light, "peaked logits: many subnormals": full}
    caption = data.caption("normal and peaked logits, 1 thread", rows) + "\nLine: 95 % interval, hollow: not settled."
    figure = _bar_figure(title, caption, panels, _legend(data, rows, shades))
    settle(figure)
    return figure


def _bar_figure(
    title: str, caption: str, panels: Mapping[str, Mapping[str, Sequence[Bar]]], legend: Sequence[Patch]
) -> Figure:
    """Panels of horizontal bars side by side, each under its heading, and a legend at their right."""
    slots = max(sum(len(group) + GROUP_GAP for group in groups.values()) for groups in panels.values())
    figure = new_figure(title, caption, (7.0 * len(panels) + 2.0, BAR_HEIGHT * slots + 1.8))
    for panel, (heading, groups) in zip(
        figure.subplots(1, len(panels), squeeze=False).flat, panels.items(), strict=True
    ):
        panel.set_title(heading)
        _draw_bars(panel, groups)
        panel.set_ylim(slots - GROUP_GAP - 0.4, -0.7)  # so bars have the same height in every panel
    figure.legend(handles=legend, loc="outside right center", frameon=False)
    return figure


def _draw_bars(panel: Axes, groups: Mapping[str, Sequence[Bar]]) -> None:
    """Groups of bars from top to bottom: the name at the left of each group, a label at the right of each bar."""
    top, middles = 0.0, []
    for group in groups.values():
        middles.append(top + (len(group) - 1) / 2)
        for place, bar in enumerate(group):
            face = "white" if bar.hollow else bar.colour
            panel.barh(top + place, bar.time_s, height=0.9, color=face, edgecolor=bar.colour)
            panel.hlines(top + place, bar.low_s, bar.high_s, color="#333333", linewidth=1.0)
            panel.annotate(
                bar.label,
                (np.nanmax([bar.time_s, bar.high_s]), top + place),
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
    for label in panel.get_yticklabels():
        label.set_fontweight("bold" if is_own(label.get_text()) else "normal")
    panel.tick_params(axis="y", length=0)
    panel.grid(visible=False, axis="y")
    panel.set_axisbelow(True)
    unit_axis(panel.xaxis, "s")
    if max(times) < 30.0 * min(times):
        panel.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=12))


def _legend(data: Overview, rows: pd.DataFrame, shades: Mapping[str, float]) -> list[Patch]:
    """A patch for each library in the rows; if there are several shades, a grey patch for each shade as well."""
    present = {data.library(name): data.colour(name) for name in data.in_order(rows["implementation"])}
    patches = [Patch(color=colour, label=LIBRARY_NAMES.get(library, library)) for library, colour in present.items()]
    if len(shades) > 1:
        patches += [Patch(color=_paled("#555555", shade), label=label) for label, shade in shades.items()]
    return patches


def _shades(number: int) -> list[float]:
    """The share of its colour in each bar of a group, from pale to full; the rest is white."""
    return [float(shade) for shade in np.linspace(PALE_SHARE, 1.0, number)] if number > 1 else [1.0]


def _paled(colour: str, share: float) -> str:
    """The colour mixed with white; ``share`` is the colour's part."""
    red, green, blue = (1.0 - share * (1.0 - part) for part in to_rgb(colour))
    return to_hex((red, green, blue))
