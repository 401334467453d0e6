"""The command export."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import click

from ...cli import results_option
from ...errors import UserError
from ...storage.results import find_run
from ...terminal import print_sentence
from .asv import export_asv
from .exported import Exported
from .parquet import export_parquet
from .pytest_benchmark import export_pytest_benchmark
from .services import export_bencher, export_github_action_benchmark


class Format(NamedTuple):
    """A format: the writer of its file or folder, and what its name ends with where none is given."""

    write: Callable[[Exported, Path], Path]
    ending: str


FORMATS: Mapping[str, Format] = {
    "parquet": Format(export_parquet, ".parquet"),
    "pytest-benchmark": Format(export_pytest_benchmark, ".pytest-benchmark.json"),
    "github-action-benchmark": Format(export_github_action_benchmark, ".github-action-benchmark.json"),
    "bencher": Format(export_bencher, ".bencher.json"),
    "asv": Format(export_asv, ".asv"),
}


@click.command()
@click.argument("name", metavar="RUN")
@click.option("--format", "kind", type=click.Choice(list(FORMATS)), required=True, help="whose file to write")
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="PATH", help="where [default: RUN and an ending, here]"
)
@click.option("--commit", metavar="REVISION", help="asv: file it under this commit [default: HEAD when the run began]")
@results_option
def export(name: str, kind: str, output: Path | None, commit: str | None, results: Path) -> None:
    """Write a stored run in another tool's format; for asv a folder of results, for all others a file.

    Exit status: 0, or 2 if the run cannot be read or the output cannot be written.
    """
    if commit is not None and kind != "asv":
        raise UserError(f"--commit: only asv files results under commits, {kind} does not")
    folder = find_run(name, results)
    chosen = FORMATS[kind]
    path = chosen.write(Exported(folder, commit), output or Path(folder.resolve().name + chosen.ending))
    print_sentence(f"{kind}: {path}")
