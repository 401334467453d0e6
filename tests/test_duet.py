"""How a duet times two sides, with calls that advance a clock of the test's, and how it examines them."""

import gc
import math
import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from softmax_bench.implementations.softmax import vectorized
from softmax_bench.instruments.memory import Peak
from softmax_bench.operations.cases import Case, Inputs
from softmax_bench.regression import duet
from softmax_bench.regression.duel import Duel, Effort, Side, Task, Value
from softmax_bench.regression.duet import Bind, error_of_median, padded
from softmax_bench.verification.calling.convention import Convention

CASE = Case("softmax", "f", 4, 16, "float64", "normal")
DUEL = Duel("f", CASE, Side("base", "f"), Side("work", "f"))
QUICK = Effort(precision=0.01, limit_s=60.0)


class Clocked:
    """The sides of duels, whose calls take seconds that the test gives, by role; each call is noted."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.ticks_s = 0.0  # by which the clock goes on whenever somebody has looked at it
        self.looks = 0
        self.seconds: dict[str, Callable[[int], float]] = {}  # of a role's call, by how many it has made
        self.calls: list[str] = []
        self.bound: list[tuple[str, int]] = []  # role, and where the inputs lie
        self.loaded: list[tuple[str, str, int]] = []

    def read(self) -> float:
        self.looks += 1
        self.now_s += self.ticks_s
        return self.now_s

    def take(self, base_s: float, work_s: float) -> None:
        self.seconds = {"base": lambda _: base_s, "work": lambda _: work_s}

    def load(self, side: Side, role: str, threads: int = 1) -> Bind:
        self.loaded.append((side.place, role, threads))

        def bind(inputs: Inputs) -> Callable[[], Any]:
            self.bound.append((role, inputs.probs.ctypes.data))

            def call() -> Any:
                self.calls.append(role)
                self.now_s += self.seconds[role](self.calls.count(role))
                return vectorized(inputs.probs, inputs.grad_output)

            return call

        return bind

    def perform(self, effort: Effort | None, duel: Duel = DUEL, seed: int = 1) -> Value:
        self.calls.clear()
        self.bound.clear()
        (value,) = duet.perform(Task([duel], seed, effort))
        return value


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clocked]:
    """The sides of the test, in this process, whose heap and collector stay as they are."""
    clocked = Clocked()
    monkeypatch.setattr(duet, "time", SimpleNamespace(perf_counter=clocked.read))
    monkeypatch.setattr(duet, "SideLoader", lambda: clocked)
    monkeypatch.setattr(duet, "settle_heap", lambda: None)
    yield clocked
    gc.enable()


def test_a_value_is_the_ratio_of_the_fastest_slots(clocked: Clocked) -> None:
    clocked.take(1e-5, 2e-5)
    value = clocked.perform(QUICK)
    assert value.log_ratio == pytest.approx(math.log(2.0))
    assert (value.base_s, value.work_s) == pytest.approx((1e-5, 2e-5))
    # A first call; three slots of the base to see how long a call takes; 8 blocks of a call to warm up and four slots
    # of 25 calls, which take a quarter of a millisecond.
    assert clocked.calls.count("base") == 1 + 3 + 8 * (1 + 4 * 25)
    assert clocked.calls.count("work") == 1 + 8 * (1 + 4 * 25)
    assert not gc.isenabled()


def test_slots_that_something_slowed_do_not_count(clocked: Clocked) -> None:
    # Of each four slots one is undisturbed, and never the same one of both sides.
    clocked.seconds = {
        "base": lambda number: 1e-5 if number < 6 or (number - 5) % 101 < 26 else 7e-5,
        "work": lambda number: 3e-5 if number < 3 or (number - 2) % 101 > 75 else 9e-5,
    }
    value = clocked.perform(QUICK)
    assert value.log_ratio == pytest.approx(math.log(3.0))
    assert (value.base_s, value.work_s) == pytest.approx((1e-5, 3e-5))


def test_which_side_goes_first_is_drawn_and_then_alternates(clocked: Clocked) -> None:
    clocked.take(2e-4, 2e-4)  # a slot is one call
    first = set()
    for seed in range(8):
        clocked.perform(QUICK, seed=seed)
        block = clocked.calls[7:15]  # after the first calls, the looks at the base, and the warm calls of the block
        assert block[0:2] == block[3:1:-1] == block[4:6] == block[7:5:-1]
        assert sorted(block[:2]) == ["base", "work"]
        first.add(block[0])
    assert first == {"base", "work"}


def test_long_calls_are_timed_in_twelve_pairs_and_nothing_is_warmed(clocked: Clocked) -> None:
    clocked.take(0.0031, 0.0062)
    value = clocked.perform(QUICK)
    assert value.log_ratio == pytest.approx(math.log(2.0))
    assert clocked.calls.count("base") == 1 + 1 + 12
    assert clocked.calls.count("work") == 1 + 12
    clocked.take(0.0029, 0.0029)  # a block of four slots of a call
    clocked.perform(QUICK)
    assert clocked.calls.count("work") == 1 + 8 * (1 + 4)


def test_blocks_are_added_until_the_value_is_precise_or_the_time_is_up(clocked: Clocked) -> None:
    def block_of(number: int) -> int:
        return (number - 3) // 5

    clocked.seconds = {"base": lambda _: 2e-4, "work": lambda number: 2e-4 * (1.0 + 0.1 * (block_of(number) % 3))}
    few = clocked.perform(Effort(precision=1.0, limit_s=60.0))
    assert len(clocked.calls) == 2 + 3 + 8 * 10
    assert few.log_ratio == pytest.approx(math.log(1.1))
    clocked.perform(Effort(precision=0.02, limit_s=60.0))
    more = (len(clocked.calls) - 5) // 10
    assert 8 < more < 120
    began_s = clocked.now_s
    clocked.perform(Effort(precision=1e-9, limit_s=0.2))
    assert clocked.now_s - began_s == pytest.approx(0.2, abs=0.01)


def test_our_own_code_gets_new_places_for_each_block_and_a_library_keeps_its_call(clocked: Clocked) -> None:
    clocked.take(2e-4, 2e-4)
    clocked.perform(QUICK)
    assert len(clocked.bound) == 2 * (1 + 8)
    assert len({place for _, place in clocked.bound}) > 4
    assert all(base[1] == work[1] for base, work in zip(clocked.bound[::2], clocked.bound[1::2], strict=True))
    clocked.perform(QUICK, Duel("f", CASE, DUEL.base, DUEL.work, library="torch"))
    assert len(clocked.bound) == 2


@pytest.mark.parametrize("good", [0, 100])
def test_a_side_that_raises_has_failed_at_whichever_call(clocked: Clocked, good: int) -> None:
    def no(number: int) -> float:
        if number > good:
            raise ValueError("no gradient")
        return 1e-5

    clocked.seconds = {"base": lambda _: 1e-5, "work": no}
    value = clocked.perform(QUICK)
    assert value.failed == "ValueError: no gradient"
    assert math.isnan(value.log_ratio)


def test_examined_are_the_base_s_largest_and_the_work_s_smallest_peak(
    clocked: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peaks(call: Callable[[], object]) -> Peak:
        call()
        return Peak(1000 * clocked.calls.count("work"), 9000)

    clocked.take(1e-5, 1e-5)
    monkeypatch.setattr(duet, "read_peak", peaks)
    assert clocked.perform(None) == Value("f", base_peak_bytes=9000, work_peak_bytes=2000)


@pytest.mark.parametrize("role", ["base", "work"])
def test_a_side_that_raises_while_it_is_examined_is_wrong(clocked: Clocked, role: str) -> None:
    def no(number: int) -> float:
        raise ValueError("no gradient")

    clocked.seconds = {"base": lambda _: 1e-5, "work": lambda _: 1e-5, role: no}
    value = clocked.perform(None)
    wrong, right = (value.base_wrong, value.work_wrong)[:: 1 if role == "base" else -1]
    assert wrong == "raises ValueError: no gradient"
    assert right == ""
    peaks = {"base": value.base_peak_bytes, "work": value.work_peak_bytes}
    assert peaks.pop(role) is None
    assert peaks.popitem()[1] is not None


def test_a_task_loads_each_side_once_and_takes_its_duels_in_an_order_of_its_seed(
    clocked: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Any] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda *arguments: used.append(arguments))
    clocked.take(2e-4, 2e-4)
    case = Case("softmax", "f", 4, 16, "float64", "normal", threads=2)
    duels = [Duel(label, case, Side(label, "f"), Side("work", "f")) for label in "abc"]
    orders = {
        tuple(value.label for value in duet.perform(Task(duels, seed, QUICK, processors=(0, 1)))) for seed in range(8)
    }
    assert len(orders) > 1
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert clocked.loaded[:3] == [("a", "base", 2), ("work", "work", 2), ("b", "base", 2)]
    assert used == [(0, (0, 1))] * 8
    clocked.perform(QUICK)
    assert len(used) == 8  # a task without processors may run on any


@pytest.mark.parametrize(("share", "spun_s"), [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0)])
def test_padding_lasts_for_its_share_of_the_call(clocked: Clocked, share: float, spun_s: float) -> None:
    def call(first: int, *, second: int) -> int:
        clocked.now_s += 1.0
        return first + second

    clocked.ticks_s = 1e-3
    assert padded(call, share)(3, second=4) == 7
    assert clocked.now_s == pytest.approx(spun_s, abs=0.01)
    assert clocked.looks < 1010


def test_the_error_of_the_median_is_that_of_a_normal_sample() -> None:
    values = np.random.default_rng(1).normal(5.0, 0.1, size=10_001).tolist()
    assert error_of_median(values) == pytest.approx(0.1 * math.sqrt(math.pi / 2) / math.sqrt(10_001), rel=0.03)
    assert error_of_median([1.0, 2.0, 3.0, 4.0]) == pytest.approx(1.858 * 1.0 / 2.0)
    assert error_of_median([1.0, 1.0, 1.0, 99.0]) == 0.0  # an outlier does not move it


def test_what_shares_a_process() -> None:
    def sitting(library: str, threads: int = 1) -> str:
        case = Case("softmax", "f", 4, 16, "float64", "normal", threads)
        return Duel("f", case, DUEL.base, DUEL.work, library=library).sitting

    assert (sitting("numpy"), sitting("numba"), sitting("torch")) == ("numpy", "numpy", "torch:1")
    assert (sitting("numpy", 2), sitting("numba", 2), sitting("torch", 2)) == ("numpy:2", "numba:2", "torch:2")
    target = Side("mine.py", "Layer.backward", convention=Convention("softmax", "function", ("probs", "grad_output")))
    of_targets = Duel("f", CASE, target, target)
    assert (of_targets.sitting, of_targets.of_targets, DUEL.of_targets) == ("targets", True, False)
    assert target.target == "mine.py:Layer.backward"
