"""Other studies that lie beside a run: how good the check is, how repeatable, how exact, what wrong gradients do.

A study is one function, from its folder to its section; it is left out where its folder is not there.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from ..accuracy.command import sentences as accuracy_sentences
from ..accuracy.study import load_study as load_accuracy
from ..charts.style import made_with
from ..errors import NothingToDrawError, UserError
from ..regression.quality.chart import METHODS, gate_quality
from ..regression.quality.study import load_trials
from ..repeatability.chart import repeatability
from ..repeatability.outcomes import outcomes, percent
from ..repeatability.study import load_sessions
from ..repeatability.study import load_study as load_repeatability
from ..tolerances.command import cells_of
from ..tolerances.draws import INPUTS
from ..tolerances.findings import of_softmax
from ..tolerances.findings import sentences as tolerances_sentences
from ..tolerances.study import load_study as load_tolerances
from ..training.outcomes import CRITERIA, judge
from ..training.outcomes import sentences as training_sentences
from ..training.study import load_study as load_training
from .content import Section, Table
from .drawing import drawn_picture


def _quality(folder: Path) -> Section:
    trials = load_trials(folder)
    idle = trials[(trials["load"] == "idle") & trials["method"].isin(METHODS)]
    identical, slowed = idle[idle["kind"] == "comment"], idle[idle["kind"] == "spin"]
    sizes = sorted(slowed["size"].unique())
    rows = []
    for method, (name, _) in METHODS.items():
        mine = slowed[slowed["method"] == method]
        cells = [
            _share(identical[identical["method"] == method], "outcome", "regression"),
            *(_share(mine[mine["size"] == size], "found", 1) for size in sizes),
        ]
        if any(cell != "–" for cell in cells):
            rows.append([name, *cells])
    table = Table(
        "Runs of a whole check on the idle machine: false alarms on identical code, and how often a case that was "
        "slowed by so much was named",
        ["gate", "false alarms", *(f"+{size:.0%} found" for size in sizes)],
        rows,
    )
    ours = rows[0] if rows else ["no gate", "–"]
    finding = f"{ours[0]}: false alarms in {ours[1]} runs on identical code."
    return Section(
        "check-quality",
        "How good is the regression check?",
        sentences=[finding],
        tables=[table],
        pictures=[drawn_picture(gate_quality(trials), finding)],
    )


def _share(trials: pd.DataFrame, column: str, hit: object) -> str:
    return f"{int((trials[column] == hit).sum())} of {len(trials)}" if len(trials) else "–"


def _repeatability(folder: Path) -> Section:
    study, sessions = load_repeatability(folder), load_sessions(folder)
    found = list(outcomes(sessions))
    rows = [
        [
            f"{outcome.tool}{', settled cases' if outcome.scope.settled else ''}",
            outcome.load,
            f"{outcome.sessions}",
            f"{outcome.cases}",
            percent(outcome.speedup.median),
            percent(outcome.speedup.ninetieth),
            percent(outcome.speedup.worst),
        ]
        for outcome in found
        if outcome.scope.shared
    ]
    finding = (
        f"Two runs' speed-ups differ by {rows[0][4]} at the median case and by {rows[0][5]} at the 90th percentile "
        f"({rows[0][0]}, {rows[0][1]})."
        if rows
        else "No two sessions can be compared yet."
    )
    headings = ["tool", "load", "sessions", "cases", "median", "90th percentile", "worst"]
    return Section(
        "repeatability",
        "How far do two runs differ?",
        sentences=[finding],
        tables=[Table("Difference in speed-up between two sessions of one tool", headings, rows)],
        pictures=[drawn_picture(repeatability(found, made_with(study.machine, study.versions)), finding)],
    )


def _accuracy(folder: Path) -> Section:
    study, rows = load_accuracy(folder)
    said = [*accuracy_sentences(rows), f"Measured on {made_with(study.machine, study.versions, ['torch'])}."]
    worst = rows.groupby(["dtype", "implementation"], sort=False)[["loss_error_ulp", "grad_error_ulp"]].max()
    lines = [
        [str(dtype), str(name), *(f"{error:.3g}" if pd.notna(error) else "–" for error in errors)]
        for (dtype, name), errors in zip(worst.index, worst.to_numpy(), strict=True)
    ]
    headings = ["dtype", "implementation", "loss, ulp", "gradient, ulp"]
    table = Table("Worst finite error over all scales and shapes", headings, lines)
    return Section("accuracy", "How exact are loss and gradient?", sentences=said, tables=[table])


def _training(folder: Path) -> Section:
    judged = judge(load_training(folder)[1])
    said = [sentence for network, results in judged.items() for sentence in training_sentences(network, results)]
    return Section("training", "What does a wrong gradient do to training?", sentences=[*said, f"{CRITERIA}."])


def _tolerances(folder: Path) -> Section:
    rows = load_tolerances(folder)[1]
    headings = ["dtype", "rule", *(text for kind in INPUTS for text in (f"{kind}: pass at most", "zeros from"))]
    lines = [
        [dtype, rule, *(cell for kind in INPUTS for cell in cells_of(group, kind))]
        for dtype, rule, group in of_softmax(rows)
    ]
    table = Table(
        "The largest share of softmax's known mistakes that passes at any number of features", headings, lines
    )
    title = "How much do the usual tests let through?"
    return Section("tolerances", title, sentences=list(tolerances_sentences(rows)), tables=[table])


STUDIES: Mapping[str, Callable[[Path], Section]] = {  # by the folder beside the run
    "gate-quality": _quality,
    "repeatability": _repeatability,
    "accuracy": _accuracy,
    "tolerances": _tolerances,
    "training": _training,
}


def study_sections(results: Path) -> Iterator[Section]:
    """The sections of the studies that are stored; one that cannot be read is named with the reason."""
    for name, section_of in STUDIES.items():
        folder = results / name
        if folder.is_dir():
            try:
                yield section_of(folder)
            except (UserError, NothingToDrawError) as error:
                yield Section(name, f"The study {name}", sentences=[f"It is not shown: {error}."])
