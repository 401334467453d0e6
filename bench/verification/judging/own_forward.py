"""Whether a backward that is not softmax's is right for another function: the one that its own forward computes."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

from ..calling.convention import Convention
from ..calling.roles import replaced
from ..process.failures import Failure
from ..process.slopes import AGREES
from ..process.subject import Subject
from .trials import PROBING, trials

OWN_FORWARD = "by central differences, it is the derivative of its own forward"
OF_OWN_FORWARD = f"the backward of another function: {OWN_FORWARD}"
MOST_READINGS = 24
_LAYOUTS = ("rows", "stack")


def is_of_own_forward(subject: Subject, conventions: Sequence[Convention]) -> bool:
    """Whether the backward is the derivative of what the forward computes, in any reading that has a forward."""
    trial = trials("softmax", shapes=PROBING)[0]
    containers = ("array", "torch") if subject.has_torch() else ("array",)
    for reading in itertools.islice(_readings(conventions, containers), MOST_READINGS):
        found = subject.slopes(reading, trial.inputs)
        if isinstance(found, Failure):
            if found.ends_the_search:
                return False
        elif found.size > 0.0 and all(
            math.isclose(claimed, measured, rel_tol=0.0, abs_tol=AGREES * found.size)
            for claimed, measured in zip(found.claimed, found.measured, strict=True)
        ):
            return True
    return False


def _readings(conventions: Sequence[Convention], containers: Sequence[str]) -> Iterator[Convention]:
    """The ways to call a target that run its forward first; what comes in may be an array or a number a row."""
    with_forward = [each for each in conventions if each.forward and each.style in ("pair", "function")]
    for convention, layout, container in itertools.product(with_forward, _LAYOUTS, containers):
        if convention.admits(layout, container):
            arranged = dataclasses.replace(convention, layout=layout, container=container)
            yield arranged
            if "grad_output" in arranged.arguments:
                by_row = replaced(arranged.arguments, "grad_output", "row_upstream")
                yield dataclasses.replace(arranged, arguments=by_row)
