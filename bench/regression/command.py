"""The commands gate and compare."""

import contextlib
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
from ..implementations import registered
from ..instruments.machine_lock import hold_machine
from ..operations.cases import Case
from ..paths import IMPLEMENTATIONS
from ..storage.descriptions import is_described
from ..storage.files import append_text, replace_file
from ..sweep.selection import Selection
from ..terminal import print_sentence
from .baseline import check_against_run
from .duet import Duel, Side, load_implementations
from .gate import Check, Exit, Rule, controls_of, duels_of, judge_duels, presence_findings
from .output import comparison_sentence, to_json, to_junit, to_markdown, to_table
from .revisions import repository, two_versions

FILE = click.Path(dir_okay=False, path_type=Path)


def _output_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options ``--json`` and ``--junit``."""
    command = click.option("--junit", type=FILE, help="write the outcome as JUnit XML")(command)
    return click.option("--json", "json_file", type=FILE, help="write the outcome as JSON")(command)


@click.command()
@click.option(
    "--base",
    metavar="BASE",
    help="a revision, or the folder of a stored run [default: HEAD, or HEAD~1 if the tree does not differ from HEAD]",
)
@click.option("--allow-removed", is_flag=True, help="a removed implementation does not fail the check")
@beside_option
@_output_options
def gate(base: str | None, *, allow_removed: bool, beside: bool, json_file: Path | None, junit: Path | None) -> None:
    """Check the implementations in the working tree against those at a base revision, or against a stored run.

    Exit status: 0 no regression, 1 regression, 2 inconclusive (unfit machine, a control failed, nothing to compare).
    """
    end_on_sigterm()
    if base is not None and is_described(Path(base)):
        check = check_against_run(Path(base), allow_removed=allow_removed)
    else:
        check = _check_revision(base, allow_removed=allow_removed, beside=beside)
    if check.findings:
        Console().print(to_table(check))
    print_sentence(check.sentence)
    _write_files(check, json_file, junit)
    sys.exit(int(check.exit))


def _check_revision(base: str | None, *, allow_removed: bool, beside: bool) -> Check:
    with two_versions(repository(), base) as versions:
        of_base = load_implementations(versions.base, "implementations_of_base", f"revision {versions.base_name}")
        of_work = load_implementations(versions.work, "implementations_of_work", "the working tree")
        presence = presence_findings(of_base, of_work, allow_removed=allow_removed)
        duels = duels_of(versions.base, versions.work, of_base, of_work)
        if versions.identical:
            print_sentence(f"The implementations are the same files as at {versions.base_name}.")
        with _alone(beside) as status:
            controls = controls_of(str(versions.base))
            check = judge_duels(duels, controls, Rule(), versions.base_name, status.update)
    return Check(check.base_name, [*presence, *check.findings], check.inconclusive)


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--batch", default=32, show_default=True, type=click.IntRange(min=1))
@click.option("--features", default=512, show_default=True, type=click.IntRange(min=1))
@click.option("--dtype", default="float64", show_default=True)
@click.option("--logits", default="normal", show_default=True)
@click.option("--operation", default="softmax", show_default=True, help="what both compute")
@click.option("--fail-above", metavar="SHARE", help="exit with 1 if B is slower than A by more, as in 3%")
@beside_option
@_output_options
def compare(
    a: str, b: str, fail_above: str | None, *, beside: bool, json_file: Path | None, junit: Path | None, **case: Any
) -> None:
    """Time B against A: implementations by name, or functions as module:function or path.py:function.

    Exit status: 0, or 2 if inconclusive; with --fail-above also 1 if B is wrong, needs more memory, or is slower by
    more than that share.
    """
    end_on_sigterm()
    margin = 0.0 if fail_above is None else _share(fail_above)
    base, work = (_side(text, case["operation"]) for text in (a, b))
    duel = Duel(f"{b} against {a}", _case_of(a, b, **case), base, work)
    with _alone(beside) as status:
        controls = controls_of(str(IMPLEMENTATIONS))
        check = judge_duels([duel], controls, Rule(screening=None, margin=margin), a, status.update)
    _write_files(check, json_file, junit)
    place = f"{case['batch']} × {case['features']} {case['dtype']} {case['logits']}"
    for finding in check.findings:
        print_sentence(comparison_sentence(finding, place))
    if check.inconclusive:
        print_sentence(f"Inconclusive: {check.inconclusive}.")
    sys.exit(int(check.exit) if fail_above is not None or check.exit is Exit.INCONCLUSIVE else 0)


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


def _side(text: str, operation: str) -> Side:
    """The function that a user names on the command line.

    Raises:
        UserError: there is no such implementation, or its library is not installed.
    """
    place, colon, name = text.rpartition(":")
    if colon:
        if place.endswith(".py"):
            place = str(Path(place).resolve())
        return Side(place, name, operation, is_package=False)
    if (operation, text) not in registered():
        known = ", ".join(name for its_operation, name in registered() if its_operation == operation)
        raise UserError(
            f"{text!r}: no such implementation of {operation}; give one of {known}, "
            "or a function as module:function or path.py:function"
        )
    spec = registered()[operation, text]
    if not spec.installed:
        raise UserError(
            f"{text!r} needs {spec.library}, which is not installed; make EXTRAS=compiled,torch,jax installs it"
        )
    return Side(str(IMPLEMENTATIONS), text, operation)


def _case_of(a: str, b: str, **axes: Any) -> Case:
    """The case at which two functions are compared.

    Raises:
        UserError: a value of an axis does not exist.
    """
    selected: dict[str, Any] = {axis: (value,) for axis, value in axes.items()}
    Selection(**selected).cases()  # raises if a value does not exist
    return Case(implementation=f"{b}-against-{a}", **axes)


def _share(text: str) -> float:
    """A share, given as ``3%`` or ``0.03``."""
    try:
        share = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        share = -1.0
    if not 0.0 <= share < 10.0:
        raise UserError(f"--fail-above {text}: give a share such as 3% or 0.03")
    return share


def end_on_sigterm() -> None:
    """Make SIGTERM an ordinary exit, so that worker processes and temporary folders are removed first."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
