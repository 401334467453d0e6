"""The heap and the mappings of a process that measures, in a steady state.

Without it, a call's time depends on what its process has allocated before.
"""

import contextlib
import ctypes
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# glibc raises its mmap threshold to the size of the largest mapped block freed so far, up to 32 MiB with the block's
# header. Freeing a block just below that brings the heap to the state of a long-running program.
SETTLING_BYTES = (32 << 20) - (64 << 10)
MAPS = Path("/proc/self/maps")
# Of mmap(2) on Linux: PROT_NONE; MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE.
NO_ACCESS, HERE_OR_NOT_AT_ALL = 0x0, 0x104022


def settle_heap() -> None:
    """Bring the allocator's adaptive thresholds to their steady state, whatever ran before."""
    np.empty(SETTLING_BYTES, dtype=np.uint8)


@contextlib.contextmanager
def side_by_side(peak_bytes: int) -> Iterator[None]:
    """A block in which arrays that get mappings of their own lie next to each other, for calls with such a peak.

    A settled heap maps arrays of ``SETTLING_BYTES`` and more, and the kernel puts a mapping into the highest gap that
    is large enough. Which gaps there are depends on all that the process has done. Neighbours share huge pages at their
    borders, scattered arrays have small pages there: the same call has 562 page faults in one process and 1584 in the
    next, and takes 14 % longer. So gaps are closed with mappings that hold nothing until the block ends. Smaller peaks
    need none of that, and it takes a millisecond. Nothing happens where there is no /proc.
    """
    gaps = _gaps() if peak_bytes >= SETTLING_BYTES else []
    closed = [(first, length) for first, length in gaps if _close(first, length)]
    try:
        yield
    finally:
        for first, length in closed:
            _libc().munmap(first, length)


def _gaps() -> list[tuple[int, int]]:
    """First address and length of each gap between mappings that an array fits into, without the open space below."""
    places: list[tuple[int, int]] = []
    for line in MAPS.read_text().splitlines() if MAPS.exists() else ():
        if line.endswith("[stack]"):
            break
        first, after = line.split(maxsplit=1)[0].split("-")
        places.append((int(first, 16), int(after, 16)))
    gaps = [(after, first - after) for (_, after), (first, _) in itertools.pairwise(places)]
    open_space = max(gaps, key=lambda gap: gap[1], default=(0, 0))
    return [gap for gap in gaps if gap > open_space and gap[1] >= SETTLING_BYTES]


def _close(first: int, length: int) -> bool:
    """Whether the gap is closed now; one into which another thread has just mapped something stays as it is."""
    found: int = _libc().mmap(first, length, NO_ACCESS, HERE_OR_NOT_AT_ALL, -1, 0)
    if found not in (first, ctypes.c_size_t(-1).value):  # kernels before 4.17 take the address for a wish
        _libc().munmap(found, length)
    return found == first


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_size_t
    libc.mmap.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
    return libc
