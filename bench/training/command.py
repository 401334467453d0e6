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
from ..paths import charts_folder
from ..terminal import print_sentence
from ..units import quantity, significant
from . import study
from .outcomes import AGREE_WITHIN, CRITERIA, Result, by_outcome, judge, sentences, spread

NAME = "training"


@click.command()
@click.option("--seed", default=study.Plan.seed, show_default=True, help="of split, first weights and batches")
@click.option(
    "--epochs", default=study.Plan.epochs, show_default=True, type=click.IntRange(min=1), help="of each training"
)
@results_option
@plots_option
@click.option("--draw-only", is_flag=True, help="report and draw the stored study, train nothing")
def train(seed: int, epochs: int, results: Path, plots: Path | None, *, draw_only: bool) -> None:
    """Train two networks with every right softmax backward and every known mistake; store, report and draw.

    Exit status: 0 success, 1 the right gradients end at different losses, 2 it could not start, 130 interrupted.
    """
    folder = results / NAME
    charts = charts_folder(folder, plots)
    if not draw_only:
        with Status("", console=Console(stderr=True)) as status:
            study.make_study(folder, study.Plan(seed=seed, epochs=epochs), status.update)
    judged = judge(study.load_study(folder)[1])
    console = Console(highlight=False)
    for network, results_of_network in judged.items():
        console.print(to_table(network, results_of_network))
    print_sentence(CRITERIA, console)
    for network, results_of_network in judged.items():
        console.print()
        for sentence in sentences(network, results_of_network):
            print_sentence(sentence, console)
    console.print()
    from ..charts.style import charts_sentence  # noqa: PLC0415 - matplotlib is slow to import, and only drawing needs it
    from .charts import draw_study  # noqa: PLC0415

    print_sentence(charts_sentence(draw_study(folder, charts)), console)
    print_sentence(f"table: {folder / study.TABLE}", console)
    agree = all(spread(results_of_network) <= AGREE_WITHIN for results_of_network in judged.values())
    sys.exit(0 if agree else 1)


def to_table(network: str, results: list[Result]) -> Table:
    """A row for each gradient: the right ones in the registry's order, the wrong ones by outcome and accuracy."""
    table = Table(title=network, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("gradient", "outcome"):
        table.add_column(heading)
    for heading in ("final\nloss", "test\naccuracy", "time of\nan epoch", "softmax\nbackward"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in by_outcome(results):
        table.add_row(result.title, "right" if result.is_right else result.outcome, *_figures(result))
    return table


def _figures(result: Result) -> Iterator[str]:
    last = result.last
    yield "–" if math.isnan(last.loss) else significant(last.loss)
    yield "–" if math.isnan(last.test_accuracy) else f"{last.test_accuracy:.1%}"
    yield quantity(result.epoch_s, "s")
    yield "–" if math.isnan(result.softmax_share) else f"{result.softmax_share:.0%}"
