"""The commands gate and compare."""

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.status import Status

from ..cli import beside_option
from ..errors import UserError
from ..instruments import host
from ..instruments.machine_lock import hold_machine
from ..storage.descriptions import is_described
from ..storage.files import append_text, replace_file
from ..terminal import print_sentence
from .baseline import check_against_run
from .comparison import compared
from .duet import load_implementations
from .gate import Check, Rule, controls_of, duels_of, judge_duels, presence_findings
from .output import comparison_sentence, to_json, to_junit, to_markdown, to_table
from .repository import check_targets
from .revisions import repository_of_implementations, two_versions
from .targets import SHAPES, Asked, configured, share_of

FILE = click.Path(dir_okay=False, path_type=Path)


def _output_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options ``--json`` and ``--junit``."""
    command = click.option("--junit", type=FILE, help="write the outcome as JUnit XML")(command)
    return click.option("--json", "json_file", type=FILE, help="write the outcome as JSON")(command)


def _share(ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """A share, given as ``3%`` or ``0.03``; None if it is not given."""
    del ctx
    return None if text is None else share_of(text, parameter.opts[0])


def _target_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of both commands that say at which shapes functions are timed, and how much growth fails."""
    positive = click.IntRange(min=1)
    default = ", ".join(f"{batch} × {features}" for batch, features in SHAPES)
    for option in (
        click.option(
            "--fail-memory-above",
            metavar="SHARE",
            callback=_share,
            help="exit with 1 if the peak grew by more, as in 5%",
        ),
        click.option("--fail-above", metavar="SHARE", callback=_share, help="exit with 1 if slower by more, as in 3%"),
        click.option("--dtype", multiple=True, help="repeatable [default: float64]"),
        click.option("--features", multiple=True, type=positive, help="repeatable, with every batch"),
        click.option("--batch", multiple=True, type=positive, help=f"repeatable [default: the shapes {default}]"),
    ):
        command = option(command)
    return command


@click.command()
@click.option(
    "--base",
    metavar="BASE",
    help="a revision, or the folder of a stored run [default: HEAD, or HEAD~1 if the tree does not differ from HEAD]",
)
@click.option("--allow-removed", is_flag=True, help="a removed implementation does not fail the check")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="FILE.py:FUNCTION",
    help="check this function of the repository one is in; repeatable [default: targets of pyproject.toml, if any]",
)
@beside_option
@_target_options
@_output_options
def gate(
    base: str | None,
    *,
    allow_removed: bool,
    beside: bool,
    targets: tuple[str, ...],
    json_file: Path | None,
    junit: Path | None,
    **asked: Any,
) -> None:
    """Check the working tree against a base revision: functions of a repository, or this suite's implementations.

    Without a target it checks the implementations, also against a stored run.

    Exit status: 0 no regression, 1 regression, 2 inconclusive (unfit machine, a control failed, nothing to compare).
    """
    end_on_sigterm()
    is_stored_run = base is not None and is_described(Path(base))
    stated, verifying = configured(Asked(targets, **asked))
    if targets or (stated.targets and not is_stored_run):
        with _alone(beside) as status:
            check = check_targets(stated, verifying, base, status.update)
    elif any(value not in ((), None) for value in asked.values()):
        raise UserError("--batch, --features, --dtype, --fail-above and --fail-memory-above are for a --target")
    elif base is not None and is_stored_run:
        check = check_against_run(Path(base), allow_removed=allow_removed)
    else:
        check = _check_revision(base, allow_removed=allow_removed, beside=beside)
    if check.findings:
        Console().print(to_table(check))
    print_sentence(check.sentence)
    _write_files(check, json_file, junit)
    sys.exit(int(check.exit))


def _check_revision(base: str | None, *, allow_removed: bool, beside: bool) -> Check:
    with two_versions(repository_of_implementations(), base) as versions:
        of_base = load_implementations(versions.base, "implementations_of_base", f"revision {versions.base_name}")
        of_work = load_implementations(versions.work, "implementations_of_work", "the working tree")
        presence = presence_findings(of_base, of_work, allow_removed=allow_removed)
        duels = duels_of(versions.base, versions.work, of_base, of_work)
        if versions.identical:
            print_sentence(f"The implementations are the same files as at {versions.base_name}.")
        with _alone(beside) as status:
            controls = controls_of(str(versions.base))
            check = judge_duels(duels, controls, Rule(), versions.base_name, status.update)
    return dataclasses.replace(check, findings=[*presence, *check.findings])


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--logits", default="normal", show_default=True)
@click.option("--operation", help="what both compute [default: softmax, or found from the names of a function]")
@beside_option
@_target_options
@_output_options
def compare(
    a: str,
    b: str,
    logits: str,
    operation: str | None,
    *,
    beside: bool,
    json_file: Path | None,
    junit: Path | None,
    **asked: Any,
) -> None:
    """Time B against A: implementations by name, or functions as module:function or path.py:function.

    Each function is called as verify calls it, in a process of its own.

    Exit status: 0; 1 if B is wrong; 2 if inconclusive. With --fail-above also 1 if B needs more memory or is slower by
    more than that share, with --fail-memory-above if it needs more memory by more than that.
    """
    end_on_sigterm()
    with _alone(beside) as status:
        check = compared(a, b, Asked((a, b), **asked), logits, operation, status.update)
    for finding in check.findings:
        print_sentence(comparison_sentence(finding))
    if check.inconclusive:
        print_sentence(f"Inconclusive: {check.inconclusive}.")
    print_sentence(f"On {host.in_words(host.machine())}.")
    _write_files(check, json_file, junit)
    sys.exit(int(check.exit))


@contextlib.contextmanager
def _alone(beside: bool) -> Iterator[Status]:
    """A block in which nothing else of the suite measures here, and the line that says what is under way."""
    with (
        Status("", console=Console(stderr=True)) as status,
        hold_machine("a regression check", lambda text: print_sentence(text, Console(stderr=True)), beside=beside),
    ):
        yield status


def _write_files(check: Check, json_file: Path | None, junit: Path | None) -> None:
    for path, text in ((json_file, to_json), (junit, to_junit)):
        if path is not None:
            replace_file(path, text(check))
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        append_text(Path(summary), to_markdown(check))


def end_on_sigterm() -> None:
    """Make SIGTERM an ordinary exit, so that worker processes and temporary folders are removed first."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
