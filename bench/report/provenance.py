"""Where a run's figures come from: machine, versions, options, commit, and the command that measures them again."""

import dataclasses
import shlex

from ..storage.results import Run
from ..sweep.options import Options
from ..sweep.selection import Selection
from ..units import quantity
from .content import Section, Table
from .differences import ABSENT
from .source import Source

EXTRAS = {"numba": "compiled", "numexpr": "compiled", "torch": "torch", "jax": "jax"}  # that install the libraries


def command_of(run: Run) -> str:
    """The command line that measures the same cases again, in a new run."""
    given = Options(
        **{field.name: getattr(selected(run), field.name) for field in dataclasses.fields(Selection)},
        seed=run.seed,
        max_call_s=run.options.max_call_s,
        max_bytes=run.options.max_bytes,
        minutes=run.options.minutes,
        every_round=run.options.every_round,
    )
    usual = set(Options().arguments())
    return shlex.join(["softmax-bench", "run", *(option for option in given.arguments() if option not in usual)])


def selected(run: Run) -> Selection:
    """What the run's user selected; the default grid where an earlier version did not store it."""
    return Selection.restored(run.selection) if run.selection else Selection()


def provenance_section(source: Source) -> Section:
    """Machine, versions, options and commit as tables, and how to run it again."""
    run = source.run
    libraries = [library for library in EXTRAS if run.versions.get(library, ABSENT) != ABSENT]
    extras = ",".join(dict.fromkeys(EXTRAS[library] for library in libraries))
    wall_s = sum(sitting.wall_s for sitting in run.sittings)
    took = f" and took {wall_s:.0f} s" if wall_s else ""
    sentences = [
        f"The run {run.run_id} began at {run.started}{took}. Its table has {len(source.rows)} rows, and "
        f"{len(source.visits)} visits are stored.",
        "On another machine or with other versions the times will differ; seed and cases make the inputs the same.",
    ]
    if extras:
        sentences.append(f"It had more than NumPy installed: make bench EXTRAS={extras} installs that first.")
    if not run.ended:
        sentences.append(
            f"It was broken off before its visits came to their end: make bench RESUME={run.run_id} ends it."
        )
    return Section(
        "provenance",
        "Machine, versions, command",
        sentences=sentences,
        commands=[command_of(run), f"softmax-bench report {run.run_id}"],
        tables=[
            Table("Machine", ["what", "value"], [[name, _readable(name, what)] for name, what in run.machine.items()]),
            Table("Versions", ["package", "version"], [[name, version] for name, version in run.versions.items()]),
            Table("Options", ["option", "value"], _options(run)),
        ],
    )


def _options(run: Run) -> list[list[str]]:
    stored = {**dataclasses.asdict(run.options), "seed": run.seed, **run.selection}
    stored |= {f"benchmark {name}": value for name, value in stored.pop("benchmark").items()}
    rows = [[name.replace("_", " "), _shown(value)] for name, value in stored.items() if value not in ([], (), None)]
    return [*rows, ["commit", run.commit or "not recorded: the suite was no git repository, or older"]]


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _readable(name: str, value: object) -> str:
    return quantity(float(value), "B") if name.endswith("_bytes") and isinstance(value, int | float) else str(value)
