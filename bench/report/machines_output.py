"""What a table of several machines says at the terminal."""

import contextlib
import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import NothingToDrawError
from ..storage.machines import APART, KEPT, Machine
from ..storage.results import STATUSES
from ..terminal import print_sentence
from ..units import factor, quantity
from .machines import Across, CaseAcross
from .output import label_of

NAMED = 5
DRAWN = 40  # of the cases
SHOWN = 12  # of the cases, those with the largest spread
IN_WORDS = {KEPT: "", APART: "kept apart: "}


def print_across(across: Across, console: Console) -> None:
    """Print the machines, the cases that spread most, and the sentences."""
    console.print(machines_table(across))
    if across.cases:
        console.print(cases_table(across.cases[:SHOWN]))
    for sentence in sentences(across):
        print_sentence(sentence, console)


def machines_table(across: Across) -> Table:
    """A row a machine: what it is, its ceiling, its drift, how many cases it measured, and why it is not kept."""
    table = _new_table("machine")
    for heading in ("cores", "memory", "cases", "ceiling", "drift"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("what it is")
    measured = Counter(across.frame.loc[across.frame["status"] == "measured", "machine"])
    for machine in across.machines:
        table.add_row(
            machine.machine,
            str(machine.cores),
            quantity(machine.memory_bytes, "B"),
            str(measured[machine.machine]),
            quantity(machine.ceiling_bytes_per_s, "B/s"),
            "–" if math.isnan(machine.drift) else f"{machine.drift:.1%}",
            Text(_what_it_is(machine)),
            style="" if machine.kept == KEPT else "yellow",
        )
    return table


def _what_it_is(machine: Machine) -> str:
    reason = "" if machine.kept == KEPT else f"; {IN_WORDS.get(machine.kept, 'left out: ')}{machine.reason}"
    return f"{machine.cpu}{reason}"


def cases_table(cases: Sequence[CaseAcross]) -> Table:
    """A row a case: its smallest and largest speed-up, the machine of each, and who disagrees."""
    table = _new_table("speed-up of")
    for heading in ("smallest", "largest", "spread"):
        table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("on" if heading != "spread" else "disagreeing")
    for each in cases:
        largest, smallest = each.ratios[0], each.ratios[-1]
        table.add_row(
            label_of(each.case),
            *(factor(smallest.value), smallest.machine),
            *(factor(largest.value), largest.machine),
            *(factor(each.spread), ", ".join(each.disagreeing)),
        )
    return table


def sentences(across: Across) -> Iterator[str]:
    """Whether speed-ups hold everywhere, who disagrees, what is missing, and which machines are left out."""
    counts = across.frame["status"].value_counts()
    outcomes = ", ".join(f"{counts[status]} {status}" for status in STATUSES if status in counts)
    machines = "1 machine" if len(across.machines) == 1 else f"{len(across.machines)} machines"
    yield f"{outcomes or 'nothing measured'} on {machines}. Stored in {across.folder}."
    if across.cases:
        spreads = [each.spread for each in across.cases]
        holds = sum(each.holds for each in across.cases)
        yield (
            f"{len(across.cases)} speed-ups are of two or more machines: in {holds} of them all machines say the same, "
            f"faster or slower than the baseline. The largest is {factor(statistics.median(spreads))} the smallest at "
            f"the median case, {factor(spreads[0])} at worst ({label_of(across.cases[0].case)})."
        )
        yield from _disagreement(across)
    for name, cases in across.missing.items():
        yield f"{name} misses {len(cases)} cases that others have: {_listed(cases)}."
    if across.short:
        yield (
            f"{len(across.short)} cases are on fewer than {across.run.fleet['replicas']} machines that are kept: "
            f"{_listed(across.short)}."
        )
    for machine in across.machines:
        if machine.kept != KEPT:
            yield f"{machine.machine} is {IN_WORDS.get(machine.kept, 'left out: ')}{machine.reason}."


def _disagreement(across: Across) -> Iterator[str]:
    """Which machine disagrees with all others, where there are three or more: of two neither is the odd one."""
    counts = Counter(name for each in across.cases if len(each.ratios) > 2 for name in each.disagreeing)
    for name, count in counts.most_common():
        yield f"{name} disagrees with all others in {count} of {len(across.cases)} cases."
    apart = sum(bool(each.disagreeing) for each in across.cases if len(each.ratios) == 2)
    if apart:
        cases = "case" if apart == 1 else "cases"
        yield f"In {apart} {cases} the two machines that measured them differ beyond both intervals."


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _new_table(first: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first)
    return table


def draw_across(across: Across, plots: Path) -> list[Path]:
    """Draw the speed-ups by machine and the ceilings into a folder; the files.

    Raises:
        NothingToDrawError: there is neither.
        UserError: a file cannot be written.
    """
    # matplotlib is slow to import, and only drawing needs it.
    from ..charts.machines import Mark, Strip, ceilings_by_machine, speedups_by_machine  # noqa: PLC0415
    from ..charts.style import write_charts  # noqa: PLC0415

    shown = across.cases[:DRAWN]
    strips = [
        Strip(label_of(each.case), [Mark(*dataclasses.astuple(ratio)) for ratio in each.ratios]) for each in shown
    ]
    which = f"the {len(shown)} of {len(across.cases)} cases that differ most, " if len(across.cases) > DRAWN else ""
    run, machines = across.run, [machine.machine for machine in across.kept]
    caption = f"{which}{run.machine['cpu']} · run {run.run_id}, {run.started[:10]}"
    files: list[Path] = []
    with contextlib.suppress(NothingToDrawError):
        files += write_charts(speedups_by_machine(strips, machines, caption), plots, "speedups_by_machine")
    with contextlib.suppress(NothingToDrawError):
        files += write_charts(ceilings_by_machine(run.ceiling, machines, caption), plots, "ceilings_by_machine")
    if not files:
        raise NothingToDrawError("no case has a time on two machines")
    return files
