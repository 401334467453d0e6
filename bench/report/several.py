"""Several runs side by side: what is unlike about them, what differs, and the history of cases over them."""

from collections.abc import Callable, Iterator, Sequence

from matplotlib.figure import Figure

from ..charts import history as chart
from ..charts.style import made_with
from ..errors import UserError
from ..storage.results import Run
from ..units import quantity
from .content import Section, Table
from .differences import StoredRun, compare
from .drawing import drawn_picture
from .history import History, history_of
from .output import (
    COMPARED_HEADINGS,
    HISTORY_HEADINGS,
    compared_cells,
    history_cells,
    history_sentences,
    label_of,
    opening_sentences,
    result_sentences,
)

MOST_DIFFERENCES = 100  # in the table; the sentences count all
SIDE_BY_SIDE = ("python", "numpy", "numba", "torch", "jax", "numexpr")  # packages that bear on times


def several_sections(runs: Sequence[StoredRun]) -> Iterator[Section]:
    """The runs side by side, the last one compared with each before it, and, from three on, their history.

    ``runs`` are two or more, the oldest first.
    """
    yield Section("runs", "Runs side by side", tables=[_side_by_side(runs)])
    new = runs[-1]
    for number, old in enumerate(runs[:-1], start=1):
        yield _comparison(old, new, f"compared-{number}")
    if len(runs) > 2:
        yield from _history(runs)


def _side_by_side(runs: Sequence[StoredRun]) -> Table:
    rows = [[title, *(of(run.run) for run in runs)] for title, of in FACTS.items()]
    rows += [[package, *(run.run.versions.get(package, "–") for run in runs)] for package in SIDE_BY_SIDE]
    return Table("Machine, versions and commit of each run", ["what", *(run.name for run in runs)], rows)


def _memory(run: Run) -> str:
    stored = run.machine.get("memory_bytes")
    return quantity(stored, "B") if stored else "–"


FACTS: dict[str, Callable[[Run], str]] = {
    "began": lambda run: str(run.started),
    "processor": lambda run: str(run.machine.get("cpu", "–")),
    "cores": lambda run: str(run.machine.get("cores", "–")),
    "memory": _memory,
    "system": lambda run: str(run.machine.get("system", "–")),
    "commit": lambda run: run.commit or "not recorded",
}


def _comparison(old: StoredRun, new: StoredRun, key: str) -> Section:
    comparison = compare(old, new)
    title = f"{new.name} beside {old.name}"
    if not comparison.compared:
        return Section(key, title, sentences=[f"{old.name} and {new.name} have no case in common."])
    lines = list(compared_cells(comparison))
    caption = f"{min(len(lines), MOST_DIFFERENCES)} of {len(lines)} differences, settled ones first, then the largest"
    tables = [Table(caption, COMPARED_HEADINGS, lines[:MOST_DIFFERENCES])] if lines else []
    said = [*opening_sentences(comparison), *result_sentences(comparison)]
    return Section(key, title, sentences=said, fold=f"{len(lines)} differences", folded=tables)


def _history(runs: Sequence[StoredRun]) -> Iterator[Section]:
    try:
        history = history_of(runs, ())
    except UserError:  # no case has a time in two of them, and the comparisons say so
        return
    said = list(history_sentences(history))
    tables = [
        Table(
            label_of(track.case),
            HISTORY_HEADINGS,
            [history_cells(history, track, place, row) for place, row in enumerate(track.rows)],
        )
        for track in history.tracks
    ]
    pictures = [drawn_picture(history_figure(history), " ".join(said))]
    yield Section("history", "History", sentences=said, pictures=pictures, fold="the times", folded=tables)


def history_figure(history: History) -> Figure:
    """The chart of a history, its steps and breaks marked."""
    lines = [chart.Line(label_of(track.case), track.rows, frozenset(track.marked)) for track in history.tracks]
    first = history.runs[0]
    caption = [
        f"{first.name}: {made_with(first.run.machine, first.run.versions)}",
        *(
            f"From {history.runs[place].name} on: {'; '.join(its.surroundings)}"
            for place, its in history.breaks.items()
        ),
    ]
    breaks = {place: "other machine" if its.machine else "other versions" for place, its in history.breaks.items()}
    return chart.history(lines, [run.name for run in history.runs], breaks, "\n".join(caption))
