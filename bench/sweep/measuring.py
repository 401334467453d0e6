"""What happens in a process that measures: a case is examined once, and visited again and again."""

import contextlib
import dataclasses
import gc
import math
import random
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

from threadpoolctl import ThreadpoolController

from ..instruments.bandwidth import Stream, Streamer
from ..instruments.clock import LONG_CALL_S, Timing, VisitSettings, minor_faults, time_visit, with_faults
from ..instruments.heap import settle_heap, side_by_side
from ..instruments.host import available_bytes
from ..instruments.memory import memory_limit, read_peak
from ..operations import operations
from ..operations.cases import Case
from ..operations.oracle import Verdict
from ..operations.placement import relocated
from ..storage.results import Row
from .budget import memory_budget_bytes, predict, reason_to_skip

JUDGED_BYTES = 1 << 20  # of an array: of larger ones not every visit's result is judged
BUDGET_HOLDS_S = 1.0  # how long a visit's limit on memory is that of a visit before
KEPT_SHARE = 1 / 64  # of the available memory, for inputs that are kept from visit to visit


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a process must know of its run."""

    run_id: str
    seed: int
    max_call_s: float
    max_bytes: int | None
    stream_bytes_per_s: float
    visit: VisitSettings | None  # None: nothing is timed


class WrongError(Exception):
    """What was right at first is wrong later; the message says what."""


class Measurer:
    """The measuring of cases in this process, and what they share: inputs, threads, a settled heap.

    With ``ask_pytorch``, results are compared with PyTorch's autograd as well. It is for processes in which PyTorch is
    in any case: with PyTorch in it, a reading of memory takes three times as long.
    """

    def __init__(self, settings: Settings, *, ask_pytorch: bool = False) -> None:
        self._settings = settings
        self._ask_pytorch = ask_pytorch
        self._threads = ThreadpoolController()
        self._streamers: dict[int, Streamer] = {}
        self._kept: OrderedDict[tuple[object, ...], Any] = OrderedDict()
        self._kept_bytes = int(available_bytes() * KEPT_SHARE)
        self._budget = -math.inf, 0  # until when it holds
        self._reference: tuple[tuple[object, ...], Any] | None = None
        settle_heap()
        gc.collect()
        gc.freeze()  # of a case, what the case made is collected; the modules' own objects are a hundred times as many

    def examine(self, case: Case) -> Row:
        """The row of a case without its time; whatever the case raises becomes a row ``failed``."""
        prediction = predict(case, self._settings.stream_bytes_per_s)
        budget_bytes = memory_budget_bytes(self._settings.max_bytes)
        predicted_peak_bytes = None if case.spec.guessed else prediction.peak_bytes
        row = partial(Row, self._settings.run_id, **dataclasses.asdict(case), predicted_peak_bytes=predicted_peak_bytes)
        reason = reason_to_skip(case, prediction, budget_bytes, self._settings.max_call_s)
        if reason:
            return row(status="skipped", reason=reason)
        try:
            with self._limited(case, budget_bytes):
                return self._examined(case, row)
        except Exception as error:
            return row(status="failed", reason=f"{type(error).__name__}: {error}")

    def _examined(self, case: Case, row: Callable[..., Row]) -> Row:
        inputs = self._inputs(case)
        zeros = int((inputs.probs == 0).sum()) if case.spec.divides_by_probs else 0
        if zeros:
            return row(status="skipped", reason=f"divides by probabilities, and {zeros} of {inputs.probs.size} are 0")
        reference = self._reference_of(case, inputs)
        untouched = _fingerprints(inputs, case)
        started = time.perf_counter()
        call = case.spec.bind(inputs, case.threads)
        # Warms up, too: buffers that stay are allocated, new memory is touched.
        result, faults = with_faults(call)
        first_call_s = time.perf_counter() - started
        verdict = _judged(case, result, reference)
        del result
        row = partial(row, max_error_ulp=verdict.max_error_ulp, first_call_s=first_call_s)
        if not verdict.right:
            return row(status="wrong", reason=verdict.reason)
        is_long = first_call_s >= LONG_CALL_S
        if not is_long:  # a long call gets new memory every time, the first time as well
            faults = minor_faults(call)
        peak = read_peak(call, 1) if is_long else read_peak(call)
        if overwritten := [name for name, before in untouched.items() if _fingerprints(inputs, case)[name] != before]:
            del self._kept[_key(case)]  # they are no inputs any longer
            return row(status="wrong", reason=f"overwrites its inputs: {', '.join(overwritten)}")
        untimed = "" if self._settings.visit else "not timed: --benchmark-disable"
        return row(
            status="measured",
            reason="; ".join(filter(None, [peak.note, untimed])),
            peak_bytes=peak.peak_bytes,
            peak_high_bytes=peak.high_bytes,
            minor_faults=faults,
        )

    def ready(self) -> None:
        """Nothing: who gets the answer knows that the process has started."""

    def visit(self, subject: Case | Stream, seed: int) -> Timing:
        """One visit, with the inputs at places in memory that are drawn from ``seed``."""
        if self._settings.visit is None:
            raise ValueError("visits are not timed in this run")
        rng = random.Random(seed)  # noqa: S311 - places, not secrets
        if isinstance(subject, Stream):
            if subject.threads not in self._streamers:
                self._streamers[subject.threads] = Streamer(subject.threads)
            return self._streamers[subject.threads].visit(subject, self._settings.visit, rng)
        names = [*subject.spec.arguments, *(["out"] if subject.spec.writes_out else [])]
        with self._limited(subject, self._budget_bytes()):
            call = subject.spec.bind(relocated(self._inputs(subject), names, rng), subject.threads)
            timing = time_visit(call, self._settings.visit)
            if subject.spec.of_plugin and subject.array_bytes <= JUDGED_BYTES:
                self._judge_again(subject, call)
        return timing

    def _budget_bytes(self) -> int:
        """What a case may take in memory; asked anew after a second, for to ask takes as long as a part of a visit."""
        now = time.perf_counter()
        if now >= self._budget[0]:
            self._budget = now + BUDGET_HOLDS_S, memory_budget_bytes(self._settings.max_bytes)
        return self._budget[1]

    def recheck(self, case: Case) -> None:
        """Nothing, where a case still gives the right result.

        Raises:
            WrongError: it does not.
        """
        with self._limited(case, self._budget_bytes()):
            self._judge_again(case, case.spec.bind(self._inputs(case), case.threads))

    def _judge_again(self, case: Case, call: Callable[[], object]) -> None:
        verdict = _judged(case, call(), self._reference_of(case, self._inputs(case)))
        if not verdict.right:
            raise WrongError(f"right at first, then {verdict.reason}")

    @contextlib.contextmanager
    def _limited(self, case: Case, budget_bytes: int) -> Any:
        """A block that calls what is measured: threads and memory limited, and no gaps between large arrays."""
        peak_bytes = predict(case, self._settings.stream_bytes_per_s).peak_bytes
        with self._threads.limit(limits=case.threads), side_by_side(peak_bytes), memory_limit(budget_bytes):
            yield

    def _inputs(self, case: Case) -> Any:
        """The inputs, kept while there is room; those of the longest unused go first."""
        key = _key(case)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        while self._kept and _bytes(self._kept.values()) + 4 * case.array_bytes > self._kept_bytes:
            self._kept.popitem(last=False)
        self._kept[key] = operations()[case.operation].make_inputs(case, self._settings.seed)
        return self._kept[key]

    def _reference_of(self, case: Case, inputs: Any) -> Any:
        """The reference, kept while consecutive cases share it."""
        key = _key(case)
        if self._reference is None or self._reference[0] != key:
            self._reference = None  # the old arrays go before the new ones come
            make_reference = operations()[case.operation].make_reference
            self._reference = key, make_reference(inputs, self._settings.seed, ask_pytorch=self._ask_pytorch)
        return self._reference[1]


def _judged(case: Case, result: object, reference: Any) -> Verdict:
    lenience = {"flushes_subnormals": True} if case.spec.flushes_subnormals else {}
    return operations()[case.operation].judge(result, reference, **lenience)


def _fingerprints(inputs: Any, case: Case) -> dict[str, int]:
    """A number for each input array of a case that changes with it."""
    return {name: zlib.crc32(getattr(inputs, name)) for name in case.spec.arguments}


def _key(case: Case) -> tuple[object, ...]:
    """What decides a case's inputs; the operations of one ``make_inputs`` share them."""
    make_inputs = operations()[case.operation].make_inputs
    return make_inputs, case.batch, case.features, case.dtype, case.logits


def _bytes(kept: Any) -> int:
    arrays = (getattr(inputs, part.name) for inputs in kept for part in dataclasses.fields(inputs))
    return sum(array.nbytes for array in arrays)
