"""The lock of a machine: one measurement at a time, however many workers and runs it has."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def hold_machine(machine: str, holder: str, waiting: Callable[[str], None]) -> Iterator[None]:
    """A block in which nobody else holds the machine; ``waiting`` is called with the other holder's name, if any.

    The kernel lets go of the lock when the process ends, however it ends. It is a file in the host's temporary folder,
    so workers must share that folder.
    """
    file = _opened(lock_path(machine))
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting(os.pread(file, 1000, 0).decode(errors="replace").strip() or "another process")
            fcntl.flock(file, fcntl.LOCK_EX)
        os.ftruncate(file, 0)
        os.pwrite(file, f"{holder}\n".encode(), 0)
        yield
    finally:
        os.close(file)


def lock_path(machine: str) -> Path:
    """The file that is locked."""
    return Path(tempfile.gettempdir()) / f"softmax-bench-{machine}.lock"


def _opened(path: Path) -> int:
    try:
        # Without O_CREAT first: Linux does not let one user create what another has in a folder that all may write.
        return os.open(path, os.O_RDWR)
    except FileNotFoundError:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        os.fchmod(file, 0o666)  # whatever the user's mask: other users measure here, too
        return file
