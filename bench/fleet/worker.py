"""What Dask's workers run, called by the names of these functions with plain data: the installed package's own code.

Nothing of the driver's code is sent. Results are plain data, too.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.config
import msgspec
from distributed import get_worker

from ..errors import UserError
from ..instruments import host
from ..operations.cases import is_own
from ..sweep.selection import Selection
from ..verification.competitor import Competitor, enlist_competitor
from . import machines, measuring
from .messages import BEGAN, FAILED, OUTCOME, Order, from_plain, settings_only, to_plain

ENDING_S = 5.0  # how long a process that has said its last message may take to end


class ShareFailedError(Exception):
    """A share's process failed or hung; the message says how."""


def describe() -> dict[str, Any]:
    """The worker's machine, as plain data."""
    return machines.described()


def cases_of(
    selection: dict[str, Any], competitors: list[dict[str, Any]], dask_worker: Any = None
) -> list[dict[str, Any]]:
    """The selected cases on this machine, as plain data. Dask hands over the worker."""
    for competitor in competitors:
        enlist_competitor(from_plain(_found_here(competitor, dask_worker), Competitor))
    return [to_plain(case) for case in Selection.restored(selection).cases()]


def measure_share(text: str) -> str:
    """The outcome of an order, both as JSON: a share measured in a process of its own, whose messages become events.

    An event's content stays the text that it is: the scheduler passes it on and keeps the latest of them.

    Raises:
        ShareFailedError: the process failed, or did not end within the order's limit and was ended.
    """
    worker, order = get_worker(), msgspec.json.decode(text)
    order["competitors"] = [_found_here(competitor, worker) for competitor in order["competitors"]]
    share = order["share"]["number"]
    process = subprocess.Popen(
        [sys.executable, "-m", measuring.__name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment()
    )
    hung = threading.Event()

    def end() -> None:
        hung.set()
        process.kill()

    limit = threading.Timer(order["limit_s"], end)
    outcome, failure = None, ""
    try:
        for message in _messages(process, order):
            content = bytes(message.content).decode()
            if message.kind == BEGAN:
                limit.start()  # not before: the machine may have been held by another worker
            if message.kind == OUTCOME:
                outcome = content
            elif message.kind == FAILED:
                failure = msgspec.json.decode(content, type=str)
            else:
                event = {"kind": message.kind, "content": content, "share": share, "worker": worker.address}
                worker.log_event(order["topic"], event)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ENDING_S)  # it has said all that it will, and tidies up
    finally:
        limit.cancel()
        process.kill()
        process.wait()
    if outcome is None:
        ending = f"did not end within {order['limit_s']:.0f} s" if hung.is_set() else f"ended with {process.returncode}"
        raise ShareFailedError(failure or f"its process {ending}")
    return outcome


class Message(msgspec.Struct):
    """A line that the measuring process says; its content is looked into by whom it is for."""

    kind: str
    content: msgspec.Raw


def _messages(process: "subprocess.Popen[bytes]", order: dict[str, Any]) -> Iterator[Message]:
    """What the process says to the order, until it ends."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("a process with pipes is needed")
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        process.stdin.flush()
    for line in process.stdout:
        if line.endswith(b"\n"):  # else it was ended while it said this
            yield msgspec.json.decode(line, type=Message)


def forget(text: str) -> None:
    """Remove the journals of a run that is over, of which any order is given as JSON."""
    run = settings_only(msgspec.json.decode(text, type=Order).run)
    shutil.rmtree(measuring.journals_folder(host.machine_id(), run), ignore_errors=True)


def _environment() -> dict[str, str]:
    """The environment without what Dask sets in its workers: it changes how memory is allocated and threads started."""
    its = {
        name
        for section in ("environ", "pre-spawn-environ")
        for name in dask.config.get(f"distributed.nanny.{section}", {})
    }
    return {name: value for name, value in os.environ.items() if name not in its}


def _found_here(competitor: dict[str, Any], worker: Any) -> dict[str, Any]:
    """A user's own implementation with its file where Dask put it on this worker."""
    if not is_own(competitor["target"]):
        return competitor
    file, _, attribute = competitor["target"].rpartition(":")
    here = Path(worker.local_directory) / Path(file).name
    if not here.exists():
        raise UserError(f"{here}: was not sent")
    return {**competitor, "target": f"{here}:{attribute}"}
