"""pytest started for a sweep in this process, and what it reports passed on to whoever follows the run."""

import contextlib
import io
import os
from pathlib import Path

import pytest

from ..cli import INTERRUPTED
from ..errors import UserError
from ..paths import PACKAGE
from ..storage.results import Row
from .open_run import Observer
from .options import Options
from .plugin import CURRENT, FAULT, OBSERVER

PLUGIN = f"{__package__}.plugin"
EXIT_STATUSES = {
    pytest.ExitCode.OK: 0,
    pytest.ExitCode.TESTS_FAILED: 1,
    pytest.ExitCode.INTERRUPTED: INTERRUPTED,
    pytest.ExitCode.NO_TESTS_COLLECTED: 0,  # a resumed run that misses nothing
}
# The sweep is run the same in every folder and environment: no configuration or conftest.py of the folder takes part,
# and no plugin that happens to be installed. There is no assertion that pytest would have to rewrite.
PYTEST_ARGUMENTS = (
    *("-c", os.devnull, "--noconftest", "-p", "pytest_benchmark.plugin", "-p", PLUGIN, "-p", "no:cacheprovider"),
    *("-o", "python_functions=bench_*", "--import-mode=importlib", "--assert=plain"),
    *("-qq", "--no-header", "--no-summary", "--benchmark-quiet"),
)
NO_PLUGINS = "PYTEST_DISABLE_PLUGIN_AUTOLOAD"  # pytest's own variable


class Hooks:
    """A pytest plugin that passes what happens on to an observer, and keeps pytest's own voice down."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.folder: Path | None = None  # of the run, once it is open
        self.config: pytest.Config | None = None
        self.interrupted = False

    def pytest_configure(self, config: pytest.Config) -> None:
        """Let the run report to the observer."""
        self.config = config
        config.stash[OBSERVER] = self._observer

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str]:
        """Say nothing."""
        return report.outcome, "", ""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """The run is open."""
        run = session.config.stash.get(CURRENT, None)
        if run is not None:
            self.folder = run.folder
            self._observer.begun(run)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A case has been reported, or something failed outside of any case."""
        row = dict(report.user_properties).get("row")
        if report.when == "call" and isinstance(row, Row):
            self._observer.reported(row)
        elif report.failed:
            self._observer.said(f"{report.nodeid}\n{report.longreprtext}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Remember it: pytest may fail to report an interrupt that arrives between two of its own steps."""
        self.interrupted = True


def run_pytest(options: Options, pytest_arguments: tuple[str, ...], observer: Observer) -> tuple[int, Path | None]:
    """Measure; the exit status, and the run's folder where it was opened.

    Raises:
        UserError: pytest refused the options, or the run could not be opened or stored.
    """
    hooks = Hooks(observer)
    target = str(PACKAGE / "bench_backward.py")
    arguments = [*PYTEST_ARGUMENTS, f"--rootdir={Path.cwd()}", *options.arguments(), *pytest_arguments, target]
    voice, complaint = io.StringIO(), io.StringIO()  # pytest ends with an empty line, which would tear the bar
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(NO_PLUGINS, "1")
            with contextlib.redirect_stdout(voice), contextlib.redirect_stderr(complaint):
                code = pytest.main(arguments, plugins=[hooks])
    except Exception:
        if not hooks.interrupted:
            raise
        code = pytest.ExitCode.INTERRUPTED
    if hooks.config is not None and FAULT in hooks.config.stash:
        raise hooks.config.stash[FAULT]
    if text := voice.getvalue().strip():
        observer.said(text)
    status, complained = EXIT_STATUSES.get(pytest.ExitCode(code), 2), complaint.getvalue().strip()
    if complained and status == 2:
        raise UserError(" ".join(complained.removeprefix("ERROR: ").split()))
    if complained:
        observer.said(complained)
    return status, hooks.folder
