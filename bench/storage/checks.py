"""What a stored record cannot say: numbers out of order, names that do not exist, times below the floor.

Each check returns what is wrong, in a phrase that begins with the column or the field, or nothing.
"""

import datetime
import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ..instruments.bandwidth import FASTEST_CACHE_BYTES_PER_S
from .kinds import LARGEST_WHOLE


def missing(record: object, columns: Collection[str]) -> str:
    """Which of the columns has no value."""
    return next((f"column {column!r}: missing" for column in columns if math.isnan(getattr(record, column))), "")


def out_of_order(record: object, orders: Collection[Sequence[str]]) -> str:
    """Which column has a smaller number than the one before it in an order; missing ones are passed over."""
    for order in orders:
        known = [(column, value) for column in order if _is_known(value := getattr(record, column))]
        for (before, smaller), (column, larger) in itertools.pairwise(known):
            if larger < smaller:
                return f"column {column!r}: {larger!r} is less than the {smaller!r} of {before!r}"
    return ""


def unknown_name(record: object, known: Mapping[str, Collection[str]]) -> str:
    """Which column has a name that is not among the known ones of that column."""
    for column, names in known.items():
        if (name := getattr(record, column)) not in names:
            return f"column {column!r}: {name!r} is not one of {', '.join(names)}"
    return ""


def below_floor(record: object, columns: Collection[str], moved_bytes: int, threads: int) -> str:
    """Which column has fewer seconds than moving so many bytes takes at the fastest cache's rate."""
    floor_s = moved_bytes / FASTEST_CACHE_BYTES_PER_S / threads
    for column in columns:
        if (seconds := getattr(record, column)) < floor_s:
            return f"column {column!r}: {seconds!r} is less than the {floor_s:.3g} s that moving the arrays takes"
    return ""


def incomplete_run(content: Any) -> str:
    """What readers of a run.json need and do not find in this one."""
    return next(_oddities_of_run(content), "")


def _oddities_of_run(run: Any) -> Iterator[str]:
    try:
        datetime.datetime.fromisoformat(run.started)
    except ValueError:
        yield f"started: {run.started!r} is no time in ISO 8601"
    for fact in ("cpu", "system"):
        if not isinstance(run.machine.get(fact), str):
            yield f"machine: {fact}: {run.machine.get(fact)!r} is not a text"
    for fact in ("cores", "memory_bytes"):
        value = run.machine.get(fact)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_WHOLE:
            yield f"machine: {fact}: {value!r} is not a whole number, 1 or more"
    if "python" not in run.versions:
        yield "versions: python is missing"
    for spec in run.implementations:
        for part in ("operation", "name"):
            if not isinstance(spec.get(part), str):
                yield f"implementations: {part}: {spec.get(part)!r} is not a text"
        if not isinstance(spec.get("library", ""), str):
            yield f"implementations: library: {spec['library']!r} is not a text"
    for point in run.ceiling:
        if min(point.threads, point.working_set_bytes, point.bytes_per_s) <= 0:
            yield f"ceiling: {point} has a number that is not more than 0"


def _is_known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)
