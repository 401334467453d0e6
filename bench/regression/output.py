"""A check as text: a table for the terminal, Markdown, JSON and JUnit."""

import dataclasses
import json
import math
import xml.etree.ElementTree as ET
from typing import Any

from rich import box
from rich.table import Table

from ..instruments import host
from ..units import quantity
from .gate import Check, Exit, Finding

HEADINGS = ("case", "work / base", "interval", "finds", "verdict")
STYLES = {"slower": "red", "larger": "red", "wrong": "bold red", "removed": "red", "faster": "green"}


def worst_first(check: Check) -> list[Finding]:
    """The findings: regressions first, and then the slowest of each kind."""

    def badness(finding: Finding) -> tuple[int, float]:
        rank = check.failing.index(finding.verdict) if check.fails_by(finding) else len(check.failing)
        return rank, -(0.0 if math.isnan(finding.ratio) else finding.ratio)

    return sorted(check.findings, key=badness)


def to_table(check: Check) -> Table:
    """The findings as a table for the terminal, without its empty columns; long cases wrap if it is narrow."""
    findings = worst_first(check)
    rows = [_cells(finding) for finding in findings]
    used = [column for column in range(len(HEADINGS)) if any(row[column] for row in rows)]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    for column in used:
        heading = HEADINGS[column]
        if heading == "case":
            table.add_column(heading)
        elif heading == "verdict":
            table.add_column(heading, min_width=len("unchanged"))
        else:
            table.add_column(heading.replace(" / ", " /\n"), justify="right", no_wrap=True)
    for finding, row in zip(findings, rows, strict=True):
        table.add_row(*(row[column] for column in used), style=STYLES.get(finding.verdict))
    return table


def comparison_sentence(finding: Finding) -> str:
    """The comparison of two functions in a sentence: times, ratio with its interval, memory of both."""
    if math.isnan(finding.ratio):
        return f"{finding.label}: {finding.verdict}, {finding.note}."
    times = [quantity(time_s, "s") for time_s in (finding.work_s, finding.base_s)]
    peaks = [quantity(peak or 0, "B") for peak in (finding.work_peak_bytes, finding.base_peak_bytes)]
    return (
        f"{finding.label}: {times[0]} against {times[1]}, {finding.ratio:.3f} of its time (99 % interval "
        f"{finding.low:.3f} to {finding.high:.3f}), {finding.verdict}; peak memory {peaks[0]} against {peaks[1]}."
    )


def to_markdown(check: Check) -> str:
    """The findings as Markdown, under the check's sentence."""
    lines = [
        f"### softmax-bench: {check.sentence}",
        "",
        f"| {' | '.join(HEADINGS)} |",
        f"|{'---|' * len(HEADINGS)}",
        *(f"| {' | '.join(_cells(finding))} |" for finding in worst_first(check)),
    ]
    return "\n".join(lines) + "\n"


def to_json(check: Check) -> str:
    """The whole check as JSON; missing numbers are null."""
    content: dict[str, Any] = {
        "base": check.base_name,
        "machine": host.machine(),
        "exit": int(check.exit),
        "sentence": check.sentence,
        "inconclusive": check.inconclusive,
        "findings": [
            {key: _plain(value) for key, value in dataclasses.asdict(finding).items()} for finding in worst_first(check)
        ],
    }
    return json.dumps(content, indent=1) + "\n"


def to_junit(check: Check) -> str:
    """A test suite with a test case for each finding, and one for the check itself."""
    findings = worst_first(check)
    failures = sum(check.fails_by(finding) for finding in findings)
    suite = ET.Element(
        "testsuite", name="softmax-bench gate", tests=str(len(findings) + 1), failures=str(failures), errors="0"
    )
    for finding in findings:
        case = ET.SubElement(suite, "testcase", classname="gate", name=f"{finding.label} ({finding.verdict})")
        if not math.isnan(finding.detectable):
            ET.SubElement(ET.SubElement(case, "properties"), "property", name="finds", value=_finds(finding))
        if check.fails_by(finding):
            ET.SubElement(case, "failure", message=" · ".join(filter(None, _cells(finding))))
    whole = ET.SubElement(suite, "testcase", classname="gate", name="check")
    if check.exit is Exit.INCONCLUSIVE:
        ET.SubElement(whole, "skipped", message=check.sentence)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _cells(finding: Finding) -> list[str]:
    verdict = f"{finding.verdict}: {finding.note}" if finding.note else finding.verdict
    timed = not math.isnan(finding.ratio)
    return [
        finding.label,
        f"{finding.ratio - 1:+.2%}" if timed else "",
        f"{finding.low - 1:+.2%} to {finding.high - 1:+.2%}" if timed else "",
        _finds(finding),
        verdict,
    ]


def _finds(finding: Finding) -> str:
    """The smallest slow-down that would have been found; empty if that is not known."""
    return "" if math.isnan(finding.detectable) else f"{finding.detectable:.2%}"


def _plain(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value
