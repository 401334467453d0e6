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
HUGE_PAGE_BYTES = 2 << 20
MAX_BLOCKS = 64  # of memory that is taken to fill the heap
MAPS = Path("/proc/self/maps")
# Of mmap(2) on Linux: PROT_NONE; MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE.
NO_ACCESS, HERE_OR_NOT_AT_ALL = 0x0, 0x104022


def settle_heap() -> None:
    """Bring the allocator's adaptive thresholds to their steady state, whatever ran before."""
    np.empty(SETTLING_BYTES, dtype=np.uint8)


@contextlib.contextmanager
def side_by_side(peak_bytes: int) -> Iterator[None]:
    """A block in which arrays that get mappings of their own lie next to each other, for calls with such a peak.

    A settled heap maps arrays of ``SETTLING_BYTES`` and more, unless it happens to have as much free memory. The kernel
    puts a mapping into the highest gap that is large enough, else at the top of the open space below all mappings.
    How much is free, which gaps there are, and where the open space ends, depends on all that the process has done.
    An array that begins at the border of a huge page consists of huge pages; another has hundreds of small ones at its
    ends, and one from the heap has the pages of an earlier one. The same call had 545 page faults in one process and
    1584 in the next, and took a quarter longer. So the heap is filled, gaps are closed with mappings that hold nothing,
    and the open space is made to end at such a border. Smaller peaks need none of that, and it takes two milliseconds.
    Nothing happens without glibc and Linux.
    """
    blocks = _fill_heap() if peak_bytes >= SETTLING_BYTES else []
    closed = [(first, length) for first, length in _gaps() if _close(first, length)] if blocks else []
    try:
        yield
    finally:
        for first, length in closed:
            _libc().munmap(first, length)
        for block in blocks:
            _libc().free(block)


def _fill_heap() -> list[int]:
    """Take free memory of the heap until no room for a large array is left; the addresses of the blocks, untouched.

    Free memory within the heap is given out before that at its end, and only then the heap grows.
    """
    libc = _libc()
    blocks: list[int] = []
    while hasattr(libc, "gnu_get_libc_version") and len(blocks) < MAX_BLOCKS:
        blocks.append(libc.malloc(SETTLING_BYTES))
        if 0 <= libc.sbrk(0) - (blocks[-1] + SETTLING_BYTES) < SETTLING_BYTES:
            break
    return blocks


def _gaps() -> list[tuple[int, int]]:
    """First address and length of each gap between mappings that an array fits into; of the open space, the odd end."""
    places: list[tuple[int, int]] = []
    for line in MAPS.read_text().splitlines() if MAPS.exists() else ():
        if line.endswith("[stack]"):
            break
        first, after = line.split(maxsplit=1)[0].split("-")
        places.append((int(first, 16), int(after, 16)))
    gaps = [(after, first - after) for (_, after), (first, _) in itertools.pairwise(places)]
    open_space = max(gaps, key=lambda gap: gap[1], default=(0, 0))
    end, over = sum(open_space), sum(open_space) % HUGE_PAGE_BYTES
    above = [gap for gap in gaps if gap > open_space and gap[1] >= SETTLING_BYTES]
    return [*above, (end - over, over)] if over else above


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
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_size_t, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_size_t]
    libc.sbrk.restype, libc.sbrk.argtypes = ctypes.c_size_t, [ctypes.c_ssize_t]
    return libc
