"""softmax-bench: what the backward pass of softmax costs, done naively and done well.

The problem: given ``probs`` = softmax(logits) and ``grad_output``, both [B, N], compute ``grad_logits`` [B, N], the
vector-Jacobian product

    grad_logits[i, j] = probs[i, j] * (grad_output[i, j] - sum_k grad_output[i, k] * probs[i, k])

either through the [B, N, N] Jacobians diag(p) - outer(p, p) or without them.

Where things are, each importing only from above itself:

    implementations   what is measured; knows nothing of the suite
    mistakes          gradients that look right and are not
    instruments       clock, memory, the machine and its bandwidth
    operations        what is computed: cases, inputs, reference, judge and baseline of each operation
    storage           whole files, durable tables, the stored run
    charts            from a stored table to figures
    verification      whether somebody's own backward is right, and which mistake it makes
    sweep             how one case becomes one row, in pytest and at the terminal
    regression        whether a change made an implementation slower, larger or wrong
    accuracy          how exact loss and gradient are, from small logits to large
    training          what a wrong backward does to the training of a network
    cli               the commands

``softmax_bench.verify(function)`` says whether somebody's gradient is right; ``softmax_bench.assert_vjp(function)``
asserts it.
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
