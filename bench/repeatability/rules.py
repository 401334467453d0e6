"""Other rules of agreement, replayed on visits of cases that were visited to the end, settled or not."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..instruments.agreement import AGREEMENT, Agreement, Moment, agree, agreement_of, best_pace_s, estimated
from ..operations.cases import SEVERAL_THREADS

MOMENTS, WITHIN, APART_S = (2, 3, 4, 5, 6), (0.01, 0.02, 0.03, 0.05), (0.0, 1.0)
CANDIDATES = (
    *(
        Agreement(moments, within, apart_s=apart_s, visits=moments, least=moments)
        for moments, within, apart_s in itertools.product(MOMENTS, WITHIN, APART_S)
    ),
    AGREEMENT,
)


@dataclass(frozen=True)
class Replay:
    """What a rule would have done with a case in one session; a row of the table.

    ``at_least`` is the number of visits that the rule asks for of short calls with one thread, ``visits`` is the number
    that it would have made, and ``time_s`` what it would have stored.
    """

    load: str
    session: int
    moments: int
    within: float
    apart_s: float
    at_least: int
    case: str
    settled: int
    visits: int
    time_s: float


def replayed(load: str, session: int, visits: Mapping[str, Sequence[Moment]]) -> Iterator[Replay]:
    """What each candidate would have done with the visits of a session, which are in time order."""
    pace_s = best_pace_s(itertools.chain(*visits.values()))
    for candidate, (case, moments) in itertools.product(CANDIDATES, visits.items()):
        asked = agreement_of(2 if SEVERAL_THREADS.search(case) else 1, moments)
        more = dataclasses.replace(candidate, visits=asked.visits, least=asked.least)
        rule = candidate if asked is AGREEMENT else more
        used = visits_made(moments, rule, pace_s)
        estimate = estimated(moments[:used], rule, pace_s)
        yield Replay(
            load=load,
            session=session,
            moments=rule.moments,
            within=rule.within,
            apart_s=rule.apart_s,
            at_least=candidate.visits,
            case=case,
            settled=int(estimate.settled),
            visits=used,
            time_s=float(f"{estimate.time_s:.5g}"),
        )


def visits_made(visits: Sequence[Moment], rule: Agreement, pace_s: float = math.inf) -> int:
    """How many of the visits, from the first on, are made until they agree; all if they never do.

    ``pace_s`` is the best pace of their run.
    """
    fastest_s = math.inf
    for count, visit in enumerate(visits, 1):
        fastest_s = min(fastest_s, visit.fastest_s)
        # Where a visit too few was all that was missing, any visit brings agreement about. Else one that is not itself
        # within the rule's share of the fastest cannot.
        near = visit.fastest_s <= (1.0 + rule.within) * fastest_s or count == rule.visits
        if near and count >= rule.visits and agree(visits[:count], rule, pace_s):
            return count
    return len(visits)
