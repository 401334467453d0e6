"""The operations: what the suite must know about an operation to make inputs, judge results and draw charts.

An operation needs an entry in the tuple ``OPERATIONS`` of a module here, and array code in
`softmax_bench.implementations`. Sweep, table, charts and regression check look an operation up by its name; they have
no code of their own for any of them.
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
    """What is computed, and how its inputs are made and its results are judged."""

    name: str
    title: str
    label: str  # of its cases in the regression check, after implementation and shape
    baseline: str  # the implementation that speed-ups and memory ratios refer to
    references: tuple[
        str, ...
    ]  # what the summary refers to, in this order, at shapes at which the baseline does not fit
    arrays_moved: int  # [B, N] arrays that every implementation must read or write at least
    checked_shapes: tuple[tuple[int, int], ...]  # (batch, features) of the regression check
    checked_alone: tuple[tuple[int, int], ...]  # of what needs processes of its own there: few
    make_inputs: Callable[[Case, int], Any]  # (case, seed) -> an object with the arrays as attributes, by their names
    make_reference: Callable[..., Any]  # (inputs, seed, ask_pytorch=True) -> what a right result is
    judge: Callable[..., Verdict]  # (result, reference) -> the verdict


@functools.cache
def operations() -> Mapping[str, Operation]:
    """Every operation by its name.

    The modules are imported here and not at the top, because they import this one for `Operation`. A module without
    ``OPERATIONS`` is a helper of the others and adds none.
    """
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return {operation.name: operation for module in modules for operation in getattr(module, "OPERATIONS", ())}
