"""The interactive charts: empty figures of Bokeh, the data that the page's script fills them with, and their colours.

The script (templates/report.js) chooses rows by the reader's controls and gives them to these figures; nothing is
computed in the page but the choice.
"""

from typing import Any, NamedTuple

import pandas as pd
from bokeh.embed import json_item
from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    CustomJSTickFormatter,
    HoverTool,
    LinearAxis,
    PanTool,
    Range1d,
    ResetTool,
    Span,
    WheelZoomTool,
)
from bokeh.plotting import figure

from ..charts.style import in_registry_order, style_in
from ..implementations import NUMPY
from ..operations import operations
from ..operations.cases import is_own
from ..storage.results import Run
from .source import Source

HEIGHT = 420  # pixels
SHOWN_FIRST = 8  # implementations, as many as there are colours; the others are a click away
MARKERS = {  # Bokeh's names of matplotlib's marks
    "o": "circle",
    "s": "square",
    "^": "triangle",
    "D": "diamond",
    "v": "inverted_triangle",
    "P": "plus",
    "X": "x",
    "*": "star",
}
LEGIBLE_ON_DARK = {"#000000": "#FFFFFF", "#882255": "#DB7FAE", "#0072B2": "#4AA3DF"}  # of the charts' colours
DASHES = {"-": "solid", "--": "dashed", "-.": "dashdot"}
COLUMNS = (  # of the table in the page, which the charts are drawn from
    *("operation", "implementation", "batch", "features", "dtype", "logits", "threads", "status"),
    *("time_s", "time_low_s", "time_high_s", "settled", "disturbed", "peak_bytes", "predicted_peak_bytes"),
    *("speedup", "speedup_low", "speedup_high", "memory_ratio", "ceiling_share", "max_error_ulp"),
    *("working_set_bytes", "reason"),
)
SIGNIFICANT = 6  # digits of a number in the page; three are shown
TICKS = "return window.softmaxBench.tick(tick, unit)"  # the script defines it before the figures are drawn
SIZE = "size"  # in place of a unit: that of what the reader draws against


class Chart(NamedTuple):
    """A chart: its key in the page, what its y axis shows, and the unit."""

    key: str
    title: str
    unit: str


CHARTS = (Chart("time", "time of one call", "s"), Chart("peak", "peak memory of one call", "B"))


def chart_items(run: Run) -> dict[str, Any]:
    """Each chart as the JSON from which Bokeh draws it, by its key."""
    return {chart.key: json_item(_figure(chart, run), f"chart-{chart.key}") for chart in CHARTS}


def _figure(chart: Chart, run: Run) -> figure:
    """An empty figure on two logarithmic axes; a linear axis stands ready beside each."""
    wheel = WheelZoomTool(modifiers={"ctrl": True})
    plot = figure(
        name=chart.key,
        height=HEIGHT,
        sizing_mode="stretch_width",
        x_axis_type="log",
        y_axis_type="log",
        x_range=Range1d(1, 10),
        y_range=Range1d(1, 10),
        tools=[PanTool(), BoxZoomTool(), wheel, ResetTool()],
        active_drag=None,
        active_scroll=None,
        toolbar_location="above",
        output_backend="canvas",
        background_fill_alpha=0.0,
        border_fill_alpha=0.0,
        outline_line_color=None,
    )
    plot.toolbar.logo = None
    for side, unit in (("below", SIZE), ("left", chart.unit)):
        axis = plot.xaxis[0] if side == "below" else plot.yaxis[0]
        axis.tags = ["log"]
        linear = LinearAxis(visible=False, tags=["linear"])
        plot.add_layout(linear, side)
        for each in (axis, linear):
            each.formatter = CustomJSTickFormatter(args={"unit": unit}, code=TICKS)
            each.axis_label_text_font_style = "normal"
    lines = ColumnDataSource({name: [] for name in ("xs", "ys", "colour", "dash", "width")}, name="lines")
    points = ColumnDataSource(
        {name: [] for name in ("x", "y", "low", "high", "colour", "fill", "marker", "label", "case", "value", "more")},
        name="points",
    )
    plot.segment("x", "low", "x", "high", source=points, line_color="colour", line_width=5, line_alpha=0.35)
    plot.multi_line("xs", "ys", source=lines, line_color="colour", line_dash="dash", line_width="width")
    marks = plot.scatter(
        "x", "y", source=points, marker="marker", size=8, line_color="colour", fill_color="fill", line_width=1.5
    )
    tooltips = [("", "@label"), ("case", "@case"), (chart.title, "@value"), ("", "@more")]
    plot.add_tools(HoverTool(renderers=[marks], tooltips=tooltips, mode="mouse"))
    memory_bytes = run.machine.get("memory_bytes")
    if chart.unit == "B" and memory_bytes:
        plot.add_layout(Span(location=memory_bytes, dimension="width", line_color="#C5352B", line_width=2))
    return plot


def page_data(source: Source) -> dict[str, Any]:
    """What the page's script reads: the rows, the implementations with their looks, and the names of operations."""
    frame = source.frame
    return {
        "columns": list(COLUMNS),
        "rows": _rows(frame),
        "implementations": _implementations(source.run, frame),
        "operations": {name: operation.title for name, operation in operations().items()},
        "memory_bytes": source.run.machine.get("memory_bytes"),
    }


def _rows(frame: pd.DataFrame) -> list[list[Any]]:
    """The rows as lists, numbers with enough digits and missing ones as None."""
    columns = []
    for name in COLUMNS:
        values = frame[name].tolist()
        if frame[name].dtype == float:
            values = [None if value != value else _short(value) for value in values]  # noqa: PLR0124 - NaN
        columns.append(values)
    return list(map(list, zip(*columns, strict=True)))


def _short(value: float) -> float | int:
    """The number with fewer digits; whole ones without a point."""
    return int(value) if value.is_integer() else float(f"{value:.{SIGNIFICANT}g}")


def _implementations(run: Run, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Each implementation's name, its look as in the charts of files, and whether it is shown at first."""
    libraries = {spec["name"]: spec.get("library", NUMPY) for spec in run.implementations}
    found: dict[str, dict[str, Any]] = {}
    for operation, mine in frame.groupby("operation", sort=False):
        names = in_registry_order(run, str(operation), mine["implementation"])
        own = [name for name in names if is_own(name)]
        first = [*own, *(name for name in names if name not in own)][:SHOWN_FIRST]
        for name in names:
            style = style_in(run, str(operation), name)
            dark = LEGIBLE_ON_DARK.get(style.colour, style.colour)
            look = {"colour": style.colour, "dark": dark, "marker": MARKERS[style.mark], "dash": DASHES[style.dash]}
            facts = {"name": name, "library": libraries.get(name, ""), "shown": name in first, "own": name in own}
            found.setdefault(name, {**facts, **look, "operations": []})["operations"].append(operation)
    return list(found.values())
