"""How a call of somebody's function ended that gave no result, told with its own last lines and the line to blame."""

import linecache
import re
import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...paths import IMPLEMENTATIONS, PACKAGE
from ..calling.call import NoResultError

SHOWN_FRAMES = 4
_FRAME = re.compile(r'File "(.+)", line (\d+) in (.+)')
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


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
    return Path(path).is_relative_to(PACKAGE) and not Path(path).is_relative_to(IMPLEMENTATIONS)


def is_library(path: str) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    return path.startswith(_LIBRARIES) or path.startswith("<")
