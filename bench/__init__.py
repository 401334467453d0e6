"""softmax-bench: what the backward pass of softmax costs, done naively and done well.

The problem: given ``probs`` = softmax(logits) and ``grad_output``, both [B, N], compute ``grad_logits`` [B, N], the
vector-Jacobian product

    grad_logits[i, j] = probs[i, j] * (grad_output[i, j] - sum_k grad_output[i, k] * probs[i, k])

either through the [B, N, N] Jacobians diag(p) - outer(p, p) or without them.

Where things are, each importing only from above itself:

    implementations   what is measured; knows nothing of the suite
    cases             a case, the grids, the inputs
    oracle            whether a result is right
    clock memory host the instruments
    results budget    the stored run; what a case may cost
    sweep             how one case becomes one row
    trials diagnosis  what is asked of somebody's own backward; which known mistake it makes
    roles conventions loading calling     how that wants to be called
    failures subject isolation worker     where it is called, and how that may end
    asking invariants worked scaling costing verification   the verdict on it, how it is told, what it costs
    competitor        it beside the others in the sweep
    summary charts    what is read from a stored table
    progress options cli verify_command bench_backward   the terminal and pytest

``bench.verify(function)`` says whether somebody's gradient is right; ``bench.assert_vjp(function)`` asserts it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .verification import assert_vjp, verify

__all__ = ["assert_vjp", "verify"]


def __getattr__(name: str) -> Any:
    """The two functions, imported when first used: the package itself costs nothing to import."""
    if name in __all__:
        from . import verification  # noqa: PLC0415 - see above

        return getattr(verification, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
