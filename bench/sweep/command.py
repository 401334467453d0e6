"""The commands run, plot and list."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from rich.console import Console
from rich.table import Table

from ..cli import INTERRUPTED
from ..errors import NothingToDrawError
from ..implementations import FORMULA_NAMES, registered
from ..paths import PACKAGE
from ..storage.results import find_run
from ..units import quantity
from .options import SWEEP
from .display import Display
from .selection import Selection
from .sitting import sittings

RESULTS = next(option.default for option in SWEEP if option.name == "results")
QUICK_MAX_TIME_S = 0.1
EXIT_STATUSES = {
    pytest.ExitCode.OK: 0,
    pytest.ExitCode.TESTS_FAILED: 1,
    pytest.ExitCode.INTERRUPTED: INTERRUPTED,
    pytest.ExitCode.NO_TESTS_COLLECTED: 0,  # a resumed run that misses nothing
}


def _sweep_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(SWEEP):
        command = click.option(
            f"--{option.name}", type=option.kind, multiple=option.repeats, metavar=option.metavar, help=option.help
        )(command)
    return command


@click.command()
@_sweep_options
@click.option("--charts/--no-charts", default=True, help="draw the charts when the run is complete")
@click.argument("pytest_arguments", nargs=-1, metavar="[-- PYTEST OPTIONS]")
def run(pytest_arguments: tuple[str, ...], *, charts: bool, **given: Any) -> None:
    """Measure every selected case, and store and sum up the run.

    Exit status: 0 all measured or skipped, 1 a case wrong or failed, 2 the run could not start, 130 interrupted.
    """
    sys.stdout.flush()
    arguments = ["-qq", "--no-header", "--no-summary", "--benchmark-quiet", "-p", "no:cacheprovider"]
    if given["grid"] == "quick":
        arguments.append(f"--benchmark-max-time={QUICK_MAX_TIME_S}")
    for name, value in given.items():
        values = value if isinstance(value, tuple) else (value,)
        arguments += [f"--{name.replace('_', '-')}={one}" for one in values if one is not None]
    status, folder = _sit([*arguments, f"--rootdir={PACKAGE.parent}", *pytest_arguments])
    if folder is not None and given["sitting"] is None and status in (0, 1):
        for sitting in sittings(folder):
            status = max(status, _sit_apart(folder, sitting, pytest_arguments))
            if status not in (0, 1):
                sys.exit(status)
        if charts:
            try:
                _draw(folder, None)
            except NothingToDrawError as error:
                click.echo(f"no charts: {error}")
    sys.exit(status)


def _sit(arguments: list[str]) -> tuple[int, Path | None]:
    """Measure in this process; the exit status, and the run's folder where one was begun."""
    target = Path(__file__).parents[1] / "bench_backward.py"
    display = Display()
    try:
        code = pytest.main([*arguments, str(target)], plugins=[display])
    except Exception:
        if not display.interrupted:
            raise
        code = pytest.ExitCode.INTERRUPTED
    return EXIT_STATUSES.get(pytest.ExitCode(code), 2), display.folder


def _sit_apart(folder: Path, sitting: str, pytest_arguments: tuple[str, ...]) -> int:
    """Measure a sitting of the run in a process of its own; its exit status."""
    command = [
        sys.executable,
        "-m",
        "softmax_bench.cli",
        "run",
        f"--results={folder.parent}",
        f"--resume={folder.name}",
    ]
    try:
        done = subprocess.run([*command, f"--sitting={sitting}", "--no-charts", "--", *pytest_arguments], check=False)
    except KeyboardInterrupt:
        return INTERRUPTED
    return done.returncode


@click.command("list")
@click.option("--grid", default="default", show_default=True, help="the cases of this grid")
def list_(grid: str) -> None:
    """Show the implementations, and a grid's cases with their predicted peak bytes."""
    cases = Selection(grid=grid).cases()
    console = Console(highlight=False)
    table = Table("operation", "implementation", "library", "workspace in bytes", "source", title="implementations")
    for spec in registered().values():
        library = spec.library if spec.installed else f"{spec.library}, not installed"
        table.add_row(spec.operation, spec.name, library, str(spec.workspace), spec.source)
    console.print(table)
    for letter, meaning in FORMULA_NAMES.items():
        console.print(f"{letter}: {meaning}", soft_wrap=True)
    console.print()
    for case in cases:
        predicted = case.spec.workspace(case.batch, case.features, case.itemsize)
        console.print(f"{case!s:<60} {quantity(predicted, 'B'):>9}", soft_wrap=True)


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--results", default=RESULTS, show_default=True, type=click.Path(path_type=Path), help="stored runs")
@click.option("--plots", type=click.Path(path_type=Path), help="folder of the charts [default: plots/RUN]")
def plot(run_id: str, results: Path, plots: Path | None) -> None:
    """Draw every chart of a stored run, as PNG and SVG."""
    _draw(find_run(run_id, results), plots)


def _draw(folder: Path, plots: Path | None) -> None:
    from ..charts.by_shape import draw_run  # noqa: PLC0415 - matplotlib is slow to import, and only drawing needs it

    plots = plots or folder.parent.parent / "plots" / folder.name
    count = sum(1 for _ in draw_run(folder, plots))
    click.echo(f"{count} files of charts in {plots}")
