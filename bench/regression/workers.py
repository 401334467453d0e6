"""Tasks in fresh processes: the parent sends each as JSON and gets a list of values back. This module is both ends."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO

import msgspec

from ..errors import UserError
from ..instruments.lifetime import ending_with_this
from . import duet, referee
from .duel import Task, Value

WORKER_LIMIT_S = 300.0
ENDING_S = 5.0  # for a referee to end the processes of its sides
ERROR_MARK = "duet-error: "


def run_workers(tasks: Sequence[Task]) -> list[list[Value]]:
    """The values of each task. The tasks run at the same time, each in a fresh process.

    No process is left when this returns or raises.

    Raises:
        UserError: a side could not be loaded; the message says which and why.
        RuntimeError: a worker ended without an answer.
    """
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_worker(task)) for task in tasks]
        return [_answer(*worker) for worker in workers]


@contextlib.contextmanager
def _worker(task: Task) -> Iterator[tuple["subprocess.Popen[str]", IO[str], IO[str]]]:
    """A process at work on a task, with the files of its output and of its errors; it is killed when the block ends.

    Files and not pipes: nobody reads from a worker while another one is waited for, and a full pipe would block it.
    """
    with (
        tempfile.TemporaryFile("w+") as content,
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as errors,
    ):
        json.dump(dataclasses.asdict(task), content)
        content.seek(0)
        with subprocess.Popen(
            ending_with_this(__name__),
            stdin=content,
            stdout=output,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        ) as worker:
            try:
                yield worker, output, errors
            finally:
                # No effect if it has ended. A referee first ends the processes of its sides.
                worker.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.wait(ENDING_S)
                worker.kill()


def _answer(worker: "subprocess.Popen[str]", output: IO[str], errors: IO[str]) -> list[Value]:
    """The values of a worker, after its end."""
    try:
        status = worker.wait(timeout=WORKER_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"a worker process did not answer within {WORKER_LIMIT_S:.0f} s") from None
    for file in (output, errors):
        file.seek(0)
    if status == 0:
        return [Value(**value) for value in json.loads(output.read().splitlines()[-1])]
    last = (errors.read().strip().splitlines() or [f"exit status {status}"])[-1]
    if last.startswith(ERROR_MARK):
        raise UserError(last.removeprefix(ERROR_MARK))
    raise RuntimeError(f"a worker process ended without an answer: {last}")


def main() -> None:
    """Read a task from standard input, do it, and print its values."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    try:
        values = (referee if task.duels[0].of_targets else duet).perform(task)
    except UserError as error:
        sys.exit(f"{ERROR_MARK}{' '.join(str(error).split())}")
    print(json.dumps([dataclasses.asdict(value) for value in values]))


if __name__ == "__main__":
    main()
