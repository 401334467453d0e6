"""All charts of a stored run: their list, and how they are drawn into files."""

import dataclasses
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from ..errors import NothingToDrawError, UserError
from ..instruments.host import cores
from ..storage.frames import to_frame
from ..storage.results import Run, Visit, load_rows, load_run, load_visits, of_one_machine
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
from .style import STYLE, as_plain, write_charts
from .weather import weather

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


LEAST_TASKS = 20  # for fewer charts, starting processes takes longer than drawing

Charts = Iterator[tuple[str, Figure]]  # each with the name of its files


def draw_run(folder: Path, plots: Path, asked: tuple[str, ...] = ()) -> Iterator[Path]:
    """Draw every chart of a stored run into ``plots``, as PNG and SVG. Yields the files when all are written.

    The charts of the slice with the most measured cases have plain names, such as ``time_by_features``. Other slices
    add their operation, dtype, logits and threads. A slice of other libraries than NumPy adds ``libraries``. If there
    are many charts, they are shared out among as many processes as the machine has cores. The implementations that are
    ``asked`` for have colours of their own where others are pale.

    Raises:
        UserError: the run cannot be read or lacks what is asked for, or the folder cannot be written.
        NothingToDrawError: no chart can be drawn from the run.
    """
    tasks = _tasks_of(folder, asked)
    shares = cores() if len(tasks) >= LEAST_TASKS else 1
    if shares == 1:
        drawn = _draw_tasks(tasks, plots, 0, 1)
    else:
        with ProcessPoolExecutor(shares, mp_context=multiprocessing.get_context("spawn")) as pool:
            started = [pool.submit(_draw_share, folder, plots, asked, share, shares) for share in range(shares)]
            drawn = {place: files for share in started for place, files in share.result().items()}
    if not any(drawn.values()):
        raise NothingToDrawError(f"{folder}: nothing to draw; charts need measured cases of two or more sizes")
    for place in range(len(tasks)):
        yield from drawn[place]


def _draw_share(folder: Path, plots: Path, asked: tuple[str, ...], share: int, shares: int) -> dict[int, list[Path]]:
    """What a process of its own draws, which reads the run itself."""
    return _draw_tasks(_tasks_of(folder, asked), plots, share, shares)


def _draw_tasks(tasks: Sequence[Callable[[], Charts]], plots: Path, share: int, shares: int) -> dict[int, list[Path]]:
    """The files of every so many-th task, by the task's place."""
    return {
        place: [path for name, figure in task() for path in write_charts(figure, plots, name)]
        for place, task in enumerate(tasks)
        if place % shares == share
    }


def _tasks_of(folder: Path, asked: tuple[str, ...]) -> list[Callable[[], Charts]]:
    """What there is to draw of a run; a task whose chart lacks its data draws none."""
    run = load_run(folder)
    frame = to_frame(of_one_machine(load_rows(folder), folder), run.ceiling)
    known = list(dict.fromkeys(frame["implementation"]))
    if unknown := [name for name in asked if name not in known]:
        raise UserError(f"--show {unknown[0]}: not in this run; there is {', '.join(known)}")
    run, frame["implementation"] = _with_plain_names(run), frame["implementation"].map(as_plain)
    slices = slices_of(frame, run, asked := tuple(map(as_plain, asked)))
    by_shape = [partial(_slice_charts, chart, data, slices[0].key) for data in slices for chart in BY_SHAPE]
    overviews = overviews_of(frame, run, asked)
    across = [partial(_overview_charts, chart, overviews) for chart in OVERVIEWS]
    return [*by_shape, *across, partial(_weather_charts, load_visits(folder), frame, run)]


def _with_plain_names(run: Run) -> Run:
    """The run with its implementations named as charts write them."""
    specs = [{**spec, "name": as_plain(spec["name"])} for spec in run.implementations]
    return dataclasses.replace(run, implementations=specs)


def _slice_charts(chart: Callable[[Slice], Figure], data: Slice, first: tuple[str, str, str, int]) -> Charts:
    suffix = [] if data.key == first else [str(part) for part in data.key]
    if data.kind:
        suffix.append(data.kind)
    if figure := _drawn(chart, data):
        yield "-".join([chart.__name__, *suffix]), figure


def _overview_charts(chart: Callable[[Overview], Figure], overviews: Sequence[Overview]) -> Charts:
    figures = [(data.dtype, figure) for data in overviews if (figure := _drawn(chart, data))]
    for place, (dtype, figure) in enumerate(figures):
        yield chart.__name__ + (f"-{dtype}" if place else ""), figure


def _weather_charts(visits: Sequence[Visit], frame: pd.DataFrame, run: Run) -> Charts:
    if figure := _drawn(weather, visits, frame, run):
        yield weather.__name__, figure


def _drawn(chart: Callable[..., Figure], *data: object) -> Figure | None:
    """The chart of the data, or None if the data lack what the chart shows."""
    try:
        with mpl.rc_context(STYLE):
            return chart(*data)
    except NothingToDrawError:
        return None
