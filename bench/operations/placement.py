"""Arrays at new places in memory: the inputs of a case, copied before each visit.

The low bits of the arrays' addresses can change a function's time by half: a load waits for an earlier store if their
addresses are 4096 bytes apart. Every visit draws new places, so that no run depends on those that it happened to get.
"""

import random
import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..instruments.cache_lines import LINE_BYTES

PAGE_BYTES = 4096


def relocated(inputs: object, names: Sequence[str], rng: random.Random) -> Any:
    """The named arrays of ``inputs`` as an object with the same attributes, each copied to a random place in a page."""
    return types.SimpleNamespace(**{name: _moved(getattr(inputs, name), rng) for name in names})


def _moved(array: npt.NDArray[Any], rng: random.Random) -> npt.NDArray[Any]:
    room = np.empty(array.nbytes + 2 * PAGE_BYTES, dtype=np.uint8)
    first = -room.ctypes.data % PAGE_BYTES + rng.randrange(0, PAGE_BYTES, LINE_BYTES)
    place: npt.NDArray[Any] = room[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    place[...] = array
    return place
