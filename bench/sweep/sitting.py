"""A sitting: a process that measures a part of a run, asked by the process that keeps the tables.

Each library has a process of its own for each number of threads: pools of threads would compete, and some libraries
size theirs once, when they start. NumPy's cases share one. A user's own implementation has one, too. The implementation
itself runs in a further process, so that nothing that it does can touch a figure.
"""

import contextlib
import importlib
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from ..implementations import NUMPY
from ..instruments import host
from ..instruments.bandwidth import PAST_CACHES, Stream
from ..instruments.lifetime import end_with_parent
from ..operations.cases import Case, known_as
from ..verification.competitor import Competitor, enlist_competitor
from .guests import GuestMeasurer
from .measuring import Measurer, Settings, WrongError
from .selection import unique

COMPILER = "numba"  # the library whose process makes stores past the caches
ENDING_S = 2.0  # that a process has to end by itself
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SittingLostError(Exception):
    """The process ended, or did not answer in time; the message says how."""


class SittingHungError(SittingLostError):
    """The process did not answer in time, and was ended."""


class MeasuringError(Exception):
    """What a case raised while it was visited, as text: its own class may exist in the sitting's process only.

    ``status`` is that of its row: failed, or wrong.
    """

    def __init__(self, text: str, status: str = "failed") -> None:
        super().__init__(text)
        self.status = status


class Sitting:
    """The process of one sitting, started when it is first asked and again after it was lost."""

    def __init__(
        self, name: str, settings: Settings, competitors: Sequence[Competitor], modules: Sequence[str]
    ) -> None:
        self.name = name
        self._arguments = (name, settings, tuple(competitors), tuple(modules))
        self._process: Any = None
        self._connection: Connection | None = None

    def ask(self, method: str, *arguments: Any, limit_s: float) -> Any:
        """What a method of `Measurer` returns in the sitting's process.

        Raises:
            SittingLostError: the process ended.
            SittingHungError: it did not answer within the limit and was ended.
            MeasuringError: the method raised something.
        """
        connection = self._connection or self._start()
        try:
            connection.send((method, arguments))
            if not connection.poll(limit_s):
                self.close()
                raise SittingHungError(f"the process did not answer within {limit_s:.0f} s")
            kind, value = connection.recv()
        except (EOFError, OSError):
            self._process.join(ENDING_S)
            kind, value = "lost", _ending(self._process.exitcode)
        if kind == "lost":
            self.close()
            raise SittingLostError(f"the process {value}")
        if kind == "raised":
            raise MeasuringError(value)
        if kind == "wrong":
            raise MeasuringError(value, "wrong")
        return value

    def close(self) -> None:
        """End the process, if there is one."""
        if self._connection is None:
            return
        self._connection.close()
        self._connection = None
        if self._process.pid is None:  # interrupted before it was started
            return
        self._process.join(ENDING_S)
        self._process.kill()  # no effect if it has ended
        self._process.join()

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")  # a fresh interpreter: nothing of this one's libraries
        mine, its = context.Pipe()
        self._process = context.Process(target=_serve, args=(its, *self._arguments), daemon=True)
        self._connection = mine
        with _signals_held_back():
            self._process.start()
        its.close()
        return mine


def sitting_of(subject: Case | Stream) -> str:
    """The name of the sitting that measures a case or a stream: 'numpy', 'torch:2', or a user's own 'file.py:name'.

    What a user's module registers has a process of its own as well, as 'its_name@numpy': it may end or spoil that.
    """
    if isinstance(subject, Stream):
        return NUMPY if subject.stores != PAST_CACHES else f"{COMPILER}:{subject.threads}"
    if subject.spec.guessed:
        return subject.implementation
    if subject.spec.of_plugin:
        return f"{subject.implementation}@{_sitting_of_library(subject)}"
    return _sitting_of_library(subject)


def _sitting_of_library(case: Case) -> str:
    return NUMPY if case.spec.library == NUMPY else f"{case.spec.library}:{case.threads}"


def sittings_of(subjects: Iterable[Case | Stream]) -> list[str]:
    """The sittings of these cases and streams, in order."""
    return unique(map(sitting_of, subjects))


def _serve(
    connection: Connection,
    name: str,
    settings: Settings,
    competitors: Sequence[Competitor],
    modules: Sequence[str],
) -> None:
    """Answer until nobody asks any more."""
    os.setpgid(0, 0)  # an interrupt from the terminal goes to the parent alone
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
    end_with_parent()
    _confine(name)
    for module in modules:
        importlib.import_module(module)
    for competitor in competitors:
        enlist_competitor(competitor)
    guest = next((competitor for competitor in competitors if known_as(competitor.target) == name), None)
    measurer = GuestMeasurer(settings, guest) if guest else Measurer(settings, ask_pytorch=name.startswith("torch:"))
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            method, arguments = connection.recv()
            connection.send(_answer(measurer, method, arguments))
    if isinstance(measurer, GuestMeasurer):
        measurer.close()
    os._exit(0)  # some libraries hang or crash while they are torn down


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """A block that no signal ends half-way: a process that has only just been started would be left behind."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _answer(measurer: Measurer | GuestMeasurer, method: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    try:
        return "answer", getattr(measurer, method)(*arguments)
    except WrongError as error:
        return "wrong", str(error)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # signals do not interrupt this process
        return "raised", f"{type(error).__name__}: {error}".removesuffix(": ")


def _confine(name: str) -> None:
    """Leave a library's process as many processors as it has threads: some libraries start a thread for each."""
    library, _, threads = name.rpartition(":")
    if library and threads.isdigit() and (processors := host.processors()):
        os.sched_setaffinity(0, processors[: int(threads)])


def _ending(exitcode: int | None) -> str:
    if exitcode is None:
        return "closed its connection"
    if exitcode < 0:
        killed = ", as the kernel does where memory runs out" if -exitcode == signal.SIGKILL else ""
        return f"was ended by {signal.Signals(-exitcode).name}{killed}"
    return f"ended with {exitcode}"
