"""A block of clocked calls as the judge sees it: inputs handed over, results taken back, the judge's own clock running.

The content of the inputs is random. It reaches the target's process only after the judge's clock has started, save for
what a forward must see before the backward. The clock stops when the results of all calls are in the judge's memory.
So whatever happens in the target's process, nothing takes part that was computed before or is computed later, and the
work is done within the time on the clock. What a right result is, is worked out only then.
"""

import math
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..calling.call import ARRAYS, Inputs
from ..calling.convention import Convention
from .block import Assignment, Made, Ran
from .shared import Array, Shared, slots

HELD_SHARE = 4  # one call in so many has its result held until the next call has returned


@dataclass(frozen=True)
class Handover:
    """What a block gave: results in the judge's memory, and its time by both clocks, in seconds.

    ``claimed_s`` are the calls by the clock in the target's process. ``elapsed_s`` is the whole block by the judge's
    clock. ``processor_s`` is what the target's process has used of processors meanwhile, which the system tells the
    judge (NaN where it does not).
    """

    made: Made
    results: tuple[Array, ...]
    claimed_s: tuple[float, ...]
    elapsed_s: float
    processor_s: float
    warm_s: float = math.nan  # of the first call of all and what it needed, such as compiling, if it was made here
    faults: float = math.nan  # page faults that were served without the disk
    oddities: tuple[str, ...] = ()
    overwritten: tuple[str, ...] = ()  # roles of inputs that a call has changed
    peaks: tuple[int, ...] = ()  # bytes above the level at the start, of each call, if they were asked for

    @property
    def beyond_s(self) -> float:
        """Seconds beyond the calls, by what the target cannot reach; without waiting for a processor, if possible."""
        worked_s = self.elapsed_s if math.isnan(self.processor_s) else min(self.elapsed_s, self.processor_s)
        return worked_s - math.fsum(self.claimed_s)


class Worker(Protocol):
    """What runs the target's end of a block."""

    def warm(self, convention: Convention, inputs: Inputs) -> Made:
        """The shape and dtype of a result, of a call that is not clocked."""

    def ready(self, convention: Convention, assignment: Assignment) -> None:
        """Prepare a block."""

    def go(self) -> Ran:
        """Run the block that was prepared."""

    def go_for_peaks(self) -> Ran:
        """Run it, and read the peak memory of each call."""

    def overwritten(self) -> tuple[str, ...]:
        """The roles of the inputs that the block's calls have changed."""

    def processor_s(self) -> float:
        """Seconds that the process has used of processors; NaN if that is not known."""

    def faults(self) -> float:
        """Page faults of the process that were served without the disk; NaN if that is not known."""


def hand_over(
    worker: Worker,
    shared: Shared,
    convention: Convention,
    trials: Sequence[Inputs],
    made: Made | None = None,
    *,
    peaks: bool = False,
) -> Handover:
    """A block with a call for each of the trials.

    ``made`` is what an earlier block of the same shape found; without it, the first trial only warms up.
    """
    logits = trials[0]["logits"]
    asked = list(trials) if made is not None else trials[1:]
    warming = time.perf_counter()
    made, warm_s = (made, math.nan) if made else (worker.warm(convention, trials[0]), time.perf_counter() - warming)
    late = _arriving(convention)
    arriving = [{role: np.asarray(trial[role]) for role in late} for trial in asked]
    known = [{role: trial[role] for role in _known(convention, late)} for trial in asked]
    places = slots(arriving, made.shape, made.dtype)
    shared.grow(places[-1].result.end)
    held = frozenset(number for number in range(len(asked)) if not secrets.randbelow(HELD_SHARE))
    worker.ready(convention, Assignment(known, places, logits.shape, logits.dtype.str, held))
    sending = [
        (shared.array(place), arrays[role])
        for arrays, slot in zip(arriving, places, strict=True)
        for role, place in slot.inputs.items()
    ]
    made_by_target = [shared.array(slot.result) for slot in places]
    for array in made_by_target:
        array[...] = 0  # so that nothing of an earlier block can pass for a result
    results = [array.copy() for array in made_by_target]
    faults = worker.faults()
    used_s, started = worker.processor_s(), time.perf_counter()
    for place, array in sending:
        np.copyto(place, array)
    ran = worker.go_for_peaks() if peaks else worker.go()
    for result, array in zip(results, made_by_target, strict=True):
        np.copyto(result, array)
    elapsed_s, used_s = time.perf_counter() - started, worker.processor_s() - used_s
    return Handover(
        made,
        tuple(results),
        ran.seconds,
        elapsed_s,
        used_s,
        warm_s,
        worker.faults() - faults,
        ran.oddities,
        worker.overwritten(),
        ran.peaks,
    )


def _arriving(convention: Convention) -> list[str]:
    """The roles whose content arrives when the clock runs: those that no forward and no constructor sees before."""
    before = {*convention.construct, *convention.forward_arguments}
    if convention.between:
        before.add(convention.told)
    if convention.style not in ("function", "method") or convention.weights:
        before |= {"logits", convention.leaf}
    if convention.is_single:
        before = set()  # the forward of a row runs right before its backward, under the clock
    roles = convention.roles | {"grad_output"}
    if "packed" in roles:
        return []
    late = roles - before
    if convention.layout == "vector":
        late.discard("labels")  # an integer, which cannot be written into
    return [role for role in ARRAYS if role in late]


def _known(convention: Convention, late: Sequence[str]) -> list[str]:
    """The roles whose content the target's process gets beforehand."""
    if "packed" in convention.roles:
        return ["logits", "probs", "targets", "upstream"]
    with_logits = convention.style not in ("function", "method") or convention.weights
    roles = convention.roles | {"logits"} if with_logits else convention.roles
    return [role for role in ARRAYS if role in roles and role not in late] + ["upstream"]
