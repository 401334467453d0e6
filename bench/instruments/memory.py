"""The instrument for memory: the peak of what one call allocates, above what was allocated when it began."""

import contextlib
import gc
import resource
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil

from .scratch import scratch_folder

READINGS = 3
SLACK_BYTES = 256 << 20  # for what libraries and instruments take in addition to the call's own arrays
SMALL_BUFFER_BYTES = 1024  # NumPy serves data buffers below this from a cache that no memory profiler sees
TOLERANCE_BYTES = 2048  # for the interpreter's bookkeeping; the peaks of arrays are exact to the byte


@dataclass(frozen=True)
class Peak:
    """The smallest and the largest of the readings in bytes, and a note where they differ or a substitute took them."""

    peak_bytes: int
    high_bytes: int
    note: str = ""


def read_peak(call: Callable[[], object], count: int = READINGS) -> Peak:
    """The peak of so many calls, each read by memray, or by tracemalloc where memray is not there or broken.

    Call once before: first calls allocate what stays (BLAS buffers, compiled code). Never time inside a reading.

    Raises:
        RuntimeError: memray already watches this process.
    """
    read, notes = _memray_peak, []
    try:
        import memray  # noqa: F401, PLC0415 - not on every platform
    except Exception as error:  # a broken one may raise anything
        broken = "" if isinstance(error, ModuleNotFoundError) else f" (memray does not import: {error})"
        read, notes = _tracemalloc_peak, [f"peak read by tracemalloc, which sees NumPy's arrays only{broken}"]
    with _collector_at_rest():
        readings = [read(call) for _ in range(count)]
    if min(readings) != max(readings):
        notes.append(f"peak readings differ: {', '.join(map(str, readings))} bytes")
    return Peak(min(readings), max(readings), "; ".join(notes))


@contextlib.contextmanager
def memory_limit(extra_bytes: int) -> Iterator[None]:
    """Let the process allocate ``extra_bytes`` and ``SLACK_BYTES`` more inside the block; beyond that, MemoryError.

    Without it an overrun of the prediction ends in the kernel's out-of-memory killer and takes the run with it.
    Only private data is limited (RLIMIT_DATA); systems that do not count it leave the block unlimited.
    """
    used = getattr(psutil.Process().memory_info(), "data", None)
    if used is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ceilings = [limit for limit in (soft, hard, used + extra_bytes + SLACK_BYTES) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(ceilings), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextlib.contextmanager
def _collector_at_rest() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _memray_peak(call: Callable[[], object]) -> int:
    import memray  # noqa: PLC0415 - not on every platform

    with scratch_folder() as folder:
        path = folder / "allocations"
        with memray.Tracker(path, file_format=memray.FileFormat.AGGREGATED_ALLOCATIONS):
            call()
        return memray.FileReader(path).metadata.peak_memory


def _tracemalloc_peak(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
