"""The machine: what it is, what software it runs, how much memory it leaves, and how fast memory streams."""

import hashlib
import importlib.metadata
import itertools
import math
import os
import platform
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.lib.stride_tricks import as_strided

PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE.parent

# No core moves more than two loads and one store of 64 bytes a cycle, and none runs above 6 GHz: the floor under
# every time, whatever the machine.
FASTEST_CACHE_BYTES_PER_S = 3 * 64 * 6e9
RECORDED_PACKAGES = (
    *("numpy", "scipy", "pandas", "memray", "pytest", "pytest-benchmark", "threadpoolctl"),
    *("numba", "torch", "jax", "numexpr"),
)
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")  # Linux tells there what a core has
LEAST_WORKING_SET_BYTES = 16 << 10
CEILING_SHARE_OF_MEMORY = 0.25  # of what is available: beyond that the ceiling is not measured
STREAM_SLOT_S = 0.01
STREAM_ROUNDS = 4  # over all working sets: what slows a processor for a second slows each of them once at most
STEEP_RATIO = 1.25  # of the rates at neighbouring working sets: beyond, one between them is measured, too, ...
STEEP_HALVINGS = 2  # ... and so often again
UNKNOWN_CACHE_BYTES = 32 << 20
SHORTEST_BUFFER_ITEMS = 256
# Arrays that start at the same place in their pages would wait for each other's stores, arrays that do not start at the
# same place in a cache line for two lines a load.
PAGE_BYTES, STREAM_SKEW_BYTES = 4096, 1344


def machine() -> dict[str, str | int]:
    """What decides how fast code runs here: processor, cores, memory, system."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "memory_bytes": psutil.virtual_memory().total,
        **_cache_sizes(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions(extras: tuple[str, ...] = ()) -> dict[str, str]:
    """The versions of Python and of the libraries that bear on a measurement, and of further packages."""
    found = {"python": platform.python_version()}
    for package in (*RECORDED_PACKAGES, *extras):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def code_hashes() -> dict[str, str]:
    """A digest of each source file of the suite, by its path relative to the root."""
    files = sorted([*PACKAGE.rglob("*.py"), ROOT / "conftest.py"])
    return {
        path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in files
        if path.exists()
    }


def available_bytes() -> int:
    """Memory that can still be taken: what the system has available, or less where a control group is tighter."""
    return min([psutil.virtual_memory().available, *_control_group_headrooms()])


def processors() -> list[int]:
    """The numbers of the processors that this process may run on; [] where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


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


def stream_ceiling(threads: int, largest_bytes: int) -> list[dict[str, float]]:
    """How fast memory streams with so many threads: the product of two arrays written to a third, all in use before.

    A point for each working set (the three arrays of all threads together) in powers of two, from 16 KiB to eight
    times the last-level cache or a quarter of the free memory, or for working sets of no more than ``largest_bytes``
    that fit the second-level cache to the next power; where the rate changes steeply from one to the next, points
    between them as well. Each is ``threads``, ``working_set_bytes``, ``bytes_per_s``, the fastest of four. Each thread
    goes over its own share again and again inside one call of NumPy, so neither calls nor waiting for each other are
    in the figure.
    """
    caches = _cache_sizes()
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
    return [
        {"threads": threads, "working_set_bytes": size, "bytes_per_s": round(rates[size])} for size in sorted(rates)
    ]


def stream_share(point: Mapping[str, float]) -> float:
    """How fast memory streams at a point of the ceiling just now, over the rate that was measured there.

    About 1, less where something else takes the processors: two that a virtual machine is lent may for seconds be two
    threads of one core.
    """
    threads, working_set_bytes = int(point["threads"]), int(point["working_set_bytes"])
    with _streaming_pool(threads) as pool:
        return _stream(_blocks(threads, working_set_bytes), working_set_bytes, pool) / point["bytes_per_s"]


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


def _cache_sizes() -> dict[str, int]:
    """Bytes of each level of data cache as the system states them, as ``l1_bytes`` and so on; {} where it does not."""
    stated = {}
    for folder in sorted(CACHES.glob("index*")):
        level, kind, size = ((folder / name).read_text(encoding="ascii").strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            stated[f"l{level}_bytes"] = int(size.removesuffix("K")) << 10
    return stated


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _control_group_headrooms() -> list[int]:
    """Limit minus usage of every control group that this process is in, version 1 and 2; [] where there is none."""
    try:
        memberships = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    headrooms = []
    for line in memberships:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            base, limit_name, usage_name = Path("/sys/fs/cgroup"), "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, limit_name, usage_name = (
                Path("/sys/fs/cgroup/memory"),
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            )
        else:
            continue
        folder = base / group.lstrip("/")
        for candidate in (folder, *folder.parents):
            if not candidate.is_relative_to(base):
                break
            try:
                limit = int((candidate / limit_name).read_text(encoding="ascii"))
                headrooms.append(max(0, limit - int((candidate / usage_name).read_text(encoding="ascii"))))
            except (OSError, ValueError):  # no such group in this namespace, or "max": no limit
                continue
    return headrooms
