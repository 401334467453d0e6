"""A target in a process of its own, which is ended, with all that it started, when it hangs, dies or is done with."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from ...errors import UserError
from ...loading import import_folder
from ..calling.call import Inputs
from ..calling.conventions import Convention, Options
from .failures import Failure, failure_at
from .subject import Cost, Outcome

GRACE_S = 0.5  # after the time limit, in which the process notes where it stands
MARK = "SOFTMAX_BENCH_TARGET"  # in the environment of the process and so of all that it starts
KILLING_ROUNDS = 20  # a process may fork while it is looked for
SHOWN_OUTPUT = 2000  # characters of what a target printed, the last ones


class TargetFailedError(Exception):
    """The target could not be loaded or asked; ``failure`` says how it ended."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.summary)
        self.failure = failure


class Isolated:
    """A target named ``module:attribute`` or ``path.py:attribute`` in a process that is started when it is needed.

    ``call_s`` and ``load_s`` limit each request and the import, ``max_bytes`` what a call may allocate.
    """

    def __init__(self, target: str, call_s: float, load_s: float, max_bytes: int) -> None:
        self._target = target
        self._limits_s = {"load": load_s}
        self._call_s = call_s
        self._max_bytes = max_bytes
        self._mark = uuid.uuid4().hex
        self._files = tempfile.TemporaryDirectory(prefix="softmax-bench-")
        self._output = Path(self._files.name) / "output"
        self._last_words = Path(self._files.name) / "last_words"
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process and all that it started."""
        self._end()
        self._files.cleanup()

    def candidates(self, options: Options) -> list[Convention]:
        """Every way in which the target may want to be called.

        Raises:
            UserError: there is no such target.
            TargetFailedError: it cannot be imported.
        """
        found: list[Convention] = self._ask("candidates", options)
        return found

    def has_torch(self) -> bool:
        """Whether the target has imported PyTorch."""
        return bool(self._ask("has_torch"))

    def forks(self) -> int:
        """How many processes the target has forked off since it was last started."""
        with contextlib.suppress(TargetFailedError):
            return int(self._ask("forks"))
        return 0

    def call(self, convention: Convention, inputs: Inputs) -> Outcome:
        """The result of the target; where the process hangs or dies, that failure."""
        try:
            outcome: Outcome = self._ask("call", convention, inputs)
        except TargetFailedError as error:
            return Outcome(failure=error.failure)
        return outcome

    def measure(self, convention: Convention, inputs: Inputs) -> Cost | Failure:
        """Time and peak memory of the target's backward."""
        cost: Cost | Failure = self._measured("measure", convention, inputs)
        return cost

    def steps(self, convention: Convention, inputs: Inputs) -> int | Failure:
        """How many of Python's instructions one backward executes."""
        count: int | Failure = self._measured("steps", convention, inputs)
        return count

    def printed(self) -> str:
        """The end of what the target printed."""
        if not self._output.exists():
            return ""
        return self._output.read_text(encoding="utf-8", errors="replace")[-SHOWN_OUTPUT:].strip()

    def _measured(self, method: str, convention: Convention, inputs: Inputs) -> Any:
        try:
            return self._ask(method, convention, inputs)
        except TargetFailedError as error:
            return error.failure

    def _ask(self, method: str, *arguments: Any) -> Any:
        if self._process is None:
            self._start()
            self._request("load", ())
        return self._request(method, arguments)

    def _request(self, method: str, arguments: tuple[Any, ...]) -> Any:
        assert self._connection is not None  # noqa: S101 - a process that was started has one
        limit_s = self._limits_s.get(method, self._call_s)
        try:
            self._connection.send((method, arguments, limit_s))
            if not self._connection.poll(limit_s + GRACE_S):
                raise TargetFailedError(self._ended("hung", f"hangs: no answer within {limit_s:g} s"))
            kind, answer = self._connection.recv()
        except (EOFError, OSError):
            raise TargetFailedError(self._ended("died", "")) from None
        if kind == "user":
            raise UserError(answer)
        if kind == "failure":
            raise TargetFailedError(answer)
        return answer

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        arguments = [str(self._last_words), self._target, str(self._max_bytes), str(import_folder(self._target))]
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", f"{__package__}.worker", str(theirs.fileno()), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={**os.environ, MARK: self._mark, "PYTHONUNBUFFERED": "1"},
            )
        theirs.close()
        self._connection = Connection(ours.detach())

    def _ended(self, kind: str, summary: str) -> Failure:
        """The failure of a process that hung or died, from the stack that it left; it is ended here."""
        process, status = self._process, None
        if process is not None and kind == "died":
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(GRACE_S)
        self._end()
        stack = self._last_words.read_text(encoding="utf-8", errors="replace") if self._last_words.exists() else ""
        reason = re.search(r"^reason: (.+)$", stack, flags=re.MULTILINE)
        if reason:
            summary = reason.group(1)
        elif not summary:
            killed = status is not None and status < 0
            summary = f"is ended by {signal.Signals(-status).name}" if killed and status else "ends its process"
        return failure_at(kind, summary, stack)

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for _ in range(KILLING_ROUNDS):
                family = self._family()
                if not family:
                    break
                for process in family:
                    with contextlib.suppress(psutil.Error):
                        process.kill()
        self._connection = self._process = None

    def _family(self) -> list[psutil.Process]:
        """What the process has started and is alive, also what has left its session and lost its parent."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == self._mark:
                    found.append(process)
        return found
