"""A stored run as the report reads it: its description, its rows and its visits, each read once."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from ..charts.style import REFERENCE
from ..instruments.agreement import run_pace_s
from ..operations import operations
from ..operations.cases import ARTICLE_OPERATION, Case
from ..storage.frames import to_frame
from ..storage.results import Row, Run, Visit, load_rows, load_run, load_visits, of_one_machine
from .differences import StoredRun
from .growth import Growth, growths_of

JACOBIAN, VECTORIZED = operations()[ARTICLE_OPERATION].baseline, REFERENCE  # of both families the form that is named
DTYPE, LOGITS, THREADS = "float64", "normal", 1  # of the cases from which a report draws its findings on shapes


@dataclass(frozen=True)
class Source:
    """A stored run: where it lies, what it was, and what it measured."""

    folder: Path
    run: Run
    rows: list[Row]
    visits: list[Visit]

    @classmethod
    def load(cls, folder: Path) -> "Source":
        """The run that is stored in a folder.

        Raises:
            UserError: a file is missing or damaged.
        """
        return cls(folder, load_run(folder), of_one_machine(load_rows(folder), folder), load_visits(folder))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The rows with what follows from them: see `storage.frames.to_frame`."""
        return to_frame(self.rows, self.run.ceiling)

    @cached_property
    def by_shape(self) -> pd.DataFrame:
        """The rows of softmax's backward over all shapes, with one dtype, distribution of the logits and one thread."""
        frame = self.frame
        return frame[
            (frame["operation"] == ARTICLE_OPERATION)
            & (frame["dtype"] == DTYPE)
            & (frame["logits"] == LOGITS)
            & (frame["threads"] == THREADS)
        ]

    @cached_property
    def growths(self) -> list[Growth]:
        """The growth of every implementation over those shapes."""
        return list(growths_of(self.by_shape, self.run))

    @cached_property
    def by_case(self) -> dict[Case, Row]:
        """The row of each case."""
        return {row.case: row for row in self.rows}

    def stored(self, name: str) -> StoredRun:
        """The run under a name, to be compared with others."""
        return StoredRun(name, self.run, self.rows, run_pace_s(visit.moment for visit in self.visits))
