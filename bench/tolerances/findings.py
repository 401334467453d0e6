"""What the stored rows say: shares by rule, from which size on zeros pass, and which rules let nothing through."""

from collections.abc import Iterator

import pandas as pd

from .rules import OURS

OPERATION = "softmax"  # what table and charts show; a loss's gradient is not small, so most rules see its mistakes
KEY = ["dtype", "rule"]


def shares(rows: pd.DataFrame) -> "pd.Series[float]":
    """The share of the counted mistakes that pass, for each row."""
    return rows["passing"] / rows["mistakes"]


def passes_from(rows: pd.DataFrame, column: str) -> int | None:
    """The smallest size from which on ``column`` is 1 at every larger size, too; None if there is none."""
    first = None
    for features, passes in sorted(zip(rows["features"], rows[column], strict=True), reverse=True):
        if not passes:
            break
        first = int(features)
    return first


def of_softmax(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Each dtype and rule in the stored order, with its rows of softmax's backward."""
    mine = rows[rows["operation"] == OPERATION]
    for (dtype, rule), group in mine.groupby(KEY, sort=False):
        yield str(dtype), str(rule), group


def largest_share(group: pd.DataFrame, kind: str) -> float:
    """The largest share of mistakes that passes at any size with this kind of inputs; NaN if it was not tried."""
    return float(shares(group[group["inputs"] == kind]).max())


def zeros_from(group: pd.DataFrame, kind: str) -> int | None:
    """The size from which on a gradient of zeros passes with this kind of inputs."""
    return passes_from(group[group["inputs"] == kind], "zeros_pass")


def sentences(rows: pd.DataFrame) -> Iterator[str]:
    """What holds for the rule of this suite, and which of the usual rules let zeros pass or reject what is right."""
    ours, others = rows[rows["rule"] == OURS], rows[rows["rule"] != OURS]
    yield (
        f"{OURS.capitalize()}: {ours['passing'].sum()} of {ours['mistakes'].sum()} mistakes pass, "
        f"{ours['zeros_pass'].sum()} gradients of zeros, {ours['right_rejected'].sum()} of "
        f"{ours['right_forms'].sum()} right results are rejected."
    )
    for column, said in (("zeros_pass", "Zeros pass"), ("right_rejected", "What is right is rejected")):
        names = others.loc[others[column] > 0, "rule"].unique()
        yield f"{said} somewhere: {', '.join(names) or 'by no rule'}."
