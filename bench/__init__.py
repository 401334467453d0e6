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
    summary charts    what is read from a stored table
    progress options cli bench_backward   the terminal and pytest
"""
