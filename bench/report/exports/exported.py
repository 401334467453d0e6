"""What every exporter is given: a stored run, its frame and its visits."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from ...errors import UserError
from ...storage.frames import to_frame
from ...storage.results import Run, Visit, load_rows, load_run, load_visits, of_one_machine


@dataclass(frozen=True)
class Exported:
    """A stored run on its way into another tool's file."""

    folder: Path
    commit: str | None = None  # under which asv is to file it; None: the one that was checked out when it began

    @cached_property
    def run(self) -> Run:
        """What run.json holds."""
        return load_run(self.folder)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The table with its derived columns (`to_frame`)."""
        return to_frame(of_one_machine(load_rows(self.folder), self.folder), self.run.ceiling)

    @cached_property
    def measured(self) -> pd.DataFrame:
        """The rows with a time.

        Raises:
            UserError: there is none.
        """
        rows = self.frame[(self.frame["status"] == "measured") & self.frame["time_s"].notna()]
        if rows.empty:
            raise UserError(f"{self.folder}: nothing to export; no case of this run was measured")
        return rows

    @cached_property
    def visits(self) -> list[Visit]:
        """The visits of all cases."""
        return load_visits(self.folder)
