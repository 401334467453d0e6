"""A block: clocked calls of a target, each with inputs of its own that arrive just before. This is the target's end.

Everything is prepared while the inputs of the backward are placeholders. When the judge says go, their content lies in
shared memory. Each call's is copied into the arrays that the target gets, then the call is clocked, then its result is
copied into shared memory, before anything else happens.
"""

import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...instruments.cache_lines import LINE_BYTES, at_cache_lines
from ..calling.attention import LOG_SUMS, LOG_SUMS_AS_COLUMN
from ..calling.call import MATRICES, Call, Inputs
from ..calling.graphs import unwrapped
from .shared import Array, Shared, Slot

BALLAST_BYTES = 1 << 16  # the most
ALIGNED_BYTES = 1 << 20  # the largest inputs with which arrays begin at cache lines: larger ones leave the caches
# Taken before any target is loaded. A target can still find and replace it: the judge's own clock is the witness.
CLOCK = time.perf_counter


@dataclass(frozen=True)
class Assignment:
    """What a block needs beforehand: the inputs that a forward may see, and where the others will lie.

    ``held``: the calls whose result is held until the next call has returned, to see whether both share memory.
    """

    known: Sequence[Mapping[str, Any]]  # of each call, by role
    slots: Sequence[Slot]
    shape: tuple[int, int]
    dtype: str
    held: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Ran:
    """What a block's process says about it: the seconds of each call, and what is odd about results, in words."""

    seconds: tuple[float, ...]
    oddities: tuple[str, ...] = ()
    peaks: tuple[int, ...] = ()  # bytes of each call, if they were read instead of the seconds


@dataclass(frozen=True)
class Made:
    """The shape and the dtype of what a target returns, and whether it writes that into an array that it is given."""

    shape: tuple[int, ...]
    dtype: str
    writes_out: bool = False


class Block:
    """The calls of an assignment, each prepared; a class has an instance for each call, so that none is in the way."""

    def __init__(self, calls: Sequence[Call], assignment: Assignment, shared: Shared) -> None:
        # What is allocated from here on lies elsewhere in each block: no time depends on one layout of the heap.
        self._ballast = np.empty(secrets.randbelow(BALLAST_BYTES // LINE_BYTES) * LINE_BYTES, np.uint8)
        self._calls = calls
        self._assignment = assignment
        unknown = placeholders(assignment.shape, assignment.dtype)
        self._backwards = [
            call.prepare({**unknown, **known}) for call, known in zip(calls, assignment.known, strict=True)
        ]
        self._arrivals: list[list[Callable[[], object]]] = []
        self._results: list[Array] = []
        for call, slot in zip(calls, assignment.slots, strict=True):
            arriving = {role: shared.array(place) for role, place in slot.inputs.items()}
            self._arrivals.append(call.arrivals(arriving))
            self._results.append(shared.array(slot.result))

    def run(self, around: Callable[[Callable[[], Any]], Any] | None = None) -> Ran:
        """The seconds of each call, and what is odd about the results; ``around`` carries a call out in its own way."""
        array_bytes = math.prod(self._assignment.shape) * np.dtype(self._assignment.dtype).itemsize
        if around is not None or array_bytes > ALIGNED_BYTES:  # who reads peaks does not see such allocations
            return self._run(around)
        with at_cache_lines():
            return self._run(around)

    def _run(self, around: Callable[[Callable[[], Any]], Any] | None) -> Ran:
        seconds: list[float] = []
        oddities: list[str] = []
        held: Any = None
        clock, shape = CLOCK, self._assignment.shape
        every = zip(self._calls, self._backwards, self._arrivals, self._results, strict=True)
        for number, (call, backward, arrivals, result) in enumerate(every):
            for arrive in arrivals:
                arrive()
            if around is None:
                started = clock()
                returned = backward()
                seconds.append(clock() - started)
            else:
                returned = around(backward)
            rows = call.as_rows(returned, shape)
            if rows.shape != result.shape or rows.dtype != result.dtype:
                oddities.append(f"returns {_shown(rows)} in one call and {_shown(result)} in another")
                break
            np.copyto(result, rows)
            if name := _strange(returned):
                oddities.append(f"returns {name}, whose numbers may be made after the call: return a plain array")
            if held is not None and np.may_share_memory(held, rows):
                oddities.append("returns the same array at every call: a result changes when the next call is made")
            held = rows if number in self._assignment.held else None
        return Ran(tuple(seconds), tuple(dict.fromkeys(oddities)))

    def overwritten(self) -> tuple[str, ...]:
        """The roles of the inputs that a call has changed."""
        return tuple(dict.fromkeys(role for call in self._calls for role in call.overwritten()))


def _shown(array: Array) -> str:
    return f"an array {list(array.shape)} of {array.dtype}"


def _strange(returned: Any) -> str:
    """The class of a result that is neither a plain array nor a tensor of a library; empty for those."""
    kind = type(returned)
    if kind is np.ndarray or isinstance(returned, list | tuple | dict | np.generic | float | int | np.matrix):
        return ""
    if isinstance(returned, np.ndarray):
        return f"a {kind.__name__}, a subclass of numpy.ndarray"
    plain = type(unwrapped(returned)) in (np.ndarray, list) or kind.__module__.partition(".")[0] in ("torch", "jaxlib")
    return "" if plain else f"a {kind.__name__}"


def placeholders(shape: tuple[int, int], dtype: str) -> Inputs:
    """Inputs that say nothing but their shape: equal probabilities, no gradient."""
    batch, features = shape
    probs = np.full(shape, 1.0 / max(1, features), dtype)
    zeros = np.zeros(shape, dtype)
    roles = {role: probs if role in ("probs", "targets") else zeros for role in MATRICES}
    sums = {LOG_SUMS: zeros[:, 0], LOG_SUMS_AS_COLUMN: zeros[:, :1]} if features else {}
    return {**roles, **sums, "labels": np.zeros(batch, np.intp), "upstream": 1.0}
