"""The chart of simulated runs: memory over stored cases, and cases a second by the number of workers."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..charts.style import COLOURS, MARKS, STYLE, new_figure, settle
from ..errors import NothingToDrawError
from ..units import quantity
from .scale import CASE_S, Sample, Scale

DRIVER, SCHEDULER, IDEAL = COLOURS[4], COLOURS[0], "#888888"


def draw_scale(scales: Sequence[Scale], samples: Sequence[Sample], made: str = "") -> Figure:
    """Memory of driver and scheduler during the largest run, and the rate of all runs; ``made`` says where.

    Raises:
        NothingToDrawError: nothing was simulated.
    """
    if not scales:
        raise NothingToDrawError("nothing was simulated: softmax-bench fleet scale")
    largest = max(scales, key=lambda each: each.workers)
    with mpl.rc_context(STYLE):
        title = f"A simulated run: {largest.workers} workers, {largest.cases} cases"
        caption = f"real scheduler, driver and tables; measuring a case only sleeps {CASE_S:g} s.\n{made}".rstrip()
        figure = new_figure(title, caption, (12.0, 4.8))
        memory, rate = figure.subplots(1, 2)
        _draw_memory(memory, [sample for sample in samples if sample.workers == largest.workers])
        _draw_rate(rate, scales)
        settle(figure)
        return figure


def _draw_memory(panel: Axes, samples: Sequence[Sample]) -> None:
    cases = [sample.cases for sample in samples]
    panel.plot(cases, [sample.driver_bytes for sample in samples], color=DRIVER, label="driver")
    panel.plot(cases, [sample.scheduler_bytes for sample in samples], color=SCHEDULER, label="scheduler")
    panel.set(xlabel="cases stored", ylabel="resident memory", title="memory")
    panel.set_ylim(bottom=0)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value, "")))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value, "B")))
    panel.legend(frameon=False)


def _draw_rate(panel: Axes, scales: Sequence[Scale]) -> None:
    workers = [each.workers for each in scales]
    panel.plot(
        workers, [count / CASE_S for count in workers], color=IDEAL, linestyle="--", label="nothing but measuring"
    )
    panel.plot(workers, [each.cases_per_s for each in scales], color=DRIVER, marker=MARKS[0], label="stored")
    for each in scales:
        panel.annotate(
            f"{each.not_measuring:.0%} not measuring",
            (each.workers, each.cases_per_s),
            xytext=(8, -12),
            textcoords="offset points",
            fontsize=8,
        )
    panel.set(xscale="log", yscale="log", xlabel="workers", ylabel="cases a second", title="rate")
    for axis, values in ((panel.xaxis, workers), (panel.yaxis, [round(each.cases_per_s) for each in scales])):
        axis.set_major_locator(FixedLocator(values))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.margins(x=0.3, y=0.1)
    panel.legend(frameon=False, loc="lower right")
