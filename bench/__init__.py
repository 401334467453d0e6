"""softmax-bench: what the backward pass of softmax costs, done naively and done well.

The problem: given ``probs`` = softmax(logits) and ``grad_output``, both [B, N], compute ``grad_logits`` [B, N], the
vector-Jacobian product

    grad_logits[i, j] = probs[i, j] * (grad_output[i, j] - sum_k grad_output[i, k] * probs[i, k])

either through the [B, N, N] Jacobians diag(p) - outer(p, p) or without them.

A module imports only from its own line and from the lines above it:

    implementations                 what is measured; it knows nothing of the suite
    mistakes, instruments, paths, units, errors, configuration
    operations                      what is computed: cases, inputs, reference, judge and baseline
    storage                         tables and stored runs
    charts, verification            figures from a stored table; whether a user's backward is right, and its mistake
    sweep                           how a case becomes a row, in pytest and at the terminal
    report                          stored runs side by side: their differences, history and growth; exports
    regression, repeatability,
    accuracy, training              the check for slow-downs, and three studies
    cli, pytest_plugin              the commands, and a fixture for the tests of others

``softmax_bench.verify(function)`` reports whether a gradient is right; ``softmax_bench.assert_vjp(function)`` asserts
that it is. ``softmax_bench.load_run(path)`` is a stored run as a data frame. ``softmax_bench.vectorized(probs,
grad_output)`` is the backward without Jacobians, to compare yours with.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .implementations.softmax import vectorized
    from .storage.frames import load_run
    from .verification.verdict import assert_vjp, verify

__all__ = ["assert_vjp", "load_run", "vectorized", "verify"]
_MODULES = {
    "assert_vjp": ".verification.verdict",
    "load_run": ".storage.frames",
    "vectorized": ".implementations.softmax",
    "verify": ".verification.verdict",
}


def __getattr__(name: str) -> Any:
    """A public function, imported when it is first used: the package itself is quick to import."""
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
