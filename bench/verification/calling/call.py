"""A call of a target in a given convention: arguments in the layout that it takes, its result found and turned back."""

import inspect
import sys
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...implementations import FloatArray
from .conventions import GRADS, Convention
from .roles import has_signature, is_static, required_names

RESULTS = ("dinputs", "dinput", "grad_input", "input_grad", "dx", "dX", "dlogits", "grad_logits", "dz", "dZ", *GRADS)
MATRICES = ("logits", "probs", "log_probs", "grad_output", "targets")  # the roles that are [B, N]
LEARNING_RATE = 0.125  # for a backward that takes one
Inputs = Mapping[str, Any]


class NoResultError(Exception):
    """The target gave nothing that could be its gradient; the message says what it gave."""


class Context:
    """What an autograd function's forward and backward share; they may keep anything in it."""

    saved_tensors: tuple[Any, ...] = ()

    def save_for_backward(self, *values: Any) -> None:
        """Keep values for the backward."""
        self.saved_tensors = self.saved_values = values


class Leaf:
    """A graph's input, if the target's module has no class for it: data and gradient under all usual names."""

    def __init__(self, data: Any) -> None:
        self.data = self.value = self.out = self.output = data
        for name in GRADS:
            setattr(self, name, np.zeros_like(data))

    def _back(self, *_: Any) -> None:
        """Do nothing: a graph ends here."""

    backward = back = _backward = _back


class Call:
    """One target in one convention: ``prepare`` runs everything before the backward and returns the backward."""

    def __init__(self, target: Any, namespace: Mapping[str, Any], convention: Convention) -> None:
        self.target = target
        self.namespace = namespace
        self.convention = convention
        self.found_in = ""  # the attribute that held the gradient; empty if it was returned
        self.forward_result: Any = None
        self._owner: Any = None  # of a pair: one object for all calls, like a layer
        self._passed: list[tuple[str, Any, Any]] = []  # role, the value passed, a copy from before

    def overwritten(self) -> tuple[str, ...]:
        """The roles of the inputs that the target has changed since the last ``prepare``."""
        used = self.convention.roles | ({"logits", "grad_output"} if self.convention.style == "tensor" else set())
        changed = {
            role for role, now, before in self._passed if not np.array_equal(_unwrapped(now), before, equal_nan=True)
        }
        return tuple(role for role in (*MATRICES, "labels") if role in changed & used)

    def prepare(self, inputs: Inputs) -> Callable[[], Any]:
        """The backward of the given arrays, as a function without arguments; ``as_rows`` takes what it returns."""
        self._passed = []
        if not self.convention.is_single:
            return self._prepared(self._values(inputs))
        rows = [self._values(_row(inputs, row)) for row in range(len(inputs["logits"]))]
        # An object keeps one forward at a time, so each row's forward runs right before its backward.
        # Each result is copied, because the object may write the next one over it.
        features = inputs["logits"].shape[1]
        return lambda: _stacked([as_array(self._prepared(row)(), features).copy() for row in rows], inputs["logits"])

    def _values(self, inputs: Inputs) -> dict[str, Any]:
        """The value of each role: a copy in the convention's layout and container."""
        layout, container = self.convention.layout, self.convention.container
        values: dict[str, Any] = {}
        for role in MATRICES:
            array = inputs[role]
            if layout in ("columns", "column"):
                array = array.T
            elif layout == "vector":
                array = array[0]
            values[role] = _in_container(np.array(array, order="C"), container)
        labels = inputs["labels"]
        values["labels"] = int(labels[0]) if layout == "vector" else _in_container(labels.copy(), container)
        if layout != "vector":
            self._passed += [(role, values[role], np.array(_unwrapped(values[role]))) for role in (*MATRICES, "labels")]
        values["upstream"] = inputs["upstream"]
        values["axis"] = 0 if layout in ("columns", "column") else -1
        values["batch"], values["features"] = inputs["logits"].shape
        values["learning_rate"] = LEARNING_RATE
        values["context"] = Context()
        incoming = "logits" if self.convention.operation != "cross_entropy" else "probs"
        values["packed"] = [values[incoming], values["targets"]]
        return values

    def _prepared(self, values: dict[str, Any]) -> Callable[[], Any]:
        styles = {"function": self._function, "pair": self._pair, "node": self._node, "tensor": self._tensor}
        return styles[self.convention.style](values)

    def _function(self, values: dict[str, Any]) -> Callable[[], Any]:
        """The call of a function; its forward, if any, makes its cache."""
        if self.convention.forward:
            result = self.namespace[self.convention.forward](*self._given(self.convention.forward_arguments, values))
            self.forward_result, values["cache"] = result if isinstance(result, tuple) else (result, result)
        return self._bound(self.target, self.convention.arguments, values)

    def _pair(self, values: dict[str, Any]) -> Callable[[], Any]:
        """The backward of an object after its forward."""
        if self._owner is None:
            self._owner = self.target
            methods = (self.convention.forward, self.convention.backward)
            if inspect.isclass(self.target) and not all(is_static(self.target, method) for method in methods):
                self._owner = self.target(*self._given(self.convention.construct, values))
        owner = self._owner
        forward = getattr(owner, self.convention.forward)
        self.forward_result = self._bound(forward, self.convention.forward_arguments, values)()
        if isinstance(self.forward_result, tuple) and len(self.forward_result) == 2:
            self.forward_result, values["cache"] = self.forward_result
        values.setdefault("cache", self.forward_result)
        backward = self._bound(getattr(owner, self.convention.backward), self.convention.arguments, values)

        def call() -> Any:
            before = dict(getattr(owner, "__dict__", {}))
            returned = backward()
            return self._result(returned, owner, before)

        return call

    def _node(self, values: dict[str, Any]) -> Callable[[], Any]:
        """The backward of a graph's node, made from its parents."""
        make = self._leaf_maker()
        parents = [make(values[role]) for role in self.convention.construct]
        node = self.target(*parents)
        self.forward_result = getattr(node, "data", None)
        incoming = values["upstream" if "targets" in self.convention.roles else "grad_output"]
        slot = _grad_slot(node) or _grad_slot(parents[0])
        roles = self.convention.arguments
        if slot and roles in ((), ("parents",)):  # then the node itself holds the incoming gradient
            setattr(node, slot, incoming)
        given = parents if roles == ("parents",) else self._given(roles, values)
        sources = zip(parents, self.convention.construct, strict=True)
        source = next(parent for parent, role in sources if role in ("logits", "probs"))

        def call() -> Any:
            returned = getattr(node, self.convention.backward)(*given)
            if returned is not None and not self.convention.result:
                return returned
            self.found_in = self.convention.result or _grad_slot(source)
            return getattr(source, self.found_in)

        return call

    def _tensor(self, values: dict[str, Any]) -> Callable[[], Any]:
        """The backward that a tensor keeps from when it was computed."""
        owner = self.target if inspect.isclass(self.target) else None
        logits = values["logits"]
        torch = sys.modules.get("torch")
        if owner is None and torch is not None and self.convention.container == "torch":
            leaf: Any = logits.requires_grad_()
        else:
            leaf = self._leaf_maker()(logits)
        function = getattr(leaf, self.convention.forward) if owner is not None else self.target
        out = function(leaf, **self._axis(function)) if owner is None else function(**self._axis(function))
        slot = _grad_slot(out) or "grad"
        incoming = values["grad_output"]

        def call() -> Any:
            closure = getattr(out, "_backward", None)
            if callable(closure):
                setattr(out, slot, incoming)
                closure(*([incoming] if len(inspect.signature(closure).parameters) == 1 else []))
            else:
                out.backward(incoming)
            self.found_in = self.convention.result or slot
            return getattr(leaf, self.found_in)

        return call

    def _axis(self, function: Callable[..., Any]) -> dict[str, int]:
        """The axis as a named argument, if the function has a parameter for it."""
        try:
            names = inspect.signature(function).parameters
        except (TypeError, ValueError):
            return {}
        columns = self.convention.layout in ("columns", "column")
        for name in ("axis", "dim"):
            # For rows a default is kept: it is part of what is checked.
            if name in names and (columns or names[name].default in (None, names[name].empty)):
                return {name: 0 if columns else -1}
        return {}

    def _bound(self, function: Callable[..., Any], roles: tuple[str, ...], values: dict[str, Any]) -> Callable[[], Any]:
        """A call of the function with the values of its roles; keyword-only parameters get theirs by name."""
        given = self._given(roles, values)
        named: dict[str, Any] = self._axis(function) if "axis" not in roles else {}
        keyword_only = _keyword_only(function)
        names = required_names(function)
        if keyword_only and len(names) == len(given):
            named |= {name: value for name, value in zip(names, given, strict=True) if name in keyword_only}
            given = [value for name, value in zip(names, given, strict=True) if name not in keyword_only]
        if "out" in keyword_only:
            named["out"] = np.empty_like(values["logits"])
        return lambda: function(*given, **named)

    @staticmethod
    def _given(roles: tuple[str, ...], values: dict[str, Any]) -> list[Any]:
        return [values[role] for role in roles]

    def _leaf_maker(self) -> Callable[[Any], Any]:
        """What makes a graph's input from an array: the target's class, a base, a class of its module, or ``Leaf``."""
        classes = [base for base in getattr(self.target, "__mro__", ()) if base is not object]
        if self.convention.style == "node":
            classes = classes[:0:-1]  # the base of all nodes first, never the class itself
        classes += [value for value in self.namespace.values() if inspect.isclass(value) and value not in classes]
        return next(filter(_makes_leaves, classes), Leaf)

    def _result(self, returned: Any, owner: Any, before: dict[str, Any]) -> Any:
        """What the backward returned, or the array that it left in an attribute of its object."""
        if self.convention.result:
            self.found_in = self.convention.result
            if not hasattr(owner, self.found_in):
                raise NoResultError(f"there is no attribute {self.found_in!r} after {self.convention.backward}")
            return getattr(owner, self.found_in)
        if returned is not None:
            return returned
        after = {name: value for name, value in getattr(owner, "__dict__", {}).items() if value is not before.get(name)}
        names = [name for name in RESULTS if name in after] or [
            name for name, value in after.items() if isinstance(value, np.ndarray | list)
        ]
        names = names or [name for name in RESULTS if isinstance(before.get(name), np.ndarray)]
        if not names:
            raise NoResultError(
                f"{self.convention.backward} returned None and left no array in an attribute of its object"
            )
        self.found_in = names[0]
        return getattr(owner, self.found_in)

    def as_rows(self, result: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """A backward's result as an array [B, N], if its shape allows that; it may be the target's own array.

        Raises:
            NoResultError: the result is not an array of numbers.
        """
        array = as_array(result, shape[0] * shape[1])
        return array.T if self.convention.layout == "columns" and array.ndim == 2 else array


def as_array(result: Any, size: int) -> npt.NDArray[Any]:
    """A result as an array of numbers; from a list or tuple of arrays, the first that has ``size`` items.

    Raises:
        NoResultError: the result is not an array of numbers.
    """
    if isinstance(result, list | tuple) and result and all(map(_is_tensor, result)):
        fitting = [array for array in result if np.size(_unwrapped(array)) == size and np.ndim(_unwrapped(array)) > 1]
        if fitting or (len(result) == 1 and np.ndim(_unwrapped(result[0])) > 1):
            result = (fitting or result)[0]
    try:
        array = np.asarray(_unwrapped(result))
    except (TypeError, ValueError) as error:
        raise NoResultError(f"returned {type(result).__name__}, not an array of numbers ({error})") from None
    if result is None:
        raise NoResultError("returned None")
    if array.dtype.kind not in "fiu":
        shown = f"an array of {array.dtype}" if isinstance(result, np.ndarray) else type(result).__name__
        raise NoResultError(f"returned {shown}, not an array of real numbers")
    return array


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") or hasattr(value, "data")


def _unwrapped(value: Any) -> Any:
    """The numbers inside a tensor of any framework."""
    if isinstance(value, np.ndarray | np.generic | list | tuple | int | float):
        return value
    if hasattr(value, "detach"):
        return value.detach().numpy()
    return value.data if isinstance(getattr(value, "data", None), np.ndarray | list) else value


def _in_container(array: FloatArray, container: str) -> Any:
    if container == "list":
        return array.tolist()
    if container == "torch":
        return sys.modules["torch"].from_numpy(array)
    return array


def _row(inputs: Inputs, row: int) -> dict[str, Any]:
    """One row of the inputs as a batch of one."""
    arrays = (*MATRICES, "labels")
    return {name: value[row : row + 1] if name in arrays else value for name, value in inputs.items()}


def _stacked(arrays: list[npt.NDArray[Any]], logits: FloatArray) -> npt.NDArray[Any]:
    """The gradients of single rows as one array: [B, N], or [B, ...] if they have another size than N."""
    if not arrays:
        return np.empty_like(logits)
    if all(array.size == logits.shape[1] for array in arrays):
        # A single row's gradient may be [N], [N, 1] or [1, N]; an [N, N] result keeps its shape.
        arrays = [array.reshape(-1) for array in arrays]
    return np.stack(arrays)


def _keyword_only(function: Callable[..., Any]) -> set[str]:
    """The keyword-only parameters that have no default."""
    if not has_signature(function):
        return set()
    parameters = inspect.signature(function).parameters.values()
    required = (parameter for parameter in parameters if parameter.default is parameter.empty)
    return {parameter.name for parameter in required if parameter.kind is parameter.KEYWORD_ONLY}


def _grad_slot(node: Any) -> str:
    """The attribute in which a graph's node keeps its gradient; empty if none has a usual name."""
    return next((name for name in GRADS if hasattr(node, name) and not callable(getattr(node, name))), "")


def _makes_leaves(candidate: type) -> bool:
    """Whether the class makes a graph's input from one array."""
    try:
        leaf = candidate(np.zeros((2, 3)))
    except Exception:
        return False
    return bool(_grad_slot(leaf)) and hasattr(leaf, "data") and not isinstance(leaf, SimpleNamespace | np.ndarray)
