"""Arrays in the layout and the container that a target takes, and what it returned as arrays of rows again."""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ...implementations import FloatArray
from .graphs import SLOTS, unwrapped
from .roles import roles_of

DIMENSIONS = {"stack": 3, "heads": 4, "images": 4, "batch_of_columns": 3, "flat": 1}  # of layouts that are no matrices
MANY_AXES = tuple(layout for layout, axes in DIMENSIONS.items() if axes > 2)
LEADING = ("stack", "heads")  # of these, the layouts with axes before the batch
# The features' axis, in layouts where it is not the last.
AXES = {"columns": 0, "column": 0, "images": 1, "batch_of_columns": 1}


# The attributes in which a backward leaves its result, and the items of a dict in which it returns it.
RESULTS = (
    "dinputs", "dinput", "d_inputs", "grad_input", "input_grad", "input_gradient", "dx", "dX", "dlogits", "grad_logits",
    "dz", "dZ", *SLOTS,
)  # fmt: skip
FLOAT32 = "torch float32"  # a container: for code that makes float32 tensors of its own, and mixes no types


class NoResultError(Exception):
    """The target gave nothing that could be its gradient; the message says what it gave."""


def arranged(array: FloatArray, layout: str) -> FloatArray:
    """A copy of an array [B, N] in the given layout; the layouts of single rows take one with B = 1."""
    batch, features = array.shape
    shapes = {
        "vector": (features,),
        "stack": (1, batch, features),
        "heads": (1, 1, batch, features),
        "images": (batch, features, 1, 1),
        "batch_of_columns": (batch, features, 1),
        "flat": (batch * features,),
    }
    array = array.T if layout in ("columns", "column") else array.reshape(shapes.get(layout, array.shape))
    return np.array(array, order="C")


def in_container(array: FloatArray, container: str) -> Any:
    """The array as nested lists or as a PyTorch tensor, in its own precision or in float32, or as it is."""
    if container == "list":
        return array.tolist()
    if container == "torch":
        return sys.modules["torch"].from_numpy(array)
    if container == FLOAT32:
        return sys.modules["torch"].from_numpy(array.astype(np.float32) if array.dtype.kind == "f" else array)
    return array


def as_array(result: Any, size: int) -> npt.NDArray[Any]:
    """A result as an array of numbers; from a list or tuple of arrays, the first that has ``size`` items.

    Raises:
        NoResultError: the result is not an array of numbers.
    """
    if isinstance(result, dict):
        named = tuple(value for name, value in result.items() if roles_of(str(name)) == ("grad_output",))
        result = next((result[name] for name in RESULTS if name in result), named or tuple(result.values()))
    if isinstance(result, tuple):
        result = _without_numbers(tuple(_flattened(result)))
    arrays = _is_tensor if isinstance(result, list) else _is_tensor_or_list
    if isinstance(result, list | tuple) and result and all(map(arrays, result)):
        least = 1 if isinstance(result, tuple) and len(result) > 1 else 2  # a list may be that of the rows
        fitting = [
            array for array in result if np.size(unwrapped(array)) == size and np.ndim(unwrapped(array)) >= least
        ]
        if fitting or (len(result) == 1 and np.ndim(unwrapped(result[0])) > 1):
            result = (fitting or result)[0]
    if result is None:
        raise NoResultError("returned None")
    try:
        array = np.asarray(unwrapped(result))
    except (TypeError, ValueError) as error:
        raise NoResultError(f"returned {type(result).__name__}, not an array of numbers ({error})") from None
    if array.dtype.kind not in "fiu":
        shown = f"an array of {array.dtype}" if isinstance(result, np.ndarray) else type(result).__name__
        raise NoResultError(f"returned {shown}, not an array of real numbers")
    return array


def _without_numbers(result: tuple[Any, ...]) -> Any:
    """A tuple's values that are neither None nor a number nor empty; the only one, if there is one.

    An autograd function has no gradient, or 0.0, for its other inputs; a loss is returned before its gradient, and the
    gradients of weights after it, of which there may be none.
    """
    kept = tuple(value for value in result if value is not None and not _is_number(value) and not _is_empty(value))
    if len(result) < 2 or not kept:
        return result
    return kept[0] if len(kept) == 1 else kept


def _flattened(result: tuple[Any, ...]) -> Iterator[Any]:
    """What is in a tuple, and in the tuples and dicts in it: the gradients of parameters are kept together."""
    for value in result:
        if isinstance(value, tuple | dict) and value:
            yield from _flattened(value if isinstance(value, tuple) else tuple(value.values()))
        else:
            yield value


def _is_empty(value: Any) -> bool:
    return isinstance(value, dict | list | tuple) and not value


def number_in(result: Any) -> float | None:
    """The first number of a tuple or a dict, as the value of a loss is returned with its gradient; None without one."""
    values = result.values() if isinstance(result, dict) else result if isinstance(result, tuple) else ()
    return next((float(value) for value in values if _is_number(value)), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) or (hasattr(value, "shape") and value.shape == ())


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") or hasattr(value, "data")


def _is_tensor_or_list(value: Any) -> bool:
    return isinstance(value, list) or _is_tensor(value)


def stacked(arrays: list[npt.NDArray[Any]], logits: FloatArray, *, of_matrices: bool) -> npt.NDArray[Any]:
    """The results for single rows as one array: [B, N], or [B, ...] if they have another size than N.

    ``of_matrices``: each result is to be [N, N], and not a vector, also where N is 1.
    """
    if not arrays:
        return np.empty_like(logits)
    if all(array.size == logits.shape[1] for array in arrays) and not (of_matrices and logits.shape[1] == 1):
        # A single row's gradient may be [N], [N, 1] or [1, N]; an [N, N] result keeps its shape.
        arrays = [array.reshape(-1) for array in arrays]
    return np.stack(arrays)


def batch_first(jacobians: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The Jacobians of a batch of arrays [N, B] as [B, N, N], from [N, N, B] or as they are.

    Where B is N, the axes of a Jacobian are those that may be swapped.
    """
    batch, features = shape
    if jacobians.shape != (features, features, batch):
        return jacobians
    is_last = batch != features or np.array_equal(jacobians, jacobians.transpose(1, 0, 2))
    return np.moveaxis(jacobians, -1, 0) if is_last else jacobians
