"""The command tolerances: measures, reports and draws the study."""

import math
from pathlib import Path

import click
import pandas as pd
from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table

from ..cli import plots_option, results_option
from ..paths import charts_folder
from ..storage.files import make_folder
from ..terminal import print_sentence
from .draws import INPUTS
from .findings import largest_share, of_softmax, sentences, zeros_from
from .study import load_study, measure, store

NAME = "tolerances"


@click.command()
@results_option
@plots_option
@click.option("--draw-only", is_flag=True, help="report and draw what is stored, measure nothing")
def tolerances(results: Path, plots: Path | None, *, draw_only: bool) -> None:
    """Try every known mistake under the tolerances that people use; store, report and draw what passes."""
    # matplotlib is slow to import, and only drawing needs it.
    from ..charts.style import charts_sentence  # noqa: PLC0415
    from .chart import draw_study  # noqa: PLC0415

    console = Console(highlight=False)
    folder = results / NAME
    charts = charts_folder(folder, plots)
    if not draw_only:
        make_folder(folder)
        with Status("", console=Console(stderr=True)) as status:
            store(list(measure(status.update)), folder)
    study, rows = load_study(folder)
    console.print(to_table(rows))
    for sentence in sentences(rows):
        print_sentence(sentence, console)
    print_sentence(charts_sentence(draw_study(study, rows, charts)), console)


def to_table(rows: pd.DataFrame) -> Table:
    """For each dtype and rule: the largest share of softmax's mistakes that passes, and from which size zeros pass."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("\ndtype")
    table.add_column("\nrule", no_wrap=True)
    for kind in INPUTS:
        table.add_column(f"pass at most,\n{kind}", justify="right")
        table.add_column("zeros\nfrom", justify="right")
    table.add_column("right,\nrejected", justify="right")
    shown = ""
    for dtype, rule, group in of_softmax(rows):
        if shown and dtype != shown:
            table.add_section()
        cells = [cell for kind in INPUTS for cell in cells_of(group, kind)]
        rejected = f"{group['right_rejected'].sum()} of {group['right_forms'].sum()}"
        table.add_row("" if dtype == shown else dtype, rule, *cells, rejected)
        shown = dtype
    return table


def cells_of(group: pd.DataFrame, kind: str) -> tuple[str, str]:
    """The largest share that passes and the size from which zeros do, in words; a dash for what was not tried."""
    share, zeros = largest_share(group, kind), zeros_from(group, kind)
    return ("–", "–") if math.isnan(share) else (f"{share:.0%}", str(zeros or "never"))
