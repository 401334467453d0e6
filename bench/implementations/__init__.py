"""The registry of what is measured: one decorator adds an implementation to every grid, table and chart.

Nothing in this package imports the rest of the suite. So the regression check can load a copy of it from another
revision under another name, and measure it beside this one.

A softmax backward has the signature ``vjp(probs, grad_output) -> grad_logits``, all of shape [B, N] and one dtype.
One that writes into a given array has ``vjp(probs, grad_output, *, out) -> out``; the parameter ``out`` registers it
as such. In general an implementation takes any of its operation's arrays by name, and returns what the operation's
module says. Its docstring says what it is; the decorator's arguments state the rest (see `implementation`).

An implementation that runs several threads takes ``*, threads`` as well. One that needs more than NumPy names its
library in the decorator and imports it inside its own body. It returns a call without arguments that computes the
result: what happens before that call (converting, compiling, setting the number of threads) is not timed.
"""

import functools
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import CodeType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
Function = Callable[..., Any]
F = TypeVar("F", bound=Function)

NUMPY = "numpy"
UFUNC_BUFFER_ITEMS = 8192
FORMULA_NAMES = {
    "B": "batch",
    "N": "features",
    "s": "bytes per item",
    "U": f"NumPy's buffer for a [B, 1] operand that is broadcast over rows shorter than {UFUNC_BUFFER_ITEMS} items",
}
FORMULA_FUNCTIONS = {"min": min, "max": max}


@dataclass(frozen=True)
class Formula:
    """A number of bytes as a formula that can be printed and called; ``FORMULA_NAMES`` says what its letters mean.

    Raises:
        ValueError: the text is not an expression, or it has a letter that is not in ``FORMULA_NAMES``.
    """

    text: str

    def __post_init__(self) -> None:
        _compiled(self.text)

    def __call__(self, batch: int, features: int, itemsize: int) -> int:
        """The formula's value in bytes."""
        buffered = 0 if batch == 1 or features >= UFUNC_BUFFER_ITEMS else min(UFUNC_BUFFER_ITEMS, batch * features)
        letters = {"B": batch, "N": features, "s": itemsize, "U": buffered * itemsize}
        names = {"__builtins__": {}, **FORMULA_FUNCTIONS, **letters}
        return int(eval(_compiled(self.text), names))  # noqa: S307 - the text is a decorator's argument, not input

    def __str__(self) -> str:
        return self.text


@functools.cache
def _compiled(formula: str) -> CodeType:
    try:
        code = compile(formula, "<formula>", "eval")
    except SyntaxError as error:
        raise ValueError(f"formula {formula!r} is not an expression ({error.msg})") from None
    unknown = [name for name in code.co_names if name not in FORMULA_NAMES and name not in FORMULA_FUNCTIONS]
    if unknown:
        known = ", ".join([*FORMULA_NAMES, *FORMULA_FUNCTIONS])
        raise ValueError(f"formula {formula!r} has an unknown name, {unknown[0]}; known are {known}")
    return code


def is_installed(library: str) -> bool:
    """Whether a package of that name can be imported."""
    return importlib.util.find_spec(library) is not None


@dataclass(frozen=True)
class Implementation:
    """A function that is measured, and what its decorator, its signature and its docstring state about it."""

    name: str
    operation: str
    function: Function
    summary: str
    workspace: Formula
    traffic: Formula
    source: str
    writes_out: bool
    arguments: tuple[str, ...] = ("probs", "grad_output")  # the arrays that it takes in addition to out
    guessed: bool = False  # workspace and traffic are guesses, good enough only to skip cases that are too large
    divides_by_probs: bool = False
    flushes_subnormals: bool = False
    reuses_memory: bool = False
    runs_threads: bool = False
    library: str = NUMPY  # the package that it needs; if that is not NumPy, its function returns the call
    formerly: str = ""

    def bind(self, inputs: object, threads: int = 1) -> Callable[[], Any]:
        """A call of the implementation on the inputs, an object with its arrays as attributes; prepares it here.

        Raises:
            ModuleNotFoundError: its library is not installed.
        """
        options = {"threads": threads} if self.runs_threads else {}
        call = bind(self.function, inputs, self.arguments, writes_out=self.writes_out, **options)
        return call if self.library == NUMPY else call()

    @property
    def of_plugin(self) -> bool:
        """Whether a user's module has registered it; targets that are named by their file are no such thing."""
        return not self.guessed and self.function.__module__.partition(".")[0] != __name__.partition(".")[0]

    @property
    def installed(self) -> bool:
        """Whether its library is installed."""
        return is_installed(self.library)


def bind(
    function: Callable[..., Any], inputs: object, arguments: Iterable[str], *, writes_out: bool, **options: Any
) -> Callable[[], Any]:
    """A call of the function on the attributes of ``inputs`` named by ``arguments``, plus ``out`` if it writes that."""
    call = partial(function, *(getattr(inputs, name) for name in arguments), **options)
    return partial(call, out=inputs.out) if writes_out else call  # type: ignore[attr-defined]


_registry: dict[tuple[str, str], Implementation] = {}


def implementation(
    operation: str,
    *,
    workspace: str,
    traffic: str,
    source: str,
    library: str = NUMPY,
    divides_by_probs: bool = False,
    flushes_subnormals: bool = False,
    reuses_memory: bool = False,
    formerly: str = "",
) -> Callable[[F], F]:
    """Decorator that registers a function under its own name as an implementation of ``operation``.

    Formulas have the letters of ``FORMULA_NAMES``.

    Args:
        operation: the name of the operation that the function computes.
        workspace: peak bytes allocated during one call, the result included, to leading order.
        traffic: bytes read and written in one call, to leading order; its time is predicted from them.
        source: where the method comes from.
        library: the package that it needs. If that is not NumPy, the function returns the call (see above).
        divides_by_probs: whether it divides by probabilities; it is not measured where one of them is 0.
        flushes_subnormals: whether it takes subnormal numbers as 0 and returns 0 for them.
        reuses_memory: whether the result is put into memory that an earlier result has given back.
        formerly: the name under which earlier revisions and stored tables know it, if that was another.

    Raises:
        ValueError: a formula cannot be evaluated, or the name is taken.
    """

    def register(function: F) -> F:
        spec = described(
            function,
            operation,
            workspace=workspace,
            traffic=traffic,
            source=source,
            library=library,
            divides_by_probs=divides_by_probs,
            flushes_subnormals=flushes_subnormals,
            reuses_memory=reuses_memory,
            formerly=formerly,
        )
        enlist(spec)
        return function

    return register


def described(function: Function, operation: str, *, workspace: str, traffic: str, **facts: Any) -> Implementation:
    """The function as an implementation of its own name; ``facts`` are further fields of `Implementation`.

    Raises:
        ValueError: a formula cannot be evaluated.
    """
    parameters = tuple(inspect.signature(function).parameters)
    return Implementation(
        name=function.__name__,
        operation=operation,
        function=function,
        summary=(inspect.getdoc(function) or "").partition("\n")[0],
        workspace=Formula(workspace),
        traffic=Formula(traffic),
        writes_out="out" in parameters,
        arguments=tuple(parameter for parameter in parameters if parameter not in ("out", "threads")),
        runs_threads="threads" in parameters,
        **facts,
    )


def enlist(spec: Implementation) -> None:
    """Add an implementation to the registry.

    Raises:
        ValueError: its name is taken.
    """
    if (spec.operation, spec.name) in _registry:
        raise ValueError(f"{spec.operation} has an implementation named {spec.name} already")
    _registry[spec.operation, spec.name] = spec


def registered() -> Mapping[tuple[str, str], Implementation]:
    """Every implementation by (operation, name), in the order of the modules' names and then of definition."""
    _import_all()
    return _registry


@functools.cache  # once: looking for modules takes longer than all else that is done for a case
def _import_all() -> None:
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):  # those are helpers, imported by the modules that need them
            importlib.import_module(f"{__name__}.{module.name}")


def former_names() -> Mapping[tuple[str, str], str]:
    """Today's name of every implementation that was renamed, by its operation and former name."""
    return {(spec.operation, spec.formerly): spec.name for spec in registered().values() if spec.formerly}
