"""Arithmetic with digits to spare: the types in which right results are evaluated, and how they are kept.

A right result is evaluated in a type that is wider than the dtype of the results it is compared with. It is kept in
that dtype, as two arrays that add up to it.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..implementations import FloatArray

WIDER_FLOAT_EXISTS = np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant
CHUNK_ITEMS = 1 << 20  # items that are evaluated at once: wide temporaries stay small next to the case's arrays

to_fractions = np.frompyfunc(Fraction, 1, 1)  # an array of rational numbers, equal to the array of floats it is given


class Rounded(NamedTuple):
    """A right result, ``expected + remainder``, and the unit in which errors are counted; each [B, N] and one dtype."""

    expected: FloatArray  # the result rounded to the dtype
    remainder: FloatArray  # what rounding has cut off
    unit: FloatArray  # one ulp of the result's terms, no smaller than the smallest subnormal number


def wide_float(dtype: npt.DTypeLike) -> Any:
    """The float type in which a right result of this dtype is evaluated; some machines have none above float64."""
    return np.float64 if dtype == np.float32 else np.longdouble


def wide_type(dtype: npt.DTypeLike) -> Any:
    """As `wide_float`, but rational numbers if no float is wider; they serve formulas without exponentials only."""
    wide = wide_float(dtype)
    return wide if wide is np.float64 or WIDER_FLOAT_EXISTS else Fraction


def widen(array: FloatArray, wide: Any) -> Any:
    """The array in a wide type, exactly."""
    return to_fractions(array) if wide is Fraction else array.astype(wide)


def rounded(exact: Any, ulp: FloatArray, dtype: npt.DTypeLike, wide: Any) -> Rounded:
    """A result of the type ``wide`` and one ulp of its terms, an array of any float type, both kept in ``dtype``."""
    expected = exact.astype(dtype)
    remainder = (exact - widen(expected, wide)).astype(dtype)
    return Rounded(expected, remainder, np.maximum(ulp.astype(dtype), np.finfo(dtype).smallest_subnormal))


def row_chunks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of the rows of an array [B, N], each of at most ``CHUNK_ITEMS`` items or a single row."""
    batch, features = shape
    step = max(1, CHUNK_ITEMS // max(1, features))
    for start in range(0, batch, step):
        yield slice(start, start + step)
