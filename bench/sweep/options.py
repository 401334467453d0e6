"""The options of a sweep, each stated once as a typed field: click and pytest offer them, the sitting reads them."""

import dataclasses
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import click
import pytest

from ..cli import FOLDER
from ..errors import UserError
from ..implementations import NUMPY
from ..paths import RESULTS
from ..storage.kinds import LARGEST_WHOLE, LONGEST_S
from .budget import DEFAULT_CALL_BUDGET_S
from .selection import GRIDS, Selection, stated

PREFIX = "sweep_"  # of the names under which pytest keeps the values


@dataclass(frozen=True)
class Options(Selection):
    """What a user may say about a sweep: the selection of its cases, and the fields below."""

    seed: int = stated("seed of the inputs", 42, "S")
    max_call_s: float = stated("skip cases predicted slower", DEFAULT_CALL_BUDGET_S, "SECONDS")
    max_bytes: int | None = stated("skip cases predicted larger [default: half of the free memory]", None, "BYTES")
    results: Path = stated(  # noqa: RUF009 - a field
        "folder of the stored runs, one folder a run", RESULTS, "FOLDER"
    )
    run_id: str | None = stated("name of the new run [default: the time]", None)
    resume: str | None = stated("measure what this stored run misses", None, "RUN")
    minutes: float | None = stated("time box of the run [default: the grid's, longer with libraries]", None, "MINUTES")
    every_round: bool = stated("visit every case until the time is up, settled or not", default=False)
    beside: bool = stated("do not wait until another measurement on this machine is over", default=False)

    def __post_init__(self) -> None:
        for option, value in {"minutes": self.minutes, "max-call-s": self.max_call_s}.items():
            if value is not None and not 0.0 < value <= LONGEST_S:
                raise UserError(f"--{option} {value:g}: must be more than 0, and a time that somebody can wait")
        for option, whole, least in (("seed", self.seed, 0), ("max-bytes", self.max_bytes, 1)):
            if whole is not None and not least <= whole <= LARGEST_WHOLE:
                raise UserError(f"--{option} {whole}: must be at least {least} and at most {LARGEST_WHOLE}")

    @property
    def selection(self) -> Selection:
        """The part that selects cases."""
        return Selection(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Selection)})

    @property
    def box_minutes(self) -> float:
        """The time box: the given one, or the grid's, which is for NumPy's cases and longer where there are more."""
        if self.minutes is not None:
            return self.minutes
        for_as_many = len(Selection(self.grid, library=(NUMPY,)).cases())
        return GRIDS[self.grid].minutes * max(1.0, len(self.cases()) / for_as_many)

    @classmethod
    def of_pytest(cls, config: pytest.Config) -> Self:
        """The options as given to pytest."""
        values: dict[str, Any] = {}
        for name in _types(cls):
            value = config.getoption(PREFIX + name)
            values[name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)

    def arguments(self) -> Iterator[str]:
        """The options as arguments of pytest, what is not given left out."""
        for name in _types(Options):
            value = getattr(self, name)
            if isinstance(value, bool):
                yield from [_flag(name)] if value else []
                continue
            for item in value if isinstance(value, tuple) else () if value is None else (value,):
                yield f"{_flag(name)}={item}"


def add_click_options(command: Callable[..., None]) -> Callable[..., None]:
    """Decorator of a click command that takes the options by their fields' names."""
    for field in reversed(dataclasses.fields(Options)):
        kind, repeats = _types(Options)[field.name]
        command = click.option(
            _flag(field.name),
            is_flag=kind is bool,
            type=FOLDER if kind is Path else kind,
            multiple=repeats,
            default=None if repeats else field.default,
            show_default=not repeats and kind is not bool and field.default is not None,
            metavar=field.metadata["metavar"],
            help=field.metadata["help"],
        )(command)
    return command


def add_pytest_options(group: pytest.OptionGroup) -> None:
    """Add the options to pytest's command line."""
    for field in dataclasses.fields(Options):
        kind, repeats = _types(Options)[field.name]
        action: dict[str, Any] = {"default": field.default, "type": kind, "metavar": field.metadata["metavar"]}
        if repeats:
            action |= {"action": "append", "default": []}
        if kind is bool:
            action = {"action": "store_true"}
        group.addoption(_flag(field.name), dest=PREFIX + field.name, help=field.metadata["help"], **action)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _types(options: type) -> dict[str, tuple[type, bool]]:
    """The type of each field's value, and whether the option may be repeated: of ``tuple[int, ...]``, int and True."""
    found = {}
    for name, hint in typing.get_type_hints(options).items():
        repeats = typing.get_origin(hint) is tuple
        kinds = [kind for kind in typing.get_args(hint) or (hint,) if kind not in (type(None), ...)]
        found[name] = (kinds[0], repeats)
    return found
