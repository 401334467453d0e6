"""The common look of the charts: colours, marks, captions, names that do not overlap; nothing here reads a table."""

import io
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ..implementations import NUMPY
from ..storage.files import replace_file
from ..storage.results import Run
from ..units import quantity

# Okabe and Ito's colours and Tol's wine, told apart by readers with any common colour blindness; marks and dashes go on
# where there are more implementations than colours.
COLOURS = ("#D55E00", "#E69F00", "#CC79A7", "#000000", "#0072B2", "#56B4E9", "#009E73", "#882255")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.")
FORMATS = ("png", "svg")
MISSING_COLOUR = "#E6E6E6"
STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E0E0E0",
    "grid.linewidth": 0.6,
    "svg.hashsalt": "softmax-bench",
}
LIBRARY_NAMES = {NUMPY: "NumPy", "numba": "Numba", "torch": "PyTorch", "jax": "JAX", "numexpr": "NumExpr"}
TITLE_WIDTH = 11.0  # inches
CAPTION_CHARACTERS_PER_INCH = 16
LABEL_GAP = 0.055  # of a panel's height, between the middles of two names


class Style(NamedTuple):
    """How an implementation looks, in every chart of a run."""

    colour: str
    mark: str
    dash: str

    @property
    def line(self) -> dict[str, Any]:
        """The style as arguments of ``Axes.plot``."""
        return {"color": self.colour, "marker": self.mark, "linestyle": self.dash, "markersize": 3.5, "linewidth": 1.4}


def names_in(run: Run, operation: str) -> list[str]:
    """The operation's implementations in the order of the registry that the run was made with."""
    return [spec["name"] for spec in run.implementations if spec["operation"] == operation]


def style_in(run: Run, operation: str, implementation: str) -> Style:
    """The implementation's style, from its place in the run's registry."""
    known = names_in(run, operation)
    place = known.index(implementation) if implementation in known else len(known)
    turn, colour = divmod(place, len(COLOURS))
    return Style(COLOURS[colour], MARKS[(colour + turn) % len(MARKS)], DASHES[turn % len(DASHES)])


def libraries_in(run: Run, operation: str) -> dict[str, str]:
    """The library that each of the operation's implementations needs: NumPy in runs that name none."""
    return {spec["name"]: spec.get("library", NUMPY) for spec in run.implementations if spec["operation"] == operation}


def caption_of(run: Run, shown: str, libraries: Iterable[str] = ()) -> str:
    """What is shown, the machine and the software, for the foot of a chart."""
    machine, versions = run.machine, run.versions
    software = [library for library in LIBRARY_NAMES if library == NUMPY or library in libraries]
    told = ", ".join(f"{LIBRARY_NAMES[library]} {versions.get(library, '?')}" for library in software)
    return (
        f"{shown} · {machine['cpu']}, "
        f"{machine['cores']} cores, {quantity(machine['memory_bytes'], 'B')} memory, {machine['system']} · "
        f"Python {versions['python']}, {told} · run {run.run_id}, {run.started[:10]}"
    )


def threads_in_words(number: int) -> str:
    """The number with its noun, as in '1 thread' or '2 threads'."""
    return f"{number} thread" if number == 1 else f"{number} threads"


def new_figure(title: str, caption: str, size_inches: tuple[float, float]) -> Figure:
    """An empty figure, wide enough for its title, its caption in as many lines as it takes."""
    width = max(size_inches[0], TITLE_WIDTH)
    figure = Figure(figsize=(width, size_inches[1]), layout=ConstrainedLayoutEngine(hspace=0.06, wspace=0.03))
    figure.suptitle(title, fontweight="bold", fontsize=13)
    lines = [textwrap.fill(line, int(width * CAPTION_CHARACTERS_PER_INCH)) for line in caption.splitlines()]
    figure.supxlabel("\n".join(lines), fontsize=7.5, color="#444444")
    return figure


def settle(figure: Figure) -> None:
    """Lay the figure out once and for all: what is added next does not move it, and each file is quick to write."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def unit_axis(axis: Axis, unit: str) -> None:
    """Label a logarithmic axis with quantities of the unit, a tick for each power of ten."""
    axis.set_major_locator(LogLocator(base=10, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value, unit)))
    axis.set_minor_locator(NullLocator())


def name_lines(panel: Axes, right: float | None = None, gap: float = LABEL_GAP) -> None:
    """Each line's name right of the data, level with the line's end or as near as other names allow.

    ``right`` is where the names begin and ``gap`` the room between two of them, in parts of the panel.
    """
    to_panel = panel.transData + panel.transAxes.inverted()
    ends: list[tuple[float, float, Line2D]] = []
    for line in panel.get_lines():
        points = np.asarray(line.get_xydata(), dtype=float)
        points = points[np.isfinite(points).all(axis=1)]
        if not str(line.get_label()).startswith("_") and len(points):
            x, y = to_panel.transform(points[-1])
            ends.append((float(y), float(x), line))
    ends.sort(key=lambda end: end[:2])
    heights = spread_apart([y for y, _, _ in ends], gap)
    beside = right or max((x for _, x, _ in ends), default=0.0) + 0.05
    for (y, x, line), height in zip(ends, heights, strict=True):
        panel.annotate(
            str(line.get_label()),
            (x, y),
            xycoords="axes fraction",
            xytext=(beside, height),
            textcoords="axes fraction",
            color=str(line.get_color()),
            fontsize=8,
            verticalalignment="center",
            # From the name's left edge: from its middle it would cross the names that stand between.
            arrowprops={
                "arrowstyle": "-",
                "color": line.get_color(),
                "linewidth": 0.5,
                "shrinkA": 0,
                "shrinkB": 2,
                "relpos": (0.0, 0.5),
            },
        )


def spread_apart(wanted: list[float], gap: float = LABEL_GAP) -> list[float]:
    """Sorted heights moved apart to ``gap`` with the least total movement of each crowded group."""
    groups: list[list[float]] = []  # wanted heights that stand together
    for height in wanted:
        groups.append([height])
        while len(groups) > 1 and _places(groups[-2], gap)[-1] + gap > _places(groups[-1], gap)[0]:
            last = groups.pop()
            groups[-1].extend(last)
    return [place for group in groups for place in _places(group, gap)]


def _places(group: list[float], gap: float) -> list[float]:
    half = gap * (len(group) - 1) / 2
    edge = min(half + gap / 2, 0.5)  # a name at the very edge would be struck through by the axis
    middle = min(max(float(np.mean(group)), edge), 1.0 - edge)
    return [middle - half + gap * place for place in range(len(group))]


def write_charts(figure: Figure, folder: Path, name: str) -> Iterator[Path]:
    """Store a figure in the folder in every format, under that name, and yield the files as they are written.

    Raises:
        UserError: a file cannot be written.
    """
    for ending in FORMATS:
        yield write_figure(figure, folder / f"{name}.{ending}")


def write_figure(figure: Figure, path: Path) -> Path:
    """Store a figure whole in the format that the path's ending names.

    Raises:
        UserError: the file cannot be written.
    """
    image = io.BytesIO()
    options: dict[str, Any] = {"metadata": {"Date": None}} if path.suffix == ".svg" else {"dpi": 144}
    with mpl.rc_context(STYLE):  # the same figure gives the same file: its identifiers are drawn from the style's salt
        figure.savefig(image, format=path.suffix[1:], **options)
    return replace_file(path, image.getvalue())
