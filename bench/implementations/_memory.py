"""Memory that is handed out again once nothing refers to the array in it any longer."""

import weakref
from collections import defaultdict
from typing import Any

import numpy as np

from . import FloatArray

LEAST_BYTES = 1 << 18  # below this, the allocator itself hands freed memory out again
KEPT = 2  # free blocks of one size that are kept


class _Lease:
    """A block in use. Its array and all views of that keep the lease alive; with the last of them the lease ends."""

    def __init__(self, block: "np.ndarray[Any, Any]", interface: dict[str, Any]) -> None:
        self.block = block
        self.__array_interface__ = interface


class ReusedMemory:
    """Allocates arrays; one of 256 KiB or more gets a block that an earlier array of its size has given back.

    An array gives its block back when nothing refers to it or to a view of it any longer. Not for several threads: it
    takes no lock.
    """

    def __init__(self) -> None:
        self._free: defaultdict[int, list[np.ndarray[Any, Any]]] = defaultdict(list)

    def empty_like(self, array: FloatArray) -> FloatArray:
        """An array of the same shape and dtype, with arbitrary contents."""
        if array.nbytes < LEAST_BYTES:
            return np.empty_like(array)
        free = self._free[array.nbytes]
        block = free.pop() if free else np.empty(array.nbytes, dtype=np.uint8)
        lease = _Lease(
            block,
            {"shape": array.shape, "typestr": array.dtype.str, "data": (block.ctypes.data, False), "version": 3},
        )
        weakref.finalize(lease, self._take_back, block).atexit = False
        return np.asarray(lease)

    def _take_back(self, block: "np.ndarray[Any, Any]") -> None:
        free = self._free[block.nbytes]
        if len(free) < KEPT:
            free.append(block)
