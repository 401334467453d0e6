"""The commands run, plot, list and derive."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from ..cli import plots_option, results_option
from ..errors import NothingToDrawError
from ..implementations import FORMULA_NAMES, Implementation, registered
from ..operations import operations
from ..paths import charts_folder
from ..storage.results import CASES, VISITS, find_run
from ..terminal import print_line, print_sentence
from ..units import quantity
from .display import Display
from .options import Options, add_click_options
from .process import run_pytest
from .selection import Selection
from .summary import sum_up
from .table import store_times

MEASURED = (0, 1)  # exit statuses of a run that came to its end, all cases fine or not


@click.command()
@add_click_options
@plots_option
@click.option("--charts/--no-charts", default=True, help="draw the charts and make the report when the run is complete")
@click.argument("pytest_arguments", nargs=-1, metavar="[-- PYTEST OPTIONS]")
def run(pytest_arguments: tuple[str, ...], plots: Path | None, *, charts: bool, **given: Any) -> None:
    """Measure every selected case, and store and sum up the run.

    Exit status: 0 all measured or skipped, 1 a case wrong or failed, 2 the run could not start, 130 interrupted.
    """
    sys.stdout.flush()
    options = Options(**given)
    with Display() as display:
        status, folder = run_pytest(options, pytest_arguments, display)
    if folder is not None:
        sum_up(folder, display.console)
        if charts and status in MEASURED:
            _draw_and_report(folder, plots)
    sys.exit(status)


@click.command("list")
@click.option("--formulas", is_flag=True, help="with the formulas of workspace and traffic instead of what each is")
@click.option("--cases", is_flag=True, help="the cases of a grid with their predicted peak")
@click.option("--grid", default=Selection.grid, show_default=True, help="the grid of --cases")
def list_(grid: str, *, formulas: bool, cases: bool) -> None:
    """List the implementations by operation, or the cases of a grid."""
    console = Console(highlight=False)
    if cases:
        for case in Selection(grid=grid).cases():
            predicted = case.spec.workspace(case.batch, case.features, case.itemsize)
            console.print(f"{case!s:<66} {quantity(predicted, 'B'):>9}", soft_wrap=True)
        return
    width = max(len(spec.name) for spec in registered().values())
    for name, operation in operations().items():
        console.print(f"[bold]{name}[/]  {operation.title}")
        for spec in registered().values():
            if spec.operation == name:
                description = _formulas(spec) if formulas else _summary(spec)
                print_line(Text(f"  {spec.name:<{width}}  {description}"), console)
    if formulas:
        for letter, meaning in FORMULA_NAMES.items():
            print_line(Text(f"{letter}  {meaning}"), console)


def _formulas(spec: Implementation) -> str:
    return f"workspace {spec.workspace}, traffic {spec.traffic} (bytes)"


def _summary(spec: Implementation) -> str:
    return spec.summary if spec.installed else f"(needs {spec.library}, not installed) {spec.summary}"


@click.command()
@click.argument("run_id", metavar="RUN")
@results_option
@plots_option
@click.option("--show", multiple=True, metavar="NAME", help="colour this line where others are pale; repeatable")
def plot(run_id: str, results: Path, plots: Path | None, show: tuple[str, ...]) -> None:
    """Draw every chart of a stored run, as PNG and SVG. Of more lines than colours, some are pale."""
    _draw(find_run(run_id, results), plots, show)


@click.command()
@click.argument("run_id", metavar="RUN")
@results_option
def derive(run_id: str, results: Path) -> None:
    """Compute the times in a run's table again from its visits."""
    folder = find_run(run_id, results)
    print_sentence(f"{store_times(folder)} times in {folder / CASES} follow from {folder / VISITS}")


def _draw(folder: Path, plots: Path | None, show: tuple[str, ...] = ()) -> None:
    # matplotlib is slow to import, and only drawing needs it.
    from ..charts.drawing import draw_run  # noqa: PLC0415
    from ..charts.style import charts_sentence  # noqa: PLC0415

    files = draw_run(folder, charts_folder(folder, plots), show)
    print_sentence(charts_sentence(files))


def _draw_and_report(folder: Path, plots: Path | None) -> None:
    """Draw the charts, and make the report at the same time, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        report = pool.submit(_reported, folder, plots)
        try:
            _draw(folder, plots)
        except NothingToDrawError as error:
            print_sentence(f"no charts: {error}")
        print_sentence(report.result())


def _reported(folder: Path, plots: Path | None) -> str:
    """Make the report; where it is, in a sentence."""
    # Bokeh, itables and matplotlib are slow to import, and only the report needs them all.
    from ..report.command import DEFAULT_PAGE, FORMATS, report_sentence  # noqa: PLC0415
    from ..report.writing import write_report  # noqa: PLC0415

    page = charts_folder(folder, plots) / DEFAULT_PAGE
    files = {kind: page.with_suffix(ending) for kind, ending in FORMATS.items()}
    return report_sentence(write_report([folder], files))
