"""Two versions of one function timed against each other: interleaved in one process, replicated over fresh ones.

Noise that lasts longer than a block (another process, a changed clock rate) meets both versions alike and leaves their
ratio alone; noise that is shorter leaves the smallest of several slots alone. What differs between processes (the
layout of code and data in memory) does not average out inside one, so the process is the unit of replication: a case
has one value a process, the median over blocks of the logarithm of the ratio of minima.

The parent sends a fresh interpreter a `Task` as JSON and gets a list of `Value`s back; this module is both ends.
"""

import contextlib
import dataclasses
import gc
import importlib.util
import inspect
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from ..errors import UserError
from ..implementations import bind
from ..instruments.clock import settle_heap
from ..instruments.memory import read_peak
from ..loading import load
from ..operations import Operation, operations
from ..operations.cases import ARTICLE_OPERATION, Case

# A slot is a quarter of a millisecond of calls, or one longer call. Many short blocks spread less than few long ones of
# the same time in all: with 40 blocks of 4 slots the standard deviation over processes was 0.2 to 0.5 %, with 10 blocks
# of 16 it was 0.4 to 0.6 %.
SLOT_S = 0.00025
SLOTS_A_BLOCK = 4
LEAST_BLOCKS = 8
# Of the median of a normal sample: its standard error is this times the median absolute deviation over the root of the
# sample's size, sqrt(pi / 2) / 0.6745.
MEDIAN_ERROR = 1.858
SEED = 42
PAGE_BYTES, ALIGNMENT_BYTES = 4096, 16
WORKER_LIMIT_S = 300.0
ERROR_MARK = "duet-error: "


@dataclass(frozen=True)
class Side:
    """One version: a function of a copy of the implementations package, or of a user's module or file.

    ``place`` is the folder of the package, or the module or file; ``name`` the implementation or the attribute.
    ``padding`` is the share of each call that is spun away after it; None leaves the function as it is.
    """

    place: str
    name: str
    operation: str = "softmax"
    is_package: bool = True
    padding: float | None = None


@dataclass(frozen=True)
class Duel:
    """Two sides at one case; ``label`` is unique in its task."""

    label: str
    case: Case
    base: Side
    work: Side


@dataclass(frozen=True)
class Effort:
    """How long a process times one duel: until its value's standard error is down to ``precision``, or ``limit_s``.

    The standard error is that of the median over blocks, within the process. It looks at the spread of the blocks
    alone, never at their middle, so to stop by it cannot favour a verdict.
    """

    precision: float
    limit_s: float


@dataclass(frozen=True)
class Task:
    """What one worker does: time the duels in an order drawn from ``seed``; without an effort, examine them."""

    duels: list[Duel]
    seed: int
    effort: Effort | None


@dataclass(frozen=True)
class Value:
    """What one process has to say of a duel, or an error that names the side (``base`` or ``work``).

    Timed: ``log_ratio``, ln(work / base), and ``base_s``, the shortest call of the base. Examined: peaks in bytes and
    what is wrong with each side's result (empty: nothing).
    """

    label: str
    log_ratio: float = math.nan
    base_s: float = math.nan
    base_peak_bytes: int | None = None
    work_peak_bytes: int | None = None
    base_wrong: str = ""
    work_wrong: str = ""
    failed: str = ""


def run_workers(tasks: Sequence[Task]) -> list[list[Value]]:
    """The values of each task, every task in a fresh process and all of them at once.

    Every process is gone when this returns or raises.

    Raises:
        UserError: a side could not be loaded; the message says which and why.
        RuntimeError: a worker ended without an answer.
    """
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(_started(task)) for task in tasks]
        return [_answer(*one) for one in started]


@contextlib.contextmanager
def _started(task: Task) -> Iterator[tuple["subprocess.Popen[str]", IO[str], IO[str]]]:
    """A worker at work on a task, the file of its answer and that of its complaints; killed where the block ends.

    Files and not pipes: several workers are under way, and one that is waited for later must not wait for a reader.
    """
    with (
        tempfile.TemporaryFile("w+") as question,
        tempfile.TemporaryFile("w+") as answer,
        tempfile.TemporaryFile("w+") as complaint,
    ):
        json.dump(dataclasses.asdict(task), question)
        question.seek(0)
        with subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=question,
            stdout=answer,
            stderr=complaint,
            text=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        ) as worker:
            try:
                yield worker, answer, complaint
            finally:
                worker.kill()  # does nothing to one that has ended


def _answer(worker: "subprocess.Popen[str]", answer: IO[str], complaint: IO[str]) -> list[Value]:
    """The values of a worker, once it has ended."""
    try:
        status = worker.wait(timeout=WORKER_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"a worker process did not answer within {WORKER_LIMIT_S:.0f} s") from None
    for file in (answer, complaint):
        file.seek(0)
    if status == 0:
        return [Value(**value) for value in json.loads(answer.read().splitlines()[-1])]
    last = (complaint.read().strip().splitlines() or [f"exit status {status}"])[-1]
    if last.startswith(ERROR_MARK):
        raise UserError(last.removeprefix(ERROR_MARK))
    raise RuntimeError(f"a worker process ended without an answer: {last}")


def perform(task: Task) -> list[Value]:
    """The task done in this process."""
    load = SideLoader()
    players = [(duel, load(duel.base, "base"), load(duel.work, "work")) for duel in task.duels]
    order = random.Random(task.seed)  # noqa: S311 - an order, not a secret
    order.shuffle(players)
    settle_heap()
    gc.disable()
    with threadpool_limits(limits=1):
        if task.effort is None:
            return [_examined(*player) for player in players]
        return [_timed(*player, order, task.effort) for player in players]


Player = Callable[[Any], Callable[[], Any]]  # of a case's inputs: a call on them
SOFTMAX_ARGUMENTS = ("probs", "grad_output")  # of a user's function, and in revisions that knew no others


class SideLoader:
    """Loads sides; a copy of the package once for each role, so that no two sides share code objects."""

    def __init__(self) -> None:
        self._packages: dict[tuple[str, str], Any] = {}

    def __call__(self, side: Side, role: str) -> Player:
        """The side's function, to be bound to a case's inputs."""
        if side.is_package:
            spec = self._implementations(side.place, role)[side.operation, side.name]
            arguments = getattr(spec, "arguments", SOFTMAX_ARGUMENTS)
            # A revision that does not know binding yet has functions of NumPy arrays alone.
            play = getattr(spec, "bind", partial(bind, spec.function, arguments=arguments, writes_out=spec.writes_out))
        else:
            function = load_function(f"{side.place}:{side.name}")
            arguments = SOFTMAX_ARGUMENTS
            if side.operation != ARTICLE_OPERATION:  # there arrays are told apart by their names
                arguments = tuple(inspect.signature(function).parameters)
            play = partial(bind, function, arguments=arguments, writes_out=False)
        if side.padding is None:
            return play
        share = side.padding
        return lambda inputs: padded(play(inputs), share)

    def _implementations(self, place: str, role: str) -> Any:
        key = (place, role)
        if key not in self._packages:
            self._packages[key] = load_implementations(Path(place), f"implementations_{role}_{len(self._packages)}")
        return self._packages[key]


def load_implementations(folder: Path, name: str, known_as: str = "") -> Any:
    """The registry of a copy of the implementations package, imported under another name.

    A message names the copy by ``known_as``, or else by its folder.

    Raises:
        UserError: the folder holds no such package, or it does not import.
    """
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if not (folder / "__init__.py").is_file() or spec is None or spec.loader is None:
        raise UserError(f"{known_as or folder}: no implementations there")
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    try:
        spec.loader.exec_module(package)
        return package.registered()
    except Exception as error:
        raise UserError(
            f"{known_as or folder}: the implementations do not import ({type(error).__name__}: {error})"
        ) from error


def load_function(target: str) -> Callable[..., Any]:
    """The function that ``module:function`` or ``path.py:function`` names.

    Raises:
        UserError: there is no such module, file or function, or it does not import.
    """
    try:
        function, _ = load(target)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{target}: does not import ({type(error).__name__}: {error})") from error
    if not callable(function):
        raise UserError(f"{target}: not a function")
    return function  # type: ignore[no-any-return]


def padded(function: Callable[..., Any], share: float) -> Callable[..., Any]:
    """The function, each call followed by spinning for ``share`` of the time that it took."""

    def call(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments, **options)
        now = time.perf_counter()
        end = now + share * (now - start)
        while now < end:
            now = time.perf_counter()
        return result

    return call


def _timed(duel: Duel, base: Player, work: Player, order: random.Random, effort: Effort) -> Value:
    inputs = operations()[duel.case.operation].make_inputs(duel.case, SEED)
    try:
        calls = {False: base(inputs), True: work(inputs)}
        calls[False](), calls[True]()  # first calls allocate what stays
    except Exception as error:
        return Value(duel.label, failed=f"{type(error).__name__}: {error}")
    repeats = max(1, round(SLOT_S / min(_slot(calls[False], 1) for _ in range(3))))
    work_first = order.random() < 0.5
    end = time.perf_counter() + effort.limit_s
    ratios: list[float] = []
    shortest = math.inf
    while len(ratios) < LEAST_BLOCKS or (_error_of_median(ratios) > effort.precision and time.perf_counter() < end):
        inputs = _relocated(inputs, order)
        calls = {False: base(inputs), True: work(inputs)}
        calls[False](), calls[True]()  # neither meets a cache that the last case or the other side left cold
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(SLOTS_A_BLOCK):
            for is_work in (work_first, not work_first):
                seconds[is_work].append(_slot(calls[is_work], repeats))
            work_first = not work_first
        ratios.append(math.log(min(seconds[True]) / min(seconds[False])))
        shortest = min(shortest, min(seconds[False]) / repeats)
    return Value(duel.label, log_ratio=statistics.median(ratios), base_s=shortest)


def _error_of_median(values: list[float]) -> float:
    """The standard error of the median, from the median absolute deviation, which an outlier does not move."""
    middle = statistics.median(values)
    deviation = statistics.median(abs(value - middle) for value in values)
    return MEDIAN_ERROR * deviation / math.sqrt(len(values))


def _relocated(inputs: Any, order: random.Random) -> Any:
    """The inputs copied to new places in memory, each at a random offset within a page.

    The time of one function can differ by half with the low bits of its arrays' addresses (a load that follows a store
    4096 bytes apart waits for it). Both sides meet each layout, and the median over blocks meets many.
    """

    def moved(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        room = np.empty(array.nbytes + PAGE_BYTES, dtype=np.uint8)
        offset = order.randrange(0, PAGE_BYTES, ALIGNMENT_BYTES)
        place: npt.NDArray[Any] = room[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
        place[...] = array
        return place

    return type(inputs)(*(moved(getattr(inputs, part.name)) for part in dataclasses.fields(inputs)))


def _slot(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - start


def _examined(duel: Duel, base_player: Player, work_player: Player) -> Value:
    operation = operations()[duel.case.operation]
    inputs = operation.make_inputs(duel.case, SEED)
    # PyTorch is not asked: with it in the process, each of memray's readings takes twice as long.
    reference = operation.make_reference(inputs, SEED, ask_pytorch=False)
    base_wrong, base_peak = _examine_side(base_player, inputs, operation, reference)
    work_wrong, work_peak = _examine_side(work_player, inputs, operation, reference)
    return Value(
        duel.label,
        base_wrong=base_wrong,
        base_peak_bytes=base_peak,
        work_wrong=work_wrong,
        work_peak_bytes=work_peak,
    )


def _examine_side(player: Player, inputs: Any, operation: Operation, reference: Any) -> tuple[str, int | None]:
    """What is wrong with a side's result (empty: nothing) and its peak bytes (None if it raises)."""
    try:
        call = player(inputs)
        reason = operation.judge(call(), reference).reason
        return reason, read_peak(call).peak_bytes
    except Exception as error:
        return f"raises {type(error).__name__}: {error}", None


def main() -> None:
    """Read a task from standard input, do it, and write its values to standard output."""
    content = json.load(sys.stdin)
    duels = [
        Duel(one["label"], Case(**one["case"]), Side(**one["base"]), Side(**one["work"])) for one in content["duels"]
    ]
    try:
        effort = Effort(**content["effort"]) if content["effort"] else None
        values = perform(Task(duels, content["seed"], effort))
    except UserError as error:
        sys.exit(f"{ERROR_MARK}{' '.join(str(error).split())}")
    print(json.dumps([dataclasses.asdict(value) for value in values]))


if __name__ == "__main__":
    main()
