"""One measurement of this suite at a time on a machine, whatever the number of runs: two slow each other."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from .host import machine_id

BESIDE = "SOFTMAX_BENCH_BESIDE"  # the environment variable that stands for the option --beside


@contextlib.contextmanager
def hold_machine(holder: str, said: Callable[[str], None], *, beside: bool = False) -> Iterator[None]:
    """A block in which no other measurement of the suite begins on this machine.

    If one is under way, ``said`` is called with a sentence that names it, and the block begins when it is over, or at
    once with ``beside``. Where the lock cannot be opened, the block begins at once.
    """
    beside = beside or bool(os.environ.get(BESIDE))

    def waiting(other: str) -> bool:
        if beside:
            said(f"{other} measures on this machine, too: times are not to be trusted.")
        else:
            said(f"Waiting until {other} has measured; --beside does not wait.")
        return not beside

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(hold(machine_id(), f"{holder} (process {os.getpid()})", waiting))
        yield


@contextlib.contextmanager
def hold(machine: str, holder: str, waiting: Callable[[str], bool]) -> Iterator[None]:
    """A block that has the machine to itself.

    If somebody else holds it, ``waiting`` is called with that holder's name; it returns whether to wait. The kernel
    lets go of the lock when the process ends, however it ends. It is a file in the host's temporary folder, so workers
    must share that folder.

    Raises:
        OSError: the file cannot be opened.
    """
    file = _opened(lock_path(machine))
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _sign(file, holder)
        except BlockingIOError:
            if waiting(os.pread(file, 1000, 0).decode(errors="replace").strip() or "another process"):
                fcntl.flock(file, fcntl.LOCK_EX)
                _sign(file, holder)
        yield
    finally:
        os.close(file)


def lock_path(machine: str) -> Path:
    """The file that is locked."""
    return Path(tempfile.gettempdir()) / f"softmax-bench.{machine}.lock"


def _sign(file: int, holder: str) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, f"{holder}\n".encode(), 0)


def _opened(path: Path) -> int:
    try:
        # Without O_CREAT first: Linux does not let one user create what another has in a folder that all may write.
        return os.open(path, os.O_RDWR)
    except FileNotFoundError:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        os.fchmod(file, 0o666)  # whatever the user's mask: other users measure here, too
        return file
