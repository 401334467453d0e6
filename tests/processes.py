"""What tests of faults share: commands run to their end or killed, the processes that they start, awaiting a state."""

import contextlib
import os
import resource
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil

from .conftest import COMMAND

MARK = "SOFTMAX_BENCH_TEST"  # an environment variable that all processes inherit which a command starts
PATIENCE_S = 300.0  # far more than anything takes on a busy machine
ENDING_S = 20.0  # for what a killed process has started: it ends at once, unless it is only just starting itself


def ended(
    *arguments: str,
    limit_bytes: int | None = None,
    environment: dict[str, str] | None = None,
    where: Path | None = None,
) -> "subprocess.CompletedProcess[str]":
    """A command run to its end, which can write no file beyond a number of bytes, if one is given."""

    def limit() -> None:
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        cwd=where,
        env={**os.environ, **(environment or {})},
        preexec_fn=limit,
    )


def check_one_line(done: "subprocess.CompletedProcess[str]", *said: str) -> None:
    """The command ended with 2 and said why in one line."""
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for part in said:
        assert part in lines[0]


def await_that(condition: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.01)


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def more_lines(path: Path, count: int) -> Callable[[], bool]:
    """Whether a file has so many more lines than now."""
    enough = lines_of(path) + count
    return lambda: lines_of(path) >= enough


def more_files(folder: Path, count: int) -> Callable[[], bool]:
    """Whether more files than so many are in a folder, unfinished ones among them."""
    return lambda: sum(path.is_file() for path in folder.rglob("*")) > count


def family_of(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def check_gone(family: list[psutil.Process]) -> None:
    await_that(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in family))


class Killed:
    """A command that is started again and again, and killed each time with all that it started still at work."""

    def __init__(self, *arguments: str, where: Path, **environment: str) -> None:
        self.arguments, self._where, self._mark = arguments, where, uuid.uuid4().hex
        self.environment = {**environment, MARK: self._mark}

    def after(self, seconds: float) -> None:
        """Kill it so long after its start; what it has started has to end with it."""
        deadline_s = time.monotonic() + seconds
        self.when(lambda: time.monotonic() >= deadline_s)

    def when(self, state: Callable[[], bool]) -> None:
        """Kill it as soon as something is the case, unless it ends before."""
        command = [*COMMAND, *self.arguments]
        environment = {**os.environ, **self.environment}
        process = subprocess.Popen(
            command, cwd=self._where, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await_that(lambda: state() or process.poll() is not None)
        process.kill()
        process.wait()
        await_that(lambda: not self.left(), ENDING_S)

    def left(self) -> list[psutil.Process]:
        """The processes that are left of it."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error, OSError):
            return process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE
        return False

    def to_its_end(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """The command, or another one in its place, run to its end."""
        return ended(*(arguments or self.arguments), environment=self.environment, where=self._where)
