"""The command line: which commands there are, the options that several share, and how a user's mistake ends one."""

import contextlib
import errno
import importlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from .errors import UserError
from .paths import PLOTS, RESULTS

INTERRUPTED = 130
WRITING_FAILED = (errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EFBIG)
# Each command's module is imported when the command is called: statistics and plotting take longer to import than most
# commands take to run.
COMMANDS = {
    "run": ".sweep.command:run",
    "plot": ".sweep.command:plot",
    "list": ".sweep.command:list_",
    "derive": ".sweep.command:derive",
    "verify": ".verification.command:verify",
    "fleet": ".fleet.command:fleet",
    "merge": ".fleet.command:merge",
    "part": ".fleet.command:part",
    "diff": ".report.command:diff",
    "report": ".report.command:report",
    "export": ".report.exports.command:export",
    "gate": ".regression.command:gate",
    "compare": ".regression.command:compare",
    "gate-quality": ".regression.quality.command:gate_quality",
    "repeatability": ".repeatability.command:repeatability",
    "accuracy": ".accuracy.command:accuracy",
    "tolerances": ".tolerances.command:tolerances",
    "train": ".training.command:train",
}
FOLDER = click.Path(path_type=Path)


def results_option(command: Callable[..., None]) -> Callable[..., None]:
    """The option ``--results`` of a command that reads or writes stored tables."""
    help_text = f"folder of the stored tables, one folder a run or study [default: {RESULTS}]"
    return click.option("--results", type=FOLDER, metavar="FOLDER", default=RESULTS, help=help_text)(command)


def plots_option(command: Callable[..., None]) -> Callable[..., None]:
    """The option ``--plots`` of a command that draws; None where it is not given, see ``paths.charts_folder``."""
    help_text = f"folder of the charts, one folder a run or study [default: {PLOTS}, next to the results]"
    return click.option("--plots", type=FOLDER, metavar="FOLDER", help=help_text)(command)


def beside_option(command: Callable[..., None]) -> Callable[..., None]:
    """The option ``--beside`` of a command that measures."""
    help_text = "do not wait until another measurement on this machine is over"
    return click.option("--beside", is_flag=True, help=help_text)(command)


class Commands(click.Group):
    """The commands, where a user's mistake is one line and exit status 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands' names."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name; None where there is none."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        try:
            command: click.Command = getattr(importlib.import_module(module, __package__), attribute)
        except Exception as error:
            # While an implementation is being edited, say. Python's own exit status, 1, would read as a regression.
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{place.filename}:{place.lineno}"
            raise UserError(f"the suite does not import: {type(error).__name__}: {error} ({where})") from None
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _end_as_on_interrupt)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal without '×' shows '?'
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.exceptions.NoArgsIsHelpError):  # help was asked for, or is shown
            raise
        except UserError as error:
            click.echo(f"softmax-bench: {error}", err=True)
            sys.exit(2)
        except click.UsageError as error:
            # A command's own arguments: one line like any other mistake, and which help says more.
            command = error.ctx.command_path if error.ctx else ctx.command_path
            click.echo(f"softmax-bench: {error.format_message().rstrip('.')} (see {command} --help)", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except OSError as error:
            if error.filename is None and error.errno in WRITING_FAILED:
                _end_unheard(error)
            click.echo(f"softmax-bench: {error.filename or 'the system'}: {error.strerror}", err=True)
            sys.exit(2)
        except Exception:
            _end_by_mistake_of_ours()


def _end_as_on_interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    """End processes and remove folders, as after Ctrl-C, when the command is asked to end or loses its terminal."""
    signal.signal(number, signal.SIG_IGN)  # once is enough
    raise KeyboardInterrupt


def _end_unheard(error: OSError) -> NoReturn:
    """End where nothing can be printed any longer: nobody reads it, or the disk is full."""
    with contextlib.suppress(OSError):
        click.echo(f"softmax-bench: the output cannot be written ({error.strerror})", err=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries once more when it ends
    sys.exit(2)


def _end_by_mistake_of_ours() -> NoReturn:
    """Show where it happened. Python's own exit status, 1, would read as a regression."""
    traceback.print_exc()
    sys.exit(2)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="softmax-bench", message="softmax-bench %(version)s")
def main() -> None:
    """Measure what the backward pass of softmax costs, check one of your own, and tell a slow-down from noise."""


if __name__ == "__main__":
    main()
