"""A target called in a given convention: arguments laid out as it wants them, its result found and laid out back."""

import inspect
import sys
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...implementations import FloatArray
from .conventions import GRADS, Convention
from .roles import has_signature, required_names

RESULTS = ("dinputs", "dinput", "grad_input", "input_grad", "dx", "dX", "dlogits", "grad_logits", "dz", "dZ", *GRADS)
MATRICES = ("logits", "probs", "log_probs", "grad_output", "targets")  # the roles that are [B, N]
LEARNING_RATE = 0.125
Inputs = Mapping[str, Any]


class NoResultError(Exception):
    """The target was called and gave nothing that could be its gradient; the message says what it gave."""


class Context:
    """What an autograd function's forward and backward share: anything may be kept in it."""

    saved_tensors: tuple[Any, ...] = ()

    def save_for_backward(self, *values: Any) -> None:
        """Keep values for the backward."""
        self.saved_tensors = self.saved_values = values


class Leaf:
    """A graph's input, where the target's module has no class for one: data and gradient under all usual names."""

    def __init__(self, data: Any) -> None:
        self.data = self.value = self.out = self.output = data
        for name in GRADS:
            setattr(self, name, np.zeros_like(data))

    def _back(self, *_: Any) -> None:
        """Nothing: a graph ends here."""

    backward = back = _backward = _back


class Call:
    """One target in one convention: ``prepare`` runs what comes before the backward and returns the backward."""

    def __init__(self, target: Any, namespace: Mapping[str, Any], convention: Convention) -> None:
        self.target = target
        self.namespace = namespace
        self.convention = convention
        self.found_in = ""  # the attribute where the gradient was found, empty if it was returned
        self.forward_result: Any = None
        self._owner: Any = None  # of a pair: one object serves all calls, as a layer does
        self._passed: list[tuple[str, Any, Any]] = []  # role, what the target was given, a copy of what it was

    def overwritten(self) -> tuple[str, ...]:
        """The roles of the inputs that the target has changed since the last ``prepare``."""
        used = self.convention.roles | ({"logits", "grad_output"} if self.convention.style == "tensor" else set())
        changed = {role for role, now, before in self._passed if not np.array_equal(_bare(now), before, equal_nan=True)}
        return tuple(role for role in (*MATRICES, "labels") if role in changed & used)

    def prepare(self, inputs: Inputs) -> Callable[[], Any]:
        """The backward of the given arrays as a function of nothing; what it returns is for ``laid_back``."""
        self._passed = []
        if not self.convention.is_single:
            return self._prepared(self._laid_out(inputs))
        rows = [self._laid_out(_row(inputs, row)) for row in range(len(inputs["logits"]))]
        # An object keeps one forward at a time, so each row's forward comes right before its backward; and it may
        # write each result over the last one.
        features = inputs["logits"].shape[1]
        return lambda: _stacked([as_array(self._prepared(row)(), features).copy() for row in rows], inputs["logits"])

    def _laid_out(self, inputs: Inputs) -> dict[str, Any]:
        """The arguments by role, each a copy in the convention's layout and container."""
        layout, container = self.convention.layout, self.convention.container
        laid: dict[str, Any] = {}
        for role in MATRICES:
            array = inputs[role]
            if layout in ("columns", "column"):
                array = array.T
            elif layout == "vector":
                array = array[0]
            laid[role] = _contained(np.array(array, order="C"), container)
        labels = inputs["labels"]
        laid["labels"] = int(labels[0]) if layout == "vector" else _contained(labels.copy(), container)
        if layout != "vector":
            self._passed += [(role, laid[role], np.array(_bare(laid[role]))) for role in (*MATRICES, "labels")]
        laid["upstream"] = inputs["upstream"]
        laid["axis"] = 0 if layout in ("columns", "column") else -1
        laid["batch"], laid["features"] = inputs["logits"].shape
        laid["learning_rate"] = LEARNING_RATE
        laid["context"] = Context()
        incoming = "logits" if self.convention.operation != "cross_entropy" else "probs"
        laid["packed"] = [laid[incoming], laid["targets"]]
        return laid

    def _prepared(self, laid: dict[str, Any]) -> Callable[[], Any]:
        return {"function": self._function, "pair": self._pair, "node": self._node, "tensor": self._tensor}[
            self.convention.style
        ](laid)

    def _function(self, laid: dict[str, Any]) -> Callable[[], Any]:
        if self.convention.forward:
            result = self.namespace[self.convention.forward](*self._given(self.convention.forward_arguments, laid))
            self.forward_result, laid["cache"] = result if isinstance(result, tuple) else (result, result)
        return self._bound(self.target, self.convention.arguments, laid)

    def _pair(self, laid: dict[str, Any]) -> Callable[[], Any]:
        if self._owner is None:
            self._owner = self.target
            if inspect.isclass(self.target) and not _all_static(self.target, *self._methods):
                self._owner = self.target(*self._given(self.convention.construct, laid))
        owner = self._owner
        forward = getattr(owner, self.convention.forward)
        self.forward_result = self._bound(forward, self.convention.forward_arguments, laid)()
        if isinstance(self.forward_result, tuple) and len(self.forward_result) == 2:
            self.forward_result, laid["cache"] = self.forward_result
        laid.setdefault("cache", self.forward_result)
        backward = self._bound(getattr(owner, self.convention.backward), self.convention.arguments, laid)

        def call() -> Any:
            before = dict(getattr(owner, "__dict__", {}))
            returned = backward()
            return self._result(returned, owner, before)

        return call

    def _node(self, laid: dict[str, Any]) -> Callable[[], Any]:
        make = self._leaf_maker()
        parents = [make(laid[role]) for role in self.convention.construct]
        node = self.target(*parents)
        self.forward_result = getattr(node, "data", None)
        incoming = laid["upstream" if "targets" in self.convention.roles else "grad_output"]
        slot = _grad_slot(node) or _grad_slot(parents[0])
        if slot and "parents" in self.convention.arguments + ("parents",) * (not self.convention.arguments):
            setattr(node, slot, incoming)
        given = (
            parents if self.convention.arguments == ("parents",) else [laid[one] for one in self.convention.arguments]
        )
        which = next(i for i, role in enumerate(self.convention.construct) if role in ("logits", "probs"))

        def call() -> Any:
            returned = getattr(node, self.convention.backward)(*given)
            if returned is not None and not self.convention.result:
                return returned
            self.found_in = self.convention.result or _grad_slot(parents[which])
            return getattr(parents[which], self.found_in)

        return call

    def _tensor(self, laid: dict[str, Any]) -> Callable[[], Any]:
        owner = self.target if inspect.isclass(self.target) else None
        logits = laid["logits"]
        torch = sys.modules.get("torch")
        if owner is None and torch is not None and self.convention.container == "torch":
            leaf: Any = logits.requires_grad_()
        else:
            leaf = self._leaf_maker()(logits)
        function = getattr(leaf, self.convention.forward) if owner is not None else self.target
        out = function(leaf, **self._axis(function)) if owner is None else function(**self._axis(function))
        slot = _grad_slot(out) or "grad"
        incoming = laid["grad_output"]

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
        """The axis by name, for a function that has a parameter for it."""
        try:
            names = inspect.signature(function).parameters
        except (TypeError, ValueError):
            return {}
        columns = self.convention.layout in ("columns", "column")
        for name in ("axis", "dim"):
            # A default is left alone where rows are given: it is part of what is being checked.
            if name in names and (columns or names[name].default in (None, names[name].empty)):
                return {name: 0 if columns else -1}
        return {}

    def _bound(self, function: Callable[..., Any], roles: tuple[str, ...], laid: dict[str, Any]) -> Callable[[], Any]:
        """The function with its arguments, those that it takes by name only given so."""
        given = self._given(roles, laid)
        named: dict[str, Any] = self._axis(function) if "axis" not in roles else {}
        only_named = _only_named(function)
        names = required_names(function)
        if only_named and len(names) == len(given):
            named |= {name: value for name, value in zip(names, given, strict=True) if name in only_named}
            given = [value for name, value in zip(names, given, strict=True) if name not in only_named]
        if "out" in only_named:
            named["out"] = np.empty_like(laid["logits"])
        return lambda: function(*given, **named)

    @property
    def _methods(self) -> tuple[str, str]:
        return self.convention.forward, self.convention.backward

    @staticmethod
    def _given(roles: tuple[str, ...], laid: dict[str, Any]) -> list[Any]:
        return [laid[role] for role in roles]

    def _leaf_maker(self) -> Callable[[Any], Any]:
        """What makes a graph's input of an array: the target's class or a base of it, one of its module, a stand-in."""
        classes = [one for one in getattr(self.target, "__mro__", ()) if one is not object]
        if self.convention.style == "node":
            classes = classes[:0:-1]  # the base of all nodes first, never the class itself
        classes += [one for one in self.namespace.values() if inspect.isclass(one) and one not in classes]
        for one in classes:
            if _makes_leaves(one):
                maker: Callable[[Any], Any] = one
                return maker
        return Leaf

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

    def laid_back(self, result: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """A backward's result as an array [B, N], as far as its shape allows; it may be the target's own array.

        Raises:
            NoResultError: the result is nothing that an array of numbers can be made of.
        """
        array = as_array(result, shape[0] * shape[1])
        return array.T if self.convention.layout == "columns" and array.ndim == 2 else array


def as_array(result: Any, size: int) -> npt.NDArray[Any]:
    """A result as an array of numbers; of a list or tuple of arrays, the first that has as many items as wanted.

    Raises:
        NoResultError: the result is nothing that an array of numbers can be made of.
    """
    if isinstance(result, list | tuple) and result and all(_is_tensor(one) for one in result):
        whole = [one for one in result if np.size(_bare(one)) == size and np.ndim(_bare(one)) > 1]
        if whole or (len(result) == 1 and np.ndim(_bare(result[0])) > 1):
            result = (whole or result)[0]
    try:
        array = np.asarray(_bare(result))
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


def _bare(value: Any) -> Any:
    """The numbers inside a tensor of whatever framework."""
    if isinstance(value, np.ndarray | np.generic | list | tuple | int | float):
        return value
    if hasattr(value, "detach"):
        return value.detach().numpy()
    return value.data if isinstance(getattr(value, "data", None), np.ndarray | list) else value


def _contained(array: FloatArray, container: str) -> Any:
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
    """The single rows' gradients as one [B, N] array; stacked as they are where their size is another."""
    if not arrays:
        return np.empty_like(logits)
    if all(one.size == logits.shape[1] for one in arrays):
        # [N], [N, 1] and [1, N] are a single row's usual shapes; a [N, N] result stays what it is.
        arrays = [one.reshape(-1) for one in arrays]
    return np.stack(arrays)


def _only_named(function: Callable[..., Any]) -> set[str]:
    """The parameters that a function takes by name only and has no default for."""
    if not has_signature(function):
        return set()
    parameters = inspect.signature(function).parameters.values()
    return {one.name for one in parameters if one.kind is one.KEYWORD_ONLY and one.default is one.empty}


def _all_static(owner: type, *methods: str) -> bool:
    return all(isinstance(inspect.getattr_static(owner, name), staticmethod | classmethod) for name in methods)


def _grad_slot(node: Any) -> str:
    """The attribute in which a graph's node keeps its gradient; empty where none has a usual name."""
    return next((name for name in GRADS if hasattr(node, name) and not callable(getattr(node, name))), "")


def _makes_leaves(one: type) -> bool:
    """Whether the class makes a graph's input of one array."""
    try:
        leaf = one(np.zeros((2, 3)))
    except Exception:
        return False
    return bool(_grad_slot(leaf)) and hasattr(leaf, "data") and not isinstance(leaf, SimpleNamespace | np.ndarray)
