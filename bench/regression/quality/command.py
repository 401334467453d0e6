"""The command gate-quality."""

import math
import time
from pathlib import Path

import click
from rich.console import Console
from rich.status import Status

from ...charts.style import charts_sentence, write_charts
from ...cli import plots_option, results_option
from ...paths import charts_folder
from ...terminal import print_sentence
from ..command import end_on_sigterm
from .chart import gate_quality as draw_gate_quality
from .study import Trial, load_trials, make_trials, next_condition, open_trials

NAME = "gate-quality"


@click.command(NAME)
@click.option("--minutes", default=60.0, show_default=True, help="stop after the trial that passes this time")
@results_option
@plots_option
@click.option("--draw-only", is_flag=True, help="draw the stored trials, make none")
def gate_quality(minutes: float, results: Path, plots: Path | None, *, draw_only: bool) -> None:
    """Try the check on identical code and on known slow-downs; store every trial and draw them all.

    New trials are added to the stored ones until the plan is complete. The condition that lacks the largest share of
    its trials comes first.
    """
    end_on_sigterm()
    folder = results / NAME
    if not draw_only:
        _make_trials(folder, time.monotonic() + 60 * minutes)
    figure = draw_gate_quality(load_trials(folder))
    print_sentence(charts_sentence(write_charts(figure, charts_folder(folder, plots), "gate_quality")))


def _make_trials(folder: Path, end: float) -> None:
    """Make and store trials until the monotonic clock passes ``end`` or the plan is complete."""
    with open_trials(folder) as table, Status("", console=Console(stderr=True)) as status:
        while time.monotonic() < end:
            following = next_condition(load_trials(folder))
            if following is None:
                return
            condition, seed = following
            for trial in make_trials(condition, seed, status.update):
                table.append(trial)
                click.echo(_sentence(trial))


def _sentence(trial: Trial) -> str:
    size = "" if math.isnan(trial.size) else f" {trial.size:.0%}"
    found = "found" if trial.found else "not found" if trial.target else ""
    return f"{trial.method:9} {trial.kind}{size}, {trial.load}: {trial.outcome} {found} {trial.alarms}"
