"""The picture of the weather: every visit of a run over time, relative to its case's undisturbed time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from ..errors import NothingToDrawError
from ..instruments.agreement import agreeing, agreement_of
from ..storage.results import Run, Visit
from .style import caption_of, new_figure, settle

LEAST_VISITS = 20
SLOWED = 1.1  # times an undisturbed call, from which on a visit counts as slowed
WINDOWS = 80  # of a run, over each of which the line takes a median
TOP = 4.0  # times an undisturbed call; slower visits are drawn at the edge
VISIT_COLOUR, MEDIAN_COLOUR, CHOSEN_COLOUR = "#56B4E9", "#0072B2", "#D55E00"


def weather(visits: Sequence[Visit], frame: pd.DataFrame, run: Run) -> Figure:
    """Every visit over time: when the machine was slow, and from which moments the times in the table come."""
    table = slowdowns(visits, frame)
    if len(table) < LEAST_VISITS:
        raise NothingToDrawError(f"needs {LEAST_VISITS} visits")
    slow = (table["slowdown"] > SLOWED).mean()
    title = f"The weather of the run: {slow:.0%} of {len(table)} visits were slowed by more than {SLOWED - 1:.0%}"
    shown = (
        f"each case's visits relative to its time in the table, above {TOP:g}× at the edge; "
        "what has settled is visited no more, so the last visits are of the most restless cases"
    )
    figure = new_figure(title, caption_of(run, shown), (12.0, 5.4))
    panel = figure.subplots()
    _draw_visits(panel, table)
    panel.set(xlabel="minutes since the run began", ylabel="fastest call of a visit / undisturbed time", yscale="log")
    panel.set_ylim(0.93, TOP * 1.05)
    panel.set_yticks([1.0, 1.2, 1.5, 2.0, 3.0, TOP])
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    panel.yaxis.set_minor_locator(NullLocator())
    # Above the panel: within it there are points everywhere.
    panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, markerscale=3.0)
    settle(figure)
    return figure


def slowdowns(visits: Sequence[Visit], frame: pd.DataFrame) -> pd.DataFrame:
    """A row a visit of a measured case: minutes, slow-down of its fastest call, whether the time comes from it."""
    measured = frame[(frame["status"] == "measured") & frame["time_s"].notna()]
    times = dict(zip(measured["case"], measured["time_s"], strict=True))
    threads = dict(zip(measured["case"], measured["threads"], strict=True))
    by_case: dict[str, list[Visit]] = {}
    for visit in visits:
        if visit.case in times:
            by_case.setdefault(visit.case, []).append(visit)
    settled = set(measured.loc[measured["settled"] == 1, "case"])
    rows = []
    for case, mine in by_case.items():
        moments = [visit.moment for visit in mine]
        chosen = set(agreeing(moments, agreement_of(threads[case], moments))) if case in settled else set()
        rows += [(moment.when_s / 60.0, moment.fastest_s / times[case], moment in chosen) for moment in moments]
    return pd.DataFrame(rows, columns=["minutes", "slowdown", "chosen"]).sort_values("minutes")


def _draw_visits(panel: Axes, table: pd.DataFrame) -> None:
    """A faint point a visit, a line through the medians of short windows, and the visits that times come from."""
    height = table["slowdown"].clip(upper=TOP)
    # As an image in the SVG, too: tens of thousands of points would make it megabytes.
    points: dict[str, Any] = {"markersize": 3, "markeredgewidth": 0, "rasterized": True}
    panel.plot(table["minutes"], height, ".", color=VISIT_COLOUR, alpha=0.35, label="a visit", **points)
    chosen = table["chosen"]
    label = "one of those that agree, from which the time comes"
    panel.plot(table["minutes"][chosen], height[chosen], ".", color=CHOSEN_COLOUR, label=label, **points)
    edges = np.linspace(0.0, table["minutes"].max(), WINDOWS + 1)
    window = np.digitize(table["minutes"], edges[1:-1])
    medians = table.groupby(window)[["minutes", "slowdown"]].median()
    panel.plot(medians["minutes"], medians["slowdown"], color=MEDIAN_COLOUR, linewidth=1.2, label="median just then")
