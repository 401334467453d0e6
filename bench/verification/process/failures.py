"""How a call of the target failed: in a phrase, with the target's own last lines and the line to blame."""

import functools
import linecache
import re
import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...paths import IMPLEMENTATIONS, PACKAGE
from ..calling.arrays import NoResultError

SHOWN_FRAMES = 4
FAULTHANDLER_FRAME = re.compile(r'File "(.+)", line (\d+) in (.+)')
STANDARD_LIBRARY = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
INSTALLED = ("site-packages", "dist-packages")  # folders of installed packages, in whatever environment
_MISFIT = re.compile(
    r"^TypeError: .*(required (positional|keyword-only) argument|positional arguments? but|unexpected keyword)"
)

Kind = Literal["raised", "asked", "exited", "memory", "nothing", "hung", "died"]


@dataclass(frozen=True)
class Failure:
    """Why a call gave no result: a phrase, the target's own last lines, and the line to blame as ``path:line``."""

    kind: Kind
    summary: str
    lines: tuple[str, ...] = ()
    culprit: str = ""

    @property
    def ends_the_search(self) -> bool:
        """Whether calling the target in another way would only fail in the same way."""
        return self.kind in ("hung", "died", "exited", "asked", "memory")

    @property
    def is_of_arguments(self) -> bool:
        """Whether the target does not have such parameters: other arrays in their place would fail in the same way."""
        return not self.culprit and _MISFIT.search(self.summary) is not None


def failure_of(error: BaseException) -> Failure:
    """The failure that an exception of the target is."""
    kind: Kind = "raised"
    summary = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    if isinstance(error, NoResultError):
        kind, summary = "nothing", str(error)
    elif isinstance(error, SystemExit):
        kind, summary = "exited", f"calls exit ({error.code!r})"
    elif isinstance(error, MemoryError):
        kind, summary = "memory", f"runs out of the memory that it was allowed ({summary})"
    elif isinstance(error, EOFError):
        kind, summary = "asked", f"asks for input, and gets none here ({summary})"
    culprit = f"{error.filename}:{error.lineno}" if isinstance(error, SyntaxError) and error.filename else ""
    return _failure(kind, summary, traceback.extract_tb(error.__traceback__), culprit)


def failure_from_stack(kind: Kind, summary: str, last_words: str) -> Failure:
    """The failure of a process that could not report it, from the stacks that faulthandler wrote before it ended."""
    frames = [
        traceback.FrameSummary(path, int(line), name, line=linecache.getline(path, int(line)).strip())
        for path, line, name in FAULTHANDLER_FRAME.findall(_stack_to_blame(last_words))
    ]
    return _failure(kind, summary, frames[::-1])  # faulthandler writes the innermost frame first


def _failure(kind: Kind, summary: str, frames: list[traceback.FrameSummary], culprit: str = "") -> Failure:
    """A failure with the last frames outside the suite; the last of them outside all libraries is to blame."""
    shown = [frame for frame in frames if not _is_machinery(frame.filename)]
    own = [frame for frame in shown if not _is_library(frame.filename)]
    if own and not culprit:
        culprit = f"{own[-1].filename}:{own[-1].lineno}"
    return Failure(kind, summary, tuple(_lines(shown[-SHOWN_FRAMES:])), culprit)


def _lines(frames: list[traceback.FrameSummary]) -> Iterator[str]:
    for frame in frames:
        yield f"{frame.filename}:{frame.lineno}, in {frame.name}"
        if frame.line:
            yield f"    {frame.line}"


def _stack_to_blame(last_words: str) -> str:
    """The stack of the thread that died; if the process hung instead, of the thread in which the target was called.

    A thread is known by its number, as ``LastWords`` writes it: its outermost frames may be missing, because
    faulthandler writes no more than the innermost 100.
    """
    caller = re.search(r"^target called in thread (\d+)$", last_words, flags=re.MULTILINE)
    died = hung = ""
    for stack in re.split(r"^(?=Stack |Current thread |Thread )", last_words, flags=re.MULTILINE)[1:]:
        other = re.match(r"Thread 0x([0-9a-f]+)", stack)
        if other is None:
            died = stack
        elif caller and int(other[1], 16) == int(caller[1]):
            hung = stack
    return died or hung


@functools.cache  # a search fails hundreds of times, in the same few files
def _is_machinery(path: str) -> bool:
    """Whether a file is the suite's or the import system's; implementations are targets like any other."""
    own = Path(path).is_relative_to(PACKAGE) and not Path(path).is_relative_to(IMPLEMENTATIONS)
    return own or path.startswith("<frozen ")


@functools.cache
def _is_library(path: str) -> bool:
    """Whether a file belongs to Python or to an installed package other than the suite."""
    if Path(path).is_relative_to(IMPLEMENTATIONS):
        return False
    installed = any(folder in Path(path).parts for folder in INSTALLED)
    return path.startswith("<") or installed or any(map(Path(path).is_relative_to, STANDARD_LIBRARY))
