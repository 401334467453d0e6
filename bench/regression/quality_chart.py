"""The chart of the regression check's own quality, from its stored trials."""

import math

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy import stats

from ..charts import COLOURS, MARKS, STYLE
from ..errors import NothingToDrawError

METHOD_NAMES = {
    "gate": "make check",
    "min:5%": "stored run, min:5%",
    "mean:10%": "stored run, mean:10%",
    "asv:5%": "asv continuous, 5%",
    "asv:10%": "asv continuous, 10%",
}


def gate_quality(trials: pd.DataFrame) -> Figure:
    """False alarms on identical code, and the share of known slow-downs that are found, with 95 % intervals.

    Raises:
        NothingToDrawError: there are no trials.
    """
    if trials.empty:
        raise NothingToDrawError("no trials are stored: make gate-quality")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.0, 5.0), layout="constrained")
        alarms, detection = figure.subplots(1, 2, width_ratios=(1, 2))
        _draw_false_alarms(alarms, trials[(trials["kind"] == "comment") & (trials["load"] == "idle")])
        _draw_detection(detection, trials[trials["kind"] == "spin"])
        figure.suptitle("How good is the regression check?", fontweight="bold", fontsize=13)
        figure.supxlabel(
            "Each point: so many runs of the whole check, over all its cases; bars: 95 % intervals (Clopper-Pearson). "
            "Stored run: pytest-benchmark's --benchmark-compare-fail; asv: --factor 1.05 and 1.1 (its default).",
            fontsize=7.5,
            color="#444444",
        )
        return figure


def _draw_false_alarms(panel: Axes, trials: pd.DataFrame) -> None:
    panel.set_title("False alarms on identical code")
    for place, (method, name) in enumerate(METHOD_NAMES.items()):
        mine = trials[trials["method"] == method]
        if mine.empty:
            continue
        alarms, runs = int((mine["outcome"] == "regression").sum()), len(mine)
        colour = COLOURS[4] if method == "gate" else COLOURS[place - 1]
        panel.bar(place, alarms / runs, color=colour, width=0.6)
        _interval(panel, place, alarms, runs)
        label = f"{name.replace(', ', chr(10))}\n{alarms} of {runs}"
        panel.text(place, -0.02, label, ha="center", va="top", fontsize=8)
    panel.set(xlim=(-0.6, len(METHOD_NAMES) - 0.4), ylim=(0, 1.02), ylabel="share of runs with an alarm")
    panel.set_xticks([])
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))


def _draw_detection(panel: Axes, trials: pd.DataFrame) -> None:
    panel.set_title("One case slowed down: is it found?")
    groups = list(trials.groupby(["method", "load"], sort=True))
    for place, ((method, load), mine) in enumerate(groups):
        colour, mark = COLOURS[(place + 3) % len(COLOURS)], MARKS[place % len(MARKS)]
        by_size = mine.groupby("size")["found"].agg(["sum", "count"])
        sizes = [float(str(size)) + 0.0004 * (place - len(groups) / 2) for size in by_size.index]  # side by side
        shares = (by_size["sum"] / by_size["count"]).tolist()
        label = f"{METHOD_NAMES[str(method)]}, {load}"
        panel.plot(sizes, shares, color=colour, marker=mark, markersize=6, linewidth=1.4, label=label)
        for size, found, runs in zip(sizes, by_size["sum"], by_size["count"], strict=True):
            _interval(panel, size, int(found), int(runs), colour)
    panel.set(ylim=(-0.02, 1.05), xlabel="slow-down of the case", ylabel="share of runs that name the case")
    panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _interval(panel: Axes, place: float, hits: int, runs: int, colour: str = "#333333") -> None:
    interval = stats.binomtest(hits, runs).proportion_ci(0.95)
    share = hits / runs
    reach = [[max(0.0, share - interval.low)], [max(0.0, interval.high - share)]]
    if not math.isnan(share):
        panel.errorbar(place, share, yerr=reach, color=colour, capsize=3, linewidth=1.0)
