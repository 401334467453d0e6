"""The check against a stored run, for when there is no base revision: exact for memory, coarse for time.

A time stored yesterday says little about a time measured today, even on one machine: absolute times are reported and
not judged. What is judged: peak bytes, results, which implementations there are, and, as a coarse tripwire, the
speed-up of the vectorized form over the explicit Jacobian at the article's case.
"""

import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..instruments import host
from ..operations import operations
from ..operations.cases import ARTICLE_OPERATION, ARTICLE_SHAPE, Case
from ..storage.results import Row, load_rows, load_run, to_frame
from .gate import Check, Finding, case_label, memory_growth, presence_findings

GRID = "quick"
TRIPWIRE = 0.5  # of the stored speed-up; below it the check fails


def check_against_run(folder: Path, *, allow_removed: bool) -> Check:
    """The check of the working tree against a stored run, by a new quick sweep that is not kept.

    On another machine, or with other versions of the libraries, the runs are incomparable and the check inconclusive.

    Raises:
        UserError: the stored run cannot be read.
        RuntimeError: the sweep could not be made.
    """
    stored, old = load_run(folder), load_rows(folder)
    now: dict[str, dict[str, Any]] = {"machine": host.machine(), "versions": host.versions()}
    for part, found in now.items():
        kept: dict[str, Any] = getattr(stored, part)
        # An extra that is only here or only there is no difference: its cases are not compared.
        pairs = {key: (kept.get(key), found.get(key)) for key in {*kept, *found}}
        changed = [
            key for key, (old_one, new_one) in pairs.items() if old_one != new_one and "absent" not in pairs[key]
        ]
        if changed:
            key = min(changed)
            return Check(str(folder), [], f"incomparable: {part}: {key} was {kept.get(key)}, is {found.get(key)}")
    return compare_rows(str(folder), old, _sweep(), allow_removed=allow_removed)


def compare_rows(name: str, old: list[Row], new: list[Row], *, allow_removed: bool) -> Check:
    """The check of new rows against stored ones, made on one machine with one set of libraries."""
    before = {row.case: row for row in old}
    findings = presence_findings(_names(old), _names(new), allow_removed=allow_removed)
    common = [row for row in new if row.case in before and before[row.case].status == "measured"]
    findings += [_finding(before[row.case], row) for row in common]
    if not common:
        return Check(name, findings, "nothing to compare: the stored run has no case of the quick grid")
    tripped = _tripwire(old, new)
    return Check(name, [*findings, tripped] if tripped else findings)


def _names(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row.operation, row.implementation) for row in rows]


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
    """A finding where the article's speed-up fell below half of the stored one."""
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
    with tempfile.TemporaryDirectory(prefix="softmax-bench-") as folder:
        command = [
            sys.executable,
            "-m",
            "softmax_bench.cli",
            "run",
            f"--grid={GRID}",
            f"--results={folder}",
            "--run-id=now",
        ]
        command += ["--library=numpy", "--library=numba"]
        done = subprocess.run([*command, "--no-charts"], capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise RuntimeError(f"the sweep ended with {done.returncode}: {' '.join(last)}")
        return load_rows(Path(folder) / "now")
