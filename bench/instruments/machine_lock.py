"""One measurement of this suite at a time on a machine: two at once would slow each other."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

BESIDE = "SOFTMAX_BENCH_BESIDE"  # the environment variable that stands for the option --beside
LOCK = "softmax-bench.lock"  # in the temporary folder, for all users


@contextlib.contextmanager
def hold_machine(holder: str, said: Callable[[str], None], *, beside: bool = False) -> Iterator[None]:
    """A block in which no other measurement of the suite begins on this machine.

    If one is under way, ``said`` is called with a sentence that names it, and the block begins when it is over, or at
    once with ``beside``. The kernel lets go of the lock when the process ends, however it ends. Where the lock cannot
    be opened, the block begins at once.
    """
    try:
        file = _opened(Path(tempfile.gettempdir()) / LOCK)
    except OSError:
        yield
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _sign(file, holder)
        except BlockingIOError:
            other = os.pread(file, 1000, 0).decode(errors="replace").strip() or "another process"
            if beside or os.environ.get(BESIDE):
                said(f"{other} measures on this machine, too: times are not to be trusted.")
            else:
                said(f"Waiting until {other} has measured; --beside does not wait.")
                fcntl.flock(file, fcntl.LOCK_EX)
                _sign(file, holder)
        yield
    finally:
        os.close(file)


def _sign(file: int, holder: str) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, f"{holder} (process {os.getpid()})\n".encode(), 0)


def _opened(path: Path) -> int:
    try:
        # Without O_CREAT first: Linux does not let one user create what another has in a folder that all may write.
        return os.open(path, os.O_RDWR)
    except FileNotFoundError:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        os.fchmod(file, 0o666)  # whatever the user's mask: other users measure here, too
        return file
