"""Softmax's own backward: (probs, grad_output) -> grad_logits."""

from . import Operation
from .cases import make_inputs
from .oracle import judge, make_reference

OPERATIONS = (
    Operation(
        name="softmax",
        title="softmax backward",
        label="",
        baseline="explicit_jacobian",
        references=("vectorized",),
        arrays_moved=3,
        # At these sizes a call takes 2 microseconds to 60 milliseconds, the longest of them the article's own baseline.
        checked_shapes=((1, 10), (8, 32), (16, 64), (1, 512), (32, 512), (256, 512), (256, 4096)),
        checked_alone=((32, 512), (256, 4096)),
        make_inputs=make_inputs,
        make_reference=make_reference,
        judge=judge,
    ),
)
