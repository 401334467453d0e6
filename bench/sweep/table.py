"""The times in a run's table, which follow from its visits: stored when a run ends, and again whenever it is asked."""

import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..implementations import registered
from ..instruments.agreement import Moment, agreement_of, best_pace_s, estimated
from ..instruments.bandwidth import CeilingPoint, Stream
from ..storage.results import CASES, Row, load_rows, load_run, load_visits, write_run
from ..storage.tables import write_table
from .budget import implausible

SIGNIFICANT = 6  # digits of a stored time

Attempt = tuple[str, str]  # machine and attempt of a row or a visit, both empty in a run of one machine


def store_times(folder: Path, failed: Sequence[Row] = ()) -> int:
    """Store the times of a run's cases in its table, and its ceiling in run.json, both from visits.csv; how many times.

    ``failed`` are the rows of cases that failed after they were examined. A run without visits, of an earlier version
    or with nothing timed, stays as it is.

    Raises:
        UserError: a file is missing or damaged, or cannot be written.
    """
    run = load_run(folder)
    visits: dict[Attempt, dict[str, list[Moment]]] = defaultdict(lambda: defaultdict(list))
    for visit in load_visits(folder):
        visits[visit.machine, visit.attempt][visit.case].append(visit.moment)
    replaced = {row.case: row for row in failed}
    rows = [replaced.get(row.case, row) for row in load_rows(folder)]
    if not visits or not rows:
        return 0
    memory_bytes = run.machine["memory_bytes"]
    paces_s = {attempt: best_pace_s(itertools.chain(*found.values())) for attempt, found in visits.items()}
    timed = []
    for row in rows:
        attempt = row.machine, row.attempt
        moments = visits[attempt].get(str(row.case), [])
        timed.append(_with_times(row, moments, paces_s.get(attempt, math.inf), memory_bytes))
    write_table(folder / CASES, timed)
    counted = {(row.machine, row.attempt) for row in rows}
    points = [ceiling_of(visits[attempt], attempt[0]) for attempt in visits if attempt in counted]
    write_run(dataclasses.replace(run, ceiling=highest(itertools.chain(*points))), folder)
    return sum(row.visits is not None for row in timed)


def _with_times(row: Row, moments: Sequence[Moment], pace_s: float, memory_bytes: int) -> Row:
    """The row with what its visits say, or as it is where it was not measured or never visited.

    ``pace_s`` is the best pace of the run.
    """
    if row.status != "measured" or not moments:
        return row
    estimate = estimated(moments, agreement_of(row.threads, moments), pace_s)
    q1, median, q3 = np.quantile([moment.median_s for moment in moments], [0.25, 0.5, 0.75])
    timed = dataclasses.replace(
        row,
        time_s=_rounded(estimate.time_s),
        time_low_s=_rounded(estimate.low_s),
        time_high_s=_rounded(estimate.high_s),
        visits=estimate.visits,
        settled=int(estimate.settled),
        disturbed=_rounded(estimate.disturbed),
        time_min_s=_rounded(min(moment.fastest_s for moment in moments)),
        time_q1_s=_rounded(q1),
        time_median_s=_rounded(median),
        time_q3_s=_rounded(q3),
    )
    if (row.operation, row.implementation) not in registered():  # a user's own, of an earlier run
        return timed
    impossible = implausible(timed, row.case, memory_bytes)
    return dataclasses.replace(timed, status="failed", reason=impossible) if impossible else timed


def ceiling_of(visits: Mapping[str, Sequence[Moment]], machine: str = "") -> list[CeilingPoint]:
    """The ceiling: at each working set and number of threads, the rate of the fastest way to store."""
    return highest(
        CeilingPoint(
            stream.threads,
            stream.working_set_bytes,
            round(stream.working_set_bytes / estimated(moments, agreement_of(stream.threads, moments)).time_s),
            machine=machine,
        )
        for subject, moments in visits.items()
        if (stream := Stream.named(subject))
    )


def highest(points: Iterable[CeilingPoint]) -> list[CeilingPoint]:
    """Of the points of one machine, working set and number of threads the highest, in order."""
    found: dict[tuple[str, int, int], CeilingPoint] = {}
    for point in points:
        key = point.machine, point.threads, point.working_set_bytes
        found[key] = max(point, found.get(key, point), key=lambda point: point.bytes_per_s)
    return [found[key] for key in sorted(found)]


def _rounded(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT}g}")
