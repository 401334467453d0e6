"""Files that are there whole or not at all."""

import contextlib
import os
from pathlib import Path

from ..errors import UserError


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
