"""Charts of matplotlib as pictures of a report."""

from matplotlib.figure import Figure

from ..charts.style import image_of
from .content import Picture

FORMAT = "webp"  # a third of a PNG's size


def drawn_picture(figure: Figure, finding: str, dark: Figure | None = None) -> Picture:
    """A figure as a picture, with its finding, and its dark twin if there is one."""
    return Picture(
        light=image_of(figure, FORMAT),
        media_type=f"image/{FORMAT}",
        finding=finding,
        dark=None if dark is None else image_of(dark, FORMAT),
    )
