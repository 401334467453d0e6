"""The rounds of a run: which case or stream is visited next, until all agree or the time is up."""

import itertools
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ..instruments.agreement import Moment, agreeing, agreement_of, are_enough, best_pace_s
from ..instruments.bandwidth import Stream
from ..operations.cases import Case

Subject = Case | Stream

# What a subject may take in a round. One whose visits take longer has to save up for it: else a few calls of a second
# would take the time of hundreds of short ones. All that save are visited in the same rounds, one after another.
# A virtual machine gives memory that nobody has used for two seconds back to its host, and to fetch a gigabyte again
# takes ten times as long as the call for which it is fetched; so the next call had better come at once. The number of
# rounds and that of a sitting's processes have no divisor in common, so that each process has its turn.
SHARE_S, SAVING_ROUNDS = 0.08, 3
# What the visits that a subject still needs to settle may take of the time left, where each takes longer than this.
LARGEST_SHARE, CHEAP_S = 1 / 40, 0.4
LEAST_ROUND_S = 0.1  # with few subjects left; visits that follow each other closely say no more than one


@dataclass
class Rounds:
    """The order of visits, and what they found so far.

    Each round goes over what has not settled, in a new random order. A visit that would end after ``deadline_s`` is
    not made, nor a second one of a subject that would need more than ``LARGEST_SHARE`` of the time left to settle,
    unless the round would be over too soon without: gigabytes that take seconds a visit would not settle, and others
    would not for want of that time. The clock is that of ``now``, in seconds since the run began.
    """

    subjects: Sequence[Subject]
    visits: dict[str, list[Moment]]  # of each subject by its id
    deadline_s: float
    now: Callable[[], float]
    rng: random.Random
    number: int = 0
    every: bool = False  # whether what has settled is visited still
    sleep: Callable[[float], None] = time.sleep
    costs_s: dict[Subject, float] = field(default_factory=lambda: defaultdict(float))  # of the cheapest visit so far

    def __post_init__(self) -> None:
        self._agreed: set[Subject] = set()  # no more visits are needed
        self._settled: set[Subject] = set()  # as it would be stored now
        self._pace_s = best_pace_s(itertools.chain(*self.visits.values()))
        for subject in self.subjects:
            self._judge(subject)
        self._credit_s: dict[Subject, float] = defaultdict(float)

    @property
    def cases(self) -> tuple[int, int]:
        """How many cases have settled, and of how many."""
        cases = [subject for subject in self.subjects if isinstance(subject, Case)]
        return sum(case in self._settled for case in cases), len(cases)

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self.deadline_s - self.now())

    def upcoming(self) -> Iterator[Subject]:
        """Each subject to be visited now. What its visit found must be recorded before the next one is asked for."""
        while left := [subject for subject in self.subjects if self.every or subject not in self._agreed]:
            if self.now() + min(self.costs_s[subject] for subject in left) >= self.deadline_s:
                return
            self.number += 1
            started = self.now()
            for subject in self._in_order(left):
                cost_s = self.costs_s[subject]
                self._credit_s[subject] = min(self._credit_s[subject] + SHARE_S, max(SHARE_S, cost_s))
                has_time = self._can_settle(subject) or self.now() - started < LEAST_ROUND_S
                has_turn = not self._saves(subject) or self.number % SAVING_ROUNDS == 0
                can_pay = self._credit_s[subject] >= cost_s and self.now() + cost_s < self.deadline_s
                if has_time and has_turn and can_pay:
                    yield subject
            self.sleep(max(0.0, min(LEAST_ROUND_S, self.deadline_s - self.now()) - (self.now() - started)))

    def _in_order(self, subjects: Sequence[Subject]) -> list[Subject]:
        """In a new random order: first what can settle, and what saves in one place of it."""
        mixed = self.rng.sample(subjects, len(subjects))
        others = [subject for subject in mixed if not self._saves(subject)]
        place = self.rng.randrange(len(others) + 1)
        together = [*others[:place], *filter(self._saves, mixed), *others[place:]]
        return sorted(together, key=self._can_settle, reverse=True)

    def _saves(self, subject: Subject) -> bool:
        return self.costs_s[subject] > SHARE_S

    def record(self, subject: Subject, moment: Moment | None, cost_s: float) -> None:
        """Take in what a visit found, and how long it took with all that belongs to it; None: it failed for good."""
        if moment is None:
            self.subjects = [other for other in self.subjects if other != subject]
            return
        self.visits[str(subject)].append(moment)
        self._credit_s[subject] -= cost_s
        # Not the latest: that may have started a process, or have been made in a slow phase.
        self.costs_s[subject] = min(cost_s, self.costs_s[subject] or math.inf)
        if moment.pace_s < self._pace_s:  # what was taken for full pace was not
            self._pace_s = moment.pace_s
            for other in self.subjects:
                self._judge(other)
        self._judge(subject)

    def _judge(self, subject: Subject) -> None:
        visits = self.visits[str(subject)]
        rule = agreement_of(subject.threads, visits)
        settled = bool(agreeing(visits, rule, self._pace_s))
        agreed = settled and are_enough(visits, rule, self._pace_s)
        for found, holds in ((self._agreed, agreed), (self._settled, settled)):
            (found.add if holds else found.discard)(subject)

    def _can_settle(self, subject: Subject) -> bool:
        """Whether the visits that a subject misses fit into its share of the time left."""
        cost_s = self.costs_s[subject]
        if self.every or cost_s <= CHEAP_S:  # asked of every subject in every round, so what is quick comes first
            return True
        visits = self.visits[str(subject)]
        wanted = agreement_of(subject.threads, visits).least
        missing = wanted - len(visits)
        # Each one is visited once.
        return not 0 < missing < wanted or missing * cost_s <= LARGEST_SHARE * self.left_s
