"""What a repository states for its own functions: the table ``[tool.softmax-bench]`` of its pyproject.toml."""

import tomllib
from pathlib import Path
from typing import Any

import click
import msgspec

from .errors import UserError

FILE = "pyproject.toml"
TABLE = "tool.softmax-bench"


class Configuration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """The table's keys, each with its default; ``None`` leaves a command's own default.

    ``targets`` are ``path/to/file.py:function``, from the file's folder. ``shapes`` are pairs (batch, features).
    ``margin`` and ``memory_margin`` are the growth of time and of peak memory, as shares, that is no concern. The other
    keys are options of ``verify``.
    """

    targets: tuple[str, ...] = ()
    shapes: tuple[tuple[int, int], ...] = ()
    dtypes: tuple[str, ...] = ()
    margin: float | str | None = None
    memory_margin: float | str | None = None
    operation: str | None = None
    signature: str | None = None
    forward: str | None = None
    backward: str | None = None
    result: str | None = None
    axis: int | None = None
    layout: str | None = None
    reduction: str | None = None
    cost: bool | None = None
    timeout: float | None = None
    max_bytes: int | None = None
    strict: bool | None = None


NOT_OF_VERIFY = ("targets", "shapes", "dtypes", "margin", "memory_margin")


def configuration(folder: Path) -> tuple[Configuration, Path]:
    """The configuration for a folder, and the folder that it is in.

    It is that of the nearest pyproject.toml above that has the table; without one, it is empty.

    Raises:
        UserError: a file is not TOML, or the table has an unknown key or a value of the wrong type.
    """
    for above in (folder.resolve(), *folder.resolve().parents):
        if (above / FILE).is_file():
            table = _table_of(above / FILE)
            if table is not None:
                return _converted(table, above / FILE), above
    return Configuration(), folder.resolve()


def _table_of(path: Path) -> Any:
    """The table in a file; None if it has none."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not TOML ({error})") from None
    tool = content.get("tool", {})
    return tool.get("softmax-bench") if isinstance(tool, dict) else None


def _converted(table: Any, path: Path) -> Configuration:
    try:
        return msgspec.convert(table, Configuration)
    except msgspec.ValidationError as error:
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(Configuration))
        hint = f"; known keys: {known}" if "unknown field" in str(error) else ""
        what = str(error).replace("Object contains unknown field", "unknown key").replace("$.", "")
        raise UserError(f"{path}: [{TABLE}]: {what}{hint}") from None


class Configured(click.Command):
    """A command whose options default to those of the repository's table; the command line wins."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context, with the table as its default values."""
        stated, _ = configuration(Path())
        values = {name: value for name, value in msgspec.structs.asdict(stated).items() if value is not None}
        options = {name: value for name, value in values.items() if name not in NOT_OF_VERIFY}
        return super().make_context(info_name, args, parent, default_map=options, **extra)
