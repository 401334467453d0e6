"""A verdict confirmed: blocks of calls with inputs, at sizes, that nobody can foresee; some of them come again.

The trials are the same every time, so that a verdict can be repeated. Code may know them, or remember them.
"""

import secrets
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...operations.cases import Case
from ..calling.conventions import Convention
from ..process.failures import Failure
from ..process.handover import Handover
from .checking import Checked, check, fresh_inputs, split
from .timing import Timeable, calls_at_once

# The inputs of each call of a block, by number. One that comes again comes at another place in memory.
ORDER = (0, 1, 0, 2, 1, 3, 2, 3)
SMALL, LARGE = ((2, 9), (5, 60)), ((2, 4), (600, 1200))  # ranges of batch and features
CACHED = 0.3  # of the time: a call with inputs that came before is so much faster only if its result was kept
SLOWEST_S = 0.1  # of a large call, if it grows quadratically with features


@dataclass(frozen=True)
class Confirmation:
    """What is wrong at sizes that were not tried before; empty if nothing is."""

    wrong: tuple[str, ...] = ()  # about results
    odd: tuple[str, ...] = ()  # about how right results come


def confirm(subject: Timeable, convention: Convention, *, dtypes: tuple[str, ...], inexact: bool) -> Confirmation:
    """What shows in blocks of each dtype at a small size, and of the first at a large one unless that would be slow."""
    wrong: list[str] = []
    odd: list[str] = []
    cases = [_case(SMALL, dtype) for dtype in dtypes]
    while cases:
        case = cases.pop(0)
        block = _block(subject, convention, case, inexact=inexact)
        if isinstance(block, Failure):
            wrong.append(f"at {case.batch} × {case.features} it fails: {block.summary}")
            break
        handover, checked = block
        call_s = statistics.median(handover.claimed_s or [0.0])
        wrong += [f"at {case.batch} × {case.features} it {checked.wrong}"] if checked.wrong else []
        odd += [f"at {case.batch} × {case.features} it {each}" for each in (*checked.odd, *_keeps(handover, case))]
        large = _case(LARGE, case.dtype)
        if case.features < LARGE[1][0] and case.dtype == dtypes[0]:
            growth = (large.batch / case.batch) * (large.features / case.features) ** 2
            cases += [large] if call_s * growth < SLOWEST_S else []
    return Confirmation(tuple(wrong), tuple(odd))


def _case(ranges: tuple[tuple[int, int], tuple[int, int]], dtype: str) -> Case:
    batch, features = (low + secrets.randbelow(high - low + 1) for low, high in ranges)
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


def _keeps(handover: Handover, case: Case) -> Iterator[str]:
    """Whether calls with inputs that came before are too fast."""
    seconds = handover.claimed_s
    if case.features < LARGE[1][0] or len(seconds) <= len(ORDER):
        return
    first = [seconds[call] for call, number in enumerate(ORDER) if number not in ORDER[:call]]
    again = [seconds[call] for call, number in enumerate(ORDER) if number in ORDER[:call]]
    if max(again) < CACHED * min(first):
        times = statistics.median(first) / max(statistics.median(again), 1e-9)
        yield f"takes 1/{times:.0f} of the time for inputs that it has had before: it keeps results"
