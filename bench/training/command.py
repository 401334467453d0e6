"""The command train."""

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table

from ..cli import plots_option, results_option
from ..paths import plots_beside
from ..units import quantity, significant
from . import study
from .outcomes import AGREE_WITHIN, CRITERIA, Result, by_outcome, judge, sentences, spread

NAME = "training"


@click.command()
@click.option("--seed", default=study.Plan.seed, show_default=True, help="of the split, the first weights, the batches")
@click.option("--epochs", default=study.Plan.epochs, show_default=True, type=click.IntRange(min=1))
@results_option
@plots_option
@click.option("--draw-only", is_flag=True, help="report and draw what is stored, train nothing")
def train(seed: int, epochs: int, results: Path, plots: Path | None, *, draw_only: bool) -> None:
    """Train two networks with every right softmax backward and every known mistake; store, report and draw.

    Exit status: 0, 1 where right gradients do not end at the same loss, 2 it could not start, 130 interrupted.
    """
    folder, charts = results / NAME, (plots or plots_beside(results)) / NAME
    if not draw_only:
        with Status("", console=Console(stderr=True)) as status:
            study.make_study(folder, study.Plan(seed=seed, epochs=epochs), status.update)
    judged = judge(study.load_study(folder)[1])
    console = Console(highlight=False)
    for network, results_of_network in judged.items():
        console.print(to_table(network, results_of_network))
    console.print(CRITERIA, style="dim")
    for network, results_of_network in judged.items():
        click.echo()
        for sentence in sentences(network, results_of_network):
            click.echo(sentence)
    click.echo()
    from .charts import draw_study  # noqa: PLC0415 - matplotlib is slow to import, and only drawing needs it

    for path in draw_study(folder, charts):
        click.echo(path)
    click.echo(folder / study.TABLE)
    sys.exit(0 if all(spread(one) <= AGREE_WITHIN for one in judged.values()) else 1)


def to_table(network: str, results: list[Result]) -> Table:
    """A row a gradient: the right ones in the registry's order, the wrong ones by outcome and then by accuracy."""
    table = Table(title=network, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("gradient", "outcome"):
        table.add_column(heading)
    for heading in ("final\nloss", "test\naccuracy", "time of\nan epoch", "softmax\nbackward"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in by_outcome(results):
        table.add_row(one.title, "right" if one.is_right else one.outcome, *_figures(one))
    return table


def _figures(result: Result) -> Iterator[str]:
    last = result.last
    yield "–" if math.isnan(last.loss) else significant(last.loss)
    yield "–" if math.isnan(last.test_accuracy) else f"{last.test_accuracy:.1%}"
    yield quantity(result.epoch_s, "s")
    yield "–" if math.isnan(result.softmax_share) else f"{result.softmax_share:.0%}"
