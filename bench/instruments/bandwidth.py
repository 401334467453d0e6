"""How fast memory streams: into new memory, from which times are predicted, and at best, the ceiling."""

import itertools
import math
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .host import available_bytes, cache_sizes, processors

# No core moves more than two loads and one store of 64 bytes a cycle, and none runs above 6 GHz: the floor under
# every time, whatever the machine.
FASTEST_CACHE_BYTES_PER_S = 3 * 64 * 6e9
LEAST_WORKING_SET_BYTES = 16 << 10
CEILING_SHARE_OF_MEMORY = 0.25  # of what is available: beyond that the ceiling is not measured
STREAM_SLOT_S = 0.01
STREAM_ROUNDS = 4  # over all working sets, so that a slow second meets each of them at most once
# Where the rates at neighbouring working sets differ by more than this factor, one between them is measured, and then
# again between those.
STEEP_RATIO = 1.25
STEEP_HALVINGS = 2
UNKNOWN_CACHE_BYTES = 32 << 20
SHORTEST_BUFFER_ITEMS = 256
# Arrays must not start at the same place in their pages: loads would wait for stores to the other arrays. They must
# start at the same place in a cache line: else each load needs two lines.
PAGE_BYTES, STREAM_SKEW_BYTES = 4096, 1344


@dataclass(frozen=True)
class CeilingPoint:
    """How fast memory streams with so many threads over a working set, their arrays together."""

    threads: int
    working_set_bytes: int
    bytes_per_s: float


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


def stream_ceiling(threads: int, largest_bytes: int) -> list[CeilingPoint]:
    """How fast memory streams with so many threads: two arrays multiplied into a third, all three in use before.

    There is a point for each working set (the three arrays of all threads together) in powers of two from 16 KiB. The
    largest is eight times the last-level cache or a quarter of the free memory. If arrays of ``largest_bytes`` fit the
    second-level cache, it is the power of two above them. Where the rate changes steeply, there are points between.
    Each point is the fastest of four rounds. Each thread goes over its share again and again inside one call of NumPy,
    so neither calls nor waiting for other threads are in the figure.
    """
    caches = cache_sizes()
    largest = 2 * largest_bytes
    if largest_bytes > caches.get("l2_bytes", 0):
        largest = 8 * max(caches.values(), default=UNKNOWN_CACHE_BYTES)
    largest = min(largest, int(available_bytes() * CEILING_SHARE_OF_MEMORY))
    sizes = [LEAST_WORKING_SET_BYTES]
    while sizes[-1] * 2 <= largest:
        sizes.append(sizes[-1] * 2)
    blocks = _blocks(threads, sizes[-1])
    with _streaming_pool(threads) as pool:
        rates = _fastest_streams(blocks, sizes, pool)
        for _ in range(STEEP_HALVINGS):
            between = [
                round(math.sqrt(small * large))
                for small, large in itertools.pairwise(sorted(rates))
                if max(rates[small], rates[large]) > STEEP_RATIO * min(rates[small], rates[large])
            ]
            rates |= _fastest_streams(blocks, between, pool)
    return [CeilingPoint(threads, size, round(rates[size])) for size in sorted(rates)]


def stream_share(point: CeilingPoint) -> float:
    """How fast memory streams at a point of the ceiling just now, as a share of the rate measured there before.

    It is about 1, and less while other work takes the processors: the two processors of a virtual machine may for
    seconds be two threads of one core.
    """
    threads, size = point.threads, point.working_set_bytes
    with _streaming_pool(threads) as pool:
        return _stream(_blocks(threads, size), size, pool) / point.bytes_per_s


def _blocks(threads: int, largest_bytes: int) -> "list[np.ndarray[Any, Any]]":
    """Memory in use, a block for each thread's share of working sets up to that size."""
    return [np.ones(largest_bytes // threads + 5 * PAGE_BYTES, dtype=np.uint8) for _ in range(threads)]


def _streaming_pool(threads: int) -> ThreadPoolExecutor:
    places = itertools.cycle(processors())
    return ThreadPoolExecutor(threads, initializer=_prepare_to_stream, initargs=(places,))


def _prepare_to_stream(places: Iterator[int]) -> None:
    """Give the calling thread the next processor for itself, and NumPy's shortest buffer.

    Threads that wake each other are often put on one processor and left there for longer than a measurement takes.
    With its usual buffer NumPy copies rows of less than a quarter of that to and fro.
    """
    processor = next(places, None)
    if processor is not None:
        os.sched_setaffinity(0, {processor})  # 0 is the calling thread
    np.setbufsize(SHORTEST_BUFFER_ITEMS)


def _fastest_streams(
    blocks: "list[np.ndarray[Any, Any]]", sizes: list[int], pool: ThreadPoolExecutor
) -> dict[int, float]:
    """The fastest rate at each working set."""
    rounds = [[_stream(blocks, size, pool) for size in sizes] for _ in range(STREAM_ROUNDS)]
    return {size: max(rates) for size, *rates in zip(sizes, *rounds, strict=True)}


def _stream(blocks: "list[np.ndarray[Any, Any]]", working_set_bytes: int, pool: ThreadPoolExecutor) -> float:
    """The rate of streaming a working set that is spread over the blocks, one a thread."""
    items = working_set_bytes // len(blocks) // (3 * 8)
    together = threading.Barrier(len(blocks))

    def work(arrays: "list[np.ndarray[Any, Any]]") -> None:
        together.wait()  # else one thread of the pool could take two shares, one after the other
        np.multiply(arrays[0], arrays[1], out=arrays[2])

    repeats = 1
    while True:
        passes = [_stream_pass(block, items, repeats) for block in blocks]
        start = time.perf_counter()
        list(pool.map(work, passes))
        seconds = time.perf_counter() - start
        if seconds >= STREAM_SLOT_S:
            return 3 * 8 * items * repeats * len(blocks) / seconds
        repeats = max(2 * repeats, round(repeats * STREAM_SLOT_S / seconds))


def _stream_pass(block: "np.ndarray[Any, Any]", items: int, repeats: int) -> "list[np.ndarray[Any, Any]]":
    """Two factors and a product in a block, each [repeats, items] over the same items: a row is one pass."""
    first = -block.ctypes.data % PAGE_BYTES
    starts = [first + place * (-(-items * 8 // PAGE_BYTES) * PAGE_BYTES + STREAM_SKEW_BYTES) for place in range(3)]
    arrays = [block[start : start + items * 8].view(np.float64) for start in starts]
    return [as_strided(array, (repeats, items), (0, 8)) for array in arrays]
