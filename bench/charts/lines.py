"""Which lines of a chart have a colour of their own: at most as many as there are colours; the others are pale."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from ..operations.cases import ALIKE, is_own
from ..storage.results import Run
from .style import COLOURS, PALE, Style, in_registry_order, libraries_in, own_style, style_in

SHAPE = ["batch", "features", "logits", "threads"]
RULE = (
    "In colour: your own, then {always} and the fastest of each library, then the fastest; "
    "softmax-bench plot {run} --show NAME colours another one"
)


def colours_of(run: Run, operation: str, rows: pd.DataFrame, always: Sequence[str]) -> dict[str, str]:
    """A colour for each implementation in the rows of several charts, the most wanted first.

    As many as there are colours have each their own, which they keep in all of these charts.
    """
    return {name: style.colour for name, style in _distinct(run, operation, _wanted(run, operation, rows, always), {})}


def styles_of(
    run: Run,
    operation: str,
    rows: pd.DataFrame,
    always: Sequence[str],
    asked: Sequence[str] = (),
    colours: Mapping[str, str] | None = None,
) -> dict[str, Style]:
    """The style of each implementation in a chart's rows, in the registry's order when the run was made.

    A user's own has the last colour and a thick line. ``asked`` and then ``always`` come before others where there are
    more lines than colours: the rest is `PALE`. A line has its colour of ``colours`` unless another line has it.
    """
    shown = _wanted(run, operation, rows, [*asked, *always])[: len(COLOURS)]
    known = list(colours or {})
    order = sorted(shown, key=lambda name: (not is_own(name), known.index(name) if name in known else len(known)))
    styles = dict(_distinct(run, operation, order, colours or {}))
    return {name: styles.get(name, PALE) for name in in_registry_order(run, operation, rows["implementation"])}


def _distinct(
    run: Run, operation: str, names: Sequence[str], colours: Mapping[str, str]
) -> Iterator[tuple[str, Style]]:
    """The names with their styles; where a colour is taken, with the first that is free, if any is."""
    free = list(COLOURS)
    for place, name in enumerate(names):
        usual = own_style(place) if is_own(name) else style_in(run, operation, name)
        wanted = colours.get(name, usual.colour)
        colour = wanted if wanted in free or not free else free[0]
        if colour in free:
            free.remove(colour)
        yield name, usual._replace(colour=colour)


def pale_note(run: Run, styles: Mapping[str, Style], always: Sequence[str]) -> str:
    """Which lines are pale and by which rule, for the text below a chart; empty where all have a colour."""
    pale = [name for name, style in styles.items() if style == PALE]
    if not pale:
        return ""
    rule = RULE.format(always=", ".join(dict.fromkeys(always)), run=run.run_id)
    return f"\nPale: {', '.join(pale)}.\n{rule}."


def _wanted(run: Run, operation: str, rows: pd.DataFrame, first: Sequence[str]) -> list[str]:
    """The implementations in the rows, those first that are to have a colour: see ``RULE``."""
    libraries, names = libraries_in(run, operation), in_registry_order(run, operation, rows["implementation"])
    by_speed = _by_speed(rows, names)
    of_library: dict[str, str] = {}
    for name in by_speed:
        of_library.setdefault(libraries.get(name, name), name)
    own = [*filter(is_own, names), ALIKE]
    return [name for name in dict.fromkeys([*own, *first, *of_library.values(), *by_speed]) if name in names]


def _by_speed(rows: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """The names, the fastest first: by the mean distance from the fastest of each shape; then those without a time."""
    timed = rows[(rows["status"] == "measured") & rows["time_s"].notna()]
    behind = timed["time_s"] / timed.groupby(SHAPE)["time_s"].transform("min")
    means = timed.assign(behind=np.log(behind)).groupby("implementation")["behind"].mean().sort_values(kind="stable")
    return list(dict.fromkeys([*map(str, means.index), *names]))
