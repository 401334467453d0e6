"""Two versions of a function timed against each other: interleaved in one process, replicated over fresh processes.

A block is a few short slots of each version in turn. Noise that lasts longer than a block (another process, a changed
clock rate) slows both versions alike, so their ratio stays. Shorter noise misses at least one of the slots, so the
fastest slot stays. What differs between processes (the layout of code and data in memory) does not average out inside
a process. So the process is the unit of replication: each gives one value a case, the median over its blocks of
ln(fastest slot of work / fastest slot of base).

Libraries and several threads get processes of their own, as in a sweep: their pools of threads would compete.
"""

import gc
import importlib.util
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from ..errors import UserError
from ..implementations import bind
from ..instruments.heap import settle_heap
from ..instruments.memory import Peak, read_peak
from ..operations import Operation, operations
from ..operations.placement import relocated
from .duel import OWN_LIBRARIES, Duel, Effort, Side, Task, Value

# A slot is a quarter of a millisecond of calls, or a single longer call. In the same total time, many short blocks
# spread less than few long blocks: the standard deviation over processes was 0.2 to 0.5 % with 40 blocks of 4 slots,
# and 0.4 to 0.6 % with 10 blocks of 16 slots.
SLOT_S = 0.00025
SLOTS_A_BLOCK = 4
LEAST_BLOCKS = 8
# For longer calls a block is one call of each version, and nothing is warmed: in the same time, pairs of calls spread
# half as much as blocks of several. The standard deviation over processes was 0.4 to 0.8 % with 12 pairs.
LONG_CALL_S = 0.003
LEAST_PAIRS = 12
# The standard error of a normal sample's median is MEDIAN_ERROR * (median absolute deviation) / sqrt(sample size), with
# MEDIAN_ERROR = sqrt(pi / 2) / 0.6745.
MEDIAN_ERROR = 1.858
SEED = 42


def perform(task: Task) -> list[Value]:
    """Do the task in this process."""
    if task.processors:  # before anything is imported: some libraries start a thread for each processor
        os.sched_setaffinity(0, task.processors)
    loader = SideLoader()
    threads = task.duels[0].case.threads
    loaded = [
        (duel, loader.load(duel.base, "base", threads), loader.load(duel.work, "work", threads)) for duel in task.duels
    ]
    rng = random.Random(task.seed)  # noqa: S311 - an order, not a secret
    rng.shuffle(loaded)
    settle_heap()
    gc.disable()
    with threadpool_limits(limits=threads):
        if task.effort is None:
            return [_examine(duel, bind_base, bind_work) for duel, bind_base, bind_work in loaded]
        return [_time(duel, bind_base, bind_work, rng, task.effort) for duel, bind_base, bind_work in loaded]


Bind = Callable[[Any], Callable[[], Any]]  # takes the inputs of a case, returns a call without arguments
SOFTMAX_ARGUMENTS = ("probs", "grad_output")  # in revisions that had no other operation


class SideLoader:
    """Loads sides. Each role imports a package anew, so that the two sides of a duel share no code objects."""

    def __init__(self) -> None:
        self._packages: dict[tuple[str, str], Any] = {}

    def load(self, side: Side, role: str, threads: int = 1) -> Bind:
        """What binds the side's function to the inputs of a case, and to the number of threads if it runs several.

        Raises:
            UserError: the package could not be loaded.
        """
        spec = self._implementations(side.place, role)[side.operation, side.name]
        arguments = getattr(spec, "arguments", SOFTMAX_ARGUMENTS)
        options = {"threads": threads} if threads > 1 and getattr(spec, "runs_threads", False) else {}
        if hasattr(spec, "bind"):
            bind_side: Bind = partial(spec.bind, **options)
        else:  # an old revision; all its functions take NumPy arrays
            bind_side = partial(bind, spec.function, arguments=arguments, writes_out=spec.writes_out, **options)
        if side.padding is None:
            return bind_side
        share = side.padding
        return lambda inputs: padded(bind_side(inputs), share)

    def _implementations(self, place: str, role: str) -> Any:
        key = (place, role)
        if key not in self._packages:
            self._packages[key] = load_implementations(Path(place), f"implementations_{role}_{len(self._packages)}")
        return self._packages[key]


def load_implementations(folder: Path, name: str, known_as: str = "") -> Any:
    """The registry of a copy of the implementations package, which is imported as ``name``.

    Messages name the copy by ``known_as``, or else by its folder.

    Raises:
        UserError: the folder holds no such package, or the package does not import.
    """
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if not (folder / "__init__.py").is_file() or spec is None or spec.loader is None:
        raise UserError(f"{known_as or folder}: has no implementations")
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    try:
        spec.loader.exec_module(package)
        return package.registered()
    except Exception as error:
        raise UserError(
            f"{known_as or folder}: the implementations do not import ({type(error).__name__}: {error})"
        ) from error


def padded(function: Callable[..., Any], share: float) -> Callable[..., Any]:
    """The function slowed down: each call is followed by spinning for ``share`` of its time."""

    def call(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments, **options)
        now = time.perf_counter()
        end = now + share * (now - start)
        while now < end:
            now = time.perf_counter()
        return result

    return call


def _time(duel: Duel, bind_base: Bind, bind_work: Bind, rng: random.Random, effort: Effort) -> Value:
    try:
        return _timed(duel, bind_base, bind_work, rng, effort)
    except Exception as error:  # at whichever call: the check names the case
        return Value(duel.label, failed=f"{type(error).__name__}: {error}")


def _timed(duel: Duel, bind_base: Bind, bind_work: Bind, rng: random.Random, effort: Effort) -> Value:
    inputs = _inputs_at_new_places(operations()[duel.case.operation].make_inputs(duel.case, SEED), rng)
    base, work = bind_base(inputs), bind_work(inputs)
    base(), work()  # the first calls allocate what stays, and compile
    repeats, slots, least = _shape_of_blocks(base)
    work_first = rng.random() < 0.5
    end = time.perf_counter() + effort.limit_s
    ratios: list[float] = []
    base_s = work_s = math.inf
    while len(ratios) < least or (error_of_median(ratios) > effort.precision and time.perf_counter() < end):
        if duel.library in OWN_LIBRARIES:  # others prepare before a call what may take seconds: they compile
            inputs = _inputs_at_new_places(inputs, rng)
            base, work = bind_base(inputs), bind_work(inputs)
        if slots > 1:
            base(), work()  # so that neither side meets a cache that the last case or the other side left cold
        base_slots_s: list[float] = []
        work_slots_s: list[float] = []
        sides = ((base, base_slots_s), (work, work_slots_s))
        for _ in range(slots):
            for call, slots_s in reversed(sides) if work_first else sides:
                slots_s.append(_slot(call, repeats))
            work_first = not work_first
        ratios.append(math.log(min(work_slots_s) / min(base_slots_s)))
        base_s = min(base_s, min(base_slots_s) / repeats)
        work_s = min(work_s, min(work_slots_s) / repeats)
    return Value(duel.label, log_ratio=statistics.median(ratios), base_s=base_s, work_s=work_s)


def _shape_of_blocks(call: Callable[[], Any]) -> tuple[int, int, int]:
    """How often a slot repeats the call, the slots of each version in a block, and the least number of blocks."""
    call_s = _slot(call, 1)
    if call_s > LONG_CALL_S:
        return 1, 1, LEAST_PAIRS
    call_s = min(call_s, _slot(call, 1), _slot(call, 1))
    return max(1, round(SLOT_S / call_s)), SLOTS_A_BLOCK, LEAST_BLOCKS


def _inputs_at_new_places(inputs: Any, rng: random.Random) -> Any:
    return relocated(inputs, tuple(vars(inputs)), rng)


def error_of_median(values: list[float]) -> float:
    """The standard error of the median. It comes from the median absolute deviation, which an outlier does not move."""
    middle = statistics.median(values)
    deviation = statistics.median(abs(value - middle) for value in values)
    return MEDIAN_ERROR * deviation / math.sqrt(len(values))


def _slot(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - start


def _examine(duel: Duel, bind_base: Bind, bind_work: Bind) -> Value:
    operation = operations()[duel.case.operation]
    inputs = operation.make_inputs(duel.case, SEED)
    # Without PyTorch: if it is in the process, each reading of memray takes twice as long.
    reference = operation.make_reference(inputs, SEED, ask_pytorch=False)
    base_wrong, base_peak = _examine_side(bind_base, inputs, operation, reference)
    work_wrong, work_peak = _examine_side(bind_work, inputs, operation, reference)
    return Value(
        duel.label,
        base_wrong=base_wrong,
        base_peak_bytes=None if base_peak is None else base_peak.high_bytes,
        work_wrong=work_wrong,
        work_peak_bytes=None if work_peak is None else work_peak.peak_bytes,
    )


def _examine_side(bind_side: Bind, inputs: Any, operation: Operation, reference: Any) -> tuple[str, Peak | None]:
    """What is wrong with the result of a side (empty: nothing), and its peak (None if it raises)."""
    try:
        call = bind_side(inputs)
        reason = operation.judge(call(), reference).reason
        return reason, read_peak(call)
    except Exception as error:
        return f"raises {type(error).__name__}: {error}", None
