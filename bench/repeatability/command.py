"""The command repeatability."""

import time
from pathlib import Path

import click
import pandas as pd
from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table

from ..charts.style import charts_sentence
from ..cli import plots_option, results_option
from ..paths import charts_folder
from ..regression.command import end_on_sigterm
from ..terminal import new_console, print_sentence
from .chart import draw_study
from .outcomes import Outcome, RuleOutcome, outcomes, percent, rule_outcomes
from .study import (
    Planned,
    load_rules,
    load_sessions,
    load_study,
    make_session,
    next_session,
    open_study,
    progress_of,
)
from .tools import OURS, Measured, missing_tools

NAME = "repeatability"
DIFFERENCES = ("median", "90th", "worst")


@click.command(NAME)
@click.option("--minutes", default=60.0, show_default=True, help="stop after the session that passes this time")
@results_option
@plots_option
@click.option("--draw-only", is_flag=True, help="report and draw the stored sessions, make none")
@click.option("--rules", is_flag=True, help="report every rule of agreement, too")
def repeatability(minutes: float, results: Path, plots: Path | None, *, draw_only: bool, rules: bool) -> None:
    """Measure the same cases again and again, with the sweep and with other tools, and report how they repeat.

    New sessions are added to the stored ones until the plan is complete. The tool and load that lack the largest share
    of their sessions come first, so that all are measured in the same hour.
    """
    end_on_sigterm()
    folder = results / NAME
    console = new_console()
    missing = missing_tools()
    if not draw_only:
        for tool, extra in missing.items():
            print_sentence(f"{tool} is left out: it is not installed; make's EXTRAS={extra} has it", console)
        _make_sessions(folder, time.monotonic() + 60 * minutes, missing)
    sessions, replays = load_sessions(folder), load_rules(folder)
    console.print(to_table(list(outcomes(sessions))))
    if rules:
        console.print(rules_table(list(rule_outcomes(replays))))
    charts = draw_study(load_study(folder), sessions, replays, charts_folder(folder, plots))
    print_sentence(charts_sentence(charts), console)


def _make_sessions(folder: Path, end: float, missing: dict[str, str]) -> None:
    """Make and store sessions until the monotonic clock passes ``end`` or the plan is complete."""
    with open_study(folder) as table, Status("", console=Console(stderr=True)) as status:
        while time.monotonic() < end:
            sessions = load_sessions(folder)
            planned = next_session(sessions, missing)
            if planned is None:
                return
            status.update(_progress(planned, sessions))
            click.echo(_sentence(planned, make_session(planned, folder, table)))


def _progress(planned: Planned, sessions: pd.DataFrame) -> str:
    return f"{planned.tool}, {planned.load} ({progress_of(sessions)[planned.tool]} sessions are stored)"


def _sentence(planned: Planned, measured: Measured) -> str:
    cases = len(measured.readings)
    settled = sum(reading.settled == 1 for reading in measured.readings.values())
    said = f", {settled} settled" if any(reading.settled is not None for reading in measured.readings.values()) else ""
    seconds = f"{cases * measured.seconds_a_case:.0f} s"
    return f"{planned.tool}, {planned.load}, session {planned.session}: {cases} cases in {seconds}{said}"


def to_table(found: list[Outcome]) -> Table:
    """The outcomes by load and tool, no wider than a terminal of 80 columns; the docs page has the medians, too."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("\ntool, cases", no_wrap=True)
    table.add_column("\nruns", justify="right", no_wrap=True)
    for heading in ("time\n90th", "\nworst", "speed-up\n90th", "\nworst", "\nsettled", "interval\nheld", "s a\ncase"):
        table.add_column(heading, justify="right", no_wrap=True)
    load = ""
    for outcome in found:
        if outcome.load != load:
            load = outcome.load
            table.add_section()
            table.add_row(f"[bold]{load}[/]")
        table.add_row(
            _label(outcome),
            str(outcome.sessions),
            *map(_narrow, (*outcome.time[1:], *outcome.speedup[1:], outcome.settled_share, outcome.time_held)),
            f"{outcome.seconds_a_case:.2g}",
        )
    return table


def _label(outcome: Outcome) -> str:
    """Which tool and which cases, in 22 characters; whatever is at one pace has settled."""
    scope = outcome.scope
    words = " at one pace" if scope.at_one_pace else " settled" if scope.settled else ""
    return f"{'ours' if outcome.tool == OURS else outcome.tool}, {outcome.cases}{words}"


def _narrow(share: float) -> str:
    return percent(share).replace(" ", "")


def rules_table(found: list[RuleOutcome]) -> Table:
    """The outcomes of every rule under every load."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("load", no_wrap=True)
    for heading in ("moments", "within", "apart", "at least", "settled", "visits", *DIFFERENCES):
        table.add_column(heading, justify="right", no_wrap=True)
    for outcome in found:
        table.add_row(
            outcome.load,
            str(outcome.moments),
            _narrow(outcome.within),
            f"{outcome.apart_s:g} s",
            str(outcome.at_least),
            _narrow(outcome.settled_share),
            f"{outcome.mean_visits:.1f}",
            *map(_narrow, outcome.time),
        )
    return table
