"""The command diff."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from rich.console import Console

from ..cli import plots_option, results_option
from ..errors import UserError
from ..operations.cases import ARTICLE_OPERATION, ARTICLE_SHAPE, Case
from ..paths import charts_folder
from ..storage.files import replace_file
from ..storage.results import find_run, load_rows, load_run
from ..terminal import new_console, print_sentence
from .differences import StoredRun, compare
from .history import History, history_of, matches
from .output import (
    comparison_json,
    history_json,
    history_sentences,
    history_table,
    label_of,
    opening_sentences,
    result_sentences,
    to_table,
)

HISTORY = "history"  # the folder of its chart, and the chart's name
EXAMPLE = Case(ARTICLE_OPERATION, "vectorized", *ARTICLE_SHAPE, "float64", "normal")


@click.command()
@click.argument("names", metavar="RUN RUN [RUN ...]", nargs=-1)
@results_option
@plots_option
@click.option(
    "--case",
    "texts",
    metavar="TEXT",
    multiple=True,
    help=f"only cases with this in their id ({EXAMPLE}), as in vectorized-B32 or 'vectorized-*-float32'; repeatable",
)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="write the outcome as JSON")
def diff(
    names: tuple[str, ...], results: Path, plots: Path | None, texts: tuple[str, ...], json_file: Path | None
) -> None:
    """Compare stored runs, the old one first: which cases differ in time, peak or error beyond the intervals of both.

    More than two runs make a history: a table and a chart of some cases over the runs in the order given.

    Exit status: 0, also where cases differ; 2 if a run cannot be read or the runs have nothing in common.
    """
    runs = _load(names, results, texts)
    if len(runs) == 2:
        text = _show_comparison(*runs)
    else:
        text = _show_history(history_of(runs, texts), charts_folder(results / HISTORY, plots))
    if json_file is not None:
        replace_file(json_file, text)
    sys.exit(0)


def _load(names: Sequence[str], results: Path, texts: Sequence[str]) -> list[StoredRun]:
    """The runs with those of their rows that match the texts.

    Raises:
        UserError: there are fewer than two runs, one cannot be read, or no case matches.
    """
    if len(names) < 2:
        raise UserError("diff: give two runs or more, the oldest first")
    folders = [find_run(name, results) for name in names]
    short = len({folder.name for folder in folders}) == len({folder.resolve() for folder in folders})
    runs = [
        StoredRun(
            folder.name if short else str(folder),
            load_run(folder),
            [row for row in load_rows(folder) if matches(row.case, texts)],
        )
        for folder in folders
    ]
    if texts and not any(run.rows for run in runs):
        raise UserError(f"--case {' '.join(texts)}: in none of these runs; a case's id is as in {EXAMPLE}")
    return runs


def _show_comparison(old: StoredRun, new: StoredRun) -> str:
    """Print the comparison; it is returned as JSON.

    Raises:
        UserError: the runs have no case in common.
    """
    comparison = compare(old, new)
    if not comparison.compared:
        raise UserError(f"{old.name} and {new.name} have no case in common")
    for sentence in opening_sentences(comparison):
        print_sentence(sentence)
    if comparison.differences:
        Console(highlight=False).print(to_table(comparison))
    for sentence in result_sentences(comparison):
        print_sentence(sentence)
    return comparison_json(comparison)


def _show_history(history: History, folder: Path) -> str:
    """Print and draw the history; it is returned as JSON."""
    # matplotlib is slow to import, and only drawing needs it.
    from ..charts.style import charts_sentence  # noqa: PLC0415

    console = new_console()
    console.print(history_table(history))
    for sentence in history_sentences(history):
        print_sentence(sentence, console)
    print_sentence(charts_sentence(_draw(history, folder)), console)
    return history_json(history)


def _draw(history: History, folder: Path) -> Iterator[Path]:
    from ..charts import history as chart  # noqa: PLC0415 - see above
    from ..charts.style import as_plain, made_with, write_charts  # noqa: PLC0415

    lines = [
        chart.Line(as_plain(label_of(track.case)), track.rows, frozenset(track.marked)) for track in history.tracks
    ]
    first = history.runs[0]
    caption = [
        f"{first.name}: {made_with(first.run.machine, first.run.versions)}",
        *(
            f"From {history.runs[place].name} on: {'; '.join(its.surroundings)}"
            for place, its in history.breaks.items()
        ),
    ]
    breaks = {place: "other machine" if its.machine else "other versions" for place, its in history.breaks.items()}
    figure = chart.history(lines, [as_plain(run.name) for run in history.runs], breaks, "\n".join(caption))
    return write_charts(figure, folder, HISTORY)
