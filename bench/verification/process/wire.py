"""Answers of a target's process as bytes: data and nothing else.

Whatever runs in that process may write to the socket what it likes. A pickle would be a program that the parent runs.
So an answer is JSON: numbers, text, arrays, and the few classes named here, each field checked against its type.
"""

import base64
import binascii
import dataclasses
import json
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union

import numpy as np
import numpy.typing as npt

from ..calling.convention import Convention
from .block import Made, Ran
from .descent import Descent
from .failures import Failure
from .slopes import Slopes
from .subject import Outcome

CLASSES: Mapping[str, type] = {
    each.__name__: each for each in (Convention, Descent, Failure, Made, Outcome, Ran, Slopes)
}
CLASS, ARRAY = "class", "array"  # the keys by which an object is known
NUMBERS = "biuf"  # the kinds of arrays that an answer may hold
# They would move a terminal's cursor, and overwrite what the suite has written there.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class ForgedError(Exception):
    """What arrived is no answer."""


def encoded(value: object) -> bytes:
    """A value as bytes: plain values, arrays of numbers, tuples and lists of them, instances of ``CLASSES``."""
    return json.dumps(value, default=_plain).encode()


def decoded(content: bytes, kind: Any) -> tuple[str, Any]:
    """An answer, as the worker describes it, to a request whose answer is of this kind.

    Lists are tuples, and text holds no control characters.

    Raises:
        ForgedError: the bytes are no such answer.
    """
    try:
        said, value = _revived(json.loads(content))
        expected = {"answer": kind, "user": str, "failure": Failure}[said]
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error) as error:
        raise ForgedError(str(error)) from None
    if not _is_a(value, expected):
        raise ForgedError("an answer to another question")
    return said, value


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        content = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {ARRAY: content, "dtype": value.dtype.str, "shape": value.shape}
    if isinstance(value, np.generic):
        return value.item()
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {CLASS: type(value).__name__, **fields}
    raise TypeError(f"a {type(value).__name__} is no answer")


def _revived(value: Any) -> Any:
    if isinstance(value, str):
        return _CONTROL.sub("", value)
    if isinstance(value, list):
        return tuple(map(_revived, value))
    if not isinstance(value, dict):
        return value
    if ARRAY in value:
        return _array(value)
    fields = {name: _revived(field) for name, field in value.items() if name != CLASS}
    revived = CLASSES[value[CLASS]](**fields)
    for name, kind in typing.get_type_hints(CLASSES[value[CLASS]]).items():
        if not _is_a(getattr(revived, name), kind):
            raise ValueError(f"{name} of a {value[CLASS]} is none")
    return revived


def _array(value: dict[str, Any]) -> npt.NDArray[Any]:
    dtype = np.dtype(str(value["dtype"]))
    if dtype.kind not in NUMBERS:
        raise ValueError(f"an array of {dtype}")
    return np.frombuffer(base64.b64decode(value[ARRAY]), dtype).reshape([int(size) for size in value["shape"]])


def _is_a(value: object, kind: Any) -> bool:
    """Whether a value has the type of a field: a class, None, a union, a tuple of one type, or a literal."""
    if kind is None:
        return value is None
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, Union):
        return any(_is_a(value, argument) for argument in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_a(item, arguments[0]) for item in value)
    if origin is Literal:
        return value in arguments
    if kind is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    return isinstance(value, origin or kind) and (kind is bool or not isinstance(value, bool))
