"""The picture to take away from a run, in the page's light and dark colours."""

from collections.abc import Iterator
from functools import partial

from matplotlib.figure import Figure

from ..charts.families import DARK, LIGHT, Line, Theme, colours_of, families
from ..charts.style import caption_of
from ..errors import NothingToDrawError
from ..implementations import registered
from ..operations.cases import ARTICLE_OPERATION, ARTICLE_SHAPE
from ..units import factor, quantity
from .answers import ITEMSIZE, first_too_large, pairs_of
from .content import Section
from .drawing import drawn_picture
from .source import DTYPE, JACOBIAN, LOGITS, THREADS, VECTORIZED, Source


def takeaway_section(source: Source) -> Iterator[Section]:
    """Time and memory of both families over features; nothing where the run lacks one or has too few sizes."""
    try:
        light, dark = (_figure(source, theme) for theme in (LIGHT, DARK))
    except NothingToDrawError:
        return
    yield Section("picture", "In one picture", pictures=[drawn_picture(light, _finding(source), dark)])


def _figure(source: Source, theme: Theme) -> Figure:
    batch = ARTICLE_SHAPE[0]
    rows = source.by_shape[source.by_shape["batch"] == batch].sort_values("features")
    lines = []
    for name, colour in zip((JACOBIAN, VECTORIZED), colours_of(theme), strict=True):
        peak = partial(registered()[ARTICLE_OPERATION, name].workspace, batch, itemsize=ITEMSIZE)
        its = rows[rows["implementation"] == name]
        if its.empty:
            raise NothingToDrawError(f"needs both families, and the run has no {name} at batch {batch}")
        lines.append(Line(name, its, colour, peak))
    title = f"The backward pass of softmax at batch {batch}: with the Jacobian, and without"
    marks = "bar: 95 % interval, hollow: not settled, dotted: predicted where it was not measured"
    caption = caption_of(source.run, f"{DTYPE}, {LOGITS} logits, {THREADS} thread; {marks}")
    return families(lines, int(source.run.machine.get("memory_bytes", 0)), title, caption, theme)


def _finding(source: Source) -> str:
    """What the picture shows, for those who do not see it."""
    batch = ARTICLE_SHAPE[0]
    pairs = pairs_of(source.by_shape[source.by_shape["batch"] == batch])
    said = f"At batch {batch} the gap between {JACOBIAN} and {VECTORIZED} "
    if pairs:
        first, last = pairs[0].vectorized, pairs[-1].vectorized
        said += (
            f"goes from {factor(first['speedup'])} in time and {factor(first['memory_ratio'])} in memory at "
            f"{first['features']} features to {factor(last['speedup'])} and {factor(last['memory_ratio'])} at "
            f"{last['features']}"
        )
    else:
        said += "cannot be read: no size has both"
    if memory_bytes := int(source.run.machine.get("memory_bytes", 0)):
        wall = first_too_large(JACOBIAN, batch, memory_bytes)
        said += f"; at {wall} features the Jacobian passes this machine's memory of {quantity(memory_bytes, 'B')}"
    return f"{said}."
