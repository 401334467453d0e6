"""The charts of the repeatability study: what two sessions of each tool differ by, and what other rules would give."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator, PercentFormatter

from ..charts.style import COLOURS, MARKS, STYLE, made_with, new_figure, write_charts
from ..errors import NothingToDrawError
from ..instruments.agreement import AGREEMENT
from .loads import LOADS
from .outcomes import Array, Outcome, Scope, outcomes, percent, rule_outcomes, spread_of
from .study import Study
from .tools import OURS, STATES, TOOLS

# The rows of a panel, ours first: a tool, which of its readings, and the name.
ROWS = (
    (OURS, Scope(settled=True), f"{OURS},\nsettled cases"),
    (OURS, Scope(), f"{OURS},\nall of them"),
    *((tool, Scope(), tool) for tool in TOOLS[1:]),
)
ROW_COLOURS = dict(zip(TOOLS, (COLOURS[4], COLOURS[1], COLOURS[0], COLOURS[2], COLOURS[6]), strict=True))
RULE = ["moments", "within", "apart_s", "at_least"]  # columns that say which rule of agreement
SMALLEST, LARGEST = 1e-4, 10.0  # differences beyond these are drawn at the edge
TICKS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
SPREAD_MARKS = {"median": "o", "ninetieth": "D", "worst": "X"}
SPREAD_NAMES = {"median": "median", "ninetieth": "90th percentile", "worst": "worst"}
STRIP = 0.28  # of the distance between two rows, to either side
CAPTION = (
    "Each dot: a case that all tools measure, in two sessions of one; speed-up over explicit_jacobian at the "
    "same shape; number: the 90th percentile. Numbers compared: "
)
RULES_CAPTION = (
    "A case settles when K of its visits, of which no two are closer in time than stated, are within e of the fastest. "
    "Replayed on sessions that visited every case to the end; each point is the worst load.\nRing: the rule by which "
    f"visits are made; it asks for at least {AGREEMENT.visits} of them, those of the lines for no more than K."
)


def draw_study(study: Study, sessions: pd.DataFrame, replays: pd.DataFrame, folder: Path) -> Iterator[Path]:
    """Draw what can be drawn of the study into a folder, as PNG and SVG. Yields each file when it is written.

    Raises:
        UserError: a file cannot be written.
        NothingToDrawError: no tool has two sessions under one load.
    """
    made = made_with(study.machine, study.versions)
    yield from write_charts(repeatability(list(outcomes(sessions)), made), folder, "repeatability")
    if not replays.empty:
        yield from write_charts(rules(replays, made), folder, "rules")


def repeatability(told: Sequence[Outcome], made: str = "") -> Figure:
    """What the speed-ups of two sessions differ by, by the outcomes of a study; ``made`` says on which machine.

    Raises:
        NothingToDrawError: no tool has two sessions under one load.
    """
    found = [outcome for outcome in told if len(outcome.speedup_differences)]
    if not found:
        raise NothingToDrawError("no tool has two sessions under one load yet: make repeatability")
    numbers = "; ".join(f"{tool} {STATES[tool].partition(',')[0]}" for tool in TOOLS)
    with mpl.rc_context(STYLE):
        caption = f"{CAPTION}{numbers}.\n{made}".rstrip()
        figure = new_figure("Measured twice: by how much does the speed-up differ?", caption, (13.0, 5.4))
        panels = figure.subplots(1, len(LOADS), sharex=True, sharey=True)
        for load, panel in zip(LOADS, panels, strict=True):
            panel.set_title(load)
            _draw_tools(panel, [outcome for outcome in found if outcome.load == load])
        panels[0].set_yticks(range(len(ROWS)), [name for *_, name in ROWS])
        panels[0].set_ylim(len(ROWS) - 0.5, -0.5)
        handles = [
            Line2D([], [], color="#333333", linestyle="", marker=mark, label=SPREAD_NAMES[part])
            for part, mark in SPREAD_MARKS.items()
        ]
        figure.legend(handles=handles, loc="outside right upper", frameon=False)
        return figure


def _draw_tools(panel: Axes, found: Sequence[Outcome]) -> None:
    """The strips of one load; a tool without sessions under it has an empty row."""
    by_row = {(outcome.tool, outcome.scope): outcome for outcome in found}
    for place, (tool, scope, _) in enumerate(ROWS):
        if outcome := by_row.get((tool, scope)):
            _draw_strip(panel, place, outcome.speedup_differences, ROW_COLOURS[tool])
    panel.set_xscale("log")
    panel.set(xlim=(SMALLEST, LARGEST), xlabel="difference between two sessions")
    panel.xaxis.set_major_locator(FixedLocator(TICKS))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.tick_params(axis="y", length=0)
    panel.grid(visible=False, axis="y")


def _draw_strip(panel: Axes, place: int, differences: Array, colour: str) -> None:
    drawn = np.clip(np.sort(differences), SMALLEST, LARGEST)
    # The golden ratio's multiples spread neighbours evenly over the strip's height, the same every time.
    heights = place + STRIP * (2.0 * (np.arange(len(drawn)) * 0.6180339887 % 1.0) - 1.0)
    panel.plot(drawn, heights, linestyle="", marker=".", markersize=2.5, color=colour, alpha=0.35, rasterized=True)
    spread = spread_of(differences)
    for part, mark in SPREAD_MARKS.items():
        value = float(np.clip(getattr(spread, part), SMALLEST, LARGEST))
        panel.plot(value, place, marker=mark, markersize=6.5, color=colour, markeredgecolor="white")
    panel.annotate(
        percent(spread.ninetieth),
        (float(np.clip(spread.ninetieth, SMALLEST, LARGEST)), place),
        xytext=(0, 9),
        textcoords="offset points",
        horizontalalignment="center",
        fontsize=8,
        color="#222222",
        bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
    )


def rules(replays: pd.DataFrame, made: str = "") -> Figure:
    """How the time repeats and how many cases settle, by the rule of agreement; the worst of the loads.

    Raises:
        NothingToDrawError: no rule is replayed on two sessions under one load.
    """
    worst = _worst_loads(replays)
    if worst["ninetieth"].isna().all():
        raise NothingToDrawError("no rule is replayed on two sessions under one load yet: make repeatability")
    with mpl.rc_context(STYLE):
        title = "When to stop visiting a case: how well its time repeats, and how often it settles"
        figure = new_figure(title, f"{RULES_CAPTION}\n{made}".rstrip(), (13.0, 6.4))
        apart = sorted(worst["apart_s"].unique())
        panels = figure.subplots(2, len(apart), sharex=True, sharey="row", squeeze=False)
        for column, apart_s in enumerate(apart):
            panels[0, column].set_title(f"visits {apart_s:g} s apart" if apart_s else "visits at any distance")
            mine = worst[worst["apart_s"] == apart_s]
            _draw_rules(panels[0, column], mine, "ninetieth")
            _draw_rules(panels[1, column], mine, "settled_share")
            panels[1, column].set_xlabel("within e of the fastest")
        panels[0, 0].set(yscale="log", ylabel="difference in time of two sessions,\n90th percentile")
        panels[0, 0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
        panels[0, 0].yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panels[0, 0].yaxis.set_minor_locator(NullLocator())
        panels[1, 0].set(ylim=(0, 1.02), ylabel="share of cases that settle")
        panels[1, 0].yaxis.set_major_formatter(PercentFormatter(1.0))
        figure.legend(*panels[1, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
        return figure


def _worst_loads(replays: pd.DataFrame) -> pd.DataFrame:
    """A row for each rule: under the load where that is worst, its 90th percentile and the share that settles."""
    found = [
        (*(getattr(outcome, name) for name in RULE), outcome.time.ninetieth, outcome.settled_share)
        for outcome in rule_outcomes(replays)
    ]
    table = pd.DataFrame(found, columns=[*RULE, "ninetieth", "settled_share"])
    return table.groupby(RULE).agg({"ninetieth": "max", "settled_share": "min"}).reset_index()


def _draw_rules(panel: Axes, worst: pd.DataFrame, column: str) -> None:
    for place, (moments, mine) in enumerate(worst[worst["at_least"] == worst["moments"]].groupby("moments")):
        panel.plot(
            mine["within"],
            mine[column],
            color=COLOURS[place % len(COLOURS)],
            marker=MARKS[place % len(MARKS)],
            markersize=4,
            linewidth=1.3,
            label=f"K = {moments}",
        )
    rule = dataclasses.asdict(AGREEMENT) | {"at_least": AGREEMENT.visits}
    in_force = worst[(worst[RULE] == [rule[name] for name in RULE]).all(axis="columns")]
    panel.plot(in_force["within"], in_force[column], "o", markersize=12, color="#333333", mfc="none")
    panel.xaxis.set_major_locator(FixedLocator(sorted(worst["within"].unique())))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
