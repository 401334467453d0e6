"""The operations: what the suite must know of one to make its inputs, judge its results and draw its charts.

An operation is one module here with ``OPERATIONS``, beside its array code in `softmax_bench.implementations`. Sweep,
table, charts and regression check ask for an operation by name and have no code for any of them.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .cases import Case
from .oracle import Verdict


@dataclass(frozen=True)
class Operation:
    """What is computed, and how a result is made and judged.

    ``make_inputs(case, seed)`` gives an object whose attributes are arrays, among them those that implementations
    take by name; ``make_reference(inputs, seed, ask_pytorch=...)`` what a right result is; ``judge(result, reference)``
    the verdict. ``arrays_moved`` is the number of [B, N] arrays that any implementation reads or writes at the least.
    ``checked_shapes`` are the (batch, features) of the regression check.
    """

    name: str
    title: str
    label: str  # of its cases in the regression check, after implementation and shape
    baseline: str  # what speed-ups and memory ratios refer to
    references: tuple[str, ...]  # what the summary refers to instead where the baseline does not fit, in this order
    arrays_moved: int
    checked_shapes: tuple[tuple[int, int], ...]
    make_inputs: Callable[[Case, int], Any]
    make_reference: Callable[..., Any]
    judge: Callable[..., Verdict]


@functools.cache
def operations() -> Mapping[str, Operation]:
    """Every operation by its name."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return {operation.name: operation for module in modules for operation in getattr(module, "OPERATIONS", ())}
