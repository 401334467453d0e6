"""How good the regression check is: false alarms on identical code and detection of known slow-downs.

Each trial runs a gate once under a stated condition and stores what it said. The slow-downs are real: a share of each
call spun away, or changed source. Beside it stand the usual gates on the same cases: pytest-benchmark's comparison of
a new run with a stored one, and asv where it is installed.
"""

import contextlib
import dataclasses
import math
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil

from ...errors import UserError
from ...implementations import registered
from ...instruments.host import now_utc
from ...paths import IMPLEMENTATIONS
from ...storage.tables import Table, load_table
from ..duet import Duel
from ..gate import Rule, controls_of, duels_of, judge_duels
from .usual_gates import ASV_FACTORS, STORED_RUN_RULES, asv_alarms, asv_is_here, stored_run_alarms

GATE = "gate"
STORED_RUN, ASV = STORED_RUN_RULES[0], next(iter(ASV_FACTORS))
SHORTEST_SPUN_CALL_BYTES = 100_000  # of traffic: below, a call is too short for spinning a hundredth of it

# Real changes of one implementation, as (implementation, old text, new text) in its source.
CHANGES = {
    "comment": ("vectorized", '"""The one-liner: ', '"""The one-liner again: '),
    "copy": ("vectorized", "(grad_output - (grad_output * probs)", "(grad_output.copy() - (grad_output * probs)"),
    "upcast": (
        "vectorized_out",
        "np.subtract(grad_output, out.sum(axis=1, keepdims=True), out=out)",
        "np.subtract(grad_output, out.sum(axis=1, keepdims=True, dtype=np.longdouble).astype(out.dtype), out=out)",
    ),
    "strided": (
        "vectorized_vecdot",
        "np.vecdot(probs, grad_output)",
        "np.vecdot(np.asfortranarray(probs), grad_output)",
    ),
}
LOADS = {
    "idle": [],
    "one core hogged": ["while True: pass"],
    "both cores hogged": ["while True: pass"] * 2,
    "memory hogged": ["import numpy\na = numpy.ones(1 << 24)\nwhile True: a[:] = a[::-1]"],
}
USUAL_GATES: dict[str, Callable[[list[Duel]], dict[str, list[str]]]] = {
    STORED_RUN: stored_run_alarms,
    ASV: asv_alarms,
}


@dataclass(frozen=True)
class Condition:
    """What a trial is made under, and how many of it the study wants.

    ``method`` is the trials'; that of a usual gate is its first rule, as each of its runs is judged by every rule.
    """

    kind: str
    size: float
    load: str
    wanted: int
    method: str = GATE


# A comment is identical code. Sizes of changed source are not known beforehand: they are NaN.
PLAN = (
    Condition("comment", 0.0, "idle", 60),
    Condition("spin", 0.01, "idle", 20),
    Condition("spin", 0.02, "idle", 30),
    Condition("spin", 0.03, "idle", 20),
    Condition("spin", 0.05, "idle", 5),
    Condition("spin", 0.03, "one core hogged", 3),
    Condition("spin", 0.03, "both cores hogged", 20),
    Condition("spin", 0.05, "memory hogged", 20),
    Condition("uniform", 0.05, "idle", 2),
    *(Condition(kind, float("nan"), "idle", 2) for kind in ("copy", "upcast", "strided")),
    *(Condition("comment", 0.0, "idle", 10, method) for method in USUAL_GATES),
    *(Condition("spin", share, "idle", 3, STORED_RUN) for share in (0.01, 0.02, 0.03, 0.05)),
    *(Condition("spin", share, "idle", 2, ASV) for share in (0.01, 0.02, 0.03, 0.05)),
)


@dataclass(frozen=True)
class Trial:
    """One run of one gate. ``kind``: comment, spin, uniform, copy, upcast or strided; ``size``: its known share."""

    started: str
    method: str  # gate, or a rule of pytest-benchmark's comparison or of asv's
    kind: str
    size: float
    load: str
    target: str  # the case or implementation that was slowed down; empty where none was
    outcome: str  # passed, regression, inconclusive
    found: int  # 1 where the target is among the alarms
    false_alarms: int  # alarms on anything else
    alarms: str
    wall_s: float
    note: str


def open_trials(folder: Path) -> Table[Trial]:
    """The stored trials open for appending; the folder is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    return Table(folder / "trials.csv", Trial)


def load_trials(folder: Path) -> pd.DataFrame:
    """The stored trials.

    Raises:
        UserError: there are none, or the table is damaged.
    """
    trials = [trial for _, trial in load_table(folder / "trials.csv", Trial, "run the next trial to repair it")]
    return pd.DataFrame([dataclasses.asdict(trial) for trial in trials], columns=list(Trial.__dataclass_fields__))


def next_condition(trials: pd.DataFrame) -> tuple[Condition, int] | None:
    """The condition of the plan that lacks the largest share of its trials, and how many it has; None: none lacks.

    Conditions of a gate that is not installed are passed over.
    """

    def made(condition: Condition) -> int:
        same_size = trials["size"].isna() if math.isnan(condition.size) else trials["size"] == condition.size
        mine = (trials["method"] == condition.method) & (trials["kind"] == condition.kind)
        return int((mine & same_size & (trials["load"] == condition.load)).sum())

    able = [condition for condition in PLAN if condition.method != ASV or asv_is_here()]
    lacking = [(made(condition) / condition.wanted, made(condition), condition) for condition in able]
    share, count, condition = min(lacking, key=lambda one: one[0])
    return None if share >= 1.0 else (condition, count)


def make_trials(condition: Condition, seed: int, progress: Callable[[str], None]) -> list[Trial]:
    """One more trial under a condition."""
    if condition.method == GATE:
        return [try_gate(condition.kind, condition.size, condition.load, seed, progress)]
    return try_usual(condition.method, condition.kind, condition.size, condition.load, seed)


def try_gate(kind: str, size: float, load: str, seed: int, progress: Callable[[str], None]) -> Trial:
    """One trial of the suite's own gate; ``seed`` chooses the case that is slowed down."""
    with _slowed(kind, size, load, seed) as (base, duels, target):
        started = time.perf_counter()
        check = judge_duels(duels, controls_of(str(base)), Rule(), "base", progress)
    alarms = [finding.label for finding in check.findings if finding.is_regression]
    return _trial(
        GATE,
        kind,
        size,
        load,
        target,
        check.exit.name.lower(),
        alarms,
        time.perf_counter() - started,
        check.inconclusive,
    )


def try_usual(method: str, kind: str, size: float, load: str, seed: int) -> list[Trial]:
    """One trial of a usual gate: one for each of the rules that it judges by."""
    with _slowed(kind, size, load, seed) as (_, duels, target):
        started = time.perf_counter()
        alarms_by_rule = USUAL_GATES[method](duels)
        wall_s = time.perf_counter() - started
    return [
        _trial(rule, kind, size, load, target, "regression" if alarms else "passed", alarms, wall_s, "")
        for rule, alarms in alarms_by_rule.items()
    ]


@contextlib.contextmanager
def _slowed(kind: str, size: float, load: str, seed: int) -> Iterator[tuple[Path, list[Duel], str]]:
    """A condition in force: the base's folder, the duels of the check, and what is slowed down in them."""
    with _two_copies(kind) as (base, work), _load(load):
        implementations = registered()
        duels = duels_of(base, work, implementations, implementations)
        target = CHANGES[kind][0] if kind in CHANGES and kind != "comment" else ""
        if kind in ("spin", "uniform"):
            duels, target = _spun(duels, size, seed, uniform=kind == "uniform")
        yield base, duels, target


def _trial(
    method: str,
    kind: str,
    size: float,
    load: str,
    target: str,
    outcome: str,
    alarms: list[str],
    wall_s: float,
    note: str,
) -> Trial:
    """A trial told: an alarm on the target is found, one on anything else is false (any is, without a target)."""
    # A change of one implementation's source also reaches the loss whose second node it is.
    hits = [
        label
        for label in alarms
        if target and (target in ("all", label) or label.split()[0] in (target, f"two_nodes_{target}"))
    ]
    return Trial(
        started=now_utc(),
        method=method,
        kind=kind,
        size=size,
        load=load,
        target=target,
        outcome=outcome,
        found=int(bool(hits) and outcome == "regression"),
        false_alarms=len(set(alarms) - set(hits)),
        alarms="; ".join(alarms),
        wall_s=round(wall_s, 1),
        note=note,
    )


def _spun(duels: list[Duel], size: float, seed: int, *, uniform: bool) -> tuple[list[Duel], str]:
    """The duels with a share of each call spun away in one of them or in all; the other side's clock runs as well."""
    able = [
        duel
        for duel in duels
        if duel.case.spec.traffic(duel.case.batch, duel.case.features, 8) > SHORTEST_SPUN_CALL_BYTES
    ]
    chosen = set(able) if uniform else {random.Random(seed).choice(able)}  # noqa: S311 - a choice, not a secret
    slowed = [
        dataclasses.replace(
            duel,
            base=dataclasses.replace(duel.base, padding=0.0),
            work=dataclasses.replace(duel.work, padding=size),
        )
        if duel in chosen
        else duel
        for duel in duels
    ]
    return slowed, "all" if uniform else next(iter(chosen)).label


@contextlib.contextmanager
def _two_copies(kind: str) -> Iterator[tuple[Path, Path]]:
    """The implementations twice, the second with the change of that kind."""
    with tempfile.TemporaryDirectory(prefix="softmax-bench-") as folder:
        base, work = Path(folder, "base"), Path(folder, "work")
        for copy in (base, work):
            shutil.copytree(IMPLEMENTATIONS, copy, ignore=shutil.ignore_patterns("__pycache__"))
        if kind in CHANGES:
            _, old, new = CHANGES[kind]
            source = work / "softmax.py"
            text = source.read_text(encoding="utf-8")
            if text.count(old) != 1:
                raise UserError(
                    f"the change {kind!r} no longer applies to the implementations: {old!r} is not there once"
                )
            source.write_text(text.replace(old, new), encoding="utf-8")
        yield base, work


@contextlib.contextmanager
def _load(load: str) -> Iterator[None]:
    """Other work on the machine while the block runs."""
    hogs = [subprocess.Popen([sys.executable, "-c", code]) for code in LOADS[load]]
    try:
        for hog in hogs:
            psutil.Process(hog.pid).cpu_percent(interval=0.3)  # under way
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
