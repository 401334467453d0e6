"""The rules by which people accept a gradient, each with its source, and this suite's own.

Every rule is applied in float64 to values that the dtype has. A rule of a kernel library is the one that its own test
applies at that dtype, to softmax or cross-entropy if the library has either.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..operations.oracle import TOLERANCES
from .draws import Attempt, unit_upstreams

ROUNDING = {"bfloat16": 2.0**-8, "float16": 2.0**-11}  # the relative error of one rounding
SPACING = {"bfloat16": 2.0**-133, "float16": 2.0**-24}  # the smallest subnormal number


class Check(Protocol):
    """What decides about a result."""

    def accepts(self, attempt: Attempt) -> bool:
        """Whether the test passes; False for a NaN. The result's shape fits that of the right gradient."""

    def __str__(self) -> str:
        """The tolerance in words."""


@dataclass(frozen=True)
class Close:
    """|got - expected| <= atol + rtol |expected| for all elements: NumPy's and PyTorch's formula."""

    atol: float
    rtol: float

    def accepts(self, attempt: Attempt) -> bool:
        """As in `Check`."""
        draw = attempt.draw
        allowed = self.rtol * draw.magnitude + self.atol
        return bool((np.abs(attempt.got - draw.expected) <= allowed).all())

    def __str__(self) -> str:
        return f"atol {self.atol:g}, rtol {self.rtol:g}"


@dataclass(frozen=True)
class CloseJacobian:
    """`Close` for the whole Jacobian, a call of the backward for each unit upstream gradient, as gradcheck does.

    The Jacobian compared with is exact. Central differences are off by about 1e-10, far less than any tolerance here.
    """

    close: Close
    max_features: int  # beyond it B·N calls for each mistake would take this study minutes

    def accepts(self, attempt: Attempt) -> bool:
        """As in `Check`."""
        units = (Attempt(attempt.function, draw) for draw in unit_upstreams(attempt.draw))
        return all(fits(unit, broadcasts=False) and self.close.accepts(unit) for unit in units)

    def __str__(self) -> str:
        return f"of the Jacobian: {self.close}"


@dataclass(frozen=True)
class CloseNorm:
    """`Close` for the norm of the whole gradient, nothing else."""

    atol: float
    rtol: float

    def accepts(self, attempt: Attempt) -> bool:
        """As in `Check`."""
        got, expected = (np.linalg.norm(array) for array in (attempt.got, attempt.draw.expected))
        return bool(np.abs(got - expected) <= self.atol + self.rtol * expected)

    def __str__(self) -> str:
        return f"of the norm: atol {self.atol:g}, rtol {self.rtol:g}"


@dataclass(frozen=True)
class RelativeError:
    """Max |got - expected| / max(1e-8, |got| + |expected|) at most ``threshold``."""

    threshold: float

    def accepts(self, attempt: Attempt) -> bool:
        """As in `Check`."""
        got, draw = attempt.got, attempt.draw
        errors = np.abs(got - draw.expected) / np.maximum(1e-8, np.abs(got) + draw.magnitude)
        return bool(errors.max() <= self.threshold)

    def __str__(self) -> str:
        return f"relative error {self.threshold:g}"


@dataclass(frozen=True)
class Cosine:
    """The cosine of the angle between got and expected, as long vectors, above ``threshold``."""

    threshold: float

    def accepts(self, attempt: Attempt) -> bool:
        """As in `Check`."""
        got, expected = attempt.got, attempt.draw.expected
        norms = np.linalg.norm(got) * np.linalg.norm(expected)
        return bool((got * expected).sum() > self.threshold * max(norms, np.finfo(np.float64).tiny))

    def __str__(self) -> str:
        return f"cosine above {self.threshold:g}"


@dataclass(frozen=True)
class Similarity:
    """1 - 2 sum(got expected) / sum(got² + expected²) below ``threshold``: it sees lengths as well as the angle."""

    threshold: float

    def accepts(self, attempt: Attempt) -> bool:
        """As in `Check`."""
        got, expected = attempt.got, attempt.draw.expected
        return bool(1.0 - 2.0 * (got * expected).sum() / (got**2 + expected**2).sum() < self.threshold)

    def __str__(self) -> str:
        return f"similarity within {self.threshold:g} of 1"


@dataclass(frozen=True)
class UlpOfTerms:
    """The rule of this suite: the error of each element in ulp of its terms, at the precision in which it is computed.

    A result of 16 bits is computed in float32. It may be off by half an ulp more, of itself: it is rounded once.
    """

    def accepts(self, attempt: Attempt) -> bool:
        """As in `Check`."""
        draw = attempt.draw
        expected, remainder, unit = draw.right
        allowed = TOLERANCES[str(expected.dtype)].terms_ulp * unit.astype(np.float64)
        if draw.dtype in ROUNDING:
            allowed += np.maximum(np.abs(expected) * ROUNDING[draw.dtype], SPACING[draw.dtype] / 2)
        return bool((np.abs((attempt.got - expected) - remainder) <= allowed).all())

    def __str__(self) -> str:
        return f"{TOLERANCES['float32'].terms_ulp:g} ulp of the terms"


@dataclass(frozen=True)
class Rule:
    """A rule by its name in tables and charts."""

    name: str
    source: str  # the library's function, or the repository and the file
    checks: Mapping[str, Check]  # by dtype
    broadcasts: bool = False  # whether a result of another shape passes if NumPy can broadcast it

    def judges(self, dtype: str, features: int) -> bool:
        """Whether the rule is used at this dtype and size."""
        check = self.checks.get(dtype)
        return check is not None and features <= getattr(check, "max_features", features)

    def accepts(self, attempt: Attempt) -> bool:
        """Whether a test with this rule passes."""
        with np.errstate(all="ignore"):
            return fits(attempt, broadcasts=self.broadcasts) and self.checks[attempt.draw.dtype].accepts(attempt)


def fits(attempt: Attempt, *, broadcasts: bool) -> bool:
    """Whether the result's shape is that of the right gradient, or broadcasts to it."""
    shape = attempt.draw.expected.shape
    try:
        return attempt.got.shape == shape or (broadcasts and np.broadcast_shapes(attempt.got.shape, shape) == shape)
    except ValueError:
        return False


OURS = "ulp of the terms"
NUMPY_CLOSE, ASSERT_CLOSE, GRADCHECK = "numpy.allclose", "torch assert_close", "torch gradcheck"
_CS231N = "the class notes, cs231n.github.io, neural-networks-3.md"
_BY_HAND = "written by hand: abs(got - expected).max()"

RULES = (
    Rule(
        NUMPY_CLOSE,
        "numpy.allclose, defaults",
        {dtype: Close(1e-8, 1e-5) for dtype in ("float64", "float32")},
        broadcasts=True,
    ),
    Rule(
        "numpy assert_allclose",
        "numpy.testing.assert_allclose, defaults",
        {dtype: Close(0.0, 1e-7) for dtype in ("float64", "float32")},
    ),
    Rule(
        ASSERT_CLOSE,
        "torch.testing.assert_close, defaults",
        {
            "float64": Close(1e-7, 1e-7),
            "float32": Close(1e-5, 1.3e-6),
            "bfloat16": Close(1e-5, 1.6e-2),
            "float16": Close(1e-5, 1e-3),
        },
    ),
    Rule(
        GRADCHECK,
        "torch.autograd.gradcheck, defaults",
        {"float64": CloseJacobian(Close(1e-5, 1e-3), max_features=128)},
    ),
    *(
        Rule(
            f"cs231n {threshold}",
            _CS231N,
            {dtype: RelativeError(float(threshold)) for dtype in ("float64", "float32")},
            True,
        )
        for threshold in ("1e-2", "1e-4", "1e-7")
    ),
    *(
        Rule(f"absolute {atol}", _BY_HAND, {"float32": Close(float(atol), 0.0)}, broadcasts=True)
        for atol in ("1e-2", "1e-3", "1e-4")
    ),
    Rule(
        "Liger-Kernel",
        "linkedin/Liger-Kernel, test/transformers/test_softmax.py",
        {"float32": Close(1e-5, 1e-5), "bfloat16": Close(5e-2, 5e-2)},
    ),
    Rule(
        "quack",
        "Dao-AILab/quack, tests/test_softmax.py",
        {"float32": Close(1e-4, 1e-4), "bfloat16": Close(1e-2, 1e-2), "float16": Close(1e-3, 1e-3)},
    ),
    Rule(
        "flash-attention",
        "Dao-AILab/flash-attention, tests/losses/test_cross_entropy.py",
        {"float32": Close(1e-6, 1e-5), "bfloat16": Close(1e-4, 1e-3), "float16": Close(1e-4, 1e-3)},
    ),
    Rule(
        "KernelBench",
        "ScalingIntelligence/KernelBench, src/kernelbench/eval.py",
        {"float32": Close(1e-4, 1e-4), "bfloat16": Close(1e-2, 1e-2), "float16": Close(1e-2, 1e-2)},
    ),
    Rule(
        "Triton tutorial",
        "triton-lang/triton, python/tutorials/05-layer-norm.py",
        {"float16": Close(1e-2, 0.0)},
    ),
    Rule(
        "llm.c",
        "karpathy/llm.c, dev/cuda/attention_backward.cu and common.h",
        {"float32": Close(1e-4, 2.0**-23)},
    ),
    Rule(
        "xformers",
        "facebookresearch/xformers, tests/test_triton_softmax.py: the norm of the gradient",
        {"float32": CloseNorm(1e-5, 1e-5)},
    ),
    Rule(
        "FlashInfer",
        "flashinfer-ai/flashinfer, tests/gemm/test_bmm_fp8.py: the cosine",
        {dtype: Cosine(0.99) for dtype in ("bfloat16", "float16")},
    ),
    Rule(
        "DeepGEMM",
        "deepseek-ai/DeepGEMM, tests/test_bf16.py and deep_gemm/testing/numeric.py: a similarity",
        {"bfloat16": Similarity(1e-5)},
    ),
    Rule(
        OURS,
        "this suite, bench/operations/oracle.py",
        dict.fromkeys(("float64", "float32", "bfloat16", "float16"), UlpOfTerms()),
    ),
)
