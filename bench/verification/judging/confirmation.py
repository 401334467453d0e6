"""A verdict confirmed: blocks of calls with inputs, at sizes, that nobody can foresee; some of them come again.

The trials are the same every time, so that a verdict can be repeated. Code may know them, or remember them.
"""

import secrets
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...operations.cases import Case
from ..calling.convention import Convention
from ..calling.models import MORE
from ..process.failures import Failure
from ..process.handover import Handover
from .checking import Checked, check, fresh_inputs, split
from .timing import Timeable, calls_at_once

Ranges = tuple[tuple[int, int], tuple[int, int]]  # of batch and features

# The inputs of each call of a block, by number. One that comes again comes at another place in memory.
ORDER = (0, 1, 0, 2, 1, 3, 2, 3)
# A larger size is tried where the one before says that it takes no longer than SLOWEST_S;
# from the smallest straight to the largest nothing could be said, as its calls take mostly the same time at any size.
SIZES: tuple[Ranges, ...] = ((2, 9), (5, 60)), ((2, 4), (150, 300)), ((2, 4), (600, 1200))
SIZES_OF_JACOBIANS: tuple[Ranges, ...] = (*SIZES[:2], ((2, 3), (300, 500)))  # whose numbers are the square of these
CACHED = 0.3  # of the time: a call with inputs that came before is so much faster only if its result was kept
SLOWEST_S = 0.2  # of a call, if it grows quadratically with features

MORE_BLOCKS = 3  # which a target that seems to keep results has to show, too


@dataclass(frozen=True)
class Confirmation:
    """What is wrong at sizes that were not tried before; empty if nothing is."""

    wrong: tuple[str, ...] = ()  # about results
    odd: tuple[str, ...] = ()  # about how right results come
    limits: tuple[str, ...] = ()  # where it gives no results, and says why


def confirm(subject: Timeable, convention: Convention, *, dtypes: tuple[str, ...], inexact: bool) -> Confirmation:
    """What shows in blocks of each dtype at a small size, and of the first at larger ones unless that would be slow."""
    wrong: list[str] = []
    odd: list[str] = []
    limits: list[str] = []
    sizes = SIZES_OF_JACOBIANS if convention.operation == "jacobian" else SIZES
    blocks: list[tuple[Case, tuple[Ranges, ...]]] = [
        (_case(sizes[0], dtype), sizes[1:] if dtype == dtypes[0] else ()) for dtype in dtypes
    ]
    while blocks:
        case, larger_sizes = blocks.pop(0)
        block = _block(subject, convention, case, inexact=inexact)
        if isinstance(block, Failure):
            failed = f"at {case.batch} × {case.features} it fails: {block.summary}"
            is_slow = block.kind == "hung" and case.features > sizes[0][1][1]  # more than the smallest size has
            (limits if is_slow or block.summary.startswith("RecursionError") else wrong).append(failed)
            break
        handover, checked = block
        wrong += [f"at {case.batch} × {case.features} it {checked.wrong}"] if checked.wrong else []
        odd += [f"at {case.batch} × {case.features} it {each}" for each in checked.odd]
        if case.features >= sizes[-1][1][0]:
            odd += _kept(subject, convention, case, handover)
        if larger_sizes:
            larger = _case(larger_sizes[0], case.dtype)
            growth = (larger.batch / case.batch) * (larger.features / case.features) ** 2
            if growth * statistics.median(handover.claimed_s or [0.0]) < SLOWEST_S:
                blocks.append((larger, larger_sizes[1:]))
    return Confirmation(tuple(wrong), tuple(odd), tuple(limits))


def _case(ranges: Ranges, dtype: str) -> Case:
    """A case of a size that nobody can foresee, but not one at which a model's inputs [B, B + MORE] are [B, N].

    The gradient of the inputs, which a model returns while it keeps that of its weights, would be taken for this one.
    """
    batch, features = (low + secrets.randbelow(high - low + 1) for low, high in ranges)
    if features == batch + MORE:
        return _case(ranges, dtype)
    return Case("softmax", "", batch, features, dtype, "normal")


def _block(
    subject: Timeable, convention: Convention, case: Case, *, inexact: bool
) -> tuple[Handover, Checked] | Failure:
    """A block in which inputs come again, each time with a single number changed if that is not seen at a glance."""
    distinct = split(fresh_inputs(convention, case, max(ORDER) + 2), max(ORDER) + 2)
    trials = [distinct[number] for number in ORDER]
    trials.append(_changed(distinct[0]))
    if calls_at_once(convention, len(trials)) == 1:
        trials = trials[:1]
    handover = subject.timed(convention, [distinct[-1], *trials])
    if isinstance(handover, Failure):
        return handover
    return handover, check(handover, convention, case, trials, inexact=inexact)


def _changed(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs with one number of the incoming gradient changed."""
    grad_output = np.array(inputs["grad_output"])
    place = tuple(secrets.randbelow(size) for size in grad_output.shape)
    grad_output[place] += 1.0
    return {**inputs, "grad_output": grad_output}


def _kept(subject: Timeable, convention: Convention, case: Case, handover: Handover) -> list[str]:
    """Whether calls with inputs that came before are too fast, in this block and in others."""
    times = _times_faster(handover)
    for _ in range(MORE_BLOCKS):
        if times is None:
            return []
        # A processor that slows down for a moment can make a block look so, by bad luck.
        block = _block(subject, convention, case, inexact=True)
        times = None if isinstance(block, Failure) else _times_faster(block[0])
    if times is None:
        return []
    time = f"1/{times:.0f} of the time for inputs that it has had before"
    return [f"at {case.batch} × {case.features} it takes {time}: it keeps results"]


def _times_faster(handover: Handover) -> float | None:
    """How many times faster the fastest call with inputs that came before is, if that is suspicious.

    The fastest ones are compared, because any call can be slowed by what else the machine does.
    """
    seconds = handover.claimed_s
    if len(seconds) <= len(ORDER):
        return None
    first_s = min(seconds[call] for call, number in enumerate(ORDER) if number not in ORDER[:call])
    again_s = min(seconds[call] for call, number in enumerate(ORDER) if number in ORDER[:call])
    return first_s / max(again_s, 1e-9) if again_s < CACHED * first_s else None
