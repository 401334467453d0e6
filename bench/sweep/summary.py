"""What a run says at the terminal when it ends: a small table per shape, and a sentence on the article's case."""

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table

from ..operations import operations
from ..operations.cases import ARTICLE_OPERATION, ARTICLE_SHAPE
from ..units import factor, quantity

SHAPE = ["operation", "batch", "features", "dtype", "logits", "threads"]


def summary_tables(frame: pd.DataFrame) -> Iterator[Table]:
    """For each operation the median, peak, speed-up and memory ratio of its measured implementations, by shape."""
    for operation, measured in frame[frame["status"] == "measured"].groupby("operation", sort=False):
        yield _summary_table(measured, operations()[str(operation)].title)


def _summary_table(measured: pd.DataFrame, title: str) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title=title, title_justify="left", title_style="bold"
    )
    table.add_column("batch × features\nimplementation", no_wrap=True)
    for heading in ("\nmedian", "\npeak", "\nspeed-up", "memory\nratio", "of the\nceiling"):
        table.add_column(heading, justify="right", no_wrap=True)
    for _, group in measured.groupby(SHAPE, sort=False):
        table.add_row(f"[bold]{shape_label(group.iloc[0])}[/]")
        for _, row in group.iterrows():
            table.add_row(
                f"  {row['implementation']}",
                quantity(row["time_median_s"], "s"),
                quantity(row["peak_bytes"], "B"),
                factor(row["speedup"]),
                factor(row["memory_ratio"]),
                "" if math.isnan(row["ceiling_share"]) else f"{row['ceiling_share']:.0%}",
            )
        table.add_section()
    return table


def shape_label(row: "pd.Series[Any]") -> str:
    """A shape in words, what is usual left out: '32 × 512', '32 × 512 float32 peaked'."""
    unusual = [str(row[axis]) for axis, usual in (("dtype", "float64"), ("logits", "normal")) if row[axis] != usual]
    threads = [f"{row['threads']} threads"] if row["threads"] != 1 else []
    return " ".join([f"{row['batch']} × {row['features']}", *unusual, *threads])


def article_sentence(frame: pd.DataFrame) -> str:
    """The article's case as measured, beside the article's own figures; what is missing is said."""
    batch, features = ARTICLE_SHAPE
    article = frame.query(
        "operation == @ARTICLE_OPERATION and batch == @batch and features == @features and dtype == 'float64' "
        "and logits == 'uniform' and threads == 1 and status == 'measured'"
    ).set_index("implementation")
    case = f"The article's case ({batch} × {features}, uniform, float64)"
    baseline = operations()[ARTICLE_OPERATION].baseline
    missing = [name for name in (baseline, "vectorized") if name not in article.index]
    if missing:
        return f"{case} is not complete in this run: no {' and no '.join(missing)}."
    jacobian, vectorized = (article.loc[name].to_dict() for name in (baseline, "vectorized"))
    return (
        f"{case}: {baseline} {quantity(jacobian['time_median_s'], 's')}, vectorized "
        f"{quantity(vectorized['time_median_s'], 's')}, {factor(vectorized['speedup'])} faster with "
        f"{factor(vectorized['memory_ratio'])} less memory at the peak "
        "(the article: 65.1 ms, 31.9 µs, 2000×, memory not measured)."
    )
