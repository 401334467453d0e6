"""When visits agree, what the time is then, and which case is visited next."""

import dataclasses
import math
import random
from collections import defaultdict

import pytest
from softmax_bench.instruments.agreement import (
    AGREEMENT,
    OF_LONG_CALLS,
    OF_THREADS,
    Moment,
    agree,
    agreement_of,
    best_pace_s,
    estimated,
    fastest_moments,
)
from softmax_bench.operations.cases import Case
from softmax_bench.sweep.rounds import SHARE_S, Rounds

APART_S, WITHIN, ENOUGH = AGREEMENT.apart_s, AGREEMENT.within, AGREEMENT.moments


def moments(seconds: list[float], every_s: float = 2 * APART_S) -> list[Moment]:
    return [Moment(place * every_s, time_s, 1.1 * time_s) for place, time_s in enumerate(seconds)]


def test_visits_from_different_moments_that_are_alike_agree() -> None:
    alike = moments([1.0 + 0.5 * WITHIN * place / AGREEMENT.visits for place in range(AGREEMENT.visits)])
    assert agree(alike, AGREEMENT)
    assert not agree(alike[:-1], AGREEMENT)
    estimate = estimated(alike, AGREEMENT)
    assert estimate.settled
    assert 1.0 <= estimate.time_s <= 1.0 + WITHIN
    assert estimate.low_s < estimate.time_s < estimate.high_s
    assert estimate.disturbed == pytest.approx(1.1, rel=WITHIN)


def test_visits_of_one_slow_phase_do_not_agree_however_alike_they_are() -> None:
    phase = moments([2.0] * 10 * ENOUGH, every_s=APART_S / (20 * ENOUGH))
    assert not agree(phase, AGREEMENT)
    assert len(fastest_moments(phase, APART_S, ENOUGH)) == 1


def test_slowed_visits_do_not_change_the_time() -> None:
    fast = moments([1.0] * ENOUGH)
    slow = [Moment(moment.when_s + 0.5, 2.0, 2.5) for moment in fast]
    estimate = estimated([*fast, *slow, *slow], AGREEMENT)
    assert estimate.settled
    assert estimate.time_s == pytest.approx(1.0)
    assert estimate.disturbed > 2.0


def test_a_faster_visit_unsettles_what_agreed_only_with_itself() -> None:
    agreed = moments([2.0] * AGREEMENT.visits)
    assert agree(agreed, AGREEMENT)
    faster = Moment(agreed[-1].when_s + 10.0, 1.0, 1.0)
    assert not agree([*agreed, faster], AGREEMENT)


def test_when_the_time_is_up_fewer_visits_are_enough() -> None:
    few = moments([1.0 + 0.9 * WITHIN * place / ENOUGH for place in range(ENOUGH)] + [9.0])
    assert not agree(few, AGREEMENT)
    estimate = estimated(few, AGREEMENT)
    assert estimate.settled
    assert estimate.high_s / estimate.low_s > 1.0 + WITHIN


def test_calls_with_several_threads_are_visited_often_enough_to_meet_the_fast_way_of_waking_one() -> None:
    slow, fast = moments([2.5] * AGREEMENT.visits), moments([1.0] * ENOUGH)
    assert agree(slow, AGREEMENT)
    assert not agree(slow, agreement_of(2, slow))
    assert not estimated(slow, agreement_of(2, slow)).settled
    enough = [moment for _ in range(OF_THREADS.visits) for moment in slow] + fast
    assert estimated(enough, agreement_of(2, slow)).time_s == pytest.approx(1.0)


def test_calls_of_milliseconds_are_visited_more_often_because_a_visit_of_them_has_few_calls() -> None:
    few = moments([0.005] * AGREEMENT.visits)
    assert agree(few, AGREEMENT)
    assert not estimated(few, agreement_of(1, few)).settled
    many = moments([0.005] * OF_LONG_CALLS.visits)
    assert agree(many, agreement_of(1, many))
    for short_or_very_long in (moments([0.0005] * AGREEMENT.visits), moments([0.05] * AGREEMENT.visits)):
        assert agree(short_or_very_long, agreement_of(1, short_or_very_long))


def test_a_machine_that_is_slow_throughout_gives_a_slow_time_that_has_settled() -> None:
    estimate = estimated(moments([2.0] * 20), AGREEMENT)
    assert estimate.settled
    assert estimate.time_s == 2.0


def test_one_visit_alone_has_not_settled_and_may_have_been_a_slow_one() -> None:
    estimate = estimated(moments([1.0]), AGREEMENT)
    assert not estimate.settled
    assert estimate.visits == 1
    assert estimate.low_s <= 0.6 * estimate.time_s


def test_what_never_settles_has_an_interval_that_covers_its_fastest_moments() -> None:
    spread = moments([1.0 * 1.3**place for place in range(10)])
    estimate = estimated(spread, AGREEMENT)
    assert not estimate.settled
    assert estimate.low_s <= 1.0
    assert estimate.high_s >= 1.3 ** (ENOUGH - 1)


FULL, SLOW = 1e-5, 1.8e-5  # what the loop beside a visit takes


def paced(seconds: list[float], paces_s: list[float]) -> list[Moment]:
    every = moments(seconds)
    return [dataclasses.replace(moment, pace_s=pace_s) for moment, pace_s in zip(every, paces_s, strict=True)]


def test_visits_that_agree_while_the_core_is_shared_have_not_settled() -> None:
    alike = [2.0] * AGREEMENT.visits
    slow = paced(alike, [SLOW] * len(alike))
    assert agree(slow, AGREEMENT, SLOW)  # nothing is known to be faster
    assert not agree(slow, AGREEMENT, FULL)
    estimate = estimated(slow, AGREEMENT, FULL)
    assert not estimate.settled
    assert estimate.low_s <= 1.0  # undisturbed, a call may take half of it
    many = paced(alike, [FULL, FULL, SLOW] * (len(alike) // 3))
    assert agree(many, AGREEMENT, FULL)
    assert agree(moments(alike), AGREEMENT, FULL)  # of an earlier version, whose visits say nothing of it


def test_a_case_is_visited_on_until_its_fastest_visits_are_a_choice() -> None:
    quick = [FULL] * AGREEMENT.moments
    slow = [SLOW] * (2 * AGREEMENT.visits)
    few = paced([2.0] * len(quick + slow), quick + slow)
    assert not agree(few, AGREEMENT, FULL)
    assert estimated(few, AGREEMENT, FULL).settled  # if there is no time for more
    assert agree(paced([2.0] * len(quick + slow + quick), quick + slow + quick), AGREEMENT, FULL)


def test_what_has_not_settled_takes_as_long_as_its_visits_at_full_pace() -> None:
    few = paced([1.0, 1.02, 1.8, 1.81, 1.82, 1.83, 1.84], [FULL, FULL, *[SLOW] * 5])
    estimate = estimated(few, AGREEMENT, FULL)
    assert estimate.time_s == pytest.approx(1.01)
    assert estimate.low_s <= 0.6
    assert estimate.high_s >= 1.83
    none = paced([1.8, 1.81, 1.82, 1.83, 1.84, 1.85], [SLOW] * 6)
    assert estimated(none, AGREEMENT, FULL).time_s == 1.8
    assert best_pace_s(few) == FULL
    assert best_pace_s(moments([1.0])) == math.inf


class Simulation:
    """Cases whose calls take a known time, and a clock that runs while they are visited."""

    def __init__(self, seconds: dict[str, float], deadline_s: float, noise: float = 0.0, seed: int = 1) -> None:
        self.cases = {Case("softmax", name, 1, 10, "float64", "normal"): cost_s for name, cost_s in seconds.items()}
        self.clock_s = 0.0
        self.noise = noise
        self.rng = random.Random(seed)
        self.order: list[str] = []
        self.rounds = Rounds(
            subjects=list(self.cases),
            visits=defaultdict(list),
            deadline_s=deadline_s,
            now=lambda: self.clock_s,
            rng=random.Random(seed),
            sleep=self.pass_time,
        )

    def pass_time(self, seconds: float) -> None:
        self.clock_s += seconds

    def run(self) -> None:
        for subject in self.rounds.upcoming():
            assert isinstance(subject, Case)
            cost_s = self.cases[subject]
            self.order.append(subject.implementation)
            when_s, time_s = self.clock_s, cost_s * (1.0 + self.noise * self.rng.random())
            self.pass_time(cost_s)
            self.rounds.record(subject, Moment(when_s, time_s, time_s), cost_s)


def test_rounds_end_when_all_have_settled() -> None:
    simulation = Simulation({"vectorized": 0.01, "row_loop": 0.02}, deadline_s=1000.0)
    simulation.run()
    assert simulation.rounds.cases == (2, 2)
    assert (ENOUGH - 1) * APART_S <= simulation.clock_s < 3 * ENOUGH * APART_S


def test_rounds_end_on_time_when_something_never_settles() -> None:
    simulation = Simulation({"vectorized": 0.01, "row_loop": 0.9}, deadline_s=30.0, noise=1.0)
    simulation.run()
    assert 28.0 < simulation.clock_s <= 30.0
    assert simulation.rounds.cases[0] < 2


def test_each_round_has_an_order_of_its_own() -> None:
    simulation = Simulation(dict.fromkeys("abcdefgh", 0.05), deadline_s=8.0, noise=1.0)
    simulation.run()
    first, second = (tuple(simulation.order[start : start + 8]) for start in (0, 8))
    assert sorted(first) == sorted(second)
    assert first != second


def test_a_long_case_does_not_take_the_time_of_the_short_ones() -> None:
    simulation = Simulation({"long": 20 * SHARE_S, **dict.fromkeys("abcd", 0.1)}, deadline_s=60.0, noise=1.0)
    simulation.run()
    assert 1 <= simulation.order.count("long") < simulation.order.count("a") / 4


def test_what_cannot_settle_in_the_time_left_is_visited_once() -> None:
    simulation = Simulation({"long": 12.0, **dict.fromkeys("abcdefgh", 0.1)}, deadline_s=60.0, noise=1.0)
    simulation.run()
    assert simulation.order.count("long") == 1


def test_with_nothing_else_left_it_is_visited_again_all_the_same() -> None:
    simulation = Simulation({"long": 12.0}, deadline_s=100.0)
    simulation.run()
    assert simulation.order.count("long") >= 3


def test_a_run_of_one_case_waits_until_its_visits_lie_apart() -> None:
    simulation = Simulation({"vectorized": 0.001}, deadline_s=60.0)
    simulation.run()
    assert simulation.rounds.cases == (1, 1)
    assert simulation.clock_s >= (ENOUGH - 1) * APART_S
    assert len(simulation.order) < 30 * ENOUGH  # it sleeps between rounds, and does not fill the table


def test_what_failed_is_visited_no_more() -> None:
    simulation = Simulation({"vectorized": 0.01, "row_loop": 0.01}, deadline_s=60.0)
    broken = next(case for case in simulation.cases if case.implementation == "row_loop")
    simulation.rounds.record(broken, None, 0.01)
    simulation.run()
    assert set(simulation.order) == {"vectorized"}


def test_with_every_round_the_time_is_used_up() -> None:
    simulation = Simulation({"vectorized": 0.01}, deadline_s=60.0)
    simulation.rounds.every = True
    simulation.run()
    assert simulation.clock_s > 59.0
    (visits,) = simulation.rounds.visits.values()
    assert math.isclose(estimated(visits, AGREEMENT).time_s, 0.01)
