"""The charts of a table of several machines: every case's speed-up by machine, and the ceilings side by side."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ..charts.style import COLOURS, MARKS, STYLE, new_figure, settle, threads_in_words, unit_axis, write_charts
from ..errors import NothingToDrawError
from ..report.output import label_of
from ..units import factor, quantity
from .across import Across

NAMED_MACHINES = len(COLOURS)  # in the legend; of more the rest shares the last colour
SHOWN = 40  # cases, those with the largest spread
OTHERS = "other machines"


def draw_across(across: Across, plots: Path) -> Iterator[Path]:
    """Draw both charts into a folder. Yields the files when they are written.

    Raises:
        NothingToDrawError: no case was measured on two machines, and no ceiling was measured.
        UserError: a file cannot be written.
    """
    drawn = False
    for chart in (speedups_by_machine, ceilings_by_machine):
        try:
            with mpl.rc_context(STYLE):
                figure = chart(across)
        except NothingToDrawError:
            continue
        drawn = True
        yield from write_charts(figure, plots, chart.__name__)
    if not drawn:
        raise NothingToDrawError("no case has a time on two machines")


def speedups_by_machine(across: Across) -> Figure:
    """Each case's speed-up on each machine with its interval; the cases that spread most, the largest spread on top."""
    cases = across.cases[:SHOWN]
    if not cases:
        raise NothingToDrawError("no case has a speed-up on two machines")
    places = _places(across)
    title = f"Does it hold everywhere? Speed-ups on {len(across.kept)} machines"
    more = (
        f"the {len(cases)} of {len(across.cases)} cases that differ most" if len(across.cases) > SHOWN else "all cases"
    )
    figure = new_figure(
        title, _caption(across, f"{more}, bar: interval, hollow: not settled"), (11.0, 2.2 + 0.22 * len(cases))
    )
    panel = figure.subplots()
    for row, each in enumerate(cases):
        for ratio in each.ratios:
            place = places[ratio.machine]
            colour = COLOURS[place]
            height = row + 0.5 * (place / max(1, len(set(places.values())) - 1) - 0.5) if len(places) > 1 else row
            panel.plot([ratio.low, ratio.high], [height, height], color=colour, linewidth=1.0)
            panel.plot(
                *(ratio.value, height, MARKS[place]),
                color=colour,
                markersize=4,
                markerfacecolor=colour if ratio.settled else "white",
            )
    panel.axvline(1.0, color="#666666", linewidth=0.8)
    panel.set_yticks(range(len(cases)), [label_of(each.case) for each in cases], fontsize=7)
    panel.set_ylim(len(cases) - 0.4, -0.6)
    panel.set(xscale="log", xlabel="times as fast as the baseline on the same machine")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: factor(value)))
    _legend(figure, places)
    settle(figure)
    return figure


def ceilings_by_machine(across: Across) -> Figure:
    """How fast each machine's memory streams over the working set, one panel for each number of threads."""
    points = [point for point in across.run.ceiling if point.machine]
    if not points:
        raise NothingToDrawError("no ceiling was measured")
    places = _places(across)
    threads = sorted({point.threads for point in points})
    figure = new_figure("How fast memory streams on each machine", _caption(across, "the ceiling"), (11.0, 4.6))
    panels = figure.subplots(1, len(threads), sharey=True, squeeze=False)[0]
    for number, panel in zip(threads, panels, strict=True):
        panel.set(title=threads_in_words(number), xscale="log", yscale="log", xlabel="working set")
        for machine, place in places.items():
            mine = [point for point in points if (point.machine, point.threads) == (machine, number)]
            panel.plot(
                [point.working_set_bytes for point in mine],
                [point.bytes_per_s for point in mine],
                *(f"{MARKS[place]}-",),
                color=COLOURS[place],
                markersize=3.5,
            )
        unit_axis(panel.xaxis, "B")
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value, "B/s")))
        panel.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: quantity(value, "B/s")))
    _legend(figure, places)
    settle(figure)
    return figure


def _places(across: Across) -> dict[str, int]:
    """The place of each kept machine among colours and marks; many machines share the last one."""
    return {machine.machine: min(place, NAMED_MACHINES - 1) for place, machine in enumerate(across.kept)}


def _legend(figure: Figure, places: dict[str, int]) -> None:
    crowded = len(places) > NAMED_MACHINES
    names = {place: OTHERS if crowded and place == NAMED_MACHINES - 1 else name for name, place in places.items()}
    handles = [
        mpl.lines.Line2D([], [], color=COLOURS[place], marker=MARKS[place], linestyle="", label=name)
        for place, name in names.items()
    ]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)


def _caption(across: Across, shown: str) -> str:
    cpus = across.run.machine["cpu"]
    return f"{shown} · {cpus} · run {across.run.run_id}, {across.run.started[:10]}"
