"""pytest's options and fixtures for the sweep: which cases, which run, and the instruments' session."""

import os
from pathlib import Path
from typing import Any

import pytest

from ..errors import UserError
from ..instruments import host
from ..operations.cases import Case
from ..storage.results import Run, find_run, load_run
from ..verification.competitor import add_competitor, is_target
from . import sitting as sweep
from .options import AXES, SWEEP
from .selection import Selection, unique

CASES = pytest.StashKey[list[Case]]()
BENCHMARK_OPTIONS = ("max_time", "min_time", "min_rounds")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the sweep's options."""
    group = parser.getgroup("sweep", "the sweep over softmax backwards")
    for option in SWEEP:
        action: dict[str, Any] = {"action": "append", "default": []} if option.repeats else {"default": option.default}
        group.addoption(
            f"--{option.name}",
            dest=option.destination,
            type=option.kind,
            metavar=option.metavar,
            help=option.help,
            **action,
        )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Select the cases, and take a resumed run's own timing options before pytest-benchmark reads them."""
    try:
        stored = _stored_run(config)
        selection = _selection(config, stored)
        for target in filter(is_target, selection.implementation):
            add_competitor(target)
        config.stash[CASES] = selection.cases()
        if sitting := config.getoption("sweep_sitting"):
            _confine(sitting, config.stash[CASES])
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    for option, value in (stored.options["benchmark"] if stored else {}).items():
        kind = type(getattr(config.option, f"benchmark_{option}"))  # a number of rounds is whole
        setattr(config.option, f"benchmark_{option}", kind(value))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize what takes part in a sweep with the selected cases."""
    if "sweep_session" in metafunc.fixturenames:
        cases = metafunc.config.stash[CASES]
        metafunc.parametrize("case", cases, ids=list(map(str, cases)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin the run, or resume it and leave out what it has, once it is known that there is something to measure."""
    cases = [item for item in items if "sweep_session" in getattr(item, "fixturenames", ())]
    if not cases or config.option.collectonly:
        return
    try:
        config.stash[sweep.CURRENT] = current = _open_sweep(config)
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    sitting = config.getoption("sweep_sitting") or ""  # NumPy's cases
    missing = [item for item in cases if _case_of(item) not in current.rows]
    chosen = [item for item in missing if sweep.sitting_of(_case_of(item)) == sitting]
    current.missing = len(missing)
    left_out = {item.nodeid for item in cases} - {item.nodeid for item in chosen}
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
        items[:] = [item for item in items if item.nodeid not in left_out]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the run, however the session ended."""
    if sweep.CURRENT in config.stash:
        config.stash[sweep.CURRENT].close()


@pytest.fixture(scope="session")
def sweep_session(request: pytest.FixtureRequest) -> sweep.Sweep:
    """The run being written."""
    return request.config.stash[sweep.CURRENT]


def _case_of(item: pytest.Item) -> Case:
    case = item.callspec.params["case"]  # type: ignore[attr-defined]  # items of parametrized functions have it
    assert isinstance(case, Case)
    return case


def _confine(sitting: str, cases: list[Case]) -> None:
    """Leave a sitting's process as many processors as it has threads: some libraries start a thread for each."""
    possible = unique(filter(None, map(sweep.sitting_of, cases)))
    if sitting not in possible:
        raise UserError(
            f"--sitting {sitting}: no such sitting of these cases (one of: {', '.join(possible) or 'none'})"
        )
    threads = int(sitting.rpartition(":")[2])
    if processors := host.processors():
        os.sched_setaffinity(0, processors[:threads])


def _stored_run(config: pytest.Config) -> Run | None:
    name = config.getoption("sweep_resume")
    return None if name is None else load_run(find_run(name, Path(config.getoption("sweep_results"))))


def _selection(config: pytest.Config, stored: Run | None) -> Selection:
    chosen: dict[str, Any] = {option.name: tuple(config.getoption(option.destination)) for option in AXES}
    if stored is None:
        return Selection(**{**chosen, "grid": config.getoption("sweep_grid")})
    for axis, values in chosen.items():
        if values:
            raise UserError(f"--{axis} beside --resume: a resumed run has its own cases")
    return Selection.restored(stored.selection)


def _open_sweep(config: pytest.Config) -> sweep.Sweep:
    settings = sweep.Settings(
        results=Path(config.getoption("sweep_results")),
        seed=config.getoption("sweep_seed"),
        max_call_s=config.getoption("sweep_max_call_s"),
        max_bytes=config.getoption("sweep_max_bytes"),
        benchmark={name: float(config.getoption(f"benchmark_{name}")) for name in BENCHMARK_OPTIONS},
    )
    name = config.getoption("sweep_resume")
    if name is not None:
        return sweep.resume(name, settings)
    return sweep.begin(_selection(config, None), settings, config.getoption("sweep_run_id"))
