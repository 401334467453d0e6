"""A target that is loaded, called and measured; its failures are reported with its own file and line."""

import contextlib
import dataclasses
import gc
import inspect
import resource
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...instruments.memory import memory_limit, read_peak
from ...loading import load, method_named, module_of
from ..calling.call import Call, Inputs
from ..calling.convention import Convention, Options
from ..calling.conventions import candidates
from ..calling.decorated import tell_of_inner
from ..calling.factories import made_by
from ..calling.graphs import unwrapped, with_tensors_of_bases
from ..calling.transforms import compute_in_float64
from .block import Assignment, Block, Made, Ran, placeholders
from .descent import Descent, descent
from .failures import Failure, failure_of
from .handover import Handover, hand_over
from .shared import Shared
from .slopes import Slopes, slopes

# A call of so many numbers that takes longer is the only one: smaller trials show what is kept from call to call.
LONG_S, MANY_NUMBERS = 1.0, 1000
ROUNDINGS = 64.0  # by how many of them two ways to add the same numbers may differ


@dataclass(frozen=True)
class Outcome:
    """What one call gave: a result [B, N] or a failure, and what else it did."""

    value: npt.NDArray[Any] | None = None
    failure: Failure | None = None
    overwritten: tuple[str, ...] = ()  # roles of the inputs that the call changed
    repeatable: bool = True  # whether a call with the same inputs, after one with other inputs, gave the same result
    kept: bool = True  # whether the result was still the same after a call with other inputs
    turned: npt.NDArray[Any] | None = None  # the result for those other inputs: see ``turn``
    forward: npt.NDArray[Any] | None = None  # what the forward returned, if that is numbers
    found_in: str = ""  # the attribute that held the gradient, if it was not returned


class Subject(Protocol):
    """What verification does with a target, in this process or in another one."""

    def candidates(self, options: Options) -> list[Convention]:
        """Every way in which the target may have to be called, likeliest first."""

    def has_torch(self) -> bool:
        """Whether the target has imported PyTorch."""

    def source(self, convention: Convention) -> str:
        """The text of the function, or of the methods that are called; empty if Python does not know it."""

    def call(self, convention: Convention, inputs: Inputs) -> Outcome:
        """The result of the target, called with copies of the inputs."""

    def timed(
        self, convention: Convention, trials: Sequence[Inputs], made: Made | None = None, *, peaks: bool = False
    ) -> Handover | Failure:
        """A block of clocked calls, or of calls whose peak memory is read."""

    def steps(self, convention: Convention, inputs: Inputs) -> int | Failure:
        """How many Python instructions one backward executes."""

    def slopes(self, convention: Convention, inputs: Inputs) -> Slopes | Failure:
        """How steep the target's own forward is, as its backward says and by central differences."""

    def descent(self) -> Descent | Failure:
        """Whether the target is a whole network whose gradients are right, by central differences."""


class Local:
    """A target in this process."""

    def __init__(
        self,
        target: Any,
        namespace: dict[str, Any] | None = None,
        max_bytes: int | None = None,
        method: str = "",
        shared: Shared | None = None,
    ) -> None:
        tell_of_inner(target)
        self._target = target = made_by(target)
        self._method = method
        self._namespace = with_tensors_of_bases(target, namespace if namespace is not None else module_of(target))
        self._max_bytes = max_bytes
        self._shared = shared or Shared()
        self._block: Block  # the one that was prepared

    @classmethod
    def load(cls, target: str, max_bytes: int | None = None, shared: Shared | None = None) -> "Local":
        """The target with that name, as ``load`` finds it."""
        found, namespace = load(target)
        compute_in_float64()
        return cls(found, namespace, max_bytes, method_named(target, found), shared)

    def candidates(self, options: Options) -> list[Convention]:
        """Every way in which the target may have to be called, likeliest first."""
        with _quiet():
            return candidates(self._target, self._namespace, options, self._method)

    def has_torch(self) -> bool:
        """Whether the target has imported PyTorch."""
        return "torch" in sys.modules

    def source(self, convention: Convention) -> str:
        """The text of the function, or of the methods that are called; empty if Python does not know it."""
        methods = [name for name in (convention.forward, convention.backward) if name]
        names = methods if inspect.isclass(self._target) and methods else [""]
        texts = []
        for name in names:
            with contextlib.suppress(TypeError, OSError):
                texts.append(inspect.getsource(getattr(self._target, name) if name else self._target))
        return "\n".join(texts)

    def call(self, convention: Convention, inputs: Inputs) -> Outcome:
        """The result of the target, called three times: with the inputs, with other inputs, with the first ones again.

        What is kept from one call to the next shows in the last result, a buffer that is used again in the first one.
        A call of ``MANY_NUMBERS`` that takes more than ``LONG_S`` is the only one.
        """
        call = Call(self._target, self._namespace, convention)
        shape = inputs["logits"].shape
        try:
            with self._limited(), _quiet():
                started_s = time.monotonic()
                first = call.as_rows(call.prepare(inputs)(), shape)
                value = np.array(first)
                overwritten, forward = call.overwritten(), _numbers(call.forward_result)
                if inputs["logits"].size >= MANY_NUMBERS and time.monotonic() - started_s > LONG_S:
                    return Outcome(value, None, overwritten, forward=forward, found_in=call.found_in)
                turned = np.array(call.as_rows(call.prepare(turn(inputs))(), shape))
                kept = np.array_equal(value, first, equal_nan=True)
                again = call.as_rows(call.prepare(inputs)(), shape)
        except (Exception, SystemExit) as error:
            return Outcome(failure=failure_of(error))
        repeatable = _is_same(value, np.asarray(again))
        return Outcome(value, None, overwritten, repeatable, kept, turned, forward, call.found_in)

    def timed(
        self, convention: Convention, trials: Sequence[Inputs], made: Made | None = None, *, peaks: bool = False
    ) -> Handover | Failure:
        """A block of clocked calls: see ``handover``."""
        try:
            return hand_over(self, self._shared, convention, trials, made, peaks=peaks)
        except (Exception, SystemExit) as error:
            return failure_of(error)

    def warm(self, convention: Convention, inputs: Inputs) -> Made:
        """The shape and dtype of a result, of a call that is not clocked."""
        with self._limited(), _quiet():
            call = Call(self._target, self._namespace, convention)
            logits = inputs["logits"]
            complete = {**placeholders(logits.shape, logits.dtype.str), **inputs}
            rows = call.as_rows(call.prepare(complete)(), logits.shape)
        return Made(rows.shape, rows.dtype.name, call.writes_out)

    def ready(self, convention: Convention, assignment: Assignment) -> None:
        """Prepare a block."""
        calls = [Call(self._target, self._namespace, convention) for _ in assignment.slots]
        with _quiet():
            self._block = Block(calls, assignment, self._shared)

    def go(self) -> Ran:
        """Run the block that was prepared."""
        collects = gc.isenabled()
        gc.disable()  # the collector would run in some calls and not in others
        try:
            with self._limited(), _quiet():
                return self._block.run()
        finally:
            if collects:
                gc.enable()

    def go_for_peaks(self) -> Ran:
        """Run the block that was prepared, and read the peak memory of each call instead of the clock."""
        found: list[int] = []

        def read(backward: Callable[[], Any]) -> Any:
            returned: list[Any] = [None]
            found.append(read_peak(lambda: returned.__setitem__(0, backward()), 1).peak_bytes)
            return returned[0]

        with self._limited(), _quiet():
            return dataclasses.replace(self._block.run(read), peaks=tuple(found))

    def processor_s(self) -> float:
        """Seconds that this process has used of processors."""
        return time.process_time()

    def faults(self) -> float:
        """Page faults of this process that were served without the disk."""
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)

    def overwritten(self) -> tuple[str, ...]:
        """The roles of the inputs that the block's calls have changed. The block is over."""
        roles = self._block.overwritten()
        del self._block
        return roles

    def steps(self, convention: Convention, inputs: Inputs) -> int | Failure:
        """How many Python instructions one backward executes: the same number each time, on every machine."""
        count = 0

        def trace(frame: types.FrameType, event: str, _: Any) -> Callable[..., Any]:
            nonlocal count
            frame.f_trace_opcodes = True
            count += event == "opcode"
            return trace

        try:
            with _quiet():
                backward = Call(self._target, self._namespace, convention).prepare(inputs)
                before = sys.gettrace()
                sys.settrace(trace)
                try:
                    backward()
                finally:
                    sys.settrace(before)
        except (Exception, SystemExit) as error:
            return failure_of(error)
        return count

    def slopes(self, convention: Convention, inputs: Inputs) -> Slopes | Failure:
        """How steep the target's own forward is, as its backward says and by central differences."""
        try:
            with self._limited(), _quiet():
                return slopes(Call(self._target, self._namespace, convention), inputs)
        except (Exception, SystemExit) as error:
            return failure_of(error)

    def descent(self) -> Descent | Failure:
        """Whether the target is a whole network whose gradients are right, by central differences."""
        try:
            with self._limited(), _quiet():
                return descent(self._target, self._namespace)
        except (Exception, SystemExit) as error:
            return failure_of(error)

    def _limited(self) -> contextlib.AbstractContextManager[None]:
        return memory_limit(self._max_bytes) if self._max_bytes is not None else contextlib.nullcontext()


def _is_same(value: npt.NDArray[Any], again: npt.NDArray[Any]) -> bool:
    """Whether two results are the same up to rounding: a graph may be walked in another order, as its sets have it."""
    if np.array_equal(value, again, equal_nan=True):
        return True
    if value.shape != again.shape or value.dtype.kind != "f":
        return False
    rounding = ROUNDINGS * float(np.finfo(value.dtype).eps)
    return np.allclose(value, again, rtol=rounding, atol=rounding * np.abs(value).max(initial=0.0), equal_nan=True)


def turn(inputs: Inputs) -> Inputs:
    """Other inputs of the same shapes: the rows in opposite order, and the gradient with the opposite sign."""
    reversed_rows = {role: value[::-1] for role, value in inputs.items() if isinstance(value, np.ndarray)}
    return {**inputs, **reversed_rows, "grad_output": -reversed_rows["grad_output"]}


def _numbers(value: Any) -> npt.NDArray[Any] | None:
    """A forward's result as an array of float64; None if there is none, or if it is not numbers."""
    if value is None:
        return None
    try:
        return np.array(unwrapped(value), dtype=np.float64)
    except (TypeError, ValueError):
        return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings: only what the target computes is judged."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
