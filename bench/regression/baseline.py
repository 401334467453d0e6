"""The check against a stored run, for when there is no base revision. It is exact for memory and coarse for time.

Even on one machine, a time that was stored yesterday says little about a time that is measured today. So times are
reported and not judged. What is judged: peak bytes, results, which implementations there are, and, as a coarse
tripwire, the speed-up of the vectorized form over the explicit Jacobian at the article's case.
"""

import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..implementations import registered
from ..instruments import host
from ..operations import operations
from ..operations.cases import ARTICLE_OPERATION, ARTICLE_SHAPE, Case
from ..storage.results import Row, Run, load_rows, load_run, to_frame
from .gate import Check, Finding, case_label, memory_growth, presence_findings

GRID = "quick"
TRIPWIRE = 0.5  # the check fails below this share of the stored speed-up


def check_against_run(folder: Path, *, allow_removed: bool) -> Check:
    """The check of the working tree against a stored run, by a new quick sweep that is not kept.

    The check is inconclusive on another machine, with other versions of the libraries, or if the sweep fails.

    Raises:
        UserError: the stored run cannot be read.
    """
    stored, old = load_run(folder), load_rows(folder)
    difference = _difference(stored)
    if difference:
        return Check(str(folder), [], f"incomparable: {difference}")
    of_base = [
        (spec["operation"], spec["name"])
        for spec in stored.implementations
        if ":" not in spec["name"]  # a user's own, file.py:function, belongs to that run only
    ]
    presence = presence_findings(of_base, registered(), allow_removed=allow_removed)
    try:
        new = _sweep()
    except RuntimeError as error:
        return Check(str(folder), presence, str(error))
    return compare_rows(str(folder), old, new, presence)


def _difference(stored: Run) -> str:
    """Why times and peaks of a stored run cannot be compared with those measured here; empty if they can."""
    for part, here in (("machine", host.machine()), ("versions", host.versions())):
        there: dict[str, Any] = getattr(stored, part)
        # A library that is installed only here or only there is no difference: its cases are not compared.
        changed = [
            key
            for key in {*there, *here}
            if there.get(key) != here.get(key) and "absent" not in (there.get(key), here.get(key))
        ]
        if changed:
            key = min(changed)
            return f"{part}: {key} was {there.get(key)}, is {here.get(key)}"
    return ""


def compare_rows(name: str, old: list[Row], new: list[Row], presence: list[Finding]) -> Check:
    """The check of new rows against stored ones, measured on one machine; ``presence`` are findings to begin with."""
    before = {row.case: row for row in old}
    common = [row for row in new if row.case in before and before[row.case].status == "measured"]
    findings = presence + [_finding(before[row.case], row) for row in common]
    if not common:
        return Check(name, findings, "nothing to compare: the stored run has no case of the quick grid")
    tripped = _tripwire(old, new)
    return Check(name, [*findings, tripped] if tripped else findings)


def _finding(old: Row, new: Row) -> Finding:
    label = case_label(new.case) + ("" if new.logits == "normal" else f" {new.logits}")
    ratio = new.time_median_s / old.time_median_s
    growth = memory_growth(old.peak_bytes, new.peak_bytes)
    verdict, note = "unchanged", "" if math.isnan(ratio) else f"time {ratio - 1:+.0%}, not judged"
    if new.status in ("wrong", "failed"):
        verdict, note = "wrong", new.reason
    elif growth:
        verdict, note = "larger", growth
    return Finding(label, verdict, base_peak_bytes=old.peak_bytes, work_peak_bytes=new.peak_bytes, note=note)


def _tripwire(old: list[Row], new: list[Row]) -> Finding | None:
    """A finding if the speed-up at the article's case fell below half of the stored speed-up; otherwise None."""
    batch, features = ARTICLE_SHAPE
    speedups = []
    for rows in (old, new):
        frame = to_frame(row for row in rows if row.operation == ARTICLE_OPERATION).set_index("implementation")
        at_article = frame[(frame["batch"] == batch) & (frame["features"] == features) & (frame["logits"] == "uniform")]
        if "vectorized" not in at_article.index:
            return None
        speedups.append(float(at_article["speedup"]["vectorized"]))
    before, now = speedups
    if now >= TRIPWIRE * before or math.isnan(now):
        return None
    case = Case(ARTICLE_OPERATION, "vectorized", batch, features, "float64", "uniform")
    note = f"{now:.0f}x faster than {operations()[case.operation].baseline}, was {before:.0f}x"
    return Finding(case_label(case), "slower", note=note)


def _sweep() -> list[Row]:
    """The rows of a new quick sweep of our own code, which needs NumPy or Numba.

    Raises:
        RuntimeError: the sweep failed.
    """
    options = (f"--grid={GRID}", "--library=numpy", "--library=numba", "--run-id=now", "--no-charts")
    with tempfile.TemporaryDirectory(prefix="softmax-bench-") as folder:
        command = [sys.executable, "-m", "softmax_bench.cli", "run", f"--results={folder}", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        now = Path(folder) / "now"
        if done.returncode not in (0, 1) or not now.is_dir():  # 1: a case is wrong or failed, and its row says so
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise RuntimeError(f"the sweep ended with {done.returncode}: {' '.join(last)}")
        return load_rows(now)
