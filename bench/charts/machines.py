"""The charts of a table of several machines: every case's speed-up by machine, and the ceilings side by side."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ..errors import NothingToDrawError
from ..instruments.bandwidth import CeilingPoint
from ..units import factor, quantity
from .style import COLOURS, MARKS, STYLE, new_figure, settle, threads_in_words, unit_axis

NAMED_MACHINES = len(COLOURS)  # in the legend; if there are more, the rest shares the last colour
OTHERS = "other machines"


class Mark(NamedTuple):
    """A speed-up on a machine, with its interval; ``settled`` is 1 if both of its times have settled."""

    machine: str
    value: float
    low: float
    high: float
    settled: float


class Strip(NamedTuple):
    """A case's speed-ups, with its name."""

    label: str
    marks: Sequence[Mark]


def speedups_by_machine(strips: Sequence[Strip], machines: Sequence[str], caption: str) -> Figure:
    """Each case's speed-up on each machine with its interval, the first case on top."""
    if not strips:
        raise NothingToDrawError("no case has a speed-up on two machines")
    places = _places(machines)
    with mpl.rc_context(STYLE):
        title = f"Does it hold everywhere? Speed-ups on {len(machines)} machines"
        figure = new_figure(title, f"bar: interval, hollow: not settled · {caption}", (11.0, 2.2 + 0.22 * len(strips)))
        panel = figure.subplots()
        last = max(places.values())
        for row, strip in enumerate(strips):
            for mark in strip.marks:
                place = places[mark.machine]
                height = row + (place / last - 0.5) / 2 if last else row
                panel.plot([mark.low, mark.high], [height, height], color=COLOURS[place], linewidth=1.0)
                face = COLOURS[place] if mark.settled == 1 else "white"
                point = Line2D([mark.value], [height], color=COLOURS[place], marker=MARKS[place], markerfacecolor=face)
                point.set_markersize(4)
                panel.add_line(point)
        panel.axvline(1.0, color="#666666", linewidth=0.8)
        panel.set_yticks(range(len(strips)), [strip.label for strip in strips], fontsize=7)
        panel.set_ylim(len(strips) - 0.4, -0.6)
        panel.set(xscale="log", xlabel="times as fast as the baseline on the same machine")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: factor(value)))
        panel.xaxis.set_minor_locator(NullLocator())
        _add_legend(figure, places)
        settle(figure)
        return figure


def ceilings_by_machine(points: Sequence[CeilingPoint], machines: Sequence[str], caption: str) -> Figure:
    """How fast each machine's memory streams over the working set, a panel for each number of threads."""
    places = _places(machines)
    shown = [point for point in points if point.machine in places]
    if not shown:
        raise NothingToDrawError("no ceiling was measured")
    threads = sorted({point.threads for point in shown})
    with mpl.rc_context(STYLE):
        figure = new_figure("How fast memory streams on each machine", f"the ceiling · {caption}", (11.0, 4.6))
        panels = figure.subplots(1, len(threads), sharey=True, squeeze=False)[0]
        for number, panel in zip(threads, panels, strict=True):
            panel.set(title=threads_in_words(number), xscale="log", yscale="log", xlabel="working set")
            for machine, place in places.items():
                mine = [point for point in shown if (point.machine, point.threads) == (machine, number)]
                panel.plot(
                    [point.working_set_bytes for point in mine],
                    [point.bytes_per_s for point in mine],
                    color=COLOURS[place],
                    marker=MARKS[place],
                    markersize=3.5,
                )
            unit_axis(panel.xaxis, "B")
            panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value, "B/s")))
            panel.yaxis.set_minor_locator(NullLocator())
        _add_legend(figure, places)
        settle(figure)
        return figure


def _places(machines: Sequence[str]) -> dict[str, int]:
    """The place of each machine among colours and marks; many machines share the last one."""
    return {machine: min(place, NAMED_MACHINES - 1) for place, machine in enumerate(machines)}


def _add_legend(figure: Figure, places: Mapping[str, int]) -> None:
    crowded = len(places) > NAMED_MACHINES
    names = {place: OTHERS if crowded and place == NAMED_MACHINES - 1 else name for name, place in places.items()}
    handles = [
        Line2D([], [], color=COLOURS[place], marker=MARKS[place], linestyle="", label=name)
        for place, name in names.items()
    ]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
