"""What a backward finds although no call hands it over: a cache that is read by names, inputs in attributes."""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from .graphs import SLOTS
from .roles import roles_of

_OF_TENSORS = {"data", "value", "requires_grad"}


class NamedCache(dict[str, Any]):
    """A cache of which each item is known by its name, as the argument of a function is."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__()
        self._values = values

    def __missing__(self, key: str) -> Any:
        """The value of the first role that the name may have."""
        for role in roles_of(key):
            if role in self._values:
                return self._values[role]
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        """The same, for a backward that asks first."""
        try:
            return self[key]
        except KeyError:
            return default


def roles_read(function: Callable[..., Any]) -> tuple[str, ...]:
    """The roles of the items that a function reads by their names, such as ``cache["probs"]``."""
    return tuple(dict.fromkeys(roles_of(name)[0] for name in names_read(function)))


def names_read(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the items that a function reads by them, such as ``params["W1"]``, in order."""
    slices = [
        node.slice
        for node in _nodes(function)
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and isinstance(node.slice, ast.Constant)
    ]
    return tuple(dict.fromkeys(each.value for each in slices if isinstance(each.value, str)))


class NamedAttributes:
    """A graph's operation of which each attribute is known by its name; one in the plural is a list of one."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._cache = NamedCache(values)

    def __getattr__(self, name: str) -> Any:
        """The value of the first role that the name may have."""
        try:
            value = self._cache[name]
        except KeyError as error:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {error}") from None
        return [value] if name in ("inputs", "outputs") else value


def roles_of_attributes(function: Callable[..., Any], name: str) -> tuple[str, ...]:
    """The roles of the attributes of an argument that a function reads, such as ``op.output``."""
    read = [
        node.attr
        for node in _nodes(function)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
    ]
    return tuple(dict.fromkeys(roles_of(attribute)[0] for attribute in read))


def attributes_read(method: Callable[..., Any]) -> list[str]:
    """The names of the attributes of its object that a method reads, in order."""
    return _attributes(method, ast.Load)


def attributes_stored(method: Callable[..., Any]) -> list[str]:
    """The names of the attributes of its object that a method writes, in order."""
    return _attributes(method, ast.Store)


def _attributes(method: Callable[..., Any], context: type[ast.expr_context]) -> list[str]:
    found = [
        node.attr
        for node in _nodes(method)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, context) and isinstance(node.value, ast.Name)
        if node.value.id == "self"
    ]
    return list(dict.fromkeys(found))


@functools.cache
def returned_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of what a function returns, ``return a, b``, by its last return; empty for what has no name."""
    returned = [node.value for node in _nodes(function) if isinstance(node, ast.Return) and node.value is not None]
    last = max(returned, key=lambda node: node.lineno, default=None)
    items = last.elts if isinstance(last, ast.Tuple) else [last] if last is not None else []
    return tuple(getattr(item, "id", "") for item in items)


def reads_of_tensors(target: Any) -> bool:
    """Whether code reads attributes that tensors of a file's own have, and arrays have not, such as ``x.data``."""
    reading = [node for node in _nodes(target) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)]
    return any(node.attr in _OF_TENSORS for node in reading if isinstance(node.value, ast.Name))


def sets_gradients(owner: Any) -> bool:
    """Whether code sets the gradient of something that it was given, such as ``inp.g = ...``."""
    setting = [node for node in _nodes(owner) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    names = [node.attr for node in setting if isinstance(node.value, ast.Name) and node.value.id != "self"]
    return bool(set(names) & set(SLOTS))


def returns_nothing(function: Callable[..., Any]) -> bool:
    """Whether a function, by its code, returns no value; a generator and a function that is not known do."""
    defined = next((node for node in _nodes(function) if isinstance(node, ast.FunctionDef)), None)
    if defined is None:
        return False
    waiting: list[ast.AST] = [*defined.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom) or (isinstance(node, ast.Return) and node.value is not None):
            return False
        if not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)
    return True


def functions_inside(function: Callable[..., Any]) -> list[str]:
    """The names of the functions that a function defines inside itself."""
    return [node.name for node in _inner(function)]


def parameters_inside(function: Callable[..., Any]) -> list[list[str]]:
    """The names of the parameters of each function that a function defines inside itself."""
    return [[each.arg for each in node.args.args] for node in _inner(function)]


def _inner(function: Callable[..., Any]) -> list[ast.FunctionDef]:
    return [node for node in _nodes(function) if isinstance(node, ast.FunctionDef)][1:]


@functools.cache
def place_of_gradient(function: Callable[..., Any]) -> int | None:
    """Where in the tuple of names that a function returns the gradient is, if one of them says so, and one only."""
    returned = [node.value for node in _nodes(function) if isinstance(node, ast.Return)]
    names = [[getattr(item, "id", "") for item in each.elts] for each in returned if isinstance(each, ast.Tuple)]
    places = [[place for place, name in enumerate(each) if roles_of(name) == ("grad_output",)] for each in names]
    are_all_named = all(all(each) for each in names)
    is_one = bool(places) and len(places[0]) == 1 and places.count(places[0]) == len(places)
    return places[0][0] if is_one and are_all_named else None


@functools.cache
def source_of(code: Any) -> str:
    """The text of a function or of a class; empty if Python does not know it. It is read once: that takes long."""
    compiled_from = getattr(code, "py_func", code)  # of Numba's functions
    try:
        return textwrap.dedent(inspect.getsource(compiled_from))
    except (OSError, TypeError):
        return ""


def _nodes(function: Callable[..., Any]) -> tuple[ast.AST, ...]:
    """The parts of a function's code; none if Python does not know it."""
    try:
        return _parts(function)
    except TypeError:  # it is an object that cannot be hashed
        return ()


@functools.cache
def _parts(code: Any) -> tuple[ast.AST, ...]:
    try:
        return tuple(ast.walk(ast.parse(source_of(code))))
    except SyntaxError:  # such as a lambda in the middle of a call
        return ()
