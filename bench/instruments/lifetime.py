"""How long a process lives: no longer than the one that started it."""

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)


def end_with_parent() -> None:
    """Let the system end this process when its parent ends, however that comes about; Linux only."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
