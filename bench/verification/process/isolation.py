"""A target in a process of its own. The process and all that it started are ended when it hangs, dies or is done."""

import contextlib
import math
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import psutil

from ...errors import UserError
from ...instruments.scratch import temporary_folder
from ..calling.call import Inputs
from ..calling.convention import Convention, Options
from .block import Assignment, Made, Ran
from .descent import Descent
from .failures import Failure, Kind, failure_from_stack
from .handover import Handover, hand_over
from .shared import Shared
from .slopes import Slopes
from .subject import Outcome
from .wire import ForgedError, decoded

LOAD_S = 30.0  # limit of importing a target
CALL_S = 10.0  # limit of each request
MAX_BYTES = 1 << 30  # the most that a call may allocate
GRACE_S = 0.5  # after the limit: time for the process to write where it hangs
MARK = "SOFTMAX_BENCH_TARGET"  # an environment variable that all processes started by the target inherit
KILLING_ROUNDS = 20  # a process may fork between being found and being killed
PROCESS_CLOCK = 2  # Linux's number, beside a process's, of the clock of all its threads
FAULTS_FIELD = 7  # of Linux's /proc/<pid>/stat, counted behind the command
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA", "NUMEXPR")}
MAX_ANSWER_BYTES = 1 << 28
ANSWERS: dict[str, Any] = {  # to each request, what kind of answer there is
    "load": None,
    "candidates": tuple[Convention],
    "has_torch": bool,
    "source": str,
    "forks": int,
    "changed": str,
    "call": Outcome,
    "slopes": Slopes | Failure,
    "descent": Descent | Failure,
    "steps": int | Failure,
    "warm": Made,
    "ready": None,
    "go": Ran,
    "go_for_peaks": Ran,
    "overwritten": tuple[str],
}
SHOWN_OUTPUT = 2000  # the last characters of what a target printed


class TargetFailedError(Exception):
    """The target could not be loaded or did not answer; ``failure`` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.summary)
        self.failure = failure


class Isolated:
    """A target named ``module:attribute`` or ``path.py:attribute``, in a process that starts at the first request.

    ``call_s`` limits each request, ``load_s`` the import, ``max_bytes`` what a call may allocate. ``root`` is the
    folder of the target's project, if it cannot be found from the file; see ``loading.import_folders``.
    """

    def __init__(
        self,
        target: str,
        call_s: float = CALL_S,
        load_s: float = LOAD_S,
        max_bytes: int = MAX_BYTES,
        root: Path | None = None,
    ) -> None:
        self._target = target
        self._root = root
        self._limits_s = {"load": load_s}
        self._call_s = call_s
        self._max_bytes = max_bytes
        self._mark = uuid.uuid4().hex
        self._files = contextlib.ExitStack()
        folder = self._files.enter_context(temporary_folder())
        self._output, self._last_words = folder / "output", folder / "last_words"
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._shared = Shared()

    @classmethod
    def limited(
        cls, target: str, timeout_s: float | None, max_bytes: int | None, root: Path | None = None
    ) -> "Isolated":
        """A target with one limit for each call and for the import; what is None is as usual."""
        return cls(target, timeout_s or CALL_S, timeout_s or LOAD_S, max_bytes or MAX_BYTES, root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the process and all that it started."""
        self._end()
        self._files.close()
        self._shared.close()

    def candidates(self, options: Options) -> list[Convention]:
        """Every way in which the target may have to be called, likeliest first.

        Raises:
            UserError: there is no such target.
            TargetFailedError: it cannot be imported.
        """
        return list(self._request("candidates", options))

    def has_torch(self) -> bool:
        """Whether the target has imported PyTorch."""
        return bool(self._request("has_torch"))

    def source(self, convention: Convention) -> str:
        """The text of what is called; empty if Python does not know it."""
        return str(self._request("source", convention))

    def forks(self) -> int:
        """How many processes the target has forked off since it was last started."""
        with contextlib.suppress(TargetFailedError):
            return int(self._request("forks"))
        return 0

    def changed(self) -> str:
        """What the target has replaced outside itself, in words that follow 'it'; empty if nothing is known."""
        with contextlib.suppress(TargetFailedError):
            return str(self._request("changed"))
        return ""

    def call(self, convention: Convention, inputs: Inputs) -> Outcome:
        """The result of the target, or how its process hung or died."""
        try:
            outcome: Outcome = self._request("call", convention, inputs)
        except TargetFailedError as error:
            return Outcome(failure=error.failure)
        return outcome

    def timed(
        self, convention: Convention, trials: Sequence[Inputs], made: Made | None = None, *, peaks: bool = False
    ) -> Handover | Failure:
        """A block of clocked calls, one for each of the trials, as ``hand_over`` describes it.

        With ``peaks`` the peak memory of each call is read instead of the clock.
        """
        try:
            return hand_over(self, self._shared, convention, trials, made, peaks=peaks)
        except TargetFailedError as error:
            return error.failure

    def warm(self, convention: Convention, inputs: Inputs) -> Made:
        """The shape and dtype of a result, of a call that is not clocked."""
        made: Made = self._request("warm", convention, inputs)
        return made

    def ready(self, convention: Convention, assignment: Assignment) -> None:
        """Prepare a block."""
        self._request("ready", convention, assignment)

    def go(self) -> Ran:
        """Run the block that was prepared."""
        ran: Ran = self._request("go")
        return ran

    def go_for_peaks(self) -> Ran:
        """Run the block that was prepared, and read the peak memory of each call instead of the clock."""
        ran: Ran = self._request("go_for_peaks")
        return ran

    def overwritten(self) -> tuple[str, ...]:
        """The roles of the inputs that the block's calls have changed."""
        roles: tuple[str, ...] = self._request("overwritten")
        return roles

    def processor_s(self) -> float:
        """Seconds that the process has used of processors since it started; NaN on systems that do not say it."""
        if self._process is None or not sys.platform.startswith("linux"):
            return math.nan
        return time.clock_gettime((~self._process.pid << 3) | PROCESS_CLOCK)

    def faults(self) -> float:
        """Page faults of the process that were served without the disk; NaN on systems that do not say it."""
        if self._process is None or not sys.platform.startswith("linux"):
            return math.nan
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return float(fields[FAULTS_FIELD])

    def helpers(self) -> int:
        """How many more processes of the target are alive."""
        return sum(process.pid != self._process.pid for process in self._family()) if self._process else 0

    def steps(self, convention: Convention, inputs: Inputs) -> int | Failure:
        """How many Python instructions one backward executes."""
        count: int | Failure = self._request_or_failure("steps", convention, inputs)
        return count

    def slopes(self, convention: Convention, inputs: Inputs) -> Slopes | Failure:
        """How steep the target's own forward is, as its backward says and by central differences."""
        found: Slopes | Failure = self._request_or_failure("slopes", convention, inputs)
        return found

    def descent(self) -> Descent | Failure:
        """Whether the target is a whole network whose gradients are right, by central differences."""
        found: Descent | Failure = self._request_or_failure("descent")
        return found

    def printed(self) -> str:
        """The end of what the target printed."""
        if not self._output.exists():
            return ""
        return self._output.read_text(encoding="utf-8", errors="replace")[-SHOWN_OUTPUT:].strip()

    def _request_or_failure(self, method: str, *arguments: Any) -> Any:
        try:
            return self._request(method, *arguments)
        except TargetFailedError as error:
            return error.failure

    def _request(self, method: str, *arguments: Any) -> Any:
        """The answer to a request, from a process that is started for it if there is none."""
        if self._process is None:
            self._start()
            self._exchange("load", ())
        return self._exchange(method, arguments)

    def _exchange(self, method: str, arguments: tuple[Any, ...]) -> Any:
        assert self._connection is not None  # noqa: S101 - the process was started
        limit_s = self._limits_s.get(method, self._call_s)
        try:
            self._connection.send((method, arguments, limit_s))
            if not self._connection.poll(limit_s + GRACE_S):
                raise TargetFailedError(self._ended("hung", f"hangs: no answer within {limit_s:g} s"))
            kind, answer = decoded(self._connection.recv_bytes(MAX_ANSWER_BYTES), ANSWERS[method])
        except (EOFError, OSError):
            raise TargetFailedError(self._ended("died", "")) from None
        except (ForgedError, ValueError):
            raise TargetFailedError(self._ended("died", "answers with what is no answer")) from None
        if kind == "user":
            raise UserError(answer)
        if kind == "failure":
            raise TargetFailedError(answer)
        return answer

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(self._call_s) + 1, 0))
        arguments = [str(self._last_words), self._target, str(self._max_bytes), str(self._root or "")]
        descriptors = [theirs.fileno(), self._shared.descriptor]
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", f"{__package__}.worker", *map(str, descriptors), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=descriptors,
                start_new_session=True,
                env={**os.environ, **ONE_THREAD, MARK: self._mark, "PYTHONUNBUFFERED": "1"},
            )
        theirs.close()
        self._connection = Connection(ours.detach())

    def _ended(self, kind: Kind, summary: str) -> Failure:
        """The failure of a process that hung or died, from its last words. The process is ended here."""
        process, status = self._process, None
        if process is not None and kind == "died":
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(GRACE_S)
        self._end()
        written = self._last_words.exists()
        last_words = self._last_words.read_text(encoding="utf-8", errors="replace") if written else ""
        reason = re.search(r"^reason: (.+)$", last_words, flags=re.MULTILINE)
        if reason:
            summary = reason.group(1)
        elif not summary:
            killed = status is not None and status < 0
            summary = f"is ended by {signal.Signals(-status).name}" if killed and status else "ends its process"
        return failure_from_stack(kind, summary, last_words)

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
        """All living processes that it has started, including those that left its session or lost their parent."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == self._mark:
                    found.append(process)
        return found
