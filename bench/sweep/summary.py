"""What a run says at the terminal when it ends: a table an operation, how it went, and what can be done with it."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from ..instruments.agreement import Moment, best_pace_s, count_at_full_pace
from ..operations import operations
from ..operations.cases import ALIKE, ARTICLE_OPERATION, ARTICLE_SHAPE, is_own
from ..storage.frames import to_frame
from ..storage.results import STATUSES, Run, Visit, load_rows, load_run, load_visits
from ..terminal import print_sentence, print_table
from ..units import gain, gain_in_words, quantity, spread
from .opening import missing_cases

UNSETTLED = "~"  # before a time whose visits do not agree, and before a ratio of such a time
SHARED = 0.5  # with fewer visits than this share at full pace, the processor was shared with others
NAMED = 5  # of the cases that have not settled
SHOWN_QUANTILES = [0.05, 0.5, 0.95]  # of the ratios at all shapes
SHAPE = ["operation", "batch", "features", "dtype", "logits", "threads"]


def sum_up(folder: Path, console: Console) -> None:
    """Print a stored run's tables and sentences."""
    run = load_run(folder)
    frame = to_frame(load_rows(folder), run.ceiling)
    for table in summary_tables(frame):
        print_table(table, console)
    if (frame["operation"] == ARTICLE_OPERATION).any():
        print_sentence(article_sentence(frame), console)
    for sentence in own_sentences(frame):
        print_sentence(sentence, console)
    for sentence in run_sentences(run, frame, folder):
        print_sentence(sentence, console)


def summary_tables(frame: pd.DataFrame) -> Iterator[Table]:
    """For each operation the time, peak, speed-up and memory ratio of its measured implementations, by shape."""
    for operation, measured in frame[frame["status"] == "measured"].groupby("operation", sort=False):
        yield _summary_table(measured, str(operation))


def _summary_table(measured: pd.DataFrame, operation: str) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=operations()[operation].title,
        title_justify="left",
        title_style="bold",
    )
    table.add_column("batch × features\nimplementation", no_wrap=True)
    for heading in ("\ntime", "\n", "\npeak", "\nspeed-up", "memory\nratio", "of the\nceiling"):
        table.add_column(heading, justify="right", no_wrap=True)
    for _, group in measured.groupby(SHAPE, sort=False):
        rows, against = _with_ratios(group, operation)
        table.add_row(f"[bold]{shape_label(rows.iloc[0])}[/]")
        if against:
            table.add_row(f"[dim]  vs {against}[/]")
        for _, row in rows.iterrows():
            table.add_row(
                f"  {row['implementation']}",
                _marked(quantity(row["time_s"], "s"), row["settled"]),
                spread(row["time_s"], row["time_low_s"], row["time_high_s"]),
                quantity(row["peak_bytes"], "B"),
                _marked(gain(row["speedup"], "slower"), row["speedup_settled"]),
                gain(row["memory_ratio"], "more"),
                "" if math.isnan(row["ceiling_share"]) else f"{row['ceiling_share']:.0%}",
            )
        table.add_section()
    return table


def _marked(figure: str, settled: float) -> str:
    """The figure with a mark where a time in it has not settled."""
    return UNSETTLED + figure if figure and settled == 0 else figure


def _with_ratios(rows: pd.DataFrame, operation: str) -> tuple[pd.DataFrame, str]:
    """The rows of one shape with the ratios to show, and what these refer to if that is not the baseline.

    Where the baseline was not measured, too large or too slow, they refer to the first implementation of
    ``Operation.references`` that was.
    """
    if rows["speedup"].notna().any():
        return rows, ""
    for name in operations()[operation].references:
        reference = rows[rows["implementation"] == name]
        if len(reference):
            time_s, peak_bytes, settled = reference[["time_s", "peak_bytes", "settled"]].iloc[0]
            peaks = rows["peak_bytes"].where(rows["peak_bytes"] > 0)
            ratios = {
                "speedup": time_s / rows["time_s"],
                "speedup_settled": settled * rows["settled"],
                "memory_ratio": peak_bytes / peaks,
            }
            return rows.assign(**ratios), name
    return rows, ""


def shape_label(row: Mapping[str, Any] | pd.Series) -> str:
    """The shape of a row or case in words without what is usual, as in '32 × 512' or '32 × 512 float32 peaked'."""
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
    speedup, low, high = (vectorized[column] for column in ("speedup", "speedup_low", "speedup_high"))
    memory = gain_in_words(vectorized["memory_ratio"], math.nan, math.nan, ("less", "more"))
    return (
        f"{case}: {baseline} {quantity(jacobian['time_s'], 's')}, vectorized {quantity(vectorized['time_s'], 's')}, "
        f"{gain_in_words(speedup, low, high, ('faster', 'slower'))} with {memory} memory at the peak "
        "(the article: 65.1 ms, 31.9 µs, 2000×, memory not measured)."
    )


def own_sentences(frame: pd.DataFrame) -> Iterator[str]:
    """How each of the user's own compares with the vectorized form that is called in the same way."""
    times = frame[frame["status"] == "measured"].pivot_table(index=SHAPE, columns="implementation", values="time_s")
    for name in filter(is_own, times.columns):
        if ALIKE in times and len(ratios := (times[ALIKE] / times[name]).dropna()):
            low, middle, high = ratios.quantile(SHOWN_QUANTILES)
            yield (
                f"{name} is {gain_in_words(middle, low, high, ('faster', 'slower'))} than vectorized called in the "
                f"same way, with new inputs each time ({ALIKE}): the median of {len(ratios)} shapes, and where nine "
                "of ten of them lie. The others are called with the same inputs again and again, which is quicker."
            )


def run_sentences(run: Run, frame: pd.DataFrame, folder: Path) -> Iterator[str]:
    """How the run went and what can be done with it."""
    counts = frame["status"].value_counts()
    outcomes = ", ".join(f"{counts[status]} {status}" for status in STATUSES if status in counts)
    wall_s = sum(sitting.wall_s for sitting in run.sittings)
    measuring_s = sum(sitting.measuring_s for sitting in run.sittings)
    outside = f"{1 - measuring_s / wall_s:.0%}" if wall_s else "none"
    yield (f"{outcomes or 'nothing measured'}; {wall_s:.0f} s, {outside} of it outside measuring. Stored in {folder}.")
    yield from settling_sentences(frame)
    yield from pace_sentences(load_visits(folder))
    if run.not_installed:
        count, libraries = sum(run.not_installed.values()), ", ".join(run.not_installed)
        yield f"{count} cases left out, not installed: {libraries} (make's EXTRAS=compiled,torch,jax has them)."
    if missing := len(missing_cases(folder)):
        yield f"{missing} cases are missing: make bench RESUME={run.run_id}"


def pace_sentences(visits: Sequence[Visit]) -> Iterator[str]:
    """That the processor was shared with others, if few visits were made at its full pace."""
    by_machine: dict[tuple[str, str], list[Moment]] = defaultdict(list)
    for visit in visits:
        by_machine[visit.machine, visit.attempt].append(visit.moment)
    full = sum(count_at_full_pace(moments, best_pace_s(moments)) for moments in by_machine.values())
    if full < SHARED * len(visits):
        yield (
            f"{full / len(visits):.0%} of the visits met the processor at its full pace: others use it as well. "
            "Few times settle so; more MINUTES, another hour or another machine help."
        )


def settling_sentences(frame: pd.DataFrame) -> Iterator[str]:
    """How many times have settled, which have not, and how much slower than undisturbed the typical visit was."""
    timed = frame[(frame["status"] == "measured") & frame["settled"].notna()]
    if timed.empty:
        return
    widths = timed["time_low_s"] / timed["time_high_s"]
    open_ones = timed.assign(width=widths)[timed["settled"] == 0].sort_values("width")
    sentence = f"{len(timed) - len(open_ones)} of {len(timed)} times have settled"
    if len(open_ones):
        names = [
            f"{row['implementation']} {shape_label(row)} {spread(row['time_s'], row['time_low_s'], row['time_high_s'])}"
            for _, row in open_ones.head(NAMED).iterrows()
        ]
        more = f" and {len(open_ones) - NAMED} more" if len(open_ones) > NAMED else ""
        sentence += f"; not settled, marked {UNSETTLED}: {', '.join(names)}{more}"
    disturbed = timed["disturbed"].dropna()  # which runs of earlier versions do not have
    weather = f" The typical visit was {100 * (disturbed.median() - 1):.2g}% slower than undisturbed."
    yield f"{sentence}.{weather if len(disturbed) else ''}"
