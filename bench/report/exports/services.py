"""The run for two services that keep a history: github-action-benchmark and Bencher."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ...storage.files import replace_file
from .exported import Exported

NS = 1e9  # in a second
PLACES = 3  # of nanoseconds: below them the clock has nothing to say


def export_github_action_benchmark(exported: Exported, path: Path) -> Path:
    """Write a list for the action's ``customSmallerIsBetter``: time and peak memory of each case. Returns the path.

    Each entry has ``name``, ``unit``, ``value``, ``range`` (the interval, in the same unit) and ``extra``.

    Raises:
        UserError: no case was measured, or the file cannot be written.
    """
    entries = [entry for _, row in exported.measured.iterrows() for entry in _entries(row)]
    return replace_file(path, json.dumps(entries, indent=1, ensure_ascii=False, allow_nan=False))


def export_bencher(exported: Exported, path: Path) -> Path:
    """Write Bencher Metric Format: by case ``latency`` in nanoseconds and ``bytes``, with bounds. Returns the path.

    Raises:
        UserError: no case was measured, or the file cannot be written.
    """
    content = {row["case"]: _metrics(row) for _, row in exported.measured.iterrows()}
    return replace_file(path, json.dumps(content, indent=1, allow_nan=False))


def _entries(row: pd.Series) -> Iterator[dict[str, Any]]:
    """The entries of a row, one for each measure that it has."""
    visits = "" if pd.isna(row["visits"]) else f"{row['visits']:.0f} visits"
    settled = {1: "settled", 0: "not settled"}.get(row["settled"], "")
    extra = {"latency": ", ".join(filter(None, [visits, settled])), "bytes": "above the level at its start"}
    names = {"latency": ("time", "ns"), "bytes": ("peak memory", "B")}
    for measure, metric in _metrics(row).items():
        name, unit = names[measure]
        entry = {"name": f"{row['case']} {name}", "unit": unit, "value": metric["value"]}
        if "lower_value" in metric:
            entry["range"] = f"{metric['lower_value']:.10g}–{metric['upper_value']:.10g}"
        yield {**entry, "extra": extra[measure]}


def _metrics(row: pd.Series) -> dict[str, dict[str, float]]:
    """Latency (ns) and bytes of a row, each with its bounds; a measure or a bound that is missing is left out."""
    metrics = {"latency": _metric(*(_ns(row[column]) for column in ("time_s", "time_low_s", "time_high_s")))}
    if pd.notna(row["peak_bytes"]):
        metrics["bytes"] = _metric(*(float(row[name]) for name in ("peak_bytes", "peak_bytes", "peak_high_bytes")))
    return metrics


def _metric(value: float, low: float, high: float) -> dict[str, float]:
    bounds = {} if math.isnan(low) or math.isnan(high) else {"lower_value": low, "upper_value": high}
    return {"value": value, **bounds}


def _ns(seconds: float) -> float:
    return round(float(seconds) * NS, PLACES)
