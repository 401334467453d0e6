"""Softmax's own backward: (probs, grad_output) -> grad_logits."""

from . import Operation, cases, oracle

OPERATIONS = (
    Operation(
        name="softmax",
        title="softmax backward",
        label="",
        baseline="explicit_jacobian",
        references=("vectorized",),
        arrays_moved=3,
        # Sizes at which a call takes 2 microseconds to 2 milliseconds. Jacobians of 4 MB and more are not among them:
        # on a shared machine their times spread by 1-3 % whatever one does.
        checked_shapes=((1, 10), (8, 32), (16, 64), (1, 512), (32, 512), (256, 512), (256, 4096)),
        make_inputs=cases.make_inputs,
        make_reference=oracle.make_reference,
        judge=oracle.judge,
    ),
)
