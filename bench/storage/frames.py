"""A stored run as a data frame, for notebooks."""

import os
from pathlib import Path

import pandas as pd

from ..paths import RESULTS
from .results import find_run, load_rows, to_frame
from .results import load_run as load_description


def load_run(path: str | os.PathLike[str]) -> pd.DataFrame:
    """A stored run as a data frame: a row a case, its columns in base units (s, B), missing as NaN.

    After the stored columns come the derived ones, `softmax_bench.storage.results.to_frame` lists them. ``attrs`` has
    the run's ``run_id``, ``started``, ``machine`` and ``versions``.

    Args:
        path: the run's folder, or the name of a run in ``results/``.

    Raises:
        UserError: there is no such run, or a file of it is damaged.
    """
    folder = find_run(os.fspath(path), Path(RESULTS))
    run = load_description(folder)
    frame = to_frame(load_rows(folder), run.ceiling)
    frame.attrs.update(run_id=run.run_id, started=run.started, machine=run.machine, versions=run.versions)
    return frame
