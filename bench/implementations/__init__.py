"""The registry of what is measured: one decorator adds a competitor to every grid, table and chart.

Nothing in this package imports the rest of the suite, so a copy of it taken from another revision can be loaded
under another name and measured beside this one.

A softmax backward has the signature ``vjp(probs, grad_output) -> grad_logits``, all of shape [B, N] and one dtype.
One that writes into a given array has ``vjp(probs, grad_output, *, out) -> out``; that signature is what registers
it as such. In general an implementation takes any of its operation's arrays, by their names, and returns what the
operation's module says. The docstring states, each on a line of its own, in the letters of ``FORMULA_NAMES``:

``Workspace:``
    peak bytes allocated during one call, the result included, to leading order;
``Traffic:``
    bytes read and written in one call, to leading order, from which its time is predicted;
``Source:``
    where the method comes from;
``Domain: probs > 0``
    only where it divides by probabilities: what it is not measured beyond;
``Flushes: subnormal numbers``
    only where it takes them for 0 and gives 0 for them;
``Reuses: ...``
    only where the result stands in memory that an earlier result has given back.

One that runs several threads takes ``*, threads`` as well. One that needs more than NumPy names its library in the
decorator, imports that inside its own body, and returns not the result but a call without arguments that computes it:
what it does before (convert, compile, set the number of threads) is not timed.
"""

import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
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
    "s": "bytes an item",
    "U": f"NumPy's buffer for a [B, 1] operand that is broadcast over rows shorter than {UFUNC_BUFFER_ITEMS} items",
}


@dataclass(frozen=True)
class Formula:
    """A count of bytes as a formula, printable and callable; ``FORMULA_NAMES`` says what its letters mean."""

    text: str

    def __call__(self, batch: int, features: int, itemsize: int) -> int:
        """The formula's value in bytes."""
        buffered = 0 if batch == 1 or features >= UFUNC_BUFFER_ITEMS else min(UFUNC_BUFFER_ITEMS, batch * features)
        names = {"B": batch, "N": features, "s": itemsize, "U": buffered * itemsize, "min": min, "max": max}
        return int(eval(self.text, {"__builtins__": {}}, names))  # noqa: S307 - the text is a docstring of this package, not input

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Implementation:
    """One competitor: a function and what its docstring states about it."""

    name: str
    operation: str
    function: Function
    summary: str
    workspace: Formula
    traffic: Formula
    source: str
    writes_out: bool
    arguments: tuple[str, ...] = ("probs", "grad_output")  # the arrays that it takes, beside out
    guessed: bool = False  # whether workspace and traffic are guesses, good for guarding only
    divides_by_probs: bool = False
    flushes_subnormals: bool = False
    reuses_memory: bool = False
    runs_threads: bool = False
    library: str = NUMPY  # the package that it needs; with another than NumPy its function returns the call

    def bind(self, inputs: object, threads: int = 1) -> Callable[[], Any]:
        """A call of it on the inputs, which hold its arrays as attributes; what it must prepare is done here.

        Raises:
            ModuleNotFoundError: its library is not installed.
        """
        options = {"threads": threads} if self.runs_threads else {}
        call = bind(self.function, inputs, self.arguments, writes_out=self.writes_out, **options)
        return call if self.library == NUMPY else call()

    @property
    def installed(self) -> bool:
        """Whether its library is there."""
        return importlib.util.find_spec(self.library) is not None


def bind(
    function: Callable[..., Any], inputs: object, arguments: Iterable[str], *, writes_out: bool, **options: Any
) -> Callable[[], Any]:
    """A call of the function on the inputs' attributes of the given names, into their ``out`` where it writes that."""
    call = partial(function, *(getattr(inputs, name) for name in arguments), **options)
    return partial(call, out=inputs.out) if writes_out else call  # type: ignore[attr-defined]


_registry: dict[tuple[str, str], Implementation] = {}


def implementation(operation: str, library: str = NUMPY) -> Callable[[F], F]:
    """Decorator that registers a function under its own name as an implementation of ``operation``.

    ``library``: the package that it needs; with another than NumPy the function returns the call, see above.

    Raises:
        ValueError: the docstring lacks one of the three stated lines, or the name is taken.
    """

    def register(function: F) -> F:
        enlist(described(function, operation, function.__name__, library))
        return function

    return register


def described(function: Function, operation: str, name: str, library: str = NUMPY) -> Implementation:
    """The function as an implementation of that name, from its signature and docstring.

    Raises:
        ValueError: the docstring lacks one of the three stated lines.
    """
    doc = inspect.getdoc(function) or ""
    parameters = tuple(inspect.signature(function).parameters)
    return Implementation(
        name=name,
        operation=operation,
        function=function,
        summary=doc.partition("\n")[0],
        workspace=Formula(stated(doc, "Workspace", name)),
        traffic=Formula(stated(doc, "Traffic", name)),
        source=stated(doc, "Source", name),
        writes_out="out" in parameters,
        arguments=tuple(parameter for parameter in parameters if parameter not in ("out", "threads")),
        divides_by_probs="Domain: probs > 0" in doc,
        flushes_subnormals="Flushes: subnormal numbers" in doc,
        reuses_memory="\nReuses: " in doc,
        runs_threads="threads" in parameters,
        library=library,
    )


def enlist(competitor: Implementation) -> None:
    """Add an implementation to the registry.

    Raises:
        ValueError: its name is taken.
    """
    if (competitor.operation, competitor.name) in _registry:
        raise ValueError(f"{competitor.operation} has an implementation named {competitor.name} already")
    _registry[competitor.operation, competitor.name] = competitor


def stated(doc: str, heading: str, name: str) -> str:
    """What a docstring states on its line ``heading: ...``.

    Raises:
        ValueError: the docstring, of the function called ``name``, has no such line.
    """
    found = re.search(rf"^{heading}: *(.+?)\.?$", doc, flags=re.MULTILINE)
    if found is None:
        raise ValueError(f"the docstring of {name} has no line '{heading}: ...'")
    return found.group(1)


def registered() -> Mapping[tuple[str, str], Implementation]:
    """Every implementation by (operation, name), in the order of the modules' names and then of definition."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):  # kernels: imported by those who need them
            importlib.import_module(f"{__name__}.{module.name}")
    return _registry
