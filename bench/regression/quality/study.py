"""How often the regression check is right: false alarms on identical code, and detection of known slow-downs.

A trial runs a gate once under a stated condition and stores the outcome. The slow-downs are real: a share of each call
spent spinning, or changed source. The usual gates are tried on the same cases: pytest-benchmark, which compares a new
run with a stored one, and asv if it is installed.
"""

import contextlib
import dataclasses
import math
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil

from ...errors import UserError
from ...implementations import NUMPY, is_installed, registered
from ...instruments.host import now_utc
from ...instruments.scratch import temporary_folder
from ...paths import IMPLEMENTATIONS
from ...storage.files import make_folder
from ...storage.kinds import Count, Elapsed, Error, Flag
from ...storage.tables import Table, load_table
from ..duel import Duel
from ..gate import Rule, controls_of, duels_of, judge_duels
from .usual_gates import ASV_FACTORS, STORED_RUN_RULES, asv_alarms, stored_run_alarms

GATE = "gate"
STORED_RUN, ASV = STORED_RUN_RULES[0], next(iter(ASV_FACTORS))
LEAST_SPUN_TRAFFIC_BYTES = 100_000  # calls with less traffic are too short to spin a hundredth of their time


@dataclass(frozen=True)
class Change:
    """A real change of one implementation: a text in the source, and what takes its place."""

    implementation: str
    old: str
    new: str


CHANGES = {
    "comment": Change("vectorized", "import numpy as np\n", "import numpy as np  # a comment more\n"),
    "copy": Change("vectorized", "(grad_output - (grad_output * probs)", "(grad_output.copy() - (grad_output * probs)"),
    "upcast": Change(
        "vectorized_out",
        "np.subtract(grad_output, out.sum(axis=1, keepdims=True), out=out)",
        "np.subtract(grad_output, out.sum(axis=1, keepdims=True, dtype=np.longdouble).astype(out.dtype), out=out)",
    ),
    "strided": Change(
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
    """What is tried: a gate on a kind of change, under a load of the machine, and how many ``trials`` the plan has.

    ``kind``: comment (identical code), spin (a share of one case's calls spent spinning), uniform (of all cases'
    calls), or copy, upcast and strided (changed source). ``size`` is the slow-down as a share, NaN if it is not known.
    ``method`` is the gate. A run of a usual gate is judged by several rules; the condition has the first of them.
    """

    kind: str
    trials: int
    size: float = 0.0
    load: str = "idle"
    method: str = GATE


PLAN = (
    Condition("comment", trials=60),
    Condition("spin", trials=20, size=0.01),
    Condition("spin", trials=30, size=0.02),
    Condition("spin", trials=20, size=0.03),
    Condition("spin", trials=5, size=0.05),
    Condition("spin", trials=3, size=0.03, load="one core hogged"),
    Condition("spin", trials=20, size=0.03, load="both cores hogged"),
    Condition("spin", trials=20, size=0.05, load="memory hogged"),
    Condition("uniform", trials=2, size=0.05),
    *(Condition(kind, trials=2, size=math.nan) for kind in ("copy", "upcast", "strided")),
    *(Condition("comment", trials=10, method=method) for method in USUAL_GATES),
    *(Condition("spin", trials=3, size=size, method=STORED_RUN) for size in (0.01, 0.02, 0.03, 0.05)),
    *(Condition("spin", trials=2, size=size, method=ASV) for size in (0.01, 0.02, 0.03, 0.05)),
)


@dataclass(frozen=True)
class Trial:
    """One run of one gate, under the condition that ``method``, ``kind``, ``size`` and ``load`` name."""

    started: str
    method: str  # gate, or a rule of pytest-benchmark's comparison or of asv's
    kind: str
    size: Error
    load: str
    target: str  # the case or implementation that was slowed down, or all; empty if none was
    outcome: str  # passed, regression, inconclusive
    found: Flag  # 1 if the target is among the alarms, otherwise 0
    false_alarms: Count  # alarms on anything else
    alarms: str
    wall_s: Elapsed
    note: str


def open_trials(folder: Path) -> Table[Trial]:
    """The stored trials, open for appending; makes the folder.

    Raises:
        UserError: the folder or the table cannot be written.
    """
    make_folder(folder)
    return Table(folder / "trials.csv", Trial)


def load_trials(folder: Path) -> pd.DataFrame:
    """The stored trials.

    Raises:
        UserError: the table is missing or damaged.
    """
    hint = "make gate-quality adds trials, and repairs it"
    trials = [trial for _, trial in load_table(folder / "trials.csv", Trial, hint)]
    return pd.DataFrame([dataclasses.asdict(trial) for trial in trials], columns=list(Trial.__dataclass_fields__))


def next_condition(trials: pd.DataFrame) -> tuple[Condition, int] | None:
    """The condition that lacks the largest share of its trials, and how many it has; None if the plan is complete.

    Conditions of a gate that is not installed are left out.
    """

    def stored(condition: Condition) -> int:
        same_size = trials["size"].isna() if math.isnan(condition.size) else trials["size"] == condition.size
        same_change = (trials["kind"] == condition.kind) & same_size
        return int((same_change & (trials["load"] == condition.load) & (trials["method"] == condition.method)).sum())

    counts = {condition: stored(condition) for condition in PLAN if condition.method != ASV or is_installed("asv")}
    following = min(counts, key=lambda condition: counts[condition] / condition.trials)
    return None if counts[following] >= following.trials else (following, counts[following])


def make_trials(condition: Condition, seed: int, progress: Callable[[str], None]) -> list[Trial]:
    """Run a gate once under a condition: a trial for each rule that judges the run.

    ``seed`` chooses the case that is slowed down.
    """
    if condition.method == GATE:
        return [try_check(condition, seed, progress)]
    return try_usual_gate(condition, seed)


def try_check(condition: Condition, seed: int, progress: Callable[[str], None]) -> Trial:
    """One trial of the suite's own check."""
    with slowed(condition, seed) as (base, duels, target):
        started = time.perf_counter()
        check = judge_duels(duels, controls_of(str(base)), Rule(), "base", progress)
        wall_s = time.perf_counter() - started
    alarms = [finding.label for finding in check.findings if check.fails_by(finding)]
    return trial_of(condition, target, check.exit.name.lower(), alarms, wall_s, note=check.inconclusive)


def try_usual_gate(condition: Condition, seed: int) -> list[Trial]:
    """One run of a usual gate: a trial for each rule that judges it."""
    with slowed(condition, seed) as (_, duels, target):
        started = time.perf_counter()
        alarms_by_rule = USUAL_GATES[condition.method](duels)
        wall_s = time.perf_counter() - started
    return [
        trial_of(
            dataclasses.replace(condition, method=rule), target, "regression" if alarms else "passed", alarms, wall_s
        )
        for rule, alarms in alarms_by_rule.items()
    ]


@contextlib.contextmanager
def slowed(condition: Condition, seed: int) -> Iterator[tuple[Path, list[Duel], str]]:
    """Put a condition in force: yields the base's folder, the duels of the check, and what is slowed down in them."""
    kind = condition.kind
    with two_copies(kind) as (base, work), load_machine(condition.load):
        implementations = registered()
        duels = duels_of(base, work, implementations, implementations)
        if condition.method != GATE:  # the usual gates run all cases in one process
            duels = [duel for duel in duels if duel.sitting == NUMPY]
        target = CHANGES[kind].implementation if kind in CHANGES and kind != "comment" else ""
        if kind in ("spin", "uniform"):
            duels, target = _spun(duels, condition.size, seed, uniform=kind == "uniform")
        yield base, duels, target


def trial_of(
    condition: Condition, target: str, outcome: str, alarms: list[str], wall_s: float, note: str = ""
) -> Trial:
    """A trial with its alarms counted: those on the target, and the false ones; without a target all are false."""
    # A loss of two nodes calls the implementation of softmax's backward in its name, so a change reaches both.
    names = (target, f"two_nodes_{target}")
    hits = [label for label in alarms if target and (target in ("all", label) or label.split()[0] in names)]
    return Trial(
        started=now_utc(),
        method=condition.method,
        kind=condition.kind,
        size=condition.size,
        load=condition.load,
        target=target,
        outcome=outcome,
        found=int(bool(hits) and outcome == "regression"),
        false_alarms=len(set(alarms) - set(hits)),
        alarms="; ".join(alarms),
        wall_s=round(wall_s, 1),
        note=note,
    )


def _spun(duels: list[Duel], size: float, seed: int, *, uniform: bool) -> tuple[list[Duel], str]:
    """The duels with a share of each call spent spinning, and what is slowed down: a case, or all that are able.

    Able are those whose call is long enough, and whose margin is at most half of the slow-down. The base of a slowed
    duel is padded by 0, so that the clock's own cost is the same on both sides.
    """
    able = [
        duel
        for duel in duels
        if duel.case.spec.traffic(duel.case.batch, duel.case.features, duel.case.itemsize) > LEAST_SPUN_TRAFFIC_BYTES
        and 2 * duel.margin <= size
    ]
    chosen = set(able) if uniform else {random.Random(seed).choice(able)}  # noqa: S311 - a choice, not a secret
    spun = [
        dataclasses.replace(
            duel,
            base=dataclasses.replace(duel.base, padding=0.0),
            work=dataclasses.replace(duel.work, padding=size),
        )
        if duel in chosen
        else duel
        for duel in duels
    ]
    return spun, "all" if uniform else next(iter(chosen)).label


@contextlib.contextmanager
def two_copies(kind: str) -> Iterator[tuple[Path, Path]]:
    """Two copies of the implementations, the second with the change of that kind.

    Raises:
        UserError: the text that is changed is not in the source exactly once.
    """
    with temporary_folder() as folder:
        base, work = folder / "base", folder / "work"
        for copy in (base, work):
            shutil.copytree(IMPLEMENTATIONS, copy, ignore=shutil.ignore_patterns("__pycache__"))
        if kind in CHANGES:
            change = CHANGES[kind]
            source = work / "softmax.py"
            text = source.read_text(encoding="utf-8")
            if text.count(change.old) != 1:
                raise UserError(
                    f"the change {kind!r} no longer applies: {change.old!r} is not in softmax.py exactly once"
                )
            source.write_text(text.replace(change.old, change.new), encoding="utf-8")
        yield base, work


@contextlib.contextmanager
def load_machine(load: str) -> Iterator[None]:
    """Keep the machine busy with other work until the block ends."""
    hogs = [subprocess.Popen([sys.executable, "-c", code]) for code in LOADS[load]]
    try:
        for hog in hogs:
            psutil.Process(hog.pid).cpu_percent(interval=0.3)  # gives it time to start
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
