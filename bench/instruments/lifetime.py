"""How long a process lives: no longer than the one that started it.

As a module, ``python -m softmax_bench.instruments.lifetime PID MODULE ARGUMENT...`` runs another module in a process
that ends with the process PID, its parent; `ending_with_this` makes that command.
"""

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)


def end_with_parent() -> None:
    """Let the system end this process when its parent ends, however that comes about; Linux only."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def ending_with_this(module: str, *arguments: str) -> list[str]:
    """The command that runs a module in a process which this one, its parent, does not leave behind."""
    return [sys.executable, "-m", __name__, str(os.getpid()), module, *arguments]


def main() -> None:
    """Run the module that the arguments name, unless the parent is gone already: the system would not tell."""
    _, parent, module, *arguments = sys.argv
    end_with_parent()
    if os.getppid() != int(parent):
        sys.exit(1)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
