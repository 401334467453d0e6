"""The processes of a run: pytest started in this process, or in one of its own for a library's cases."""

import contextlib
import io
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import pytest

from ..cli import INTERRUPTED
from ..errors import UserError
from ..operations.cases import Case
from ..paths import PACKAGE
from ..storage.results import Row
from .options import Options
from .plugin import case_of
from .sitting import CURRENT, Sitting

PLUGIN = f"{__package__}.plugin"
EXIT_STATUSES = {
    pytest.ExitCode.OK: 0,
    pytest.ExitCode.TESTS_FAILED: 1,
    pytest.ExitCode.INTERRUPTED: INTERRUPTED,
    pytest.ExitCode.NO_TESTS_COLLECTED: 0,  # a resumed run that misses nothing
}
# The sweep is run the same in every folder: no configuration or conftest.py of the folder takes part.
PYTEST_ARGUMENTS = (
    *("-c", os.devnull, "--noconftest", "-p", PLUGIN, "-p", "no:cacheprovider", "-o", "python_functions=bench_*"),
    *("--import-mode=importlib", "-qq", "--no-header", "--no-summary", "--benchmark-quiet"),
)


class Observer(Protocol):
    """Whoever follows a sitting."""

    def begun(self, sitting: Sitting) -> None:
        """The run is open, and nothing is measured yet."""

    def started(self, case: Case) -> None:
        """A case begins."""

    def finished(self, row: Row) -> None:
        """A case has its row."""

    def broken(self, text: str) -> None:
        """Something failed outside of any case."""

    def said(self, text: str) -> None:
        """Pytest has said something, such as what it collected or why it stopped."""


class Hooks:
    """A pytest plugin that passes what happens on to an observer, and keeps pytest's own voice down."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._cases: dict[str, Case] = {}
        self.folder: Path | None = None  # of the run, once it is open
        self.interrupted = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str]:
        """Say nothing."""
        return report.outcome, "", ""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """The run is open."""
        sitting = session.config.stash.get(CURRENT, None)
        if sitting is not None:
            self.folder = sitting.folder
            self._cases = {item.nodeid: case_of(item) for item in session.items}
            self._observer.begun(sitting)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A case begins."""
        if nodeid in self._cases:
            self._observer.started(self._cases[nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A case has its row, or something failed before or after it."""
        row = dict(report.user_properties).get("row")
        if report.when == "call" and isinstance(row, Row):
            self._observer.finished(row)
        elif report.failed:
            self._observer.broken(f"{report.nodeid}\n{report.longreprtext}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Remember it: pytest may fail to report an interrupt that arrives between two of its own steps."""
        self.interrupted = True


def sit(options: Options, pytest_arguments: tuple[str, ...], observer: Observer) -> tuple[int, Path | None]:
    """Measure in this process; the exit status, and the run's folder where it was opened.

    Raises:
        UserError: pytest refused the options, or the run could not be opened.
    """
    hooks = Hooks(observer)
    target = str(PACKAGE / "bench_backward.py")
    arguments = [*PYTEST_ARGUMENTS, f"--rootdir={Path.cwd()}", *options.arguments(), *pytest_arguments, target]
    voice, complaint = io.StringIO(), io.StringIO()  # pytest ends with an empty line, which would tear the bar
    try:
        with contextlib.redirect_stdout(voice), contextlib.redirect_stderr(complaint):
            code = pytest.main(arguments, plugins=[hooks])
    except Exception:
        if not hooks.interrupted:
            raise
        code = pytest.ExitCode.INTERRUPTED
    if text := voice.getvalue().strip():
        observer.said(text)
    status, complained = EXIT_STATUSES.get(pytest.ExitCode(code), 2), complaint.getvalue().strip()
    if complained and status == 2:
        raise UserError(complained.removeprefix("ERROR: "))
    if complained:
        observer.said(complained)
    return status, hooks.folder


class _Sender:
    """An observer in a process of its own: it sends what happens to the process that shows it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def begun(self, sitting: Sitting) -> None:
        """Say nothing: the run was announced when it was begun."""

    def started(self, case: Case) -> None:
        """Send the case."""
        self._connection.send(("started", case))

    def finished(self, row: Row) -> None:
        """Send the row."""
        self._connection.send(("finished", row))

    def broken(self, text: str) -> None:
        """Send the text."""
        self._connection.send(("broken", text))

    def said(self, text: str) -> None:
        """Send the text."""
        self._connection.send(("said", text))


def sit_apart(folder: Path, sitting: str, pytest_arguments: tuple[str, ...], observer: Observer) -> int:
    """Measure one sitting of a stored run in a process of its own; its exit status."""
    options = Options(results=folder.parent, resume=folder.name, sitting=sitting)
    context = multiprocessing.get_context("spawn")  # a fresh interpreter: nothing of this one's libraries
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_sit_and_send, args=(options, pytest_arguments, sender))
    process.start()
    sender.close()
    try:
        while True:
            event, value = receiver.recv()
            getattr(observer, event)(value)
    except EOFError:
        process.join()
    except KeyboardInterrupt:
        if process.pid is not None:
            os.kill(process.pid, signal.SIGINT)
        process.join()
        return INTERRUPTED
    if process.exitcode in (0, 1, 2, INTERRUPTED):
        return process.exitcode
    observer.broken(f"the process that measured {sitting} ended with {process.exitcode}")
    return 1


def _sit_and_send(options: Options, pytest_arguments: tuple[str, ...], connection: Connection) -> None:
    os.setpgid(0, 0)  # an interrupt from the terminal goes to the parent alone, which passes it on
    sender = _Sender(connection)
    try:
        status, _ = sit(options, pytest_arguments, sender)
    except UserError as error:
        sender.broken(str(error))
        status = 2
    connection.close()
    raise SystemExit(status)
