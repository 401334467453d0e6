"""How the figures on a page are held against stored tables: a run's figures by case, and what is wrong on a page."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from softmax_bench.storage.frames import to_frame
from softmax_bench.storage.results import load_rows, load_run
from softmax_bench.units import factor, quantity

from .conftest import ROOT

RESULTS = ROOT / "results"
Shape = tuple[int, int]

NUMBER = r"(?<!\w)\d+(?:[.,]\d+)*(?:e-?\d+)?(?:k?×| ?%| [nµmkMGT]?[sB](?:/s)?\b)?"
SPELLED_OUT = r"\b(?:(?:two|three|four|five|ten|hundred|thousand) times|twice|half|third|quarter)\b"
ANY_FIGURE = rf"(?:–|1/{NUMBER}|\d+ of \d+|{NUMBER})"  # where a page may have another one than was computed
MARKED = re.compile("⟦(.*?)⟧")


class Sweep:
    """A stored run, asked for the figures of one case at a time."""

    def __init__(self, folder: Path = RESULTS / "reference") -> None:
        self.run = load_run(folder)
        self.frame = to_frame(load_rows(folder), self.run.ceiling)
        case = ["implementation", "batch", "features", "operation", "dtype", "logits", "threads"]
        self._cells = self.frame.set_index(case)

    def value(
        self,
        column: str,
        implementation: str,
        shape: Shape,
        *,
        operation: str = "softmax",
        dtype: str = "float64",
        logits: str = "normal",
        threads: int = 1,
    ) -> float:
        return float(self._cells[column][implementation, *shape, operation, dtype, logits, threads])

    def seconds(self, implementation: str, shape: Shape, **case: Any) -> float:
        return self.value("time_s", implementation, shape, **case)

    def time(self, implementation: str, shape: Shape, **case: Any) -> str:
        return mark(quantity(self.seconds(implementation, shape, **case), "s"))

    def peak(self, implementation: str, shape: Shape, **case: Any) -> str:
        return mark(quantity(self.value("peak_bytes", implementation, shape, **case), "B"))

    def speedup(self, implementation: str, shape: Shape, **case: Any) -> str:
        return mark(factor(self.value("speedup", implementation, shape, **case)))

    def share(self, implementation: str, shape: Shape, **case: Any) -> str:
        share = self.value("ceiling_share", implementation, shape, **case)
        return mark("–" if np.isnan(share) else f"{share:.0%}")

    def longest_first_call(self, implementation: str) -> str:
        return mark(quantity(self.frame.groupby("implementation")["first_call_s"].max()[implementation], "s"))


def mark(figure: object) -> str:
    """A figure as it must be on the page, marked as one that was computed."""
    return f"⟦{figure}⟧"


def mark_numbers(sentence: str) -> str:
    """A sentence that the suite computes, with all of its numbers marked."""
    return re.sub(NUMBER, lambda found: mark(found[0]), sentence)


def complaints(text: str, claims: Iterable[str], not_measured: Iterable[str]) -> list[str]:
    """What is wrong with the figures of a page: sentences that are stale, and numbers that nothing covers.

    ``claims`` are parts of its sentences in which each figure is computed and marked; ``not_measured`` are patterns of
    what else may hold a number.
    """
    code_links_and_list_numbers = r"```.*?```|\]\([^)]*\)|^ *\d+\. "
    left = " ".join(re.sub(code_links_and_list_numbers, " ", text, flags=re.DOTALL | re.MULTILINE).split())
    found = []
    # What is up to date goes first, so that a stale row of one table is not sought among the rows of another.
    for claim in sorted(claims, key=lambda claim: MARKED.sub(r"\1", claim) not in left):
        expected = MARKED.sub(r"\1", claim)
        if expected in left:
            left = left.replace(expected, "…")
            continue
        stale = re.search(re.escape(MARKED.sub("\0", claim)).replace("\0", ANY_FIGURE), left)
        if stale:
            found.append(f"{stale[0]!r} should be {expected!r}")
            left = left.replace(stale[0], "…")
        else:
            found.append(f"no sentence like {expected!r}")
    left = re.sub(r"`[^`]*`", "…", left)
    for pattern in not_measured:
        left = re.sub(pattern, "…", left)
    for number in re.finditer(f"{NUMBER}|{SPELLED_OUT}", left):
        place = left[max(0, number.start() - 40) : number.end() + 20]
        found.append(f"{number[0]!r} in '{place}': compute it in the page's function, or list it in NOT_MEASURED")
    return found
