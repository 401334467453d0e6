"""softmax-bench: what the backward pass of softmax costs, done naively and done well.

The problem: given ``probs`` = softmax(logits) and ``grad_output``, both [B, N], compute ``grad_logits`` [B, N], the
vector-Jacobian product

    grad_logits[i, j] = probs[i, j] * (grad_output[i, j] - sum_k grad_output[i, k] * probs[i, k])

either through the [B, N, N] Jacobians diag(p) - outer(p, p) or without them.

Where things are, each importing only from above itself:

    implementations   what is measured; knows nothing of the suite
    graph             a network as nodes, softmax and loss apart or in one; knows only the implementations
    cases             a case, the grids, softmax's inputs
    oracle            whether a gradient is right
    operations        what is computed: inputs, reference, judge and baseline of each operation
    clock memory host the instruments
    files             a file is there whole or not at all
    tables results budget   the stored run; what a case may cost
    sweep             how one case becomes one row
    summary chart_style overviews charts scaling   what is read from a stored table
    regression        whether a change made an implementation slower, larger or wrong
    verification      whether somebody's own backward is right, and which mistake it makes
    accuracy          how exact loss and gradient are, from small logits to large
    training          what a wrong backward does to the training of a network
    progress options sweep_command cli bench_backward   the terminal and pytest

``bench.verify(function)`` says whether somebody's gradient is right; ``bench.assert_vjp(function)`` asserts it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .verification.verdict import assert_vjp, verify

__all__ = ["assert_vjp", "verify"]


def __getattr__(name: str) -> Any:
    """The two functions, imported when first used: the package itself costs nothing to import."""
    if name in __all__:
        from .verification import verdict  # noqa: PLC0415 - see above

        return getattr(verdict, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
