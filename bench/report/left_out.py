"""What a run did not measure, or not well enough: counted in sentences, with every reason in folded tables."""

from collections.abc import Iterator, Sequence

import pandas as pd

from ..storage.results import Row
from ..sweep.summary import shape_label
from ..units import quantity, spread
from .content import Section, Table
from .source import Source

MOST_ROWS = 200  # of a folded table; the large table has all


def left_out_section(source: Source) -> Section:
    """Rows that were skipped, failed or wrong, times that have not settled, notes, and what was not installed."""
    frame = source.frame
    counts = frame["status"].value_counts()
    unsettled = frame[(frame["status"] == "measured") & (frame["settled"] == 0)]
    noted = [row for row in source.rows if row.status == "measured" and row.reason]
    sentences = [
        f"{counts.get('measured', 0)} rows measured, {counts.get('skipped', 0)} skipped, "
        f"{counts.get('failed', 0)} failed, {counts.get('wrong', 0)} wrong; "
        f"{len(unsettled)} times not settled, {len(noted)} measured with a note."
    ]
    if source.run.not_installed:
        left = ", ".join(f"{library} {count}" for library, count in source.run.not_installed.items())
        sentences.append(f"Left out because a library was not installed, in cases: {left}.")
    tables = [
        *(
            _reasons(status, [row for row in source.rows if row.status == status])
            for status in ("failed", "wrong", "skipped")
            if counts.get(status, 0)
        ),
        *_unsettled(unsettled),
        *([_reasons("measured with a note", noted)] if noted else []),
    ]
    listed = sum(len(table.rows) for table in tables)
    return Section(
        "left-out", "Left out and flagged", sentences=sentences, fold=f"{listed} rows with reasons", folded=tables
    )


def _reasons(what: str, rows: Sequence[Row]) -> Table:
    lines = [[row.implementation, _place(row), row.reason or "no reason stored"] for row in rows[:MOST_ROWS]]
    return Table(f"{len(rows)} {what}{_more(rows)}", ["implementation", "case", "reason"], lines)


def _unsettled(rows: pd.DataFrame) -> Iterator[Table]:
    if rows.empty:
        return
    lines = [
        [
            row["implementation"],
            f"{shape_label(row)} {row['operation']}",
            f"{quantity(row['time_s'], 's')} {spread(row['time_s'], row['time_low_s'], row['time_high_s'])}",
        ]
        for _, row in rows.head(MOST_ROWS).iterrows()
    ]
    yield Table(f"{len(rows)} not settled{_more(rows)}", ["implementation", "case", "time and interval"], lines)


def _place(row: Row) -> str:
    return f"{shape_label(vars(row))} {row.operation}"


def _more(rows: Sequence[Row] | pd.DataFrame) -> str:
    return f", the first {MOST_ROWS} of them; all are in “Every row”" if len(rows) > MOST_ROWS else ""
