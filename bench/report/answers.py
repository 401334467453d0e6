"""The questions that a reader brings to a run, and this run's answers, each figure with its interval.

Answers on shapes are drawn from `source.Source.by_shape`; an answer whose cases the run does not have is left out.
"""

import bisect
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..charts.style import libraries_in
from ..implementations import NUMPY, Formula, registered
from ..operations.cases import ARTICLE_INPUTS, ARTICLE_OPERATION, ARTICLE_SHAPE
from ..sweep.summary import pace_sentences, settling_sentences
from ..units import factor, gain_in_words, quantity
from .content import Answer, Section, Table
from .provenance import command_of
from .source import DTYPE, JACOBIAN, LOGITS, THREADS, VECTORIZED, Source
from .weather import weather_sentence

ARTICLE_FIGURES = "The article printed 65.1 ms and 31.9 µs for them, and did not measure memory."
ITEMSIZE = 8  # bytes of a number in DTYPE
MOST_FEATURES = 1 << 40  # where the search for the wall ends
ASKED_FEATURES = 50_000  # about a vocabulary of natural language
NAMED = 5  # shapes in a sentence


@dataclass(frozen=True)
class Pair:
    """The explicit Jacobian and the vectorized form of one case, both measured: a row of the frame each."""

    jacobian: pd.Series
    vectorized: pd.Series

    @property
    def shape(self) -> str:
        """Batch and features, as in '32 × 512'."""
        return f"{self.vectorized['batch']} × {self.vectorized['features']}"

    @property
    def jacobian_wins(self) -> bool:
        """Whether the Jacobian is faster beyond both intervals."""
        return bool(self.jacobian["time_high_s"] < self.vectorized["time_low_s"])

    @property
    def settled(self) -> bool:
        """Whether both times have settled."""
        return bool(self.vectorized["speedup_settled"] == 1)


def answers_section(source: Source) -> Section:
    """The answers, and the table of the forms to use at the article's batch."""
    answers = [
        *_article(source),
        *_over_shapes(source),
        *_fit(source),
        *_wins(source),
        *_form_to_use(source),
        *_trust(source),
        Answer("How do I run it again?", f"{command_of(source.run)} – more under “Machine, versions, command”."),
    ]
    return Section("answers", "What this run says", answers=answers, tables=list(_forms_table(source)))


def pairs_of(frame: pd.DataFrame) -> list[Pair]:
    """The pairs of a frame with one row for each shape and implementation, small shapes first."""
    timed = frame[(frame["status"] == "measured") & frame["time_s"].notna()]
    both = timed[timed["implementation"].isin([JACOBIAN, VECTORIZED])].sort_values(["features", "batch"])
    pairs = []
    for _, rows in both.groupby(["features", "batch"]):
        by_name = {row["implementation"]: row for _, row in rows.iterrows()}
        if len(by_name) == 2:
            pairs.append(Pair(by_name[JACOBIAN], by_name[VECTORIZED]))
    return pairs


def article_pair(source: Source) -> Pair | None:
    """The pair of the article's case; None where the run lacks a part of it."""
    batch, features, dtype, logits = ARTICLE_INPUTS[0]
    frame = source.frame
    mine = frame[
        (frame["operation"] == ARTICLE_OPERATION)
        & (frame["batch"] == batch)
        & (frame["features"] == features)
        & (frame["dtype"] == dtype)
        & (frame["logits"] == logits)
        & (frame["threads"] == THREADS)
    ]
    return next(iter(pairs_of(mine)), None)


def time_with_interval(row: pd.Series) -> str:
    """A row's time and its interval, as in '26.4 ms (25.9 ms to 27.0 ms)'."""
    time_s, low_s, high_s = (quantity(row[name], "s") for name in ("time_s", "time_low_s", "time_high_s"))
    return time_s if pd.isna(row["time_low_s"]) else f"{time_s} ({low_s} to {high_s})"


def _article(source: Source) -> Iterator[Answer]:
    pair = article_pair(source)
    if pair is None:
        return
    row = pair.vectorized
    ratio = gain_in_words(row["speedup"], row["speedup_low"], row["speedup_high"], ("faster", "slower"))
    batch, features, dtype, logits = ARTICLE_INPUTS[0]
    yield Answer(
        "How much faster?",
        f"{ratio} at the article's case, {batch} × {features} with {logits} logits in {dtype}: "
        f"{JACOBIAN} takes {time_with_interval(pair.jacobian)}, {VECTORIZED} {time_with_interval(row)}. "
        f"{ARTICLE_FIGURES}",
    )
    if pd.notna(row["memory_ratio"]):
        less = gain_in_words(row["memory_ratio"], math.nan, math.nan, ("less memory", "more memory"))
        peaks = [quantity(its["peak_bytes"], "B") for its in (pair.jacobian, row)]
        yield Answer(
            "How much smaller?",
            f"{less} at the peak of one call there: {peaks[0]} against {peaks[1]}.",
        )


def _over_shapes(source: Source) -> Iterator[Answer]:
    pairs = pairs_of(source.by_shape)
    timed = [pair for pair in pairs if pair.settled]  # one visit of gigabytes may be ten times too slow
    if len(timed) < 2:
        return
    least, most = (choose(timed, key=lambda pair: float(pair.vectorized["speedup"])) for choose in (min, max))
    known = [pair for pair in pairs if pd.notna(pair.vectorized["memory_ratio"])]
    said = (
        f"With {LOGITS} logits, over the {len(timed)} shapes at which both times have settled: from "
        f"{factor(least.vectorized['speedup'])} ({least.shape}) to {factor(most.vectorized['speedup'])} ({most.shape}) "
        "faster"
    )
    if known:
        small, large = (choose(known, key=lambda pair: float(pair.vectorized["memory_ratio"])) for choose in (min, max))
        said += (
            f", with {factor(small.vectorized['memory_ratio'])} ({small.shape}) to "
            f"{factor(large.vectorized['memory_ratio'])} ({large.shape}) less memory"
        )
    yield Answer("And at other sizes?", f"{said}.")


def _fit(source: Source) -> Iterator[Answer]:
    memory_bytes = source.run.machine.get("memory_bytes")
    if not memory_bytes or source.by_shape.empty:
        return
    batch = ARTICLE_SHAPE[0]
    wall = first_too_large(JACOBIAN, batch, memory_bytes)
    workspaces = [registered()[ARTICLE_OPERATION, name].workspace for name in (JACOBIAN, VECTORIZED)]
    asked = [quantity(formula(batch, ASKED_FEATURES, ITEMSIZE), "B") for formula in workspaces]
    mine = source.by_shape[(source.by_shape["implementation"] == JACOBIAN) & (source.by_shape["batch"] == batch)]
    measured, skipped = (mine[mine["status"] == status]["features"] for status in ("measured", "skipped"))
    run = [
        *([f"was measured up to {measured.max()} features"] if len(measured) else []),
        *([f"was skipped from {skipped.min()} on"] if len(skipped) else []),
    ]
    in_run = f" In this run it {' and '.join(run)}." if run else ""
    yield Answer(
        "Does the Jacobian fit?",
        f"Not for long: at batch {batch} its peak passes this machine's {quantity(memory_bytes, 'B')} at {wall} "
        f"features (its formula, {workspaces[0]} bytes). At {batch} × {ASKED_FEATURES} it would need {asked[0]}, "
        f"{VECTORIZED} {asked[1]}.{in_run}",
    )


def first_too_large(implementation: str, batch: int, memory_bytes: int) -> int:
    """The smallest number of features at which a softmax backward's stated peak is more than the memory."""
    workspace: Formula = registered()[ARTICLE_OPERATION, implementation].workspace
    sizes = range(1, MOST_FEATURES)
    return sizes[bisect.bisect_right(sizes, memory_bytes, key=lambda features: workspace(batch, features, ITEMSIZE))]


def _wins(source: Source) -> Iterator[Answer]:
    pairs = pairs_of(source.by_shape)
    if not pairs:
        return
    wins = [pair.shape for pair in pairs if pair.jacobian_wins]
    equal = [
        pair.shape
        for pair in pairs
        if not pair.jacobian_wins and not pair.jacobian["time_low_s"] > pair.vectorized["time_high_s"]
    ]
    said = f"At {_listed(wins)}" if wins else f"Nowhere among the {len(pairs)} shapes at which both were measured"
    undecided = f" At {_listed(equal)} their intervals overlap." if equal else ""
    closest = min(pairs, key=lambda pair: float(pair.vectorized["speedup"]))
    ratio = f"{factor(closest.vectorized['speedup'])} in favour of {VECTORIZED}"
    yield Answer("Does the Jacobian win anywhere?", f"{said}; closest at {closest.shape}, {ratio}.{undecided}")


def _form_to_use(source: Source) -> Iterator[Answer]:
    best = _fastest_numpy(source)
    if best.empty:
        return
    reference = source.by_shape[source.by_shape["implementation"] == VECTORIZED].set_index(["batch", "features"])
    slower = (reference["time_s"] / best["time_s"]).dropna()
    if slower.empty:
        return
    worst: Any = slower.idxmax()  # (batch, features)
    batch, features = map(int, worst)
    groups = list(_groups(best))
    phrases = [f"{name} {_range(sizes, last=place == len(groups) - 1)}" for place, (name, sizes) in enumerate(groups)]
    fastest = (
        f" The fastest NumPy form at batch {ARTICLE_SHAPE[0]}: {', '.join(phrases)}; the table below has the times."
        if phrases
        else ""
    )
    yield Answer(
        "Which form do I use?",
        f"{VECTORIZED}, one line of NumPy: at none of {len(slower)} shapes is it more than "
        f"{factor(float(slower.max()))} slower than the fastest NumPy form ({batch} × {features}).{fastest}",
    )


def _fastest_numpy(source: Source) -> pd.DataFrame:
    """The row of NumPy's fastest form at each shape, by (batch, features)."""
    others = [name for name, library in libraries_in(source.run, ARTICLE_OPERATION).items() if library != NUMPY]
    rows = source.by_shape
    timed = rows[(rows["status"] == "measured") & rows["time_s"].notna()]
    mine = timed[~timed["implementation"].isin(others)]
    return mine.sort_values("time_s").groupby(["batch", "features"]).head(1).set_index(["batch", "features"])


def _groups(best: pd.DataFrame) -> Iterator[tuple[str, list[int]]]:
    """The fastest form at the article's batch with the features at which it is, neighbouring sizes together."""
    if ARTICLE_SHAPE[0] not in best.index.get_level_values("batch"):
        return
    names = best.loc[ARTICLE_SHAPE[0]]["implementation"].sort_index()
    for name, group in itertools.groupby(names.items(), key=lambda item: item[1]):
        yield str(name), [int(str(features)) for features, _ in group]


def _range(sizes: list[int], *, last: bool) -> str:
    if last:
        return f"from {sizes[0]} features on (measured to {sizes[-1]})"
    return f"at {sizes[0]}" if len(sizes) == 1 else f"at {sizes[0]} to {sizes[-1]}"


def _forms_table(source: Source) -> Iterator[Table]:
    """The Jacobian, the one-liner and the fastest form of NumPy and of all libraries, by features."""
    batch = ARTICLE_SHAPE[0]
    rows = source.by_shape[source.by_shape["batch"] == batch]
    if rows["time_s"].isna().all():
        return
    best = _fastest_numpy(source)
    in_numpy = best[best.index.get_level_values("batch") == batch].reset_index()
    lines = [
        [f"{batch} × {features}", *_forms(mine, in_numpy[in_numpy["features"] == features])]
        for features, mine in rows.groupby("features")
    ]
    caption = f"Time of one call at batch {batch}, {LOGITS} logits, {DTYPE}, one thread, with its interval"
    yield Table(caption, ["batch × features", JACOBIAN, VECTORIZED, "fastest in NumPy", "fastest of all"], lines)


def _forms(rows: pd.DataFrame, in_numpy: pd.DataFrame) -> Iterator[str]:
    """The cells of one shape: the two forms' times or why there is none, and the fastest forms by name."""
    timed = rows[(rows["status"] == "measured") & rows["time_s"].notna()]
    for name in (JACOBIAN, VECTORIZED):
        mine = timed[timed["implementation"] == name]
        statuses = rows.loc[rows["implementation"] == name, "status"]
        yield time_with_interval(mine.iloc[0]) if len(mine) else ", ".join(statuses) or "not in this run"
    for fastest in (in_numpy, timed.sort_values("time_s").head(1)):
        names = [f"{row['implementation']} {quantity(row['time_s'], 's')}" for _, row in fastest.iterrows()]
        yield ", ".join(names) or "–"


def _trust(source: Source) -> Iterator[Answer]:
    pair = article_pair(source)
    settled = list(settling_sentences(source.frame))
    if pair is not None and pd.notna(pair.vectorized["speedup_low"]):
        low, high = (factor(pair.vectorized[name]) for name in ("speedup_low", "speedup_high"))
        state = "have settled" if pair.settled else "have not both settled, so take the interval, not the number"
        yield Answer(
            "How sure is the factor?",
            f"Another run on this machine should give {low} to {high}, in 95 of 100 runs, for the article's case; its "
            f"two times {state}. On another machine it will differ.",
        )
    if settled:
        weather = weather_sentence(source)
        paces = pace_sentences(source.visits)
        yield Answer("Was the machine quiet?", " ".join(filter(None, [weather, *settled, *paces])))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
