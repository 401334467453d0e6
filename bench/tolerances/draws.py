"""What a test of a gradient sees: inputs as a dtype has them, the right gradient, and the result of a function.

NumPy has no bfloat16. Arrays of bfloat16 and float16 are float32 arrays whose values the dtype has. Functions compute
on them in float32, as the kernels of the common libraries do, and their result is rounded once.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..implementations import NUMPY, FloatArray, Implementation, registered
from ..implementations.cross_entropy import BACKWARD
from ..mistakes import mistakes_of
from ..operations.cases import Case, make_inputs
from ..operations.precision import Rounded
from ..verification.judging.trials import right_gradient

DTYPES = ("float64", "float32", "bfloat16", "float16")
OPERATIONS = ("softmax", "softmax_cross_entropy", "cross_entropy")
# What the inputs are: the logits' distribution and the size of grad_output. Flat probabilities are those of an
# untrained network. The gradient of a loss that is a mean over 4096 tokens is that much smaller, a power of 2, so that
# the same digits remain. In float16 it would underflow, which is why people scale the loss there.
INPUTS = {"normal": ("normal", 1.0), "flat": ("uniform", 1.0), "averaged": ("uniform", 2.0**-12)}
BATCH = 4  # differs from all features, so that no array fits by chance
MAX_JACOBIAN_FEATURES = 512  # a mistake that builds the Jacobian, [B, N, N] or [B*N, B*N], is called up to here
LARGE_IDENTITIES = ("eye(features)", "eye(batch * features)")  # in the formula of such a mistake
MAX_WORKSPACE_BYTES = 32 << 20  # of a right form

Inputs = Mapping[str, Any]  # arrays by name, each [B, N] but for the integer labels [B]
Function = Callable[[Inputs], FloatArray]


@dataclass(frozen=True, eq=False)
class Draw:
    """Inputs and the right gradient for them."""

    operation: str
    dtype: str
    inputs: Inputs
    right: Rounded  # in the type in which functions compute

    @cached_property
    def expected(self) -> FloatArray:
        """The right gradient rounded to the dtype, [B, N] in float64: what the usual tests compare with."""
        return round_to(self.right.expected, self.dtype).astype(np.float64)

    @cached_property
    def magnitude(self) -> FloatArray:
        """|expected|, [B, N]."""
        return np.abs(self.expected)


@dataclass(frozen=True, eq=False)
class Attempt:
    """A function on a draw."""

    function: Function
    draw: Draw

    @cached_property
    def got(self) -> FloatArray:
        """The result rounded to the dtype, in float64; an empty array if the function fails on its shapes."""
        inputs = {name: array.copy() for name, array in self.draw.inputs.items()}
        try:
            with np.errstate(all="ignore"):
                return round_to(self.function(inputs), self.draw.dtype).astype(np.float64)
        except ValueError:
            return np.empty(0)


def kinds_of_inputs(operation: str, dtype: str) -> list[str]:
    """The names in ``INPUTS`` that say something: a loss has no grad_output, and float16 cannot hold a small one."""
    return [kind for kind in INPUTS if kind != "averaged" or (operation == "softmax" and dtype != "float16")]


def make_draw(operation: str, dtype: str, features: int, kind: str, seed: int) -> Draw:
    """Logits and grad_output as the sweep draws them, and uniform labels, all rounded to the dtype."""
    computed_in = "float64" if dtype == "float64" else "float32"
    logits, scale = INPUTS[kind]
    made = make_inputs(Case("softmax", "", BATCH, features, computed_in, logits), seed)
    labels = np.random.default_rng([seed, features]).integers(0, features, size=BATCH)
    targets = np.zeros_like(made.logits)
    targets[np.arange(BATCH), labels] = 1.0
    inputs = {
        "logits": round_to(made.logits, dtype),
        "probs": round_to(made.probs, dtype),
        "grad_output": round_to(made.grad_output * made.probs.dtype.type(scale), dtype),
        "targets": targets,
        "labels": labels,
    }
    with np.errstate(divide="ignore", invalid="ignore"):  # cross-entropy of a probability that is 0
        return Draw(operation, dtype, inputs, right_gradient(operation, "mean", inputs))


def unit_upstreams(draw: Draw) -> Iterator[Draw]:
    """The draw with each unit vector as upstream gradient, B·N in all, which give the Jacobian column by column.

    A loss is one number, so the draw itself is all there is.
    """
    if draw.operation != "softmax":
        yield draw
        return
    probs = draw.inputs["probs"]
    for row, column in np.ndindex(probs.shape):
        unit = np.zeros_like(probs)
        unit[row, column] = 1.0
        expected = np.zeros_like(probs)
        expected[row] = -probs[row] * probs[row, column]  # p[j] * (1[j = k] - p[k])
        expected[row, column] += probs[row, column]
        right = Rounded(expected, np.zeros_like(probs), np.zeros_like(probs))
        yield Draw(draw.operation, draw.dtype, {**draw.inputs, "grad_output": unit}, right)


def round_to(array: FloatArray, dtype: str) -> FloatArray:
    """The array's values rounded to the nearest that the dtype has, ties to even."""
    if dtype == "bfloat16":
        return _round_to_bfloat16(array)
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return array.astype(np.float16).astype(array.dtype)
    return array


def _round_to_bfloat16(array: FloatArray) -> FloatArray:
    """Float32 without its lower 16 bits: half of their range is added first, less one bit where the rest is even."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    kept: npt.NDArray[np.uint32] = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(array), array, kept.view(np.float32))


def counted_mistakes(operation: str, dtype: str, features: int) -> dict[str, Function]:
    """The known mistakes that show in the result of a call, by name.

    Left out is what returns the right values here: what is wrong for logits that are not moderate, what overwrites an
    input, and float32 inside where the dtype is no wider. Left out, too, is what builds an [N, N] array too large.
    """
    return {
        mistake.name: _of_inputs(mistake.function, mistake.arguments)
        for mistake in mistakes_of(operation)
        if mistake.seen_by in ("value", "factor") or (mistake.seen_by == "precision" and dtype == "float64")
        if features <= MAX_JACOBIAN_FEATURES or not any(eye in mistake.formula for eye in LARGE_IDENTITIES)
    }


def right_forms(operation: str, dtype: str, features: int) -> dict[str, Function]:
    """The NumPy implementations that start from probs, do not divide by them and need little memory, by name."""
    if operation == "cross_entropy":
        return {"formula": lambda inputs: -inputs["targets"] / inputs["probs"] / len(inputs["probs"])}
    registered_as = BACKWARD if operation == "softmax_cross_entropy" else operation
    itemsize = 8 if dtype == "float64" else 4
    return {
        spec.name: _of_spec(spec)
        for spec in registered().values()
        if spec.operation == registered_as
        and spec.library == NUMPY
        and not spec.runs_threads
        and not spec.divides_by_probs
        if "probs" in spec.arguments and spec.workspace(BATCH, features, itemsize) <= MAX_WORKSPACE_BYTES
    }


def zeros(inputs: Inputs) -> FloatArray:
    """A gradient of zeros, which is what code returns that has computed nothing."""
    return np.zeros_like(inputs["probs"])


def tail_missing(right: Function) -> Function:
    """A right form that leaves the last element of each row at 0, as a kernel does that drops a block's remainder."""

    def function(inputs: Inputs) -> FloatArray:
        grad_logits = right(inputs)
        grad_logits[:, -1] = 0.0
        return grad_logits

    return function


def _of_inputs(function: Callable[..., FloatArray], arguments: tuple[str, ...]) -> Function:
    return lambda inputs: function(*(inputs[name] for name in arguments))


def _of_spec(spec: Implementation) -> Function:
    def function(inputs: Inputs) -> FloatArray:
        grad_logits: FloatArray = spec.bind(SimpleNamespace(**inputs, out=np.empty_like(inputs["probs"])))()
        return grad_logits

    return function
