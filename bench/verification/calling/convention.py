"""A convention: one way to call a target, and what a user may state about it.

It is data: it crosses process boundaries and is printed. ``call`` carries it out.
"""

import re
from dataclasses import dataclass

from ...errors import UserError
from ...implementations import FloatArray
from .arrays import FLOAT32
from .classifiers import IDENTITY
from .construction import BYPASSED
from .graphs import DRIVES_IN_WORDS
from .kernels import DESTINATION
from .methods import FORWARDS
from .roles import INCOMING, LOG_LOSS_GRADIENT, LOSS_GRADIENT, TURNED_TARGETS, is_loss

# Roles that a user may name in --signature.
ROLES = (
    "logits", "probs", "log_probs", "grad_output", "targets", "labels", "upstream",
    "row_upstream", "axis", "features", "learning_rate",
)  # fmt: skip
LAYOUTS = {
    "rows": "arrays [batch, features]",
    "columns": "features first: arrays [features, batch], axis 0",
    "vector": "one vector [features] at a time",
    "column": "one column [features, 1] at a time",
    "row": "one row [1, features] at a time",
    "stack": "arrays [1, batch, features]",
    "heads": "arrays [1, 1, batch, features]",
    "images": "arrays [batch, features, 1, 1], axis 1",
    "batch_of_columns": "arrays [batch, features, 1], axis 1",
    "flat": "arrays [batch * features]",
}
CONTAINERS = {"list": "nested lists", "torch": "PyTorch tensors", FLOAT32: "PyTorch tensors of float32"}
SCALARS, CARRIERS = "scalars", "carriers"
WRAPPINGS = {
    "tensors": "every array in a tensor of the file",
    "tensors in forward": "the forward's arrays in tensors of the file",
    "tensors and labels": "every array and the labels in a tensor of the file",
    "tuples": "every array in a tuple",
    SCALARS: "every number in a tensor of the file",
    CARRIERS: "every array as one that may have attributes",
}
SINGLE = ("vector", "column", "row")
FORWARD_ONLY = "forward"  # a style: there is no backward

LOSS_NAME = re.compile(
    r"loss|entrop|xent|criterion|nll|(?<![a-z])ce(?![a-z])|(?-i:[a-z]CE(?![a-z]))|verlust|perdida|perda|perte",
    flags=re.IGNORECASE,
)  # in other languages, too


@dataclass(frozen=True)
class Convention:
    """One way to call a target: its style, methods, the roles of their arguments, layout and container.

    ``style`` is one of these:

    - ``function``, which may have a ``forward`` in the same module
    - ``method``: a method that needs no forward, of a class that need not be a layer
    - ``pair``: an object with a forward and a backward
    - ``closure``: a function or an object whose forward returns the backward
    - ``node``: a graph's node, made from its parents
    - ``tensor``: a function or method that makes a tensor from another one and keeps its backward in it
    - ``transform``: a forward whose backward JAX knows
    - ``forward``: a forward alone, called to find out what it is
    """

    operation: str
    style: str
    arguments: tuple[str, ...]
    forward: str = ""
    forward_arguments: tuple[str, ...] = ()
    backward: str = ""
    construct: tuple[str, ...] = ()
    result: str = ""
    layout: str = "rows"
    container: str = "array"
    temperature: float = 1.0  # of a forward that is softmax(logits / temperature)
    cached: tuple[str, ...] = ()  # the roles of a cache's items, if no forward makes it
    between: str = ""  # the method that a loss is told its targets by, after its forward
    told: str = "targets"  # in which form: targets or labels
    owner: str = ""  # the name of a class that is made with arguments, or without its constructor
    ignores_upstream: bool = False  # of a loss: whether its backward takes an incoming gradient, and does not use it
    all_labels_count: bool = False  # whether it may ignore a label, and is called without such a one
    in_half: bool = False  # whether it has shown that it computes in half precision
    of_log_probability: bool = False  # not of a loss: in a candidate, whether a name or a reward says that it may be so
    of_elements: bool = False  # whether its loss has shown that it is a mean over all elements, not over the rows
    tensor: str = ""  # the name of the file's class of tensors, if it has several, or if arguments are wrapped in it
    lands_in: str = ""  # the role of the argument that the result is written into, if it is not returned
    weights: str = ""  # what a model's own weights are set to, one of those in ``models``; empty if they are left alone
    is_flagged: bool = False  # whether a flag tells what is called to give its derivative
    of_bias: bool = False  # of a model: whether what is looked for is the gradient of its last bias
    descends: bool = False  # of weights: whether they are updated, and the gradient is what is subtracted from them
    own_penalty: float = 0.0  # of weights: what of them it adds to their gradient, whatever it is told
    penalty_over_batch: bool = False  # whether that is divided by the batch
    wrapping: str = ""  # what each array is passed in, one of WRAPPINGS; empty if it is passed as it is

    @property
    def roles(self) -> set[str]:
        """The roles of all arguments of all calls."""
        told = [self.told] if self.between else []
        leaf = [self.leaf] if self.style == "tensor" else []
        turned = ["targets"] if TURNED_TARGETS in (*self.arguments, *self.forward_arguments) else []
        return {*self.arguments, *self.forward_arguments, *self.construct, *self.cached, *told, *leaf, *turned}

    @property
    def leaf(self) -> str:
        """The role of the tensor whose gradient is asked for, in the style ``tensor``."""
        return "probs" if self.operation == "cross_entropy" else "logits"

    @property
    def takes_upstream(self) -> bool:
        """Whether the result is the gradient times an incoming one, a number: that of a loss."""
        is_given = bool(self.roles & set(INCOMING))
        is_given |= self.style == "node" and is_loss(self.operation)
        return is_given and not self.ignores_upstream

    def admits(self, layout: str, container: str) -> bool:
        """Whether the target may take arrays so: only what writes into arrays takes flat ones."""
        by_sizes = "one" in self.arguments and bool(self.lands_in)  # it is told batch, steps and features
        arrays_only = by_sizes or layout == "flat" or bool(self.weights) or self.wrapping in (SCALARS, CARRIERS)
        arrays_only |= TURNED_TARGETS in self.roles
        return layout in self._layouts(by_sizes) and (container == "array" or not arrays_only)

    def _layouts(self, by_sizes: bool) -> tuple[str, ...]:
        """The layouts that the target may take."""
        if by_sizes:
            return "flat", "stack"
        if self.wrapping == SCALARS:
            return ("vector",)
        if TURNED_TARGETS in self.roles:
            return "rows", "columns"
        if self.is_forward_called_as_backward:  # of one row, the value of a loss could be taken for its gradient
            return "rows", "columns"
        if self.weights:
            return "rows", "columns", *SINGLE
        refused = {"images"} if self.lands_in else {"flat"}
        refused |= set(SINGLE) if IDENTITY in self.roles else set()
        return tuple(layout for layout in LAYOUTS if layout not in refused)

    @property
    def is_forward_called_as_backward(self) -> bool:
        """Whether what is called is a forward by its name: one that may return the gradient beside the loss."""
        return self.style == "method" and self.backward in FORWARDS and not self.is_flagged

    @property
    def is_of_one_loss(self) -> bool:
        """Whether the incoming gradient is that of cross-entropy, and the result that of both together."""
        return LOSS_GRADIENT in self.arguments or LOG_LOSS_GRADIENT in self.arguments

    @property
    def works_in_place(self) -> bool:
        """Whether its result is written over one of its inputs."""
        return self.overwrites and not self.descends

    @property
    def overwrites(self) -> bool:
        """Whether what is found is in one of its inputs: the result, or weights after an update."""
        return self.lands_in not in ("", DESTINATION)

    @property
    def names_loss(self) -> bool:
        """Whether the name of what is called, or of its class, is that of a loss."""
        return LOSS_NAME.search(f"{self.owner} {self.backward}") is not None

    @property
    def names_log_probability(self) -> bool:
        """Whether the name of what is called speaks of a log-probability, and not of its negative."""
        return re.search(r"^(?!.*(neg|loss|nll)).*log_?(p(i|rob)|lik)", self.backward.lower()) is not None

    @property
    def recomputes(self) -> bool:
        """Whether the target computes the probabilities itself, from logits or from their logarithms."""
        made_of_logits = self.style in ("tensor", "closure", "transform") or bool(self.weights)
        return made_of_logits or bool(self.roles & {"logits", "log_probs", "packed"})

    def without_penalty(self, gradient: FloatArray, logits: FloatArray, batch: int) -> FloatArray:
        """The gradient [rows, N] without that of the target's own penalty on the weights, the logits [rows, N].

        ``batch``: the rows of one call.
        """
        if not self.own_penalty or gradient.shape != logits.shape:
            return gradient
        share = self.own_penalty / (max(1, batch) if self.penalty_over_batch else 1)
        return gradient - gradient.dtype.type(share) * logits

    @property
    def is_single(self) -> bool:
        """Whether the target takes one row of the batch at a time."""
        return self.layout in SINGLE

    def __str__(self) -> str:
        parts = [self._calls(), LAYOUTS[self.layout]]
        if self.container != "array":
            parts.append(CONTAINERS[self.container])
        if self.wrapping:
            parts.append(WRAPPINGS[self.wrapping])
        return "; ".join(parts)

    def _calls(self) -> str:
        given = ", ".join(self.arguments)
        called = f"{self.backward or 'function'}({given})"
        before = ", ".join(self.forward_arguments)
        if self.style == "tensor":
            more = f", {before}" if before else ""
            called = f"{self.forward or 'function'}(tensor of {self.leaf}{more}), {DRIVES_IN_WORDS[self.arguments]}"
        elif self.style == "node":
            called = f"node({', '.join(self.construct)}).{self.backward}({given})"
        elif self.style == "closure":
            called = f"{self.forward or 'function'}({before}), then what it returned({given})"
        elif self.style == "transform":
            called = f"jax.vjp of function({before}), then what it returned({given})"
        elif self.style == FORWARD_ONLY:
            called = f"{self.forward or 'function'}({before})"
        elif self.forward:
            told = f", {self.between}({self.told})" if self.between else ""
            called = f"{self.forward}({before}){told}, then {called}"
        if self.is_flagged:
            called = f"{called}, told to give its derivative"
        if self.weights:
            called = f"{called}, with {self.weights} as weights"
        if self.descends:
            called = f"{called}, of which the update of the weights is taken"
        if self.construct == BYPASSED:
            return f"{self.owner} made without its constructor: {called}"
        if self.construct and self.owner:
            return f"{self.owner}({', '.join(self.construct)}): {called}"
        return called


@dataclass(frozen=True)
class Options:
    """What a user states about how to call a target; what is empty is found by trying."""

    operation: str = ""
    signature: tuple[str, ...] = ()
    forward: str = ""
    backward: str = ""
    result: str = ""
    layout: str = ""
    reduction: str = ""

    def check(self) -> None:
        """Check the signature.

        Raises:
            UserError: it has a role that does not exist, or a role twice.
        """
        for role in self.signature:
            if role not in ROLES:
                raise UserError(f"--signature: unknown role {role!r}; known roles: {', '.join(ROLES)}")
            if self.signature.count(role) > 1:
                raise UserError(f"--signature: {role!r} is given twice")
