"""Stored rows as data frames, with what is derived from them: for charts, reports and notebooks.

Apart from `results`, because the processes that measure import that one. pandas would bring a hundred shared libraries
into them, and memray patches each of those whenever it reads a peak.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..instruments.bandwidth import CeilingPoint
from ..operations import operations
from ..paths import RESULTS
from .results import COLUMNS, Row, find_run, load_rows
from .results import load_run as load_description

MEASURES = ["time_s", "time_low_s", "time_high_s", "settled", "peak_bytes", "peak_high_bytes"]


def load_run(path: str | os.PathLike[str]) -> pd.DataFrame:
    """A stored run as a data frame: a row a case, its columns in base units (s, B), missing as NaN.

    After the stored columns come the derived ones, `to_frame` lists them. ``attrs`` has the run's ``run_id``,
    ``started``, ``machine`` and ``versions``.

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


def to_frame(rows: Iterable[Row], ceiling: Sequence[CeilingPoint] = ()) -> pd.DataFrame:
    """The rows as a data frame, missing as NaN, with derived columns, NaN where a part of them is missing.

    ``case``: the case's id;
    ``speedup``: the time of the operation's baseline at the same shape, dtype, logits and threads, over this row's;
    where the baseline was not measured with that number of threads, its time with one;
    ``memory_ratio``: likewise of peak bytes; ``predicted_memory_ratio``: likewise of its predicted peak over this
    row's measured one, for shapes at which it does not fit;
    ``speedup_low`` and ``speedup_high``, ``memory_ratio_low`` and ``memory_ratio_high``: their intervals;
    ``speedup_settled``: 1 where both of its times have settled, otherwise 0;
    ``working_set_bytes``: the arrays that the operation must move, counted once;
    ``bytes_per_s``: those over the time, which is less than what really moves where a form reads them twice;
    ``ceiling_share``: that over the rate at which memory streams, by ``ceiling`` of the run, at the same working set
    and number of threads.
    """
    table = list(rows)
    frame = pd.DataFrame(list(map(vars, table)), columns=list(COLUMNS))
    frame["case"] = [str(row.case) for row in table]
    numeric = [column for column, kind in COLUMNS.items() if kind is not str]
    frame[numeric] = frame[numeric].apply(pd.to_numeric)
    frame["peak_high_bytes"] = frame["peak_high_bytes"].fillna(frame["peak_bytes"])  # earlier tables do not have it
    measured = frame.where(frame["status"] == "measured")[MEASURES]
    against = _baselines(frame, measured)
    frame["speedup"], frame["speedup_low"], frame["speedup_high"] = ratio_with_interval(against, measured)
    frame["speedup_settled"] = against["settled"] * measured["settled"]
    peaks = measured[["peak_bytes", "peak_high_bytes"]].where(measured["peak_bytes"] > 0)
    frame["memory_ratio"] = against["peak_bytes"] / peaks["peak_bytes"]
    frame["memory_ratio_low"] = against["peak_bytes"] / peaks["peak_high_bytes"]
    frame["memory_ratio_high"] = against["peak_high_bytes"] / peaks["peak_bytes"]
    frame["predicted_memory_ratio"] = against["predicted_peak_bytes"] / peaks["peak_bytes"]
    arrays = frame["operation"].map({operation.name: operation.arrays_moved for operation in operations().values()})
    itemsize = frame["dtype"].map({"float32": 4, "float64": 8})
    frame["working_set_bytes"] = arrays * frame["batch"] * frame["features"] * itemsize  # 3*B*N*s of softmax's backward
    frame["bytes_per_s"] = frame["working_set_bytes"] / measured["time_s"]
    frame["ceiling_share"] = frame["bytes_per_s"] / _ceiling_of(frame, ceiling)
    return frame


def ratio_with_interval(
    above: pd.DataFrame | Mapping[str, Any], below: pd.DataFrame | Mapping[str, Any]
) -> tuple[Any, Any, Any]:
    """The ratio of two independent times, and its interval from theirs, NaN where an interval is missing.

    Series for two frames, numbers for the fields of two rows.

    Of logarithms the distances to a bound add as independent errors do: as the root of the sum of their squares.
    """
    ratio = above["time_s"] / below["time_s"]
    up = np.hypot(np.log(above["time_high_s"] / above["time_s"]), np.log(below["time_s"] / below["time_low_s"]))
    down = np.hypot(np.log(above["time_s"] / above["time_low_s"]), np.log(below["time_high_s"] / below["time_s"]))
    return ratio, ratio * np.exp(-down), ratio * np.exp(up)


def _baselines(frame: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """For each row of the frame what its baseline's row has."""
    shape = ["machine", "operation", "batch", "features", "dtype", "logits"]
    names = {operation.name: operation.baseline for operation in operations().values()}
    is_baseline = frame["implementation"] == frame["operation"].map(names)
    baseline = frame[[*shape, "threads", "predicted_peak_bytes"]].join(measured)[is_baseline]

    def found(keys: list[str], among: pd.DataFrame) -> pd.DataFrame:
        return frame[keys].merge(among, on=keys, how="left").set_index(frame.index)

    single = baseline[baseline["threads"] == 1].drop(columns="threads")
    return found([*shape, "threads"], baseline).combine_first(found(shape, single))


def _ceiling_of(frame: pd.DataFrame, ceiling: Sequence[CeilingPoint]) -> pd.Series:
    """The ceiling at each row's working set and threads, interpolated between its points on logarithms."""
    found = pd.Series(math.nan, index=frame.index)
    for (machine, threads), rows in frame.groupby(["machine", "threads"]):
        points = [
            (point.working_set_bytes, point.bytes_per_s)
            for point in ceiling
            if (point.machine, point.threads) == (machine, threads)
        ]
        if points:
            sizes, rates = np.log(np.array(sorted(points))).T
            found[rows.index] = np.exp(np.interp(np.log(rows["working_set_bytes"].astype(float)), sizes, rates))
    return found
