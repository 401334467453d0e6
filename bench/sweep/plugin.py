"""The pytest plugin of the sweep: its options, its cases as parameters, and the fixture of the sitting.

Loaded with ``-p softmax_bench.sweep.plugin``, or named in a conftest.py.
"""

import dataclasses
import os
from typing import Any

import pytest

from ..errors import UserError
from ..instruments import host
from ..operations.cases import Case
from ..storage.results import Run, find_run, load_run
from ..verification.competitor import add_competitor, is_target
from .opening import begin, resume
from .options import Options, add_pytest_options
from .selection import Selection
from .sitting import CURRENT, Sitting, sitting_of, sittings_of

CASES = pytest.StashKey[list[Case]]()
# How pytest-benchmark times a case, unless its own options are given. The heap is in its steady state (see `clock`),
# so few rounds suffice; the collector would run in some rounds and not in others.
TIMING = {"max_time": 0.3, "min_rounds": 5, "min_time": 0.00002, "disable_gc": True}
QUICK_MAX_TIME_S = 0.1
STORED_TIMING = ("max_time", "min_time", "min_rounds")  # what shapes a timing, as run.json keeps it


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the sweep's options."""
    add_pytest_options(parser.getgroup("sweep", "the sweep over softmax backwards"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Select the cases, and set how they are timed before pytest-benchmark reads it."""
    options = Options.of_pytest(config)
    try:
        stored = _stored_run(options)
        selection = Selection.restored(stored.selection) if stored else options.selection
        for target in filter(is_target, selection.implementation):
            add_competitor(target)
        config.stash[CASES] = selection.cases()
        if options.sitting:
            _confine(options.sitting, config.stash[CASES])
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    _set_timing(config, options, stored)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize what takes part in a sweep with the selected cases."""
    if "sitting" in metafunc.fixturenames:
        cases = metafunc.config.stash[CASES]
        metafunc.parametrize("case", cases, ids=list(map(str, cases)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Open the run once there is something to measure, and leave out what it has and what other processes measure."""
    parametrized = [item for item in items if "sitting" in getattr(item, "fixturenames", ())]
    if not parametrized or config.option.collectonly:
        return
    options = Options.of_pytest(config)
    timing = {name: float(config.getoption(f"benchmark_{name}")) for name in STORED_TIMING}
    try:
        sitting = resume(options.resume, options) if options.resume else begin(options, timing)
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[CURRENT] = sitting
    left_out = {
        item.nodeid
        for item in parametrized
        if case_of(item) in sitting.rows or sitting_of(case_of(item)) != (options.sitting or "")
    }
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
        items[:] = [item for item in items if item.nodeid not in left_out]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the run, however pytest ended."""
    if CURRENT in config.stash:
        config.stash[CURRENT].close()


@pytest.fixture(scope="session")
def sitting(request: pytest.FixtureRequest) -> Sitting:
    """The part of the run that this process measures."""
    return request.config.stash[CURRENT]


def case_of(item: pytest.Item) -> Case:
    """The case that a collected benchmark measures."""
    case: Case = item.callspec.params["case"]  # type: ignore[attr-defined]  # items of parametrized functions have it
    return case


def _confine(name: str, cases: list[Case]) -> None:
    """Leave a sitting's process as many processors as it has threads: some libraries start a thread for each."""
    possible = sittings_of(cases)
    if name not in possible:
        raise UserError(f"--sitting {name}: no such sitting of these cases (one of: {', '.join(possible) or 'none'})")
    threads = int(name.rpartition(":")[2])
    if processors := host.processors():
        os.sched_setaffinity(0, processors[:threads])


def _stored_run(options: Options) -> Run | None:
    """The run to be resumed; None where a new one is to begin."""
    if options.resume is None:
        return None
    free = Options(results=options.results, resume=options.resume, sitting=options.sitting)
    for field in dataclasses.fields(Options):
        if getattr(options, field.name) != getattr(free, field.name):
            raise UserError(f"--{field.name.replace('_', '-')} with --resume: a resumed run keeps its own options")
    return load_run(find_run(options.resume, options.results))


def _set_timing(config: pytest.Config, options: Options, stored: Run | None) -> None:
    """Give pytest-benchmark the sweep's settings, or a resumed run's own; what the command line says wins."""
    settings: dict[str, Any] = dict(TIMING)
    if options.grid == "quick":
        settings["max_time"] = QUICK_MAX_TIME_S
    given = {argument.partition("=")[0] for argument in map(str, config.invocation_params.args)}
    settings = {name: value for name, value in settings.items() if f"--benchmark-{name.replace('_', '-')}" not in given}
    for name, value in (settings | (stored.options.benchmark if stored else {})).items():
        kind = type(getattr(config.option, f"benchmark_{name}"))  # a number of rounds is whole, a time a decimal
        setattr(config.option, f"benchmark_{name}", kind(value))
