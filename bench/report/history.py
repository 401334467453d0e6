"""The times of some cases over several stored runs, in the order in which the runs are given."""

import fnmatch
import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..errors import UserError
from ..operations import operations
from ..operations.cases import ARTICLE_INPUTS, ARTICLE_OPERATION, Case
from ..storage.results import Row
from .differences import Ratio, StoredRun, Unlike, both_settled, lie_apart, pace_ratio, time_ratio

LINES = 8  # of a chart: as many as there are colours


@dataclass(frozen=True)
class Step:
    """A time that lies beyond both intervals from the level before it.

    ``comparable`` is whether machine and versions are alike. ``lasting`` is False where the run after it is back at the
    level before: one slow day is no step.
    """

    ratio: Ratio
    settled: bool
    comparable: bool
    lasting: bool = True


@dataclass(frozen=True)
class Track:
    """A case over the runs: its row in each, None where it has no time; and its steps, by the place of the run."""

    case: Case
    rows: list[Row | None]
    steps: dict[int, Step]

    @property
    def timed(self) -> list[Row]:
        """The rows with a time."""
        return [row for row in self.rows if row is not None]

    @property
    def first(self) -> Row:
        """The row of the first run that has a time."""
        return self.timed[0]

    @property
    def marked(self) -> set[int]:
        """The places of the lasting steps between settled times of like runs."""
        return {place for place, step in self.steps.items() if step.settled and step.comparable and step.lasting}

    @property
    def change(self) -> float:
        """The longest time over the shortest."""
        times = [row.time_s for row in self.timed]
        return max(times) / min(times)


@dataclass(frozen=True)
class History:
    """Runs, the chosen cases over them, and how a run, by its place, is unlike the one before it."""

    runs: Sequence[StoredRun]
    tracks: list[Track]
    breaks: dict[int, Unlike]  # in machine or versions
    left_out: int  # cases that match and changed less than the tracks, of which there are at most ``LINES``


def matches(case: Case, texts: Sequence[str]) -> bool:
    """Whether a part of the case's id is one of the texts, in which * and ? stand for anything; without texts, True."""
    return not texts or any(fnmatch.fnmatchcase(str(case), f"*{text}*") for text in texts)


def history_of(runs: Sequence[StoredRun], texts: Sequence[str]) -> History:
    """The history of the cases that match ``texts``, those that changed most first.

    Without texts it is that of the article's two, or, where these are not in two of the runs, of those that changed
    most.

    Raises:
        UserError: no case has a time in two of the runs.
    """
    unlike = [Unlike.between(before.run, after.run) for before, after in itertools.pairwise(runs)]
    breaks = {place: its for place, its in enumerate(unlike, start=1) if its.surroundings}
    rows = [{case: row for case, row in run.by_case.items() if row.status == "measured"} for run in runs]
    cases = dict.fromkeys(case for its in rows for case in its if matches(case, texts))
    paces_s = [run.pace_s for run in runs]
    tracks = [_track(case, [its.get(case) for its in rows], breaks, paces_s) for case in cases]
    tracks = [track for track in tracks if len(track.timed) > 1]
    if not tracks:
        raise UserError("no history: no case has a time in two of the runs")
    article = _article_cases()
    chosen = [track for track in tracks if not texts and track.case in article] or tracks
    chosen.sort(key=lambda track: -track.change)
    return History(runs, chosen[:LINES], breaks, len(chosen[LINES:]) if texts else 0)


def _track(case: Case, rows: Sequence[Row | None], breaks: Collection[int], paces_s: Sequence[float]) -> Track:
    timed = [row if row is not None and row.time_s > 0 else None for row in rows]
    known = [(place, row) for place, row in enumerate(timed) if row is not None]
    steps = {}
    last: tuple[int, Row] | None = None
    for number, (place, row) in enumerate(known):
        lasting = True
        if last and lie_apart(last[1], row, pace=pace_ratio(paces_s[last[0]], paces_s[place])):
            comparable = not _is_broken(last[0], place, breaks)
            lasting = all(
                _is_broken(last[0], later, breaks)
                or lie_apart(last[1], after, pace=pace_ratio(paces_s[last[0]], paces_s[later]))
                for later, after in known[number + 1 : number + 2]
            )
            steps[place] = Step(time_ratio(row, last[1]), both_settled(last[1], row), comparable, lasting)
        if lasting:
            last = place, row
    return Track(case, timed, steps)


def _is_broken(first: int, last: int, breaks: Collection[int]) -> bool:
    """Whether a run after the first one, up to the last, is unlike the run before it."""
    return any(first < broken <= last for broken in breaks)


def _article_cases() -> list[Case]:
    names = operations()[ARTICLE_OPERATION].baseline, "vectorized"
    return [Case(ARTICLE_OPERATION, name, *inputs) for inputs in ARTICLE_INPUTS for name in names]
