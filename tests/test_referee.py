"""How a referee judges two targets, with sides whose blocks are scripted: no process is started."""

import contextlib
import dataclasses
import itertools
import math
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from softmax_bench.implementations import Implementation, registered
from softmax_bench.operations.cases import Case
from softmax_bench.regression import referee
from softmax_bench.regression.duel import Duel, Effort, Side, Task, Value
from softmax_bench.regression.targets import Verifying, own_contender, verified
from softmax_bench.verification.calling.convention import Convention
from softmax_bench.verification.judging import timing
from softmax_bench.verification.judging.checking import Checked
from softmax_bench.verification.judging.timing import Block
from softmax_bench.verification.process.block import Made
from softmax_bench.verification.process.failures import Failure
from softmax_bench.verification.process.handover import Handover
from softmax_bench.verification.process.isolation import Isolated

BASE, WORK = "base.py:f", "work.py:f"
FUNCTION = Convention("softmax", "function", ("probs", "grad_output"))
RIGHT = Checked("", (), 0.5)
CASE = Case("softmax", "f", 4, 16, "float64", "normal")
DUEL = Duel(
    "f 4 × 16",
    CASE,
    Side("base.py", "f", convention=FUNCTION, root="/base"),
    Side("work.py", "f", convention=FUNCTION, limited=True, timeout_s=7.0, max_bytes=10**8),
)
MADE = Made((4, 16), "float64")
Blocks = Iterable[Block | Failure]
HANDOVER = Handover(MADE, (np.zeros((4, 16)),), (1e-5,), 2e-5, 2e-5)


def block(call_s: float, *, wrong: str = "", odd: tuple[str, ...] = (), doubt: str = "") -> Block:
    return Block(call_s, Checked(wrong, odd, 0.5), doubt, HANDOVER)


class Subject:
    """In place of the process of a side."""

    def __init__(self, script: "Script", target: str, root: Path | None) -> None:
        self._script, self.target, self.root, self.is_open = script, target, root, False

    def __enter__(self) -> Self:
        self.is_open = True
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open = False

    def helpers(self) -> int:
        return self._script.helping.get(self.target, 0)


class Script:
    """In place of the timekeeper and of what starts processes: the blocks and peaks of each side, by target."""

    def __init__(self) -> None:
        self.helping: dict[str, int] = {}  # processes at work beside a side
        self.started: list[Subject] = []
        self.blocks: dict[str, Iterator[Block | Failure]] = {}
        self.peaks: dict[str, Any] = dict.fromkeys((BASE, WORK), ((1000,), ()))
        self.asked: list[tuple[str, int, Made | None, bool]] = []

    def limited(self, target: str, timeout_s: float | None, max_bytes: int | None, root: Path | None) -> Subject:
        assert (timeout_s, max_bytes) == ((7.0, 10**8) if target == WORK else (None, None))
        self.started.append(Subject(self, target, root))
        return self.started[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def block(
        self, subject: Subject, convention: Convention, case: Case, calls: int, made: Made | None, *, inexact: bool
    ) -> Block | Failure:
        assert subject.is_open
        assert case == CASE
        self.asked.append((subject.target, calls, made, inexact))
        return next(self.blocks[subject.target])

    def peak(self, subject: Subject, convention: Convention, case: Case, made: Made, *, inexact: bool) -> Any:
        assert made == MADE
        return self.peaks[subject.target]

    def perform(self, base: Blocks, work: Blocks, effort: Effort | None, duel: Duel = DUEL) -> Value:
        """What a referee finds of a duel whose sides give these blocks."""
        self.blocks.update({BASE: iter(base), WORK: iter(work)})
        (value,) = referee.perform(Task([duel], seed=1, effort=effort))
        assert not any(subject.is_open for subject in self.started)
        return value

    def blocks_of(self, target: str) -> list[int]:
        """The calls of each block that a side was asked for, in order."""
        return [calls for asked, calls, _, _ in self.asked if asked == target]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """What the sides of the test do."""
    script = Script()
    monkeypatch.setattr(referee, "Isolated", script)
    monkeypatch.setattr(referee, "Timekeeper", lambda: script)
    handler = signal.getsignal(signal.SIGTERM)
    yield script
    signal.signal(signal.SIGTERM, handler)


QUICK = Effort(precision=0.01, limit_s=60.0)


def every(*call_s: float) -> Iterator[Block]:
    return map(block, itertools.cycle(call_s))


def test_a_value_is_the_ratio_of_the_fastest_blocks_of_a_round(script: Script) -> None:
    # The first block is one call that finds out how long calls take; then each round has four, one of them undisturbed.
    work = [block(2e-5), *itertools.islice(every(5e-5, 2e-5, 9e-5, 3e-5), 16)]
    value = script.perform(every(1e-5), work, QUICK)
    assert value == Value("f 4 × 16", log_ratio=math.log(2e-5 / 1e-5), base_s=1e-5, work_s=2e-5)
    for target in (BASE, WORK):
        first, *others = script.blocks_of(target)
        assert first == 1
        assert others == [int(0.00015 / 2e-5)] * 16  # as many calls as the slower side makes in 150 µs; four rounds
    makes = [made for target, _, made, _ in script.asked if target == BASE]
    assert makes == [None, *[MADE] * 16]  # a warm call before the first block only
    assert {(target, inexact) for target, _, _, inexact in script.asked} == {
        (BASE, False),
        (WORK, True),
    }


def test_long_calls_are_timed_in_twelve_pairs(script: Script) -> None:
    value = script.perform(every(0.02), every(0.03), QUICK)
    assert value.log_ratio == pytest.approx(math.log(1.5))
    assert script.blocks_of(BASE) == script.blocks_of(WORK) == [1] * 13
    order = [target for target, *_ in script.asked[2:]]
    assert all(set(order[first : first + 2]) == {BASE, WORK} for first in range(0, 24, 2))
    assert len(set(order[::2])) == 2  # which of the two begins is drawn


def test_sides_that_spread_are_timed_until_the_limit_and_at_least_three_rounds(script: Script) -> None:
    noisy = itertools.cycle([1e-5] * 4 + [2e-5] * 4)
    script.perform(every(1e-5), map(block, itertools.chain([1e-5], noisy)), Effort(precision=1e-9, limit_s=0.05))
    assert len(script.blocks_of(BASE)) > 1 + 4 * 4
    script.asked.clear()
    script.perform(every(1e-5), every(1e-5), Effort(precision=1e-9, limit_s=0.0))
    assert len(script.blocks_of(BASE)) == 1 + 4 * 3


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (block(1e-5, wrong="returns zeros"), "it returns zeros"),
        (block(1e-5, odd=("returns a list", "sleeps")), "it returns a list; sleeps"),
        (Failure("raised", "raises ValueError: no", culprit="work.py:3"), "raises ValueError: no at work.py:3"),
        (Failure("hung", "did not answer"), "did not answer"),
    ],
)
@pytest.mark.parametrize("after", [0, 6])
def test_a_side_that_is_wrong_is_wrong_in_the_work_and_fails_in_the_base(
    script: Script, bad: Block | Failure, said: str, after: int
) -> None:
    then_bad = [*[block(1e-5)] * after, bad]
    for effort in (QUICK, None) if after == 0 else (QUICK,):
        assert script.perform(every(1e-5), then_bad, effort) == Value("f 4 × 16", work_wrong=said)
        of_base = Value("f 4 × 16", base_wrong=said) if effort is None else Value("f 4 × 16", failed=said)
        assert script.perform(then_bad, every(1e-5), effort) == of_base


def test_a_clock_may_be_doubted_for_some_seconds(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "PATIENCE_S", 0.2)
    doubted = [block(1e-9, doubt="has a clock that does not agree")] * 50
    value = script.perform(itertools.chain(doubted, every(1e-5)), every(1e-5), QUICK)
    assert value == Value("f 4 × 16", log_ratio=0.0, base_s=1e-5, work_s=1e-5)
    always = itertools.repeat(doubted[0])
    assert script.perform(every(1e-5), always, QUICK).failed == "it has a clock that does not agree"
    with pytest.raises(RuntimeError, match="^f 4 × 16: it has a clock that does not agree$"):
        script.perform(every(1e-5), always, None)


@pytest.mark.parametrize(("target", "part"), [(WORK, "work_wrong"), (BASE, "failed")])
def test_a_side_with_other_processes_at_work_is_wrong(script: Script, target: str, part: str) -> None:
    script.helping[target] = 2
    value = script.perform(every(1e-5), every(1e-5), QUICK)
    assert getattr(value, part) == "it has 2 more processes at work, whose time is not seen"
    assert math.isnan(value.log_ratio)


def test_peaks_are_the_largest_of_the_base_and_the_smallest_of_the_work(script: Script) -> None:
    script.peaks.update({BASE: ((1000, 3000), ()), WORK: ((5000, 4000), ())})
    value = script.perform(every(1e-5), every(1e-5), None)
    assert value == Value("f 4 × 16", base_peak_bytes=3000, work_peak_bytes=4000)
    script.peaks[WORK] = ((), ("does not say its peak", "sleeps"))
    assert script.perform(every(1e-5), every(1e-5), None).work_wrong == "it does not say its peak; sleeps"
    script.peaks[BASE] = Failure("memory", "runs out of memory", culprit="base.py:7")
    assert script.perform(every(1e-5), every(1e-5), None).base_wrong == "runs out of memory at base.py:7"


def test_each_side_has_one_process_that_its_cases_share(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[int, Sequence[int]]] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda *arguments: used.append(arguments))
    script.blocks.update({BASE: every(1e-5), WORK: every(1e-5)})
    same = dataclasses.replace(DUEL, label="the same", work=DUEL.base)
    duels = [DUEL, same, dataclasses.replace(DUEL, label="another")]
    orders = set()
    for seed in range(8):
        script.started.clear()
        values = referee.perform(Task(duels, seed, QUICK, processors=(1,)))
        orders.add(tuple(value.label for value in values))
        # A function against itself has two processes as well.
        assert sorted((subject.target, subject.root) for subject in script.started if subject.root is None) == [
            (WORK, None)
        ]
        assert [subject.target for subject in script.started if subject.root == Path("/base")] == [BASE] * 2
    assert len(orders) > 1
    assert used == [(0, (1,))] * 8
    assert all(value.log_ratio == 0.0 for value in values)


def test_objects_have_one_call_in_a_block(script: Script) -> None:
    pair = Convention("softmax", "pair", ("grad_output",), forward="forward", forward_arguments=("logits",))
    duel = dataclasses.replace(DUEL, work=dataclasses.replace(DUEL.work, convention=pair))
    script.perform(every(1e-5), every(1e-5), QUICK, duel)
    assert set(script.blocks_of(BASE)) == set(script.blocks_of(WORK)) == {1}  # of both, so that they stay alike


def test_sigterm_ends_a_referee_with_its_sides(script: Script) -> None:
    def ending() -> Iterator[Block]:
        yield block(1e-5)
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit) as ended, contextlib.suppress(RuntimeError):
        script.perform(every(1e-5), ending(), QUICK)
    assert ended.value.code == 128 + signal.SIGTERM
    assert not any(subject.is_open for subject in script.started)


COPY = """
def copy(probs, grad_output):
    return (grad_output - (grad_output * probs).sum(axis=1, keepdims=True)) * probs
"""


def test_a_form_of_the_suite_is_called_as_a_users_copy_of_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(COPY, encoding="utf-8")
    copy = verified(f"{tmp_path / 'mine.py'}:copy", Verifying()).side
    form = own_contender(registered()["softmax", "vectorized"]).side
    assert copy.convention is not None
    assert form.convention is not None
    called = [(each.style, each.arguments, each.layout, each.container) for each in (copy.convention, form.convention)]
    assert called[0] == called[1]


# JAX starts with as many threads as there are processors, of which a referee's sides have one.
FORMS = [spec for spec in registered().values() if spec.operation == "softmax" and spec.library != "jax"]


@pytest.mark.parametrize("form", FORMS, ids=lambda spec: spec.name)
def test_every_form_of_the_suite_can_be_a_side_of_a_comparison_with_a_target(form: Implementation) -> None:
    if not form.installed:
        pytest.skip(f"{form.library} is not installed")
    side = own_contender(form).side
    assert side.convention is not None
    case = Case("softmax", form.name, 6, 40, "float64", "normal")
    with Isolated.limited(side.target, side.timeout_s, None) as subject, timing.Timekeeper() as keeper:
        found = keeper.block(subject, side.convention, case, 3, trusted=True)
    assert isinstance(found, Block), found
    assert found.checked.complaints == ()
