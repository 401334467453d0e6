"""run.json: how a stored table was made, a dataclass written whole and read back with its fields and types checked."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..errors import UserError
from .files import replace_file

FILE = "run.json"
Description = TypeVar("Description")


def is_described(folder: Path) -> bool:
    """Whether the folder has a run.json; a text that cannot be a folder's name is none."""
    try:
        return (folder / FILE).is_file()
    except (OSError, ValueError):  # longer than names can be, or with a null character
        return False


def store_description(folder: Path, description: Any) -> Path:
    """Store a dataclass as the folder's run.json, whole or not at all. Returns the path.

    Raises:
        UserError: it cannot be written.
    """
    text = msgspec.json.encode(dataclasses.asdict(description))
    return replace_file(folder / FILE, msgspec.json.format(text, indent=1) + b"\n")


def load_description(
    folder: Path, kind: type[Description], hint: str, renamed: Mapping[str, str] | None = None
) -> Description:
    """The folder's run.json as a dataclass; what that does not know is passed over, what has a default may be missing.

    ``hint`` says how to get a whole one; ``renamed`` maps names that older files have to today's.

    Raises:
        UserError: the file is missing or is no such description; the message names the file and the field.
    """
    path = folder / FILE
    try:
        data = path.read_bytes()
        content = msgspec.json.decode(data)
        json.loads(data, object_pairs_hook=_named_once)  # msgspec passes over all but the last of a name
        if isinstance(content, dict):
            content = _named_once([((renamed or {}).get(name, name), value) for name, value in content.items()])
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {hint}") from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); {hint}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}; {hint}") from None
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: not a {kind.__name__.lower()} ({error}); {hint}") from None


def _named_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The members of an object.

    Raises:
        UserError: two of them have one name, so it is not known which of them was meant.
    """
    for name, count in Counter(name for name, _ in pairs).most_common(1):
        if count > 1:
            raise UserError(f"the name {name!r} is there {count} times in one object")
    return dict(pairs)
