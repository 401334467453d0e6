"""The pytest plugin of the sweep: its options, its cases as parameters, and the fixture of the run being measured.

Loaded with ``-p softmax_bench.sweep.plugin``, or named in a conftest.py. When the first benchmark of a case is set up,
all selected cases are examined and visited; each benchmark then reports its own case.
"""

import dataclasses
import sys
from typing import Any

import pytest

from ..errors import UserError
from ..instruments.machine_lock import hold_machine
from ..operations.cases import Case
from ..storage.results import Run, find_run, load_run
from ..verification.competitor import Competitor, competitors_of
from .open_run import Observer, OpenRun
from .opening import Surroundings, begin, missing_cases, resume
from .options import PREFIX, Options, add_pytest_options
from .selection import Selection

CASES = pytest.StashKey[list[Case]]()
COMPETITORS = pytest.StashKey[tuple[Competitor, ...]]()
CURRENT = pytest.StashKey[OpenRun]()  # where pytest's configuration keeps the run
FAULT = pytest.StashKey[UserError]()  # what kept the run from being stored
OBSERVER = pytest.StashKey[Observer]()  # and who follows it
# How long a visit lasts, and how long a group of calls that are timed as one, in pytest-benchmark's own options, unless
# those are given. The collector would run in some calls and not in others.
TIMING = {"max_time": 0.003, "min_time": 0.00002, "disable_gc": True}
STORED_TIMING = ("max_time", "min_time")  # what shapes a visit, as run.json keeps it


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the sweep's options."""
    add_pytest_options(parser.getgroup("sweep", "the sweep over softmax backwards"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Select the cases, and set how they are timed before pytest-benchmark reads it."""
    try:
        stored = _stored_run(Options.of_pytest(config))
        selection = Selection.restored(stored.selection) if stored else Options.of_pytest(config).selection
        config.stash[COMPETITORS] = competitors_of(selection.implementation)
        config.stash[CASES] = selection.cases()
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    _set_timing(config, stored)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize what takes part in a sweep with the selected cases."""
    if "measured_run" in metafunc.fixturenames:
        cases = metafunc.config.stash[CASES]
        metafunc.parametrize("case", cases, ids=list(map(str, cases)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Open the run once there is something to measure, and leave out what it has already."""
    parametrized = [item for item in items if "measured_run" in getattr(item, "fixturenames", ())]
    if not parametrized or config.option.collectonly:
        return
    options = Options.of_pytest(config)
    disabled = config.getoption("benchmark_disable") and not config.getoption("benchmark_enable")
    surroundings = Surroundings(
        timing={} if disabled else {name: float(config.getoption(f"benchmark_{name}")) for name in STORED_TIMING},
        competitors=config.stash[COMPETITORS],
        modules=_modules_of_user(config),
    )
    try:
        run = resume(options.resume, options, surroundings) if options.resume else begin(options, surroundings)
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[CURRENT] = run
    missing = set(missing_cases(run.folder))
    left_out = {item.nodeid for item in parametrized if case_of(item) not in missing}
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
        items[:] = [item for item in items if item.nodeid not in left_out]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the run, however pytest ended."""
    if CURRENT not in config.stash:
        return
    try:
        config.stash[CURRENT].close()
    except UserError as error:
        config.stash.setdefault(FAULT, error)
        if OBSERVER not in config.stash:  # pytest was called by the user
            sys.stderr.write(f"{error}\n")


@pytest.fixture(scope="session")
def measured_run(request: pytest.FixtureRequest) -> OpenRun:
    """The run, every selected case examined and visited."""
    run = request.config.stash[CURRENT]
    cases = [case_of(item) for item in request.session.items if "measured_run" in getattr(item, "fixturenames", ())]
    observer = request.config.stash.get(OBSERVER, Observer())
    beside = request.config.getoption(PREFIX + "beside")
    try:
        with hold_machine(f"run {run.run.run_id}", observer.said, beside=beside):
            run.measure(cases, observer)
    except UserError as error:  # a full disk, say: what is not stored need not be measured
        request.config.stash[FAULT] = UserError(f"{error}; resume the run with RESUME={run.run.run_id}")
        pytest.exit(str(request.config.stash[FAULT]), returncode=pytest.ExitCode.USAGE_ERROR)
    return run


def case_of(item: pytest.Item) -> Case:
    """The case that a collected benchmark measures."""
    case: Case = item.callspec.params["case"]  # type: ignore[attr-defined]  # items of parametrized functions have it
    return case


def _modules_of_user(config: pytest.Config) -> tuple[str, ...]:
    """The modules given by ``-p``, which may add implementations: the run's processes import them as well."""
    given = [name for name in config.option.plugins if not name.startswith("no:") and name != __name__]
    return tuple(name for name in given if config.pluginmanager.has_plugin(name))


def _stored_run(options: Options) -> Run | None:
    """The run to be resumed; None where a new one is to begin."""
    if options.resume is None:
        return None
    free = Options(results=options.results, resume=options.resume, minutes=options.minutes, beside=options.beside)
    for field in dataclasses.fields(Options):
        if getattr(options, field.name) != getattr(free, field.name):
            raise UserError(f"--{field.name.replace('_', '-')} with --resume: a resumed run keeps its own options")
    return load_run(find_run(options.resume, options.results))


def _set_timing(config: pytest.Config, stored: Run | None) -> None:
    """Give pytest-benchmark the sweep's settings, or a resumed run's own; what the command line says wins."""
    given = {argument.partition("=")[0] for argument in map(str, config.invocation_params.args)}
    settings: dict[str, Any] = {
        name: value for name, value in TIMING.items() if f"--benchmark-{name.replace('_', '-')}" not in given
    }
    for name, value in (settings | (stored.options.benchmark if stored else {})).items():
        if name in TIMING:  # runs of earlier versions have more
            setattr(config.option, f"benchmark_{name}", value)
