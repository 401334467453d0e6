"""The cases that every tool measures, by their ids, and the call of each, on which any tool can be started."""

import itertools
from collections.abc import Callable

from threadpoolctl import threadpool_limits

from ..operations import operations
from ..operations.cases import Case

SEED = 42  # of the inputs
SHAPES = ((1, 512), (32, 128), (32, 512))
IMPLEMENTATIONS = ("explicit_jacobian", "vectorized")
SHARED_CASES = {
    str(case): case
    for case in (
        Case("softmax", name, *shape, "float64", "normal") for shape, name in itertools.product(SHAPES, IMPLEMENTATIONS)
    )
}


def call_of(label: str) -> Callable[[], object]:
    """The call of a shared case. Libraries run as many threads as the case has from now on, as in the sweep."""
    case = SHARED_CASES[label]
    threadpool_limits(limits=case.threads)
    return case.spec.bind(operations()[case.operation].make_inputs(case, SEED), case.threads)
