"""The command line: which commands there are, and how a user's mistake ends one."""

import importlib
import sys
import traceback
from typing import Any

import click

from .errors import UserError

INTERRUPTED = 130
# Each command's module is imported when the command is called: statistics and plotting take longer to import than most
# commands take to run.
COMMANDS = {
    "run": "softmax_bench.sweep.command:run",
    "plot": "softmax_bench.sweep.command:plot",
    "list": "softmax_bench.sweep.command:list_",
    "verify": "softmax_bench.verification.command:verify",
    "gate": "softmax_bench.regression.command:gate",
    "compare": "softmax_bench.regression.command:compare",
    "gate-quality": "softmax_bench.regression.command:gate_quality",
    "accuracy": "softmax_bench.accuracy.command:accuracy",
    "train": "softmax_bench.training.command:train",
}


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
            command: click.Command = getattr(importlib.import_module(module), attribute)
        except Exception as error:
            # While an implementation is being edited, say. Python's own exit status, 1, would read as a regression.
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{place.filename}:{place.lineno}"
            raise UserError(f"the suite does not import: {type(error).__name__}: {error} ({where})") from None
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"softmax-bench: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure what the backward pass of softmax costs, check one of your own, and tell a slow-down from noise."""


if __name__ == "__main__":
    main()
