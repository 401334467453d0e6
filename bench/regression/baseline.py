"""The check against a stored run, for when there is no base revision. It is exact for memory and judges time coarsely.

A new quick sweep is compared with the stored one. A case is slower if it is settled in both and its new interval lies
above the old one by more than ``STORED_MARGIN``. The two sweeps were made at different times, and intervals and margin
have to allow for that: the check of two revisions, which times both side by side, finds much smaller slow-downs.
"""

import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ..implementations import registered
from ..instruments import host
from ..instruments.lifetime import ending_with_this
from ..instruments.scratch import temporary_folder
from ..report.differences import Unlike, both_settled, have_intervals, largest_peak, lie_apart, pace_ratio, time_ratio
from ..report.output import label_of
from ..storage.results import Row, Run, load_pace_s, load_rows, load_run
from .gate import Check, Finding, memory_growth, presence_findings

GRID = "quick"
STORED_MARGIN = 0.10  # a share: by how much the intervals of two sweeps must lie apart
NOT_JUDGED = "not judged"  # the verdict on a case whose time says nothing
TIMED = ("slower", "faster", "unchanged")


def check_against_run(folder: Path, *, allow_removed: bool) -> Check:
    """The check of the working tree against a stored run, by a new quick sweep that is not kept.

    The check is inconclusive on another machine, with other versions of the libraries, or if the sweep fails.

    Raises:
        UserError: the stored run cannot be read.
    """
    stored, old, old_pace_s = load_run(folder), load_rows(folder), load_pace_s(folder)
    unlike = _unlike_here(stored)
    if unlike:
        return Check(str(folder), [], f"incomparable: {unlike[0]}")
    of_base = [
        (spec["operation"], spec["name"])
        for spec in stored.implementations
        if ":" not in spec["name"]  # a user's own, file.py:function, belongs to that run only
    ]
    presence = presence_findings(of_base, registered(), allow_removed=allow_removed)
    try:
        new, pace_s = _sweep()
    except RuntimeError as error:
        return Check(str(folder), presence, str(error))
    return compare_rows(str(folder), old, new, presence, pace_ratio(old_pace_s, pace_s))


def _unlike_here(stored: Run) -> list[str]:
    """Phrases that say why times and peaks of a stored run cannot be compared with those measured here."""
    here = dataclasses.replace(stored, machine=host.machine(), versions=host.versions())
    return Unlike.between(stored, here).surroundings


def compare_rows(name: str, old: list[Row], new: list[Row], presence: list[Finding], pace: float = 1.0) -> Check:
    """The check of new rows against stored ones, measured on one machine; ``presence`` are findings to begin with.

    ``pace`` is that of the new sweep over that of the old one, as `lie_apart` takes it.
    """
    before = {row.case: row for row in old}
    pairs = [(before[row.case], row) for row in new if row.case in before and before[row.case].status == "measured"]
    findings = presence + [finding for pair in pairs for finding in _findings(*pair, pace)]
    if not pairs:
        return Check(name, findings, "nothing to compare: the stored run has no case of the quick grid")
    if not any(have_intervals(before) for before, _ in pairs):
        return Check(name, findings, "the stored run has no intervals of time, as runs of earlier versions")
    if not any(finding.verdict in TIMED for finding in findings):
        return Check(name, findings, "no case is settled in both sweeps")
    return Check(name, findings)


def _findings(old: Row, new: Row, pace: float) -> Iterator[Finding]:
    """What is found of a case: that it is wrong, or that it is larger, if it is, and what its time says."""
    found = Finding(
        label_of(new.case),
        NOT_JUDGED,
        base_s=old.time_s,
        base_peak_bytes=old.peak_bytes,
        work_peak_bytes=new.peak_bytes,
    )
    if new.status in ("wrong", "failed"):
        yield dataclasses.replace(found, verdict="wrong", note=new.reason)
        return
    if growth := memory_growth(largest_peak(old), new.peak_bytes, new.case.peak_slack_bytes):
        yield dataclasses.replace(found, verdict="larger", note=growth)
    if new.status != "measured":
        yield dataclasses.replace(found, note=f"{new.status} now: {new.reason}")
    elif not have_intervals(old, new):
        yield dataclasses.replace(found, note="its time has no interval")
    else:
        yield _timed(old, new, found, pace)


def _timed(old: Row, new: Row, found: Finding, pace: float) -> Finding:
    ratio = time_ratio(new, old)
    timed = dataclasses.replace(found, ratio=ratio.value, low=ratio.low, high=ratio.high)
    if not both_settled(old, new):
        when = "in the stored run" if old.settled != 1 else "now"
        return dataclasses.replace(timed, note=f"not settled {when}")
    verdict = "unchanged"
    if lie_apart(old, new, STORED_MARGIN, pace):
        verdict = "slower" if ratio.value > 1.0 else "faster"
    return dataclasses.replace(timed, verdict=verdict, detectable=_detectable(old, new, pace))


def _detectable(old: Row, new: Row, pace: float) -> float:
    """The slow-down, as a share, that is found although the new estimate falls on the low bound of its ratio.

    The new low bound must lie above the old high bound by the margin, as `lie_apart` says.
    """
    ratio = time_ratio(new, old)
    reach = (1.0 + STORED_MARGIN) * max(1.0, pace) * (old.time_high_s / old.time_s) * (new.time_s / new.time_low_s)
    return reach * (ratio.value / ratio.low) - 1.0


def _sweep() -> tuple[list[Row], float]:
    """The rows and the pace of a new quick sweep of our own code, which needs NumPy or Numba.

    Raises:
        RuntimeError: the sweep failed.
    """
    options = (f"--grid={GRID}", "--library=numpy", "--library=numba", "--run-id=now", "--no-charts")
    with temporary_folder() as folder:
        command = ending_with_this("softmax_bench.cli", "run", f"--results={folder}", *options)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        now = folder / "now"
        if done.returncode not in (0, 1) or not now.is_dir():  # 1: a case is wrong or failed, and its row says so
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise RuntimeError(f"the sweep ended with {done.returncode}: {' '.join(last)}")
        return load_rows(now), load_pace_s(now)
