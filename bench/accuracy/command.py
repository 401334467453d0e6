"""The command accuracy: measures, reports and draws the study."""

from collections.abc import Iterator
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
from .study import load_study, measure, store

NAME = "accuracy"


@click.command()
@results_option
@plots_option
@click.option("--draw-only", is_flag=True, help="report and draw what is stored, measure nothing")
def accuracy(results: Path, plots: Path | None, *, draw_only: bool) -> None:
    """Measure how exact loss and gradient of softmax and cross-entropy are; store, report and draw the errors."""
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


def sentences(rows: pd.DataFrame) -> Iterator[str]:
    """Which implementations stay finite, and at which scale the others fail."""
    not_finite = rows.groupby("implementation")[["not_finite_losses", "not_finite_elements"]].sum().sum(axis=1)
    always = [name for name in dict.fromkeys(rows["implementation"]) if not_finite[name] == 0]
    yield f"Finite at every scale, dtype and shape: {', '.join(always)}."
    for dtype in dict.fromkeys(rows["dtype"]):
        mine = rows[rows["dtype"] == dtype]
        failing = mine[mine["reason"] != ""].groupby("implementation")["scale"].min().sort_values()
        if len(failing):
            names = ", ".join(f"{name} from {scale:g}" for name, scale in failing.items())
            yield f"Not finite in {dtype}: {names} (scale of the logits)."


def to_table(rows: pd.DataFrame) -> Table:
    """The worst finite errors over all scales and shapes, and the scale from which results are not finite."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("\ndtype")
    table.add_column("\nimplementation", no_wrap=True)
    for heading in ("worst error of\nloss, ulp", "of the\ngradient, ulp", "not finite\nfrom scale"):
        table.add_column(heading, justify="right")
    for dtype, of_dtype in rows.groupby("dtype", sort=False):
        label = str(dtype)  # only in the first row of its group
        for name, mine in of_dtype.groupby("implementation", sort=False):
            errors = [f"{mine[column].max():.3g}" for column in ("loss_error_ulp", "grad_error_ulp")]
            failing = mine.loc[mine["reason"] != "", "scale"]
            table.add_row(label, str(name), *errors, f"{failing.min():g}" if len(failing) else "never")
            label = ""
        table.add_section()
    return table
