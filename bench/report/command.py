"""The commands diff and report."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from ..cli import plots_option, results_option
from ..errors import NothingToDrawError, UserError
from ..operations.cases import ARTICLE_OPERATION, ARTICLE_SHAPE, Case
from ..paths import charts_folder
from ..storage.files import replace_file
from ..storage.results import find_run, load_pace_s, load_rows, load_run, of_one_machine
from ..terminal import new_console, print_sentence
from .differences import StoredRun, compare, short_names
from .history import History, history_of, matches
from .machines import load_across, machines_json
from .machines_output import draw_across, print_across
from .output import (
    comparison_json,
    history_json,
    history_sentences,
    history_table,
    opening_sentences,
    result_sentences,
    to_table,
)

FILE = click.Path(dir_okay=False, path_type=Path)
FORMATS = {"html": ".html", "markdown": ".md"}
BOTH = "both"
DEFAULT_PAGE = "report.html"
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

    One run, of several machines: whether its speed-ups hold on all of them, and which machine disagrees.

    More than two runs make a history: a table and a chart of some cases over the runs in the order given.

    Exit status: 0, also where cases differ; 2 if a run cannot be read or the runs have nothing in common.
    """
    if len(names) == 1:
        text = _show_machines(find_run(names[0], results), plots)
        if json_file is not None:
            replace_file(json_file, text)
        sys.exit(0)
    runs = _load(names, results, texts)
    if len(runs) == 2:
        text = _show_comparison(*runs)
    else:
        text = _show_history(history_of(runs, texts), charts_folder(results / HISTORY, plots))
    if json_file is not None:
        replace_file(json_file, text)
    sys.exit(0)


@click.command()
@click.argument("names", metavar="RUN [RUN ...]", nargs=-1, required=True)
@results_option
@plots_option
@click.option("--output", type=FILE, help="the page [default: report.html in the folder of the run's charts]")
@click.option("--format", "kind", type=click.Choice([*FORMATS, BOTH]), default=BOTH, show_default=True)
@click.option(
    "--outcome",
    "outcomes",
    type=FILE,
    multiple=True,
    help="what verify, gate or compare wrote as JSON; repeatable",
)
def report(
    names: tuple[str, ...],
    results: Path,
    plots: Path | None,
    output: Path | None,
    kind: str,
    outcomes: tuple[Path, ...],
) -> None:
    """Make one page of a stored run, which opens from the disk: HTML, and Markdown beside it.

    With more runs, the oldest first, the page is about the last one and compares it with each before it.
    """
    folders = [find_run(name, results) for name in names]
    from .writing import write_report  # noqa: PLC0415 - drawing and templates are slow to import

    page = output or charts_folder(folders[-1], plots) / DEFAULT_PAGE
    kinds = list(FORMATS) if kind == BOTH else [kind]
    # With one format the file is called as the user says.
    files = {each: page.with_suffix(FORMATS[each]) if output is None or kind == BOTH else page for each in kinds}
    print_sentence(report_sentence(write_report(folders, files, outcomes)))


def report_sentence(files: Sequence[Path]) -> str:
    """Where a report is."""
    return f"report: {' and '.join(map(str, files))}"


def _load(names: Sequence[str], results: Path, texts: Sequence[str]) -> list[StoredRun]:
    """The runs with those of their rows that match the texts.

    Raises:
        UserError: there are fewer than two runs, one cannot be read, or no case matches.
    """
    if len(names) < 2:
        raise UserError("diff: give two runs or more, the oldest first, or one of several machines")
    folders = [find_run(name, results) for name in names]
    runs = [
        StoredRun(
            name,
            load_run(folder),
            [row for row in of_one_machine(load_rows(folder), folder) if matches(row.case, texts)],
            load_pace_s(folder),
        )
        for name, folder in zip(short_names(folders), folders, strict=True)
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


def _show_machines(folder: Path, plots: Path | None) -> str:
    """Print and draw what the machines of a run say side by side; it is returned as JSON."""
    across = load_across(folder)
    console = new_console()
    print_across(across, console)
    try:
        draw_across(across, charts_folder(folder, plots))
    except NothingToDrawError as error:
        print_sentence(f"no charts: {error}", console)
    return machines_json(across)


def _show_history(history: History, folder: Path) -> str:
    """Print and draw the history; it is returned as JSON."""
    # matplotlib is slow to import, and only drawing needs it.
    from ..charts.style import charts_sentence, write_charts  # noqa: PLC0415
    from .several import history_figure  # noqa: PLC0415

    console = new_console()
    console.print(history_table(history))
    for sentence in history_sentences(history):
        print_sentence(sentence, console)
    print_sentence(charts_sentence(write_charts(history_figure(history), folder, HISTORY)), console)
    return history_json(history)
