"""The chart of how often the regression check is right, from the stored trials."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy.special import betaincinv

from ...charts.style import COLOURS, STYLE, new_figure
from ...errors import NothingToDrawError

METHODS = {  # names and colours, in the order of the chart
    "gate": ("make check", COLOURS[4]),
    "min:5%": ("stored run, min:5%", COLOURS[1]),
    "mean:10%": ("stored run, mean:10%", COLOURS[0]),
    "asv:5%": ("asv continuous, 5%", COLOURS[2]),
    "asv:10%": ("asv continuous, 10%", COLOURS[6]),
}
LOAD_MARKS = {"idle": "o", "one core hogged": "^", "both cores hogged": "s", "memory hogged": "D"}
CAPTION = (
    "Each bar and point: runs of a whole check over all its cases; lines: 95 % intervals (Clopper-Pearson). "
    "Stored run: pytest-benchmark's --benchmark-compare-fail; asv: --factor 1.05 and 1.1 (its default)."
)
GROUP_WIDTH = 0.8  # of the distance between two sizes


def gate_quality(trials: pd.DataFrame) -> Figure:
    """The share of false alarms on identical code and of known slow-downs that are found, with 95 % intervals.

    Raises:
        NothingToDrawError: there are no trials.
    """
    if trials.empty:
        raise NothingToDrawError("no trials are stored: make gate-quality")
    with mpl.rc_context(STYLE):
        figure = new_figure("How good is the regression check?", CAPTION, (13.0, 5.2))
        alarms, detection = figure.subplots(1, 2, width_ratios=(2, 3))
        _draw_false_alarms(alarms, trials[(trials["kind"] == "comment") & (trials["load"] == "idle")])
        _draw_detection(detection, trials[trials["kind"] == "spin"])
        return figure


def _draw_false_alarms(panel: Axes, trials: pd.DataFrame) -> None:
    panel.set_title("False alarms on identical code")
    tried = {method: trials[trials["method"] == method] for method in METHODS if method in set(trials["method"])}
    labels = []
    for place, (method, mine) in enumerate(tried.items()):
        name, colour = METHODS[method]
        alarms, runs = int((mine["outcome"] == "regression").sum()), len(mine)
        panel.barh(place, alarms / runs, color=colour, height=0.6)
        panel.errorbar(alarms / runs, place, xerr=_reach(alarms, runs), color="#333333", capsize=3, linewidth=1.0)
        labels.append(f"{name}\n{alarms} of {runs}")
    panel.set_yticks(range(len(labels)), labels)
    panel.tick_params(axis="y", length=0)
    panel.grid(visible=False, axis="y")
    panel.invert_yaxis()
    panel.set(xlim=(0, 1.02), xlabel="share of runs with an alarm")
    panel.xaxis.set_major_formatter(PercentFormatter(1.0))


def _draw_detection(panel: Axes, trials: pd.DataFrame) -> None:
    panel.set_title("One case slowed down: is it found?")
    sizes = sorted(trials["size"].unique())
    groups = [
        (method, load, mine)
        for method in METHODS
        for load in LOAD_MARKS
        if not (mine := trials[(trials["method"] == method) & (trials["load"] == load)]).empty
    ]
    for place, (method, load, mine) in enumerate(groups):
        name, colour = METHODS[method]
        found = mine.groupby("size")["found"].agg(["sum", "count"])
        shift = GROUP_WIDTH * ((place + 0.5) / len(groups) - 0.5)
        places = [sizes.index(size) + shift for size in found.index]
        shares = (found["sum"] / found["count"]).tolist()
        reaches = [_reach(int(hits), int(runs)) for hits, runs in zip(found["sum"], found["count"], strict=True)]
        panel.errorbar(
            places,
            shares,
            yerr=[[low[0] for low, _ in reaches], [high[0] for _, high in reaches]],
            fmt=LOAD_MARKS[load],
            color=colour,
            capsize=2.5,
            linewidth=1.0,
            markersize=6,
            label=f"{name}, {load}",
        )
    panel.set_xticks(range(len(sizes)), [f"{size:.0%}" for size in sizes])
    for between in range(1, len(sizes)):
        panel.axvline(between - 0.5, color="#dddddd", linewidth=0.8)
    panel.grid(visible=False, axis="x")
    panel.set(
        xlim=(-0.5, len(sizes) - 0.5),
        ylim=(-0.03, 1.05),
        xlabel="slow-down of the case",
        ylabel="share of runs that name the case",
    )
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    if groups:
        panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _reach(hits: int, runs: int) -> tuple[list[float], list[float]]:
    """How far the 95 % interval of a share reaches below and above it, in the form that matplotlib takes.

    The exact interval of Clopper and Pearson (Biometrika 26, 1934), from quantiles of beta distributions, as
    ``scipy.stats.binomtest`` has it; ``scipy.stats`` takes longer to import than a report to draw.
    """
    share = hits / runs
    low = betaincinv(hits, runs - hits + 1, 0.025) if hits else 0.0
    high = betaincinv(hits + 1, runs - hits, 0.975) if hits < runs else 1.0
    return [float(share - low)], [float(high - share)]
