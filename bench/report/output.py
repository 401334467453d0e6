"""Compared runs as text: tables for the terminal, sentences, and JSON."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from ..operations import operations
from ..operations.cases import Case
from ..storage.results import Row
from ..sweep.summary import shape_label
from ..units import factor, quantity, significant
from .differences import Comparison, Difference, Measure, Ratio, StoredRun
from .history import History, Step, Track

NAMED = 3  # cases or files that a sentence names
WORDS = {  # of a difference whose ratio is above 1, and below it
    Measure.TIME: ("slower", "faster"),
    Measure.PEAK: ("larger", "smaller"),
    Measure.ERROR: ("less exact", "more exact"),
}
NEUTRAL_WORDS = {  # between unlike machines or versions
    Measure.TIME: "takes {} the time there",
    Measure.PEAK: "needs {} the memory there",
    Measure.ERROR: "has {} the error there",
}
UNSETTLED = "not settled"
TOLD_PACE = 0.01  # as a logarithm: how much faster or slower a processor has to be to be mentioned
COMPARED_HEADINGS = ("case", "old", "new", "new / old", "interval", "verdict")
HISTORY_HEADINGS = ("run", "time", "interval", "of the first", "step")
STYLES = {"slower": "red", "larger": "red", "less exact": "red", "faster": "green", "smaller": "green"}


def label_of(case: Case) -> str:
    """A case in a few words without what is usual, as in 'vectorized 32 × 512 float32'."""
    shape = shape_label(dataclasses.asdict(case))
    return f"{case.implementation} {shape} {operations()[case.operation].label}".rstrip()


def to_table(comparison: Comparison) -> Table:
    """The differing cases, what is settled first and then the largest ratio; long cases wrap between words."""
    labels = [label_of(difference.case) for difference in comparison.differences]
    first, *middle, last = COMPARED_HEADINGS
    table = _new_table(first, width=max(len(word) for label in labels for word in label.split()))
    for heading in middle:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(last)
    for difference, cells in zip(comparison.differences, compared_cells(comparison), strict=True):
        style = "" if comparison.unlike.surroundings or not difference.settled else STYLES.get(_word(difference), "")
        table.add_row(*map(Text, cells), style=style)
    return table


def compared_cells(comparison: Comparison) -> Iterator[list[str]]:
    """A row of texts under ``COMPARED_HEADINGS`` for each difference, in their order."""
    for difference in comparison.differences:
        yield [
            label_of(difference.case),
            _value(difference.old, difference.measure),
            _value(difference.new, difference.measure),
            "" if math.isnan(difference.ratio.value) else factor(difference.ratio.value),
            _interval(difference.ratio),
            _verdict(difference, neutral=bool(comparison.unlike.surroundings)),
        ]


def opening_sentences(comparison: Comparison) -> Iterator[str]:
    """Which runs are compared, what is unlike about them, and what follows from that."""
    unlike, old, new = comparison.unlike, comparison.old, comparison.new
    yield f"Old: {old.name} ({_when(old)}), new: {new.name} ({_when(new)})."
    if unlike.surroundings:
        yield f"{new.name} is unlike {old.name} in {'; '.join(unlike.surroundings)}."
        yield "So nothing is called slower or faster: a ratio says what a case takes there."
    if unlike.code:
        files = "file" if len(unlike.code) == 1 else "files"
        verb = "differs" if len(unlike.code) == 1 else "differ"
        yield f"{len(unlike.code)} {files} of the suite {verb}: {_listed(unlike.code)}."
    if unlike.seed:
        yield f"The inputs are unlike ({unlike.seed[0]}), so errors are not compared."
    if abs(math.log(comparison.pace)) > TOLD_PACE:
        share = max(comparison.pace, 1.0 / comparison.pace) - 1.0
        slower = "slower" if comparison.pace > 1.0 else "faster"
        yield f"In {new.name} the processor was {share:.1%} {slower}: a time that this may explain does not differ."
    yield from ended_sentences([old, new])


def ended_sentences(runs: Iterable[StoredRun]) -> Iterator[str]:
    """A sentence for each run that was broken off."""
    for run in runs:
        if not run.run.ended:
            yield f"{run.name} was broken off before its visits came to their end; RESUME={run.run.run_id} ends it."


def result_sentences(comparison: Comparison) -> Iterator[str]:
    """How many cases were compared and differ, what could not be compared, and what only one of the runs has."""
    beyond, unsettled = comparison.beyond, comparison.unsettled
    differing = len({difference.case for difference in beyond})
    number = f"{differing or 'none'} {_differ(differing or 1)}"
    found = f"{_counted(len(comparison.compared))} compared, {number} beyond both intervals"
    yield f"{found}: {_kinds(comparison)}." if beyond else f"{found}."
    if unsettled:
        labels = _listed([label_of(difference.case) for difference in unsettled])
        yield f"{len(unsettled)} more {_differ(len(unsettled))} in a time that is not settled: {labels}."
    if len(comparison.untimed) == comparison.measured > 0:
        yield "Times cannot be compared: one of the runs has none with an interval, as runs of earlier versions."
    elif comparison.untimed:
        yield f"{_counted(len(comparison.untimed))} cannot be compared in time: one of the runs has no interval there."
    for run, cases in ((comparison.old, comparison.only_old), (comparison.new, comparison.only_new)):
        if cases:
            yield f"{_counted(len(cases))} only in {run.name}: {_listed(list(map(label_of, cases)))}."


def _kinds(comparison: Comparison) -> str:
    """The settled differences counted by kind, as in '2 slower, 1 larger'."""
    if comparison.unlike.surroundings:
        counts = Counter(f"in {difference.measure}" for difference in comparison.beyond)
    else:
        counts = Counter(map(_word, comparison.beyond))
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _word(difference: Difference) -> str:
    if difference.measure is Measure.STATUS:
        return f"now {difference.new.status}"
    grown, shrunk = WORDS[difference.measure]
    value = difference.ratio.value
    return shrunk if value < 1 else grown


def _verdict(difference: Difference, *, neutral: bool) -> str:
    if difference.measure is Measure.STATUS:
        reason = difference.new.reason or difference.old.reason
        return f"{_word(difference)}: {reason}" if reason else _word(difference)
    neutral = neutral and not math.isnan(difference.ratio.value)
    word = NEUTRAL_WORDS[difference.measure].format(factor(difference.ratio.value)) if neutral else _word(difference)
    return word if difference.settled else f"{word}, {UNSETTLED}"


def _value(row: Row, measure: Measure) -> str:
    match measure:
        case Measure.STATUS:
            return row.status
        case Measure.TIME:
            return quantity(row.time_s, "s")
        case Measure.PEAK:
            return quantity(math.nan if row.peak_bytes is None else row.peak_bytes, "B")
        case Measure.ERROR:
            return f"{significant(row.max_error_ulp)} ulp"


def _interval(ratio: Ratio) -> str:
    return "" if math.isnan(ratio.low + ratio.high) else f"{significant(ratio.low)} to {significant(ratio.high)}"


def _counted(number: int) -> str:
    return "1 case" if number == 1 else f"{number} cases"


def _differ(number: int) -> str:
    return "differs" if number == 1 else "differ"


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _when(run: StoredRun) -> str:
    return run.run.started[:16].replace("T", " ")


def _new_table(first: str, width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, min_width=width)
    return table


def history_table(history: History) -> Table:
    """The chosen cases over the runs: time, interval, share of the first time, and what the step to it says."""
    first, *middle, last = HISTORY_HEADINGS
    table = _new_table(first, width=2 + max(len(run.name) for run in history.runs))
    for heading in middle:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(last)
    for track in history.tracks:
        table.add_row(Text(label_of(track.case), style="bold"))
        for place, row in enumerate(track.rows):
            name, *cells = history_cells(history, track, place, row)
            table.add_row(*map(Text, [f"  {name}", *cells]))
        table.add_section()
    return table


def history_cells(history: History, track: Track, place: int, row: Row | None) -> list[str]:
    """The texts under ``HISTORY_HEADINGS`` for a case's row in the run at a place."""
    name = history.runs[place].name
    if row is None:
        return [name, "–", "", "", ""]
    low, high = (quantity(bound, "s") for bound in (row.time_low_s, row.time_high_s))
    step = track.steps.get(place)
    said = [_step(step)] if step else []
    return [
        name,
        quantity(row.time_s, "s"),
        "" if math.isnan(row.time_low_s) else f"{low} to {high}",
        factor(row.time_s / track.first.time_s),
        ", ".join([*said, *([] if row.settled == 1 else [UNSETTLED])]),
    ]


def _step(step: Step) -> str:
    value = factor(step.ratio.value)
    if not step.comparable:
        return NEUTRAL_WORDS[Measure.TIME].format(value)
    grown, shrunk = WORDS[Measure.TIME]
    said = f"{grown if step.ratio.value > 1 else shrunk}, {value} ({_interval(step.ratio)})"
    return said if step.lasting else f"{said}, for one run"


def history_sentences(history: History) -> Iterator[str]:
    """Where runs are unlike, and how many steps there are beyond both intervals."""
    for place, unlike in history.breaks.items():
        phrases = "; ".join(unlike.surroundings)
        yield f"From {history.runs[place].name} on: {phrases}; nothing is called slower or faster across it."
    yield from ended_sentences(history.runs)
    steps = [
        f"{label_of(track.case)} at {history.runs[place].name}"
        for track in history.tracks
        for place in sorted(track.marked)
    ]
    counted = f"{len(steps)} {'step' if len(steps) == 1 else 'steps'} beyond both intervals"
    found = f"{len(history.runs)} runs, {_counted(len(history.tracks))}, {counted}"
    yield f"{found}: {_listed(steps)}." if steps else f"{found}."
    if history.left_out:
        yield f"{_counted(history.left_out)} changed less and {'is' if history.left_out == 1 else 'are'} not shown."


def comparison_json(comparison: Comparison) -> str:
    """A comparison as JSON; missing numbers are null."""
    unlike = comparison.unlike
    return _json(
        {
            "old": comparison.old.name,
            "new": comparison.new.name,
            "unlike": dataclasses.asdict(unlike),
            "comparable": not unlike.surroundings,
            "pace": comparison.pace,
            "compared": len(comparison.compared),
            "alike": comparison.alike,
            "differences": [
                {
                    "case": str(difference.case),
                    "measure": difference.measure,
                    **{when: _stored(row, difference.measure) for when, row in _both(difference)},
                    **dict(zip(("ratio", "low", "high"), difference.ratio, strict=True)),
                    "settled": {when: row.settled for when, row in _both(difference)},
                }
                for difference in comparison.differences
            ],
            "without_intervals": list(map(str, comparison.untimed)),
            "only_old": list(map(str, comparison.only_old)),
            "only_new": list(map(str, comparison.only_new)),
        }
    )


def history_json(history: History) -> str:
    """A history as JSON; missing numbers are null."""
    return _json(
        {
            "runs": [run.name for run in history.runs],
            "breaks": {history.runs[place].name: unlike.surroundings for place, unlike in history.breaks.items()},
            "cases": [
                {
                    "case": str(track.case),
                    "times": [
                        {
                            "run": history.runs[place].name,
                            **{name: getattr(row, name) for name in ("time_s", "time_low_s", "time_high_s", "settled")},
                            "step": place in track.marked,
                        }
                        for place, row in enumerate(track.rows)
                        if row is not None
                    ],
                }
                for track in history.tracks
            ],
        }
    )


def _both(difference: Difference) -> tuple[tuple[str, Row], tuple[str, Row]]:
    return ("old", difference.old), ("new", difference.new)


def _stored(row: Row, measure: Measure) -> str | float | int | None:
    stored: dict[Measure, str | float | int | None] = {
        Measure.STATUS: row.status,
        Measure.TIME: row.time_s,
        Measure.PEAK: row.peak_bytes,
        Measure.ERROR: row.max_error_ulp,
    }
    return stored[measure]


def _json(content: dict[str, Any]) -> str:
    return json.dumps(_plain(content), indent=1, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    """The value with null for each missing number in it."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
