"""A target that answers: loaded, called, measured, its failures told with its own file and line."""

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import linecache
import re
import sys
import sysconfig
import time
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .calling import Call, Inputs, NoResultError
from .conventions import Convention, Options, candidates
from .errors import UserError
from .memory import memory_limit, read_peak

SUITE = Path(__file__).parent
SHOWN_FRAMES = 4
SHOWN_NAMES = 8
_FRAME = re.compile(r'File "(.+)", line (\d+) in (.+)')
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
TIMING_S = 0.02  # of one repeat, of which the fastest counts
REPEATS = 3


@dataclass(frozen=True)
class Failure:
    """How a call ended that gave no result: in a phrase, with the target's own last lines and ``path:line``."""

    kind: str  # raised, asked, exited, memory, nothing, hung, died
    summary: str
    lines: tuple[str, ...] = ()
    culprit: str = ""

    @property
    def ends_the_search(self) -> bool:
        """Whether calling it in another way would only end the same way."""
        return self.kind in ("hung", "died", "exited", "asked", "memory")


@dataclass(frozen=True)
class Outcome:
    """What one call gave: a result laid out as rows, or a failure; and what else it did."""

    value: npt.NDArray[Any] | None = None
    failure: Failure | None = None
    overwritten: tuple[str, ...] = ()  # roles of the inputs that it changed
    repeatable: bool = True  # whether a second call gave the same
    found_in: str = ""  # the attribute in which the gradient was, if it was not returned
    forward: npt.NDArray[Any] | None = None  # what the forward returned, if it was numbers


@dataclass(frozen=True)
class Cost:
    """Seconds of one call and its peak bytes, at one shape."""

    time_s: float
    peak_bytes: int


class Subject(Protocol):
    """What verification asks of a target, wherever that runs."""

    def candidates(self, options: Options) -> list[Convention]:
        """Every way in which the target may want to be called, likeliest first."""

    def has_torch(self) -> bool:
        """Whether the target has imported PyTorch."""

    def call(self, convention: Convention, inputs: Inputs) -> Outcome:
        """The result of the target, called twice with copies of the inputs."""

    def measure(self, convention: Convention, inputs: Inputs) -> Cost | Failure:
        """Time and peak memory of the target's backward."""

    def steps(self, convention: Convention, inputs: Inputs) -> int | Failure:
        """How many of Python's instructions one backward executes."""


class Local:
    """A target in this process."""

    def __init__(self, target: Any, namespace: dict[str, Any] | None = None, max_bytes: int | None = None) -> None:
        self._target = target
        self._namespace = namespace if namespace is not None else _module_of(target)
        self._max_bytes = max_bytes

    @classmethod
    def load(cls, target: str, max_bytes: int | None = None) -> "Local":
        """The target of a name, as ``load`` finds it."""
        return cls(*load(target), max_bytes=max_bytes)

    def candidates(self, options: Options) -> list[Convention]:
        """Every way in which the target may want to be called, likeliest first."""
        return candidates(self._target, self._namespace, options)

    def has_torch(self) -> bool:
        """Whether the target has imported PyTorch."""
        return "torch" in sys.modules

    def call(self, convention: Convention, inputs: Inputs) -> Outcome:
        """The result of the target, called twice with copies of the inputs."""
        call = Call(self._target, self._namespace, convention)
        try:
            with self._limited(), _quiet():
                shape = inputs["logits"].shape
                value = np.array(call.laid_back(call.prepare(inputs)(), shape))
                overwritten = call.overwritten()
                again = call.laid_back(call.prepare(inputs)(), shape)
        except (Exception, SystemExit) as error:
            return Outcome(failure=failure_of(error))
        return Outcome(
            value=value,
            overwritten=overwritten,
            repeatable=np.array_equal(value, again, equal_nan=True),
            found_in=call.found_in,
            forward=_numbers(call.forward_result),
        )

    def measure(self, convention: Convention, inputs: Inputs) -> Cost | Failure:
        """Time and peak memory of the target's backward; the time is the fastest of three repeats."""
        try:
            with self._limited(), _quiet():
                backward = Call(self._target, self._namespace, convention).prepare(inputs)
                return Cost(_fastest_s(backward), read_peak(backward).peak_bytes)
        except (Exception, SystemExit) as error:
            return failure_of(error)

    def steps(self, convention: Convention, inputs: Inputs) -> int | Failure:
        """How many of Python's instructions one backward executes: the same count each time, whatever the machine."""
        count = 0

        def trace(frame: types.FrameType, event: str, _: Any) -> Callable[..., Any]:
            nonlocal count
            frame.f_trace_opcodes = True
            count += event == "opcode"
            return trace

        try:
            with _quiet():
                backward = Call(self._target, self._namespace, convention).prepare(inputs)
                before = sys.gettrace()
                sys.settrace(trace)
                try:
                    backward()
                finally:
                    sys.settrace(before)
        except (Exception, SystemExit) as error:
            return failure_of(error)
        return count

    def _limited(self) -> contextlib.AbstractContextManager[None]:
        return memory_limit(self._max_bytes) if self._max_bytes is not None else contextlib.nullcontext()


def load(target: str) -> tuple[Any, dict[str, Any]]:
    """What ``module:attribute`` or ``path/to/file.py:attribute`` names, and the namespace of its module.

    A method of a class, ``file.py:Class.method``, stands for the class.

    Raises:
        UserError: the text is no such name, or there is no such file, module or attribute.

    """
    place, colon, attribute = target.rpartition(":")
    if not colon or not place or not attribute:
        raise UserError(f"{target!r}: expected module:attribute or path/to/file.py:attribute")
    module = _module_at(Path(place)) if place.endswith(".py") else _module_named(place)
    found: Any = module
    for name in attribute.split("."):
        owner = found
        try:
            found = getattr(owner, name)
        except AttributeError:
            raise UserError(f"{place}: has no {attribute!r}; {_suggestion(name, owner)}") from None
    if inspect.isclass(owner) and inspect.isfunction(inspect.getattr_static(owner, name)):
        found = owner
    return found, vars(module)


def import_folder(target: str) -> Path:
    """The folder from which a target may import, as if it were started as a script: its own, or its package's."""
    if ".py:" not in target:
        return Path.cwd()
    return _package_folder(Path(target.rpartition(":")[0]).resolve())


def _package_folder(path: Path) -> Path:
    """The folder that holds the outermost package in which a file is."""
    return next(folder for folder in path.parents if not (folder / "__init__.py").exists())


def _module_at(path: Path) -> types.ModuleType:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if (path.parent / "__init__.py").exists():
        # Inside a package, relative imports work under its full name only.
        inside = path.resolve().relative_to(_package_folder(path.resolve())).with_suffix("")
        return importlib.import_module(".".join(inside.parts))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _module_named(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(
                f"{name}: no such module; a file is named with its path, as in path/to/file.py:name"
            ) from None
        raise


def _suggestion(name: str, owner: object) -> str:
    known = [one for one in dir(owner) if not one.startswith("_") and callable(getattr(owner, one, None))]
    close = difflib.get_close_matches(name, known, n=1)
    more = ", ..." if len(known) > SHOWN_NAMES else ""
    return (
        f"did you mean {close[0]}?" if close else f"it has {', '.join(known[:SHOWN_NAMES]) or 'nothing to call'}{more}"
    )


def _module_of(target: Any) -> dict[str, Any]:
    """The namespace of the module in which a function, a class or an object's class was made."""
    name = getattr(target, "__module__", None) or type(target).__module__
    return dict(vars(sys.modules[name])) if name in sys.modules else {}


def _numbers(value: Any) -> npt.NDArray[Any] | None:
    """A forward's result as an array of float64, None where it is none."""
    try:
        value = value.detach().numpy() if hasattr(value, "detach") else value
        return np.asarray(
            getattr(value, "data", value) if not isinstance(value, np.ndarray) else value, dtype=np.float64
        )
    except (TypeError, ValueError):
        return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let the target warn and divide by zero: what it computes is judged, not how it feels."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _fastest_s(call: Callable[[], object]) -> float:
    """The fastest of three repeats of as many calls as fill ``TIMING_S``; where one call is slow, the second alone."""
    call()
    started = time.perf_counter()
    call()
    once = max(time.perf_counter() - started, 1e-7)
    if once > TIMING_S:
        return once
    count = int(TIMING_S / once)
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        for _ in range(count):
            call()
        seconds.append((time.perf_counter() - started) / count)
    return min(seconds)


def failure_of(error: BaseException) -> Failure:
    """An exception of the target as a failure: its last lines outside the suite, and the line that is to blame."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    own = [frame for frame in frames if not is_library(frame.filename)]
    culprit = f"{own[-1].filename}:{own[-1].lineno}" if own else ""
    if isinstance(error, SyntaxError) and error.filename:
        culprit = f"{error.filename}:{error.lineno}"
    kind, summary = "raised", "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    if isinstance(error, NoResultError):
        kind, summary = "nothing", str(error)
    elif isinstance(error, SystemExit):
        kind, summary = "exited", f"calls exit ({error.code!r})"
    elif isinstance(error, MemoryError):
        kind, summary = "memory", f"runs out of the memory that it was allowed ({summary})"
    elif isinstance(error, EOFError):
        kind, summary = "asked", f"asks for input, and gets none here ({summary})"
    return Failure(kind, summary, tuple(_shown(frames[-SHOWN_FRAMES:])), culprit)


def _shown(frames: list[traceback.FrameSummary]) -> Iterator[str]:
    for frame in frames:
        yield f"{frame.filename}:{frame.lineno}, in {frame.name}"
        if frame.line:
            yield f"    {frame.line}"


def failure_at(kind: str, summary: str, stack: str) -> Failure:
    """A failure of a process that could not say so itself, from the stack that faulthandler left, innermost first."""
    frames = [
        traceback.FrameSummary(path, int(line), name, line=linecache.getline(path, int(line)).strip())
        for path, line, name in _FRAME.findall(_main_thread(stack))
    ][::-1]
    frames = [frame for frame in frames if not _is_ours(frame.filename) and not frame.filename.startswith("<")]
    own = [frame for frame in frames if not is_library(frame.filename)]
    culprit = f"{own[-1].filename}:{own[-1].lineno}" if own else ""
    return Failure(kind, summary, tuple(_shown(frames[-SHOWN_FRAMES:])), culprit)


def _main_thread(stack: str) -> str:
    """The part of faulthandler's text that shows the thread in which the worker, and so the target, runs."""
    threads = [part for part in re.split(r"\n(?=\n|Thread |Current thread )", stack) if "worker.py" in part]
    return threads[-1] if threads else ""


def _is_ours(path: str) -> bool:
    """Whether a file is the suite's machinery; its implementations are targets like any other."""
    return Path(path).parent == SUITE


def is_library(path: str) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    return path.startswith(_LIBRARIES) or path.startswith("<")
