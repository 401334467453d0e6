"""Other rules of agreement, replayed on visits of cases that were visited to the end, settled or not."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..instruments.agreement import Agreement, Moment, agree, estimated

MOMENTS, WITHIN, APART_S = (2, 3, 4, 5, 6), (0.01, 0.02, 0.03, 0.05), (0.0, 1.0)
CANDIDATES = tuple(
    Agreement(moments=moments, within=within, apart_s=apart_s)
    for moments, within, apart_s in itertools.product(MOMENTS, WITHIN, APART_S)
)


@dataclass(frozen=True)
class Replay:
    """What a rule would have done with a case in one session; a row of the table.

    ``visits`` is the number that it would have taken until it settled, or of all where it did not, and ``time_s`` what
    it would have stored.
    """

    load: str
    session: int
    moments: int
    within: float
    apart_s: float
    case: str
    settled: int
    visits: int
    time_s: float


def replayed(load: str, session: int, visits: Mapping[str, Sequence[Moment]]) -> Iterator[Replay]:
    """What each candidate would have done with the visits of a session, which are in time order."""
    for rule, (case, moments) in itertools.product(CANDIDATES, visits.items()):
        used = visits_until_settled(moments, rule)
        time_s = estimated(moments if used is None else moments[:used], rule).time_s
        yield Replay(
            load=load,
            session=session,
            moments=rule.moments,
            within=rule.within,
            apart_s=rule.apart_s,
            case=case,
            settled=int(used is not None),
            visits=len(moments) if used is None else used,
            time_s=float(f"{time_s:.5g}"),
        )


def visits_until_settled(visits: Sequence[Moment], rule: Agreement) -> int | None:
    """How many of the visits, from the first on, it takes until they agree; None if they never do."""
    fastest_s = math.inf
    for count, visit in enumerate(visits, 1):
        fastest_s = min(fastest_s, visit.fastest_s)
        # A visit that is not itself among those within the rule's share of the fastest cannot bring agreement about.
        near = visit.fastest_s <= (1.0 + rule.within) * fastest_s
        if near and count >= rule.moments and agree(visits[:count], rule):
            return count
    return None
