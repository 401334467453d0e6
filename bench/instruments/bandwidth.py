"""How fast memory streams: into new memory, from which times are predicted, and at best, the ceiling."""

import math
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .cache_lines import LINE_BYTES
from .clock import Timing, VisitSettings, time_visit
from .host import available_bytes, processors

# No core moves more than two loads and one store of 64 bytes a cycle, and none runs above 6 GHz: the floor under
# every time, whatever the machine.
FASTEST_CACHE_BYTES_PER_S = 3 * 64 * 6e9
LEAST_WORKING_SET_BYTES = 16 << 10  # in smaller ones, NumPy's own steps would take longer than the stream
CEILING_SHARE_OF_MEMORY = 0.25  # of what is available: beyond that the ceiling is not measured
LEAST_PAST_CACHES_BYTES = 4 << 20  # stores past the caches are slower where the working set fits into them
CALL_S = 0.001  # of a stream's call, which makes as many passes as that takes
SHORTEST_BUFFER_ITEMS = 256
PAGE_BYTES = 4096
ORDINARY, PAST_CACHES = "ordinary", "past_caches"


@dataclass(frozen=True)
class CeilingPoint:
    """How fast memory streams with so many threads over a working set, their arrays together.

    ``machine`` is the machine's id in a table of several machines, otherwise empty.
    """

    threads: int
    working_set_bytes: int
    bytes_per_s: float
    machine: str = ""


@dataclass(frozen=True)
class Stream:
    """Two arrays multiplied into a third, all in use before: what the ceiling is made of, visited as a case is.

    The working set is that of all threads together. ``stores`` is ``ORDINARY`` or ``PAST_CACHES``: an ordinary store
    first reads the line that it overwrites, one past the caches does not, but then whoever reads it next finds nothing
    in the caches.
    """

    stores: str
    threads: int
    working_set_bytes: int

    def __str__(self) -> str:
        return f"ceiling-{self.stores}-S{self.working_set_bytes}-T{self.threads}"

    @classmethod
    def named(cls, text: str) -> "Stream | None":
        """The stream that is called so; None where no stream is."""
        found = re.fullmatch(rf"ceiling-({ORDINARY}|{PAST_CACHES})-S(\d+)-T(\d+)", text)
        return cls(found[1], int(found[3]), int(found[2])) if found else None


def fresh_stream_bytes_per_s(array_bytes: int = 64 << 20, repeats: int = 6) -> float:
    """Bytes a second read and written by a product of two arrays into newly allocated memory, one thread.

    What a large temporary costs: cache misses and page faults together. Used to predict times. The fastest of the
    repeats, because a virtual machine's memory can be ten times slower where its host has yet to back it.
    """
    left = np.ones(array_bytes // 8)
    right = np.ones_like(left)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        np.multiply(left, right)
        seconds.append(time.perf_counter() - start)
    return 3 * left.nbytes / min(seconds)


def streams_of(threads: int, working_set_bytes: int, *, past_caches: bool) -> list[Stream]:
    """The streams whose faster one is the ceiling at a working set; none where it needs too much memory."""
    size = max(working_set_bytes, LEAST_WORKING_SET_BYTES * threads)
    if size > available_bytes() * CEILING_SHARE_OF_MEMORY:
        return []
    kinds = [ORDINARY, *([PAST_CACHES] if past_caches and size >= LEAST_PAST_CACHES_BYTES else [])]
    return [Stream(kind, threads, size) for kind in kinds]


class Streamer:
    """Visits the streams of one number of threads: the threads, and memory in use for all working sets."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._blocks: list[np.ndarray[Any, Any]] = []
        pinned = processors() if threads > 1 else []  # a single thread goes where the system has room, as cases do
        places = cycle(pinned) if pinned else None
        self._pool = ThreadPoolExecutor(threads, initializer=_prepare_to_stream, initargs=(places,))

    def visit(self, stream: Stream, settings: VisitSettings, rng: random.Random) -> Timing:
        """One visit; its times are those of one pass over the working set.

        Each thread goes over its share again and again inside one call, so neither calls nor waiting for other threads
        are in the figure.
        """
        share_bytes = stream.working_set_bytes // self._threads
        if not self._blocks or self._blocks[0].nbytes < share_bytes + 8 * PAGE_BYTES:
            self._blocks = [np.ones(share_bytes + 8 * PAGE_BYTES, dtype=np.uint8) for _ in range(self._threads)]
        multiply = _multiply if stream.stores == ORDINARY else _multiply_past_caches()
        shares = [_arrays_in(block, share_bytes, rng) for block in self._blocks]
        self._stream(multiply, shares, passes=1)
        passes = 1
        while (seconds := self._seconds(multiply, shares, passes)) < CALL_S:
            passes = max(2 * passes, math.ceil(passes * CALL_S / seconds))
        timing = time_visit(lambda: self._stream(multiply, shares, passes), settings)
        return Timing(timing.calls * passes, timing.fastest_s / passes, timing.median_s / passes, timing.pace_s)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _seconds(self, multiply: "Multiply", shares: "list[Arrays]", passes: int) -> float:
        started = time.perf_counter()
        self._stream(multiply, shares, passes)
        return time.perf_counter() - started

    def _stream(self, multiply: "Multiply", shares: "list[Arrays]", passes: int) -> None:
        together = threading.Barrier(self._threads)

        def work(arrays: "Arrays") -> None:
            together.wait()  # else one thread of the pool could take two shares, one after the other
            multiply(arrays, passes)

        list(self._pool.map(work, shares))


Arrays = tuple["np.ndarray[Any, Any]", ...]  # left, right and their product, one-dimensional
Multiply = Callable[[Arrays, int], object]  # (arrays, passes)


def _multiply(arrays: Arrays, passes: int) -> None:
    """The product with ordinary stores; a row of the broadcast arrays is one pass."""
    left, right, product = (as_strided(array, (passes, len(array)), (0, array.itemsize)) for array in arrays)
    np.multiply(left, right, out=product)


def _multiply_past_caches() -> Multiply:
    """The product with stores past the caches, compiled."""
    from ..implementations import _kernels  # noqa: PLC0415 - an extra, and slow to import

    return lambda arrays, passes: _kernels.multiply_past_caches(*arrays, passes)


def _prepare_to_stream(places: Iterator[int] | None) -> None:
    """Give the calling thread the next processor for itself, if there are any to give, and NumPy's shortest buffer.

    Threads that wake each other are often put on one processor and left there for longer than a measurement takes.
    With its usual buffer NumPy copies rows of less than a quarter of that to and fro.
    """
    if places is not None:
        os.sched_setaffinity(0, {next(places)})  # 0 is the calling thread
    np.setbufsize(SHORTEST_BUFFER_ITEMS)


def _arrays_in(block: "np.ndarray[Any, Any]", share_bytes: int, rng: random.Random) -> Arrays:
    """Two factors and a product in a block, of whole cache lines each, at places of their pages drawn from ``rng``.

    Where they start decides whether loads must wait for stores to the other arrays.
    """
    array_bytes = share_bytes // 3 // LINE_BYTES * LINE_BYTES
    room = -(-array_bytes // PAGE_BYTES) * PAGE_BYTES + PAGE_BYTES
    first = -block.ctypes.data % PAGE_BYTES
    starts = [first + place * room + rng.randrange(0, PAGE_BYTES, LINE_BYTES) for place in range(3)]
    return tuple(block[start : start + array_bytes].view(np.float64) for start in starts)
