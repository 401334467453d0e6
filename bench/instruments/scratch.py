"""Folders for a time: those of measurements in shared memory where there is some, others in the temporary folder.

Whoever is killed leaves its folder behind. A living owner holds a lock on its folder, which the kernel lets go of
however the owner ends, so the folders that nobody holds are removed by the next one who needs a folder.
"""

import contextlib
import errno
import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOM_BYTES = 8 << 20  # many times what a capture takes
PREFIX = "softmax-bench-scratch-"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder in memory, never a fixed name in it


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A block with a folder of its own, where there is room: memray says nothing of a capture that was cut off.

    Raises:
        OSError: there is no room.
    """
    parent = next((place for place in (SHARED_MEMORY, Path(tempfile.gettempdir())) if _has_room(place)), None)
    if parent is None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), tempfile.gettempdir())
    with temporary_folder(parent) as folder:
        yield folder


@contextlib.contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """A block with a folder of its own in ``parent``, or where temporary files are; it is removed when the block ends.

    Raises:
        OSError: there is no room.
    """
    parent = parent or Path(tempfile.gettempdir())
    _clear_once(parent)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        with _held(folder) as held:
            if held:  # else another process has taken it for one left behind, just after it was made
                try:
                    yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                return


def _has_room(place: Path) -> bool:
    if not os.access(place, os.W_OK):
        return False
    there = os.statvfs(place)
    return there.f_bavail * there.f_frsize >= ROOM_BYTES


def clear_leftovers(parent: Path) -> None:
    """Remove the folders of owners that are no more; another user's stay."""
    for folder in parent.glob(f"{PREFIX}*"):
        with _held(folder) as held:
            if held:
                shutil.rmtree(folder, ignore_errors=True)


_clear_once = functools.cache(clear_leftovers)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Whether nobody else holds the folder; it is held in the block then."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = folder.is_dir()
        except OSError:
            held = False
        yield held
    finally:
        os.close(descriptor)
