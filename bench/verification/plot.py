"""The picture of one's own function: its time and peak memory against features, beside the suite's two forms."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from ..charts.families import LIGHT, Line, Theme, colours_of, families
from ..charts.style import REFERENCE
from ..operations import operations
from ..operations.cases import ARTICLE_OPERATION
from ..units import gain_in_words, quantity

COMPARED = (operations()[ARTICLE_OPERATION].baseline, REFERENCE)
COLUMNS = (
    *("implementation", "batch", "features", "status", "settled"),
    *("time_s", "time_low_s", "time_high_s", "peak_bytes"),
)

OWN_COLOURS = {True: "#009E73", False: "#4CD6A8"}  # on a light ground, and on a dark one


def own_figure(rows: pd.DataFrame, name: str, verdict: str, caption: str, theme: Theme = LIGHT) -> Figure:
    """Time and peak against features of an implementation, highlighted, and of those that it is compared with.

    ``rows`` are of one batch, with ``implementation`` and the columns that `charts.families.Line` names.

    Raises:
        NothingToDrawError: no implementation was measured at two sizes.
    """
    colours: Mapping[str, str] = dict(zip(COMPARED, colours_of(theme), strict=True))
    lines = [
        Line(
            "yours" if implementation == name else implementation,
            rows[rows["implementation"] == implementation].sort_values("features"),
            colours.get(implementation, OWN_COLOURS[theme is LIGHT]),
            highlighted=implementation == name,
        )
        for implementation in (name, *COMPARED)  # yours is the thickest: what lies over it stays visible
        if (rows["implementation"] == implementation).any()
    ]
    return families(lines, 0, f"{name}: {verdict}", caption, theme)


def cost_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows of a `cost.CostReport`, as mappings, at the batch with the most sizes, in what `own_figure` draws."""
    measured = {"status": "measured", "settled": 1}
    return along_features(pd.DataFrame([{**measured, **row} for row in rows]).reindex(columns=list(COLUMNS)))


def along_features(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows at the batch at which the most numbers of features were measured; of several such, the largest."""
    sizes = frame[frame["status"] == "measured"].groupby("batch")["features"].nunique()
    return frame[frame["batch"] == sizes[sizes == sizes.max()].index.max()] if len(sizes) else frame


def cost_finding(rows: pd.DataFrame, name: str) -> str:
    """How the function compares at the most features at which all were measured, in a sentence."""
    table = rows[rows["status"] == "measured"].pivot_table(
        index="features", columns="implementation", values=["time_s", "peak_bytes"]
    )
    shared = table.dropna()
    if shared.empty or ("time_s", name) not in shared:
        return f"{name} was not measured at a size at which the others were."
    last, features = shared.iloc[-1], shared.index[-1]
    said = [f"At {features} features {name} takes {quantity(last['time_s', name], 's')} a call"]
    for other in COMPARED:
        if ("time_s", other) in shared:
            ratio = last["time_s", name] / last["time_s", other]
            word = gain_in_words(1.0 / ratio, math.nan, math.nan, ("faster", "slower"))
            peaks = quantity(last["peak_bytes", other], "B")
            said.append(f"{word} than {other}, which needs {peaks} at the peak")
    peak = quantity(last["peak_bytes", name], "B")
    return f"{', '.join(said)}; its own peak is {peak}."
