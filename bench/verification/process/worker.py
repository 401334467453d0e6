"""The process in which a target runs: it answers requests until its parent goes away.

``isolation`` starts it with these arguments: the descriptors of a socket and of shared memory, the path of a file for
its last words, the target, the bytes that a call may allocate, and the folder of the target's project (empty: found
from its file). A request is the name of a method of ``Local``, its arguments and a time limit. An answer is ("answer",
value), ("user", text of a UserError) or ("failure", Failure), as ``wire`` encodes it. Standard input is empty; the
parent decides where output goes.
"""

import faulthandler
import os
import resource
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...instruments.heap import settle_heap
from ...instruments.lifetime import end_with_parent
from ...loading import let_import
from .failures import failure_of
from .shared import Shared
from .subject import Local
from .tampering import Watch
from .wire import encoded

MAX_FORKS = 6  # in one call, nested or not: a fork bomb stops at 2**6 processes
NESTED_FORKS = 2  # of a process that was forked in a block of calls
MAX_FILE_BYTES = 256 << 20  # the most that a target may print or write: a compiler keeps 150 MB of headers for PyTorch


class LastWords:
    """A file in which the process writes why and where it ended, for when it can no longer answer."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w", encoding="utf-8")
        self.process = os.getpid()
        self._exit = os._exit
        self.file.write(f"target called in thread {threading.get_ident()}\n")
        self.file.flush()

    def die(self, reason: str) -> None:
        """Write the reason and the stack, then end the process."""
        self.file.write(f"reason: {reason}\n")
        self.file.flush()
        faulthandler.dump_traceback(file=self.file, all_threads=False)
        self._exit(1)

    def exit(self, status: int) -> None:
        """What the target gets for ``os._exit``; a process that the target has forked just exits."""
        if os.getpid() == self.process:
            self.die(f"calls os._exit({status})")
        self._exit(status)


class Worker:
    """A target and the requests for it."""

    def __init__(
        self, connection: Connection, shared: Shared, target: str, max_bytes: int, last_words: LastWords
    ) -> None:
        self._connection = connection
        self._shared = shared
        self._target = target
        self._max_bytes = max_bytes
        self._last_words = last_words
        self._subject: Local | None = None
        self._watch = Watch()
        self._forks = 0  # during this request; a forked process goes on counting from its parent's number
        self._all_forks = 0
        self._calls = 0  # of the block that was prepared
        self._allowed_forks = MAX_FORKS
        os.register_at_fork(before=self._count_fork, after_in_child=self._allow_few)

    def serve(self) -> None:
        """Answer requests until there are no more."""
        while True:
            try:
                method, arguments, limit_s = self._connection.recv()
            except (EOFError, OSError):
                return
            answer = self._answer(method, arguments, limit_s)
            if os.getpid() != self._last_words.process:
                os._exit(0)  # the target forked, and this is the copy
            self._connection.send_bytes(encoded(answer))

    def _answer(self, method: str, arguments: tuple[Any, ...], limit_s: float) -> tuple[str, Any]:
        self._forks = 0
        self._allowed_forks = MAX_FORKS + (self._calls if method.startswith("go") else 0)
        if method == "ready":
            self._calls = len(arguments[1].slots)
        # The stack is written just before the parent ends this process: it shows where the target hung.
        faulthandler.dump_traceback_later(limit_s, file=self._last_words.file)
        try:
            if method == "load":
                self._subject = Local.load(self._target, self._max_bytes, self._shared)
                return "answer", None
            if method == "forks":
                return "answer", self._all_forks
            if method == "changed":
                return "answer", self._watch.changed()
            return "answer", getattr(self._subject, method)(*arguments)
        except UserError as error:
            return "user", str(error)
        except (Exception, SystemExit) as error:
            return "failure", failure_of(error)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _count_fork(self) -> None:
        self._forks += 1
        self._all_forks += 1
        if self._forks > self._allowed_forks:
            self._last_words.die("starts processes without end")

    def _allow_few(self) -> None:
        self._allowed_forks = min(self._allowed_forks, max(MAX_FORKS, self._forks + NESTED_FORKS))


def main() -> None:
    """Serve the parent that gave the arguments."""
    descriptor, shared, last_words_path, target, max_bytes, root = sys.argv[1:]
    let_import(target, Path(root) if root else None)  # no other code runs here
    sys.argv = [target]
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    settle_heap()
    last_words = LastWords(Path(last_words_path))
    os._exit = last_words.exit  # type: ignore[assignment]
    faulthandler.enable(file=last_words.file)
    end_with_parent()
    Worker(Connection(int(descriptor)), Shared(int(shared)), target, int(max_bytes), last_words).serve()


if __name__ == "__main__":
    main()
