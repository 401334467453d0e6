"""Which case is visited next, by a simulated clock, and to the second."""

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence

import pytest
from softmax_bench.instruments.agreement import Moment
from softmax_bench.instruments.bandwidth import ORDINARY, Stream
from softmax_bench.operations.cases import Case
from softmax_bench.sweep.open_run import PROCESSES
from softmax_bench.sweep.rounds import SAVING_ROUNDS, Rounds, Subject


def case_of(name: str) -> Case:
    return Case("softmax", name, 1, 10, "float64", "normal")


class Clock:
    """Rounds over cases whose visits take known times; times of calls differ too much to agree, unless ``alike``."""

    def __init__(self, seconds: dict[str, float], deadline_s: float, *, alike: Sequence[str] = ()) -> None:
        self.seconds, self.alike = seconds, alike
        self.now_s = 0.0
        self.order: list[tuple[float, str]] = []  # when each visit began, and of what
        self.slept: list[float] = []
        self.rounds = self.rounds_of([case_of(name) for name in seconds], deadline_s)

    def rounds_of(
        self, subjects: Sequence[Subject], deadline_s: float, visits: Mapping[str, list[Moment]] | None = None
    ) -> Rounds:
        return Rounds(
            subjects=subjects,
            visits=defaultdict(list, visits or {}),
            deadline_s=deadline_s,
            now=lambda: self.now_s,
            rng=random.Random(1),
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    def run(self, most: int = 10_000) -> None:
        for subject in self.rounds.upcoming():
            assert isinstance(subject, Case)
            name = subject.implementation
            began_s, cost_s = self.now_s, self.seconds[name]
            self.order.append((began_s, name))
            time_s = 1.0 if name in self.alike else 1.1 ** len(self.order)
            self.now_s += cost_s
            self.rounds.record(subject, Moment(began_s, time_s, time_s), cost_s)
            if len(self.order) == most:
                return

    def times_of(self, name: str) -> list[float]:
        return [began_s for began_s, visited in self.order if visited == name]


def test_no_visit_ends_after_the_deadline() -> None:
    clock = Clock({"a": 0.3}, deadline_s=10.0)
    clock.run()
    assert clock.now_s <= 10.0
    assert 10.0 - clock.now_s <= 0.3 + 0.1
    assert clock.rounds.left_s == 10.0 - clock.now_s
    clock.now_s = 11.0
    assert clock.rounds.left_s == 0.0


def test_a_round_takes_a_tenth_of_a_second_at_least() -> None:
    clock = Clock({"a": 0.04}, deadline_s=1.0)
    clock.run()
    assert clock.slept[:5] == pytest.approx([0.06] * 5)  # the rest of each round
    busy = Clock({"a": 0.06, "b": 0.06}, deadline_s=1.0)
    busy.run()
    assert set(busy.slept) == {0.0}


def test_a_round_never_sleeps_past_the_deadline() -> None:
    clock = Clock({"a": 0.001}, deadline_s=0.25)
    clock.run()
    assert clock.now_s <= 0.25


def test_what_takes_longer_than_8_hundredths_of_a_second_is_visited_in_every_third_round_or_seldomer() -> None:
    others = dict.fromkeys("abcd", 0.05)

    def share_of_rounds(cost_s: float) -> float:
        clock = Clock({"long": cost_s, **others}, deadline_s=100.0)
        clock.run(most=400)
        return len(clock.times_of("long")) / len(clock.times_of("a"))

    assert share_of_rounds(0.08) == pytest.approx(1, abs=0.02)
    assert share_of_rounds(0.16) == pytest.approx(1 / 3, abs=0.02)
    assert share_of_rounds(0.4) == pytest.approx(1 / 6, abs=0.02)  # saved up for in 5 rounds


def test_what_saves_up_is_visited_one_after_the_other_and_by_each_process_in_turn() -> None:
    clock = Clock({**dict.fromkeys("abcdefgh", 0.05), "long": 0.16, "longer": 0.2, "longest": 0.24}, deadline_s=100.0)
    clock.run(most=400)
    names = [name for _, name in clock.order]
    later = names[len(clock.seconds) :]  # after each one's first visit, from which its cost is known
    first = [place for place, name in enumerate(later) if name.startswith("long")]
    assert len(first) > 10
    runs = [later[place : place + 3] for place in first[::3]]
    assert all(sorted(run) == ["long", "longer", "longest"] for run in runs)
    assert len({tuple(run) for run in runs}) > 3  # in any order
    assert math.gcd(SAVING_ROUNDS, *PROCESSES.values()) == 1


def test_a_case_saves_no_more_than_a_visit_s_worth() -> None:
    clock = Clock({"a": 0.01, "b": 0.2}, deadline_s=1000.0)
    subject = case_of("a")
    clock.run(most=300)  # hundreds of rounds in which it takes less than it may
    clock.seconds["a"] = 0.2  # from now on each visit takes longer
    clock.rounds.costs_s[subject] = 0.2
    already = len(clock.order)
    clock.run(most=already + 60)
    later = clock.order[already:]
    assert sum(name == "a" for _, name in later) <= sum(name == "b" for _, name in later) + 2


def test_what_cannot_settle_comes_last_in_a_round_and_only_if_the_round_is_short() -> None:
    # 5 more visits of 3 s would need 15 s, and a fortieth of 100 s is 2.5 s.
    clock = Clock({"long": 3.0, **dict.fromkeys("abcd", 0.05)}, deadline_s=100.0)
    clock.run(most=60)
    assert len(clock.times_of("long")) == 1
    idle = Clock({"long": 3.0, "a": 0.02}, deadline_s=100.0)
    idle.run(most=400)
    assert len(idle.times_of("long")) > 1
    names = [name for _, name in idle.order]
    assert all(names[place - 1] == "a" for place, name in enumerate(names) if name == "long" and place > 1)


@pytest.mark.parametrize(("cost_s", "deadline_s", "goes_on"), [
    (0.4, 20.0, True),  # cheap, whatever is left
    (0.5, 20.0, False),  # 5 * 0.5 s is more than 20 s / 40
    (0.5, 90.0, False),  # more than 90 s / 40
    (0.5, 110.0, True),  # less than 110 s / 40
])  # fmt: skip
def test_only_what_fits_into_a_fortieth_of_the_time_left_is_visited_again(
    cost_s: float, deadline_s: float, *, goes_on: bool
) -> None:
    clock = Clock({"long": cost_s, **dict.fromkeys("abc", 0.05)}, deadline_s=deadline_s)
    clock.run(most=60)
    assert (len(clock.times_of("long")) > 1) is goes_on


def test_a_long_case_that_misses_a_single_visit_has_its_share_and_no_more() -> None:
    for cost_s, goes_on in ((1.4, True), (1.6, False)):  # 60 s / 40 is 1.5 s
        clock = Clock({"long": cost_s, **dict.fromkeys("abc", 0.05)}, deadline_s=60.0)
        long = case_of("long")
        clock.rounds.visits[str(long)] = [Moment(when_s, 1.1**when_s, 1.0) for when_s in range(5)]
        clock.rounds.costs_s[long] = cost_s
        clock.run(most=75)
        assert bool(clock.times_of("long")) is goes_on


def test_the_cheapest_visit_counts() -> None:
    clock = Clock({"a": 0.1}, deadline_s=100.0)
    subject = case_of("a")
    for cost_s in (5.0, 0.3, 0.7):  # the first one started a process
        clock.rounds.record(subject, Moment(0.0, 1.0, 1.0), cost_s)
    assert clock.rounds.costs_s[subject] == 0.3


def test_cases_that_settled_count_and_streams_are_no_cases() -> None:
    clock = Clock({"a": 0.01, "b": 0.01}, deadline_s=20.0, alike=["a"])
    assert clock.rounds.cases == (0, 2)
    clock.run()
    assert clock.rounds.cases == (1, 2)
    with_stream = clock.rounds_of([case_of("a"), Stream(ORDINARY, 1, 1 << 20)], 20.0)
    assert with_stream.cases == (0, 1)


def test_what_had_settled_before_is_visited_no_more() -> None:
    clock = Clock({"a": 0.01, "b": 0.01}, deadline_s=5.0)
    settled = [Moment(when_s, 1.0, 1.0) for when_s in range(20)]
    clock.rounds = clock.rounds_of(clock.rounds.subjects, 5.0, {str(case_of("a")): settled})
    assert clock.rounds.cases == (1, 2)
    clock.run()
    assert {name for _, name in clock.order} == {"b"}


def test_what_agreed_at_half_the_pace_is_visited_again_once_a_visit_shows_the_full_one() -> None:
    clock = Clock({"a": 0.01, "b": 0.01}, deadline_s=5.0)
    at_half = [Moment(when_s, 1.0, 1.0, 2e-5) for when_s in range(20)]
    clock.rounds = clock.rounds_of(clock.rounds.subjects, 5.0, {str(case_of("a")): at_half})
    assert clock.rounds.cases == (1, 2)
    clock.rounds.record(case_of("b"), Moment(0.0, 1.0, 1.0, 1e-5), 0.01)
    assert clock.rounds.cases == (0, 2)
    assert case_of("a") in set(itertools.islice(clock.rounds.upcoming(), 2))


def test_rounds_are_numbered_from_the_last_one_on() -> None:
    clock = Clock({"a": 0.05, "b": 0.05}, deadline_s=100.0)
    clock.rounds.number = 7
    numbers = []
    for subject in clock.rounds.upcoming():
        numbers.append(clock.rounds.number)
        clock.now_s += 0.05
        clock.rounds.record(subject, Moment(clock.now_s, 1.1 ** len(numbers), 1.0), 0.05)
        if len(numbers) == 4:
            break
    assert numbers == [8, 8, 9, 9]
