"""The study: which known mistakes pass each rule, and whether right forms do, by dtype, inputs and size."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..instruments import host
from ..storage.descriptions import load_description, store_description
from ..storage.kinds import Count, Flag, Share, Size
from ..storage.tables import load_table, write_table
from .draws import (
    DTYPES,
    OPERATIONS,
    Attempt,
    Draw,
    Function,
    counted_mistakes,
    kinds_of_inputs,
    make_draw,
    right_forms,
    tail_missing,
    zeros,
)
from .rules import RULES, Rule

FEATURES = (10, *(1 << power for power in range(4, 18)))  # to 131072
DRAWS = 2  # of the inputs; a test passes if it does on all
SEED = 42
TABLE = "outcomes.csv"
HINT = "make tolerances stores it anew"


@dataclass(frozen=True)
class Outcome:
    """What one rule lets through at one dtype, operation, kind of inputs and size; a row of the table."""

    rule: str
    dtype: str
    operation: str
    inputs: str  # a name in `INPUTS`
    features: Size
    mistakes: Count  # that are counted, see `counted_mistakes`
    passing: Count  # of them, in every draw
    zeros_pass: Flag  # 1: a gradient of zeros passes in every draw
    tail_passes: Share  # 1: so does a right one whose last element of each row is 0; NaN: there it mostly is 0
    right_forms: Count
    right_rejected: Count  # of them, in any draw
    passing_names: str  # the mistakes that pass, with spaces between


@dataclass(frozen=True)
class Study:
    """What run.json holds: when, on what machine and with which versions the table was made, and the rules' sources."""

    started: str  # ISO 8601, UTC
    seed: int
    draws: int
    sources: dict[str, str]
    machine: dict[str, Any]
    versions: dict[str, str]


def measure(progress: Callable[[str], None]) -> Iterator[Outcome]:
    """Measure the rows of the study, one by one; ``progress`` gets each condition in words."""
    for dtype, features, operation in itertools.product(DTYPES, FEATURES, OPERATIONS):
        for kind in kinds_of_inputs(operation, dtype):
            progress(f"{dtype}, {features} features, {operation}, {kind} inputs")
            yield from outcomes(dtype, features, operation, kind)


def outcomes(dtype: str, features: int, operation: str, kind: str) -> Iterator[Outcome]:
    """The rows of all rules under one condition; none if no right form has a finite gradient.

    That is cross-entropy's of a probability that has underflowed to 0.
    """
    draws = [make_draw(operation, dtype, features, kind, SEED + number) for number in range(DRAWS)]
    if not all(np.isfinite(draw.expected).all() for draw in draws):
        return
    rules = [rule for rule in RULES if rule.judges(dtype, features)]
    mistakes, forms = (find(operation, dtype, features) for find in (counted_mistakes, right_forms))
    passed_by = {name: _passed(function, draws, rules) for name, function in mistakes.items()}
    forms_passed = [_passed(function, draws, rules) for function in forms.values()]
    zeros_passed = _passed(zeros, draws, rules)
    tail_passed = _passed(tail_missing(next(iter(forms.values()))), draws, rules)
    for rule in rules:
        passing = [name for name, passed in passed_by.items() if rule.name in passed]
        yield Outcome(
            rule=rule.name,
            dtype=dtype,
            operation=operation,
            inputs=kind,
            features=features,
            mistakes=len(mistakes),
            passing=len(passing),
            zeros_pass=int(rule.name in zeros_passed),
            tail_passes=math.nan if operation == "cross_entropy" else float(rule.name in tail_passed),
            right_forms=len(forms),
            right_rejected=sum(rule.name not in passed for passed in forms_passed),
            passing_names=" ".join(passing),
        )


def _passed(function: Function, draws: list[Draw], rules: list[Rule]) -> set[str]:
    """The names of the rules that accept the function on every draw."""
    attempts = [Attempt(function, draw) for draw in draws]
    return {rule.name for rule in rules if all(rule.accepts(attempt) for attempt in attempts)}


def store(rows: list[Outcome], folder: Path) -> None:
    """Store the rows, and with which rules, machine and versions they were measured.

    Raises:
        UserError: the folder cannot be written.
    """
    write_table(folder / TABLE, rows)
    sources = {rule.name: rule.source for rule in RULES}
    store_description(folder, Study(host.now_utc(), SEED, DRAWS, sources, host.machine(), host.versions()))


def load_study(folder: Path) -> tuple[Study, pd.DataFrame]:
    """The stored study and its rows.

    Raises:
        UserError: there is none, or it is damaged; the message names the file.
    """
    rows = [row for _, row in load_table(folder / TABLE, Outcome, HINT)]
    return load_description(folder, Study, HINT), pd.DataFrame([dataclasses.asdict(row) for row in rows])
