"""The command ``softmax-bench verify``: its options, the report at the terminal and as JSON, the exit status."""

import dataclasses
import functools
import json
import math
import os
import sys
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..cli import beside_option
from ..configuration import Configured, configuration
from ..errors import NothingToDrawError, UserError
from ..instruments.machine_lock import hold_machine
from ..storage.files import replace_file
from ..terminal import new_console, print_sentence
from ..units import quantity
from .calling.convention import LAYOUTS, ROLES, Options
from .cost import CostReport
from .judging.trials import OPERATIONS
from .judging.worked_example import one_node_explanation
from .process.failures import Failure
from .process.isolation import CALL_S, LOAD_S, MAX_BYTES, Isolated
from .verdict import Report, Status, examine, layout_of_axis

PICTURES = (".png", ".svg", ".pdf")
SHOWN_PROBLEMS = 4
SHOWN_CHARACTERS = 100  # of the last line that a target printed


@click.command(cls=Configured)
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option(
    "--operation",
    type=click.Choice(list(OPERATIONS)),
    help="what TARGET is the backward of [default: found from names]",
)
@click.option(
    "--signature",
    metavar="ROLES",
    default="",
    help=f"the roles of its arguments in order, separated by commas: {', '.join(ROLES)}",
)
@click.option(
    "--forward",
    metavar="NAME",
    default="",
    help="its forward method, or the function that makes the cache of a backward function",
)
@click.option("--backward", metavar="NAME", default="", help="its backward method")
@click.option("--result", metavar="NAME", default="", help="the attribute that holds the gradient after the backward")
@click.option("--axis", type=click.IntRange(-1, 1), help="0 for features-first arrays, 1 or -1 for batch-first")
@click.option(
    "--layout", type=click.Choice(list(LAYOUTS)), help="; ".join(f"{name}: {of}" for name, of in LAYOUTS.items())
)
@click.option(
    "--reduction", type=click.Choice(["mean", "sum"]), help="of a loss over the batch [default: found by trying]"
)
@click.option("--cost/--no-cost", default=True, show_default=True, help="measure time and memory if it is right")
@beside_option
@click.option(
    "--timeout",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    help=f"limit of each call and of the import [default: {CALL_S:g} and {LOAD_S:g}]",
)
@click.option(
    "--max-bytes",
    type=click.IntRange(1 << 20),
    default=MAX_BYTES,
    metavar="BYTES",
    show_default=True,
    help="the most that a call may allocate",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="also write the report to FILE",
)
@click.option(
    "--plot",
    "plot_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help=f"also draw time and memory against features, beside the suite's forms: {', '.join(PICTURES)}",
)
@click.option("--strict", is_flag=True, help="exit with 1 if it is right with a limit")
def verify(
    targets: tuple[str, ...],
    *,
    operation: str | None,
    signature: str,
    forward: str,
    backward: str,
    result: str,
    axis: int | None,
    layout: str | None,
    reduction: str | None,
    cost: bool,
    beside: bool,
    timeout: float | None,
    max_bytes: int,
    json_path: Path | None,
    plot_path: Path | None,
    strict: bool,
) -> None:
    """Say whether TARGET is a right backward of softmax, what is wrong with it, and what it costs.

    TARGET is module:attribute or path/to/file.py:attribute: a function, or a class or object with a forward and a
    backward. It runs in a process of its own. Targets and options default to those of [tool.softmax-bench] in
    pyproject.toml.

    Exit status: 0 right, also with a limit (--strict: 1), 1 wrong or not believed, 2 it could not be called or is
    something else; of several targets 1 if any is wrong.
    """
    if axis is not None and layout:
        raise UserError("--axis and --layout state the same thing: give one of them")
    if json_path is not None and not json_path.parent.is_dir():
        raise UserError(f"--json {json_path}: there is no folder {json_path.parent}")
    if plot_path is not None and plot_path.suffix not in PICTURES:
        raise UserError(f"--plot {plot_path}: the name must end in {', '.join(PICTURES)}")
    options = Options(
        operation=operation or "",
        signature=tuple(role.strip() for role in signature.split(",") if role.strip()),
        forward=forward,
        backward=backward,
        result=result,
        layout=layout or layout_of_axis(axis),
        reduction=reduction or "",
    )
    named = targets or configured_targets()
    if plot_path is not None and len(named) > 1:
        raise UserError(f"--plot {plot_path}: draws one target, and there are {len(named)}")
    console = new_console()
    reports = []
    for target in named:
        with Isolated.limited(target, timeout, max_bytes) as subject:
            alone = functools.partial(hold_machine, f"verify {target}", _say_aside, beside=beside)
            report = examine(
                subject,
                target,
                options,
                with_cost=cost,
                announce=lambda report: _show(report, console),
                alone=alone,
            )
        if report.cost is not None:
            if report.cost.complaints:
                _show_disbelief(report, console)
            _show_cost(report.cost, target, console)
        reports.append(report)
    if json_path is not None:
        contents = [report.to_json() for report in reports]
        replace_file(json_path, json.dumps(contents if len(contents) > 1 else contents[0], indent=1) + "\n")
    if plot_path is not None:
        _plot(reports[0], plot_path, console)
    statuses = {report.exit_status(strict=strict) for report in reports}
    sys.exit(Status.WRONG if Status.WRONG in statuses else max(statuses))


def _say_aside(text: str) -> None:
    """Say what is not part of the report."""
    print_sentence(text, Console(stderr=True))


def configured_targets() -> list[str]:
    """The targets of the repository's pyproject.toml, with their folder.

    Raises:
        UserError: there are none.
    """
    stated, folder = configuration(Path())
    if not stated.targets:
        raise UserError("give a TARGET, such as path/to/file.py:function, or list targets in pyproject.toml")
    return [os.path.relpath(folder / target) for target in stated.targets]


def _plot(report: Report, path: Path, console: Console) -> None:
    """Draw what the target costs; what is wrong, or cannot be drawn, is said."""
    from ..charts.style import write_figure  # noqa: PLC0415 - matplotlib is slow to import
    from .plot import cost_finding, cost_frame, own_figure  # noqa: PLC0415 - matplotlib is slow to import

    if report.cost is None:
        console.print("no picture: the cost was not measured")
        return
    rows = cost_frame(map(dataclasses.asdict, report.cost.rows))
    try:
        figure = own_figure(rows, report.target, report.words, f"batch {rows['batch'].max()}, float64, normal logits")
    except NothingToDrawError as error:
        console.print(f"no picture: {escape(str(error))}")
        return
    console.print(escape(f"picture: {write_figure(figure, path)}. {cost_finding(rows, report.target)}"))


def _show(report: Report, console: Console) -> None:
    """The verdict and the reasons for it."""
    color = ("yellow" if report.limits else "green") if report.right else "red"
    mistake = f": [bold]{escape(report.diagnosis.title)}[/]" if report.diagnosis else ""
    console.print(f"{escape(report.target)}  [bold {color}]{report.words}[/]{mistake}")
    for complaint in report.complaints:
        console.print(f"it         {escape(complaint)}")
    for limit in report.limits:
        console.print(f"limit      {escape(limit)}")
    if report.thing:
        console.print(f"it is      {escape(report.thing)}")
    if report.called_as:
        console.print(f"called as  {escape(report.called_as)} ({report.operation})")
    if report.right and not math.isnan(report.max_error_ulp):
        console.print(f"accuracy   within {report.max_error_ulp:.2g} ulp of its terms")
    if report.failure is not None:
        _show_failure(report.failure, console)
    _show_mistake(report, console)
    for note in report.notes:
        console.print(f"note: {escape(note)}")
    if report.right and report.operation == "softmax_cross_entropy":
        console.print("\n" + escape("\n".join(one_node_explanation())))
    if report.printed:
        console.print(f"it printed {escape(report.printed.splitlines()[-1][:SHOWN_CHARACTERS])}")


def _show_disbelief(report: Report, console: Console) -> None:
    """What was found after the first verdict, while the target was timed."""
    console.print(
        f"\n{escape(report.target)}  [bold red]{report.words}[/] after all: not as it was when it was checked"
    )
    for complaint in report.complaints:
        console.print(f"- {escape(complaint)}")


def _show_mistake(report: Report, console: Console) -> None:
    """What a wrong gradient computes, in words, formulas and numbers, and for which inputs it is wrong."""
    if report.diagnosis is not None:
        console.print(f"\n{escape(report.diagnosis.explanation)}")
        console.print(f"computes   {escape(report.diagnosis.computes)}")
        console.print(f"should be  {escape(report.diagnosis.should)}")
    for line in report.worked:
        console.print(escape(line))
    if report.problems:
        console.print()
    if report.right_only:
        console.print(f"right only {escape(report.right_only)}")
    for problem in report.problems[:SHOWN_PROBLEMS]:
        console.print(f"- {escape(problem)}")
    if len(report.problems) > SHOWN_PROBLEMS:
        console.print(f"- and {len(report.problems) - SHOWN_PROBLEMS} more like these")
    for sentence in report.broken:
        console.print(f"* {escape(sentence)}")


def _show_failure(failure: Failure, console: Console) -> None:
    """How the call failed, the line to blame, and the target's own last lines."""
    console.print(f"it {escape(failure.summary)}" if failure.kind != "raised" else escape(failure.summary))
    if failure.culprit:
        console.print(f"at         {escape(failure.culprit)}")
    for line in failure.lines:
        console.print(f"  {escape(line)}")


def _show_cost(cost: CostReport, target: str, console: Console) -> None:
    """Time and peak memory by shape, the target's and the suite's; fitted growth; advice."""
    names = list(dict.fromkeys(row.implementation for row in cost.rows))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("batch ×\nfeatures")
    for name in names:
        table.add_column("yours" if name == target else name, justify="right")
    cells = {(row.batch, row.features, row.implementation): row for row in cost.rows}
    for shape in sorted({(row.batch, row.features) for row in cost.rows}):
        found = [cells.get((*shape, name)) for name in names]
        texts = [f"{quantity(row.time_s, 's')} {quantity(row.peak_bytes, 'B'):>8}" if row else "–" for row in found]
        table.add_row(f"{shape[0]} × {shape[1]}", *texts)
    console.print(table)
    for label in ("time", "peak"):
        fits = {
            axis: cost.growth[key] for axis in ("batch", "features") if (key := f"{label} by {axis}") in cost.growth
        }
        if fits:
            powers = (f"{axis}^{fit.exponent:.2f}" for axis, fit in fits.items())
            console.print(f"{label} grows as {' and '.join(powers)}")
    for line in cost.advice:
        console.print(f"advice: {escape(line)}")
    if cost.stopped:
        console.print(f"measuring stopped at {escape(cost.stopped)}")
