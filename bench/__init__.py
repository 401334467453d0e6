"""softmax-bench: what the backward pass of softmax costs, done naively and done well.

``bench.verify(function)`` says whether a gradient of softmax is right; ``bench.assert_vjp(function)`` asserts it.
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
