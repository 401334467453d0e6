"""Models with weights of their own: layers, classifiers, networks. With chosen weights, softmax's gradient shows.

A layer ``softmax(inputs @ weights + bias)`` whose weights are the identity matrix, without a bias, is softmax: the
gradient of its inputs is that of the logits.

Where the inputs are the identity matrix and the last weights are the logits, the gradient of these weights is that of
the logits: ``inputs.T @ gradient of the logits``. Layers before the last one get weights that let the identity through.
So that no other gradient has the shape of theirs, the inputs are the identity matrix with three columns of zeros more.
The rows of the inputs come in reverse, and so do those of all that belongs to them, such as the labels: else a gradient
that forgets the inputs would be right, too.
"""

import difflib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, MutableMapping, MutableSequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...implementations import FloatArray
from .arrays import NoResultError
from .classifiers import IDENTITY, PENALTY, setting_of
from .construction import sample_instance
from .graphs import unwrapped
from .kept import attributes_read, source_of
from .methods import public_methods

# What the weights are set to. The logits [B, N] are those of ``inputs @ weights``; turned, of ``weights @ inputs``.
THROUGH, TRAINED, TURNED = "the identity matrix", "the logits", "the logits, transposed"
PADDED = "padded_identity"  # the role of the inputs of a model whose weights are the logits: [B, B + 3]
# Of a network as a function: its last weights [B + 3, N], and those and the bias of a layer before them.
LAST, PASSING, SHIFT = "last_weights", "passing_weights", "passing_bias"
# The same in a dict, of a network of so many layers: W1 and b1, or W1, b1, W2 and b2.
PARAMETERS = ONE_LAYER, TWO_LAYERS = "parameters_of_one_layer", "parameters_of_two_layers"
MORE = 3  # columns of zeros beside the identity: so the last weights have a shape of their own in every usual trial
_NO_PARAMETER = re.compile(r"^[dvms]([A-Z_]|$)|^d[wb]\d?$|(?i:grad|delta|velocit|moment|cache|prev|old|best)")
_WEIGHTS = re.compile(r"[wv]_?\w{0,2}\d*|\w*weights?\w*|kernel\d*|thetas?\d*|coef\w*|pesos\w*|poids", re.IGNORECASE)
BIAS = re.compile(r"b_?\w{0,2}\d*|\w*bias(es)?\w*|intercept\w*|sesgos?\w*", re.IGNORECASE)
_GRADIENT_OF_BIAS = re.compile(r"(d|grad_?)_?b(ias(es)?)?_?\d?|b\d?")
_TANH_OF_ONE = 20.0  # where tanh is 1 up to rounding


@dataclass(frozen=True, eq=False)
class Slot:
    """A place where a model keeps an array: an attribute, or an item of a list or a dict in one.

    ``inside``: the attribute that holds the dict, if it is an item of one.
    """

    name: str
    holder: Any
    key: Any
    inside: str = ""

    @property
    def is_beside(self) -> bool:
        """Whether it is no parameter of the model by its name, or that of its dict, but something beside these."""
        return any(_NO_PARAMETER.search(name.strip("_")) for name in (self.name, self.inside))

    @property
    def array(self) -> Any:
        """What is there."""
        return self.holder[self.key]

    @property
    def place(self) -> tuple[int, Any]:
        """Where that is: the same for the same place in the same holder."""
        return id(self.holder), self.key

    def fill(self, array: FloatArray) -> None:
        """Put an array there."""
        self.holder[self.key] = array


def weights_of(model: Any) -> list[Slot]:
    """The weights of a model, from its inputs to its outputs."""
    return [slot for slot in _slots(model) if np.ndim(slot.array) == 2 and _is_named(slot, _WEIGHTS)]


def parameters_of(values: Mapping[str, Any], layers: str) -> dict[str, Any]:
    """The parameters of a network of one layer or two in a dict, from the values of their roles; each is a copy."""
    last = {"W": LAST, "b": "zeros"}
    roles = [last] if layers == ONE_LAYER else [{"W": PASSING, "b": SHIFT}, last]
    return {
        f"{name}{place}": values[role].copy() for place, names in enumerate(roles, 1) for name, role in names.items()
    }


def make_places(model: Any) -> None:
    """Give a model that has no weights before it is trained the arrays that its methods read, of any size."""
    if weights_of(model) or not hasattr(model, "__dict__"):
        return
    for name in _read_by(type(model)):
        if vars(model).get(name) is None and (_WEIGHTS.fullmatch(name) or BIAS.fullmatch(name)):
            vars(model)[name] = np.zeros((1, 1) if _WEIGHTS.fullmatch(name) else 1)


def _read_by(owner: type) -> list[str]:
    """The attributes that the methods of a class read."""
    read = (attributes_read(getattr(owner, name)) for name in public_methods(owner))
    return list(dict.fromkeys(itertools.chain.from_iterable(read)))


def is_model(target: type, construct: tuple[str, ...]) -> bool:
    """Whether instances of a class that are made so have weights in arrays."""
    model = sample_instance(target, construct)
    make_places(model)
    return bool(weights_of(model))


def _slots(model: Any) -> Iterator[Slot]:
    """The arrays that a model or its layers keep, in order."""
    for name, value in list(vars(model).items()) if hasattr(model, "__dict__") else ():
        if isinstance(value, np.ndarray):
            yield Slot(name, vars(model), name)
        elif isinstance(value, MutableMapping):
            items = [key for key, item in value.items() if isinstance(item, np.ndarray)]
            yield from (Slot(str(key), value, key, name) for key in items)
        elif isinstance(value, MutableSequence):
            yield from (Slot(name, value, place) for place, item in enumerate(value) if isinstance(item, np.ndarray))
            for item in value:
                if type(item).__module__ == type(model).__module__:
                    yield from _slots(item)


def _is_named(slot: Slot, pattern: re.Pattern[str]) -> bool:
    return pattern.fullmatch(slot.name.strip("_")) is not None and not slot.is_beside


def equip(model: Any, kind: str, logits: FloatArray, rate: float) -> None:
    """Set a model's weights for logits [B, N], its bias, its learning rate and its penalty, where it keeps them."""
    batch, features = logits.shape
    make_places(model)
    weights = weights_of(model)
    biases = [slot for slot in _slots(model) if _is_named(slot, BIAS) and not _is_named(slot, _WEIGHTS)]
    if not weights:
        raise NoResultError("keeps no weights in arrays")
    shapes = {slot.place: slot.array.shape for slot in (*weights, *biases)}
    hidden = batch + MORE
    if kind == THROUGH:
        for slot in weights:
            slot.fill(_identity(type(model), slot.array.shape, logits))
    else:
        steep, shift = passing(type(model), logits.dtype) if len(weights) > 1 else (1.0, 0.0)
        for slot in weights[:-1]:
            slot.fill(np.eye(hidden, dtype=logits.dtype) * logits.dtype.type(steep))
        last = last_weights(logits)
        weights[-1].fill(np.ascontiguousarray(last.T) if kind == TURNED else last)
    for place, slot in enumerate(biases):
        is_last = kind == THROUGH or place >= len(biases) - 1
        length, value = (features, 0.0) if is_last else (hidden, shift)
        slot.fill(np.full(_shape_of_bias(slot.array.shape, length, kind), value, logits.dtype))
    _fit_beside(model, [*weights, *biases], shapes)
    for name, value in vars(model).items():
        role = setting_of(name)
        if isinstance(value, float) and role in ("learning_rate", PENALTY):
            setattr(model, name, rate if role == "learning_rate" else 0.0)


def _shape_of_bias(shape: tuple[int, ...], length: int, kind: str) -> tuple[int, ...]:
    """The shape of a bias of another length: [N], [1, N], or [N, 1] where the weights are turned."""
    if shape == (1, 1):
        return (length, 1) if kind == TURNED else (1, length)
    return tuple(length if size == math.prod(shape) else 1 for size in shape)


def _fit_beside(model: Any, parameters: list[Slot], shapes: Mapping[tuple[int, Any], tuple[int, ...]]) -> None:
    """Give the zeros that a model keeps beside its parameters, such as velocities, the shapes that these have now.

    ``shapes``: those that the parameters had, by their places. Of several with one shape, the likest name counts.
    """
    for slot in [slot for slot in _slots(model) if slot.is_beside and not slot.array.any()]:
        alike = [each for each in parameters if shapes[each.place] == slot.array.shape]
        if alike:
            likest = max(alike, key=lambda each: difflib.SequenceMatcher(None, each.name, slot.name).ratio())
            slot.fill(np.zeros_like(likest.array))


def _identity(owner: type, shape: tuple[int, ...], logits: FloatArray) -> FloatArray:
    """The identity matrix [N, N], or with a row of zeros [N + 1, N] where the bias is a row of the weights."""
    features = logits.shape[1]
    if shape != (features + 1, features):
        return np.eye(features, dtype=logits.dtype)
    is_first = "[1:" in whole_source(owner)  # the other rows are taken where the input's gradient is worked out
    return np.eye(features + 1, features, -1 if is_first else 0, dtype=logits.dtype)


def passing(owner: Any, dtype: np.dtype[Any]) -> tuple[float, float]:
    """The factor on the identity, and the bias, with which a hidden layer gives the identity; from the code."""
    source = whole_source(owner)
    if re.search(r"sigmoid|expit|logistic", source):
        saturated = float(np.log(np.finfo(dtype).max)) - 2.0  # exp of it is finite, and 1 / (1 + exp(-it)) is 1
        return 2 * saturated, -saturated
    return (_TANH_OF_ONE, 0.0) if "tanh" in source else (1.0, 0.0)


def whole_source(code: Any) -> str:
    """The code of a function, or of a class and of those that it inherits from."""
    return "\n".join(map(source_of, getattr(code, "__mro__", (code, object))[:-1]))


def gradient_of(model: Any, kind: str, returned: Any, logits: FloatArray) -> FloatArray:
    """The gradient [B, N] of the last weights, which a method returned or left in the model.

    Raises:
        NoResultError: it is in neither.
    """
    batch, features = logits.shape
    shape = _shape(kind, batch, features)
    last = weights_of(model)[-1]
    for found in (list(arrays_in(returned, "")), _kept_beside(model)):
        fitting = [(name, array) for name, array in found if array.shape == shape]
        named = [array for name, array in fitting if name.endswith(last.name)]
        if fitting:
            return _rows(named[-1] if named else fitting[-1][1], kind, batch)
    raise NoResultError("gave no gradient of its weights")


def subtracted(model: Any, kind: str, logits: FloatArray, rate: float) -> FloatArray:
    """The gradient [B, N] that was subtracted from the last weights, times the learning rate.

    Raises:
        NoResultError: they are as before.
    """
    array = weights_of(model)[-1].array
    if array.shape != _shape(kind, *logits.shape):
        raise NoResultError("did not change its weights")
    return descended(logits, _rows(array, kind, len(logits)), rate)


def descended(before: FloatArray, after: FloatArray, rate: float) -> FloatArray:
    """The gradient [B, N] that was subtracted from weights, times the learning rate.

    Raises:
        NoResultError: they are as before, which of one class they may be.
    """
    if np.array_equal(after, before) and before.shape[1] > 1:
        raise NoResultError("did not change its weights")
    gradient: FloatArray = (before - after) / rate
    return gradient


def gradient_among(returned: Any, kind: str, batch: int, features: int) -> FloatArray:
    """The gradient [B, N] of a network's last weights among what a function returned.

    Raises:
        NoResultError: nothing of that shape was returned.
    """
    fitting = [pair for pair in arrays_in(returned, "") if pair[1].shape == _shape(kind, batch, features)]
    if not fitting:
        raise NoResultError("returned no gradient of its last weights")
    _, last = max(enumerate(fitting), key=lambda each: (_number_in(each[1][0]), each[0]))
    return _rows(last[1], kind, batch)


def bias_among(returned: Any, model: Any, kind: str, batch: int, features: int) -> FloatArray:
    """The gradient of the last bias, in whatever shape: named so, or what follows the weights' in a tuple of pairs.

    ``model``: where it may be kept; None if there is none.

    Raises:
        NoResultError: there is none.
    """
    every = (*arrays_in(returned, ""), *_kept_beside(model))
    named = [pair for pair in every if _GRADIENT_OF_BIAS.fullmatch(pair[0])]
    # In a list of all layers' gradients, which has one name, the last layer's is known by its size.
    named = [pair for pair in named if pair[1].size == features] or named
    if named:
        last: FloatArray = max(named, key=lambda pair: _number_in(pair[0]))[1]
        return last
    pairs = returned if isinstance(returned, tuple) and len(returned) % 2 == 0 else ()
    for weights, bias in zip(pairs[::2], pairs[1::2], strict=True):
        if np.shape(weights) == _shape(kind, batch, features) and np.size(bias) in (1, batch, features):
            found: FloatArray = np.asarray(bias)
            return found
    raise NoResultError("gave no gradient of its last bias")


def _kept_beside(model: Any) -> list[tuple[str, FloatArray]]:
    """The arrays that a model keeps beside its parameters, such as their gradients, with their names."""
    return [(slot.name, slot.array) for slot in _slots(model) if slot.is_beside]


def _number_in(name: str) -> int:
    """The number in a name such as ``dW2``: that of a layer; 0 if there is none."""
    return int(re.sub(r"\D", "", name) or 0)


def _shape(kind: str, batch: int, features: int) -> tuple[int, int]:
    """The shape of the last weights."""
    return (features, batch + MORE) if kind == TURNED else (batch + MORE, features)


def _rows(gradient: FloatArray, kind: str, batch: int) -> FloatArray:
    return (gradient.T if kind == TURNED else gradient)[:batch]


def arrays_in(value: Any, name: str) -> Iterator[tuple[str, FloatArray]]:
    """The arrays in nested tuples, lists and dicts, with the names of those in dicts."""
    if isinstance(value, np.ndarray):
        yield name, value
    elif hasattr(value, "__array__") and np.ndim(unwrapped(value)):  # an array of another library
        yield name, np.asarray(unwrapped(value))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from arrays_in(item, str(key))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from arrays_in(item, name)
    elif isinstance(value, np.number):
        yield name, np.asarray(value)


def beside_data(role: str, array: Any, roles: Set[str]) -> Any:
    """A view of an array of the batch in the order of the data that a model gets, if it does.

    The logits are then its weights. A network that is a function may get them beside its weights: then the data is in
    the batch's own order.
    """
    is_in_reverse = IDENTITY in roles or (PADDED in roles and not {LAST, "logits"} <= roles)
    return array[::-1] if is_in_reverse and role != "logits" else array


def last_weights(logits: FloatArray) -> FloatArray:
    """The weights [B + 3, N] that give the logits where the inputs are ``padded``."""
    return np.vstack([logits, np.zeros((MORE, logits.shape[1]), logits.dtype)])


def padded(logits: FloatArray) -> FloatArray:
    """The inputs [B, B + 3] of a model whose weights are the logits."""
    return np.eye(len(logits), len(logits) + MORE, dtype=logits.dtype)


def network_values(logits: FloatArray, shift: float, steep: float) -> dict[str, FloatArray]:
    """The weights and biases of a network whose last layer gets the identity: by role, batch first."""
    hidden = len(logits) + MORE
    dtype = logits.dtype
    return {
        PADDED: padded(logits),
        LAST: last_weights(logits),
        PASSING: np.eye(hidden, dtype=dtype) * dtype.type(steep),
        SHIFT: np.full((1, hidden), shift, dtype),
    }
