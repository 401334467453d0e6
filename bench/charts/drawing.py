"""All charts of a stored run: their list, and how they are drawn into files."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from ..errors import NothingToDrawError
from ..storage.results import Run, load_rows, load_run, to_frame
from .by_shape import (
    Slice,
    memory_by_batch,
    memory_by_features,
    memory_ratio_heatmap,
    slices_of,
    speedup_heatmap,
    time_by_batch,
    time_by_features,
)
from .overviews import Overview, bars, overviews_of, roofline, subnormals
from .style import STYLE, write_charts

# A file is named after its chart's function.
BY_SHAPE: tuple[Callable[[Slice], Figure], ...] = (
    time_by_features,
    time_by_batch,
    memory_by_features,
    memory_by_batch,
    speedup_heatmap,
    memory_ratio_heatmap,
)
OVERVIEWS: tuple[Callable[[Overview], Figure], ...] = (roofline, bars, subnormals)

Data = TypeVar("Data", Slice, Overview)


def draw_run(folder: Path, plots: Path) -> Iterator[Path]:
    """Draw every chart of a stored run into ``plots``, as PNG and SVG. Yields each file when it is written.

    The charts of the slice with the most measured cases have plain names, such as ``time_by_features``. Other slices
    add their operation, dtype, logits and threads. A slice of other libraries than NumPy adds ``libraries``.

    Raises:
        UserError: the run cannot be read, or the folder cannot be written.
        NothingToDrawError: no chart can be drawn from the run.
    """
    run = load_run(folder)
    frame = to_frame(load_rows(folder), run.ceiling)
    drawn = False
    for name, figure in _figures(frame, run):
        yield from write_charts(figure, plots, name)
        drawn = True
    if not drawn:
        raise NothingToDrawError(f"{folder}: nothing to draw; charts need measured cases of two or more sizes")


def _figures(frame: pd.DataFrame, run: Run) -> Iterator[tuple[str, Figure]]:
    """Every chart for which the table has the rows, with the name of its files."""
    slices = slices_of(frame, run)
    for data in slices:
        suffix = [] if data.key == slices[0].key else [str(part) for part in data.key]
        if data.kind:
            suffix.append(data.kind)
        for chart in BY_SHAPE:
            if figure := _drawn(chart, data):
                yield "-".join([chart.__name__, *suffix]), figure
    overviews = overviews_of(frame, run)
    for overview_chart in OVERVIEWS:
        figures = [(data.dtype, figure) for data in overviews if (figure := _drawn(overview_chart, data))]
        for place, (dtype, figure) in enumerate(figures):
            yield overview_chart.__name__ + (f"-{dtype}" if place else ""), figure


def _drawn(chart: Callable[[Data], Figure], data: Data) -> Figure | None:
    """The chart of the data, or None if the data lack what the chart shows."""
    try:
        with mpl.rc_context(STYLE):
            return chart(data)
    except NothingToDrawError:
        return None
