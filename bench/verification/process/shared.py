"""Memory that the judge's process and the target's both map: inputs on one side of it, results on the other."""

import fcntl
import mmap
import os
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...instruments.cache_lines import LINE_BYTES

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Place:
    """Where an array lies in the memory: its first byte, its shape and its dtype as text."""

    offset: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def end(self) -> int:
        """The first byte after it, at a cache line."""
        size = int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize
        return -(-(self.offset + size) // LINE_BYTES) * LINE_BYTES


@dataclass(frozen=True)
class Slot:
    """Where the inputs of one call lie, by role, and where its result goes."""

    inputs: Mapping[str, Place]
    result: Place


class Shared:
    """The memory, through a descriptor that the other process inherits; it only grows.

    The descriptor is closed with the object. Arrays in the memory stay valid.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = _new_descriptor() if descriptor is None else descriptor
        self._map: mmap.mmap | None = None
        self._closing = weakref.finalize(self, os.close, self.descriptor)

    def grow(self, size: int) -> None:
        """Make it at least ``size`` bytes long."""
        if os.fstat(self.descriptor).st_size < size:
            os.ftruncate(self.descriptor, size)

    def array(self, place: Place) -> Array:
        """The array at a place."""
        if self._map is None or len(self._map) < place.end:
            flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)  # no page faults while a clock runs
            self._map = mmap.mmap(self.descriptor, os.fstat(self.descriptor).st_size, flags)
        count = int(np.prod(place.shape, dtype=np.int64))
        return np.frombuffer(self._map, place.dtype, count, place.offset).reshape(place.shape)

    def close(self) -> None:
        """Let go of the descriptor now."""
        self._closing()


def slots(inputs: Sequence[Mapping[str, Array]], result_shape: tuple[int, ...], result_dtype: str) -> list[Slot]:
    """Places for the inputs of each call and for its result, one after another."""
    end, found = 0, []
    for arrays in inputs:
        places = {}
        for role, array in arrays.items():
            places[role] = Place(end, array.shape, array.dtype.str)
            end = places[role].end
        result = Place(end, result_shape, result_dtype)
        end = result.end
        found.append(Slot(places, result))
    return found


def _new_descriptor() -> int:
    """A file without a name, in memory where the system can do that."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("softmax-bench", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        # Touching what the other process has cut off would end this one with SIGBUS.
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return descriptor
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
