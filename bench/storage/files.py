"""Files that are there whole or not at all."""

import contextlib
import os
import tempfile
from pathlib import Path

from ..errors import UserError


def make_folder(folder: Path) -> None:
    """Make a folder, if need be, in which files can be written: known before anything is measured for it.

    Raises:
        UserError: it cannot be made, or no file can be written in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from None


def replace_file(path: Path, content: str | bytes) -> Path:
    """Store a file under its name once all of it is on the disk; its folder is made if need be. Returns the path.

    Raises:
        UserError: it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def append_text(path: Path, text: str) -> None:
    """Add a text to the end of a file of somebody else's; the file is made if need be.

    Raises:
        UserError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
