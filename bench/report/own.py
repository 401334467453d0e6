"""Sections on a reader's own function: in a sweep, as `verify` judged it, or as `gate` and `compare` timed it."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..charts.families import DARK, LIGHT
from ..charts.style import caption_of
from ..errors import NothingToDrawError, UserError
from ..operations.cases import ALIKE, is_own
from ..units import factor, quantity
from ..verification.plot import along_features, cost_finding, cost_frame, own_figure
from .content import Picture, Section, Table
from .drawing import drawn_picture
from .source import DTYPE, JACOBIAN, LOGITS, VECTORIZED, Source

MISSING_OUTCOME = "give a file that verify, gate or compare wrote with --json"


def own_sections(source: Source) -> Iterator[Section]:
    """A section for each function of the user's own that took part in the run."""
    rows = source.by_shape
    for number, name in enumerate(filter(is_own, dict.fromkeys(rows["implementation"])), start=1):
        alike = (rows["implementation"] == ALIKE).any()  # earlier runs have no such rows
        compared = rows[rows["implementation"].isin([name, JACOBIAN, ALIKE if alike else VECTORIZED])]
        mine = along_features(compared.replace({"implementation": {ALIKE: VECTORIZED}}))
        statuses = rows.loc[rows["implementation"] == name, "status"].value_counts()
        counted = ", ".join(f"{count} {status}" for status, count in statuses.items())
        batch = mine["batch"].iloc[0]
        caption = caption_of(source.run, f"batch {batch}, {DTYPE}, {LOGITS} logits; bar: 95 % interval")
        verdict = "right" if not {"wrong", "failed"} & set(statuses.index) else "not right everywhere"
        said = [f"In this run: {counted} cases."]
        if alike:
            said.append(f"{VECTORIZED} is called as yours is here, with new inputs at every call ({ALIKE}).")
        yield _own(f"own-{number}", name, mine, verdict, said, caption)


def outcome_section(path: Path, key: str) -> Section:
    """What `verify`, `gate` or `compare` stored as JSON; ``key`` is the section's.

    Raises:
        UserError: the file cannot be read, or is none of theirs.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {MISSING_OUTCOME}") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); {MISSING_OUTCOME}") from None
    try:
        return _verified(content, key) if "target" in content else _timed(content, key)
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not an outcome ({type(error).__name__}: {error}); {MISSING_OUTCOME}") from None


def _verified(content: Mapping[str, Any], key: str) -> Section:
    """The report of `verify`: the verdict, why, and the cost."""
    name = str(content["target"])
    mistake = (content.get("diagnosis") or {}).get("title", "")
    verdict = "right" if content["right"] else ", ".join(filter(None, ["not right", mistake]))
    said = [str(problem) for problem in [*content.get("limits", []), *content.get("problems", [])]]
    cost = content.get("cost")
    if not cost:
        return Section(key, f"{name}: {verdict}", sentences=said or ["Its cost was not measured."])
    caption = "verify's small grid: time and peak of one call, float64, normal logits"
    return _own(key, name, cost_frame(cost["rows"]), verdict, [*said, *cost["advice"]], caption)


def _own(key: str, name: str, rows: pd.DataFrame, verdict: str, said: list[str], caption: str) -> Section:
    finding = cost_finding(rows, name)
    pictures: list[Picture] = []
    try:
        light, dark = (own_figure(rows, name, verdict, caption, theme) for theme in (LIGHT, DARK))
        pictures.append(drawn_picture(light, finding, dark))
    except NothingToDrawError as error:
        said = [*said, f"No picture: {error}."]
    sizes = [
        [
            f"{row['batch']} × {row['features']}",
            str(row["implementation"]),
            quantity(row["time_s"], "s"),
            quantity(row["peak_bytes"], "B"),
        ]
        for _, row in rows[rows["status"] == "measured"].sort_values(["features", "implementation"]).iterrows()
    ]
    table = Table("Time and peak of one call", ["batch × features", "implementation", "time", "peak"], sizes)
    return Section(key, f"{name}: {verdict}", sentences=said, pictures=pictures, fold="the figures", folded=[table])


def _timed(content: Mapping[str, Any], key: str) -> Section:
    """The check of `gate` or `compare`: old and new by case, with intervals."""
    rows = [
        [
            str(finding["label"]),
            _quantity(finding["base_s"], "s"),
            _ratio(finding["ratio"]),
            _interval(finding["low"], finding["high"]),
            _quantity(finding["base_peak_bytes"], "B"),
            _quantity(finding["work_peak_bytes"], "B"),
            " ".join(filter(None, [str(finding["verdict"]), str(finding.get("note") or "")])),
        ]
        for finding in content["findings"]
    ]
    headings = ["case", "old time", "new / old", "99 % interval", "old peak", "new peak", "verdict"]
    title = f"Against {content['base']}"
    table = Table("The new version over the old one, by case", headings, rows)
    return Section(key, title, sentences=[str(content["sentence"])], tables=[table] if rows else [])


def _quantity(value: float | None, unit: str) -> str:
    return quantity(math.nan if value is None else value, unit)


def _ratio(value: float | None) -> str:
    return factor(math.nan if value is None else value)


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{factor(low)} to {factor(high)}"
