"""What all charts share: colours, marks, captions, names that do not overlap, and the writer of their files."""

import io
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ..implementations import NUMPY
from ..instruments.host import in_words
from ..storage.files import replace_file
from ..storage.results import Run
from ..units import quantity

# Okabe and Ito's colours, and wine from Tol's: readers with any common colour blindness can distinguish them.
# If there are more implementations than colours, `lines` chooses which of them have one.
COLOURS = ("#D55E00", "#E69F00", "#CC79A7", "#000000", "#0072B2", "#56B4E9", "#009E73", "#882255")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.")
FORMATS = ("png", "svg")
DPI = 144  # of PNG files; layouts are computed with it as well, because the width of text depends on it
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
LIBRARY_NAMES = {
    NUMPY: "NumPy",
    "numba": "Numba",
    "torch": "PyTorch",
    "jax": "JAX",
    "numexpr": "NumExpr",
    "scikit-learn": "scikit-learn",
}
REFERENCE = "vectorized"  # charts compare with it: the fastest well-known form, and everybody can write it
TITLE_WIDTH = 11.0  # inches
CAPTION_CHARACTERS_PER_INCH = 16
LABEL_GAP = 0.055  # of a panel's height, between the middles of two names
NAMES_AWAY = 0.05  # of a panel's width, between the last point and the names


class Style(NamedTuple):
    """An implementation's colour, mark, dash and width (points)."""

    colour: str
    mark: str
    dash: str
    width: float = 1.4

    @property
    def line(self) -> dict[str, Any]:
        """The style as arguments of ``Axes.plot``."""
        return {
            "color": self.colour,
            "marker": self.mark,
            "linestyle": self.dash,
            "markersize": 2.5 * self.width,
            "linewidth": self.width,
            "zorder": 1.9 + 0.1 * self.width,  # a user's own above all others, the pale ones below
        }


OWN_WIDTH = 2.6  # points, of a user's own implementation
PALE = Style("#C4C4C4", "", "-", width=0.8)  # of lines without a colour of their own


def own_style(place: int) -> Style:
    """The style of a user's own implementation, the first, second or further one in a chart."""
    return Style(COLOURS[-1 - place % len(COLOURS)], MARKS[-1 - place % len(MARKS)], "-", OWN_WIDTH)


def draw_unsettled(panel: Axes, rows: pd.DataFrame, x: str, y: str, style: Style) -> None:
    """Draw the marks of rows whose times have not settled hollow, over those of their line."""
    mine = rows[rows["settled"] == 0]
    hollow = {"linestyle": "none", "markerfacecolor": "white", "label": "_unsettled"}
    panel.plot(mine[x], mine[y], **(style.line | hollow))


def libraries_in(run: Run, operation: str) -> dict[str, str]:
    """The operation's implementations in the registry's order when the run was made, and the library that each needs.

    Old runs do not name the library; there it is NumPy.
    """
    return {spec["name"]: spec.get("library", NUMPY) for spec in run.implementations if spec["operation"] == operation}


def _place_in(run: Run, operation: str, implementation: str) -> int:
    """The implementation's place in the run's registry; unknown implementations come last."""
    known = list(libraries_in(run, operation))
    return known.index(implementation) if implementation in known else len(known)


def in_registry_order(run: Run, operation: str, implementations: Iterable[str]) -> list[str]:
    """The implementations, each once, in the registry's order when the run was made."""
    return sorted(set(implementations), key=lambda name: (_place_in(run, operation, name), name))


def style_in(run: Run, operation: str, implementation: str) -> Style:
    """The implementation's style, from its place in the run's registry."""
    turn, colour = divmod(_place_in(run, operation, implementation), len(COLOURS))
    return Style(COLOURS[colour], MARKS[(colour + turn) % len(MARKS)], DASHES[turn % len(DASHES)])


def made_with(machine: Mapping[str, Any], versions: Mapping[str, str], libraries: Iterable[str] = ()) -> str:
    """The machine, and the versions of Python, NumPy and the libraries, for the text below a chart."""
    used = {NUMPY, *libraries}
    software = [f"{name} {versions.get(library, '?')}" for library, name in LIBRARY_NAMES.items() if library in used]
    return f"{in_words(machine)} · Python {versions['python']}, {', '.join(software)}"


def caption_of(run: Run, shown: str, libraries: Iterable[str] = ()) -> str:
    """The text below a run's chart: what is shown, the machine, the software, the run and its date."""
    return f"{shown} · {made_with(run.machine, run.versions, libraries)} · run {run.run_id}, {run.started[:10]}"


def threads_in_words(number: int) -> str:
    """The number and its noun, as in '1 thread' or '2 threads'."""
    return f"{number} thread" if number == 1 else f"{number} threads"


def as_plain(text: str) -> str:
    """A text that matplotlib shows as it is: between dollar signs it would read a formula."""
    return text.replace("$", r"\$")


def new_figure(title: str, caption: str, size_inches: tuple[float, float]) -> Figure:
    """A figure without panels, with a title above and a caption below. Long lines of the caption are broken."""
    width = max(size_inches[0], TITLE_WIDTH)
    layout = ConstrainedLayoutEngine(hspace=0.06, wspace=0.03)
    figure = Figure(figsize=(width, size_inches[1]), dpi=DPI, layout=layout)
    figure.suptitle(as_plain(title), fontweight="bold", fontsize=13)
    lines = [textwrap.fill(line, int(width * CAPTION_CHARACTERS_PER_INCH)) for line in caption.splitlines()]
    figure.supxlabel(as_plain("\n".join(lines)), fontsize=7.5, color="#444444")
    return figure


def settle(figure: Figure) -> None:
    """Lay the figure out now and never again: later additions move nothing, and writing a file is faster."""
    figure.draw_without_rendering()
    with mpl.rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)  # with "none", a stand-in, each file would be drawn twice


def unit_axis(axis: Axis, unit: str) -> None:
    """Put a tick at each power of ten of a logarithmic axis, labelled as a quantity of the unit."""
    axis.set_major_locator(LogLocator(base=10, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value, unit)))
    axis.set_minor_locator(NullLocator())


def name_lines(
    panel: Axes, names_at: float | None = None, gap: float = LABEL_GAP, leaders_from: float = -math.inf
) -> None:
    """Write each line's name at the right of the data, as near to the line's end as other names allow.

    A thin leader goes from the name to the line's end. A line that ends before ``leaders_from`` has none: a leader
    across the panel would look like data. Lines with a label that begins with ``_`` have no name, as in legends.
    ``names_at`` is where the names begin, by default just after the last point. All three are in shares of the panel's
    width or height.
    """
    to_panel = panel.transData + panel.transAxes.inverted()
    ends: list[tuple[float, float, Line2D]] = []
    for line in panel.get_lines():
        points = np.asarray(line.get_xydata(), dtype=float)
        points = points[np.isfinite(points).all(axis=1)]
        if not str(line.get_label()).startswith("_") and len(points):
            x, y = to_panel.transform(points[-1]).clip(0.0, 1.0)  # a line may leave the panel
            ends.append((float(y), float(x), line))
    ends.sort(key=lambda end: end[:2])
    heights = spread_apart([y for y, _, _ in ends], gap)
    if names_at is None:
        names_at = max((x for _, x, _ in ends), default=0.0) + NAMES_AWAY
    for (y, x, line), height in zip(ends, heights, strict=True):
        # The leader begins at the name's left edge. From the name's middle it would cross the names between.
        leader = {
            "arrowstyle": "-",
            "color": line.get_color(),
            "linewidth": 0.5,
            "shrinkA": 0,
            "shrinkB": 2,
            "relpos": (0.0, 0.5),
        }
        panel.annotate(
            str(line.get_label()),
            (x, y),
            xycoords="axes fraction",
            xytext=(names_at, height),
            textcoords="axes fraction",
            color=str(line.get_color()),
            fontweight="bold" if line.get_linewidth() >= OWN_WIDTH else "normal",
            fontsize=8,
            verticalalignment="center",
            arrowprops=leader if x >= leaders_from else None,
        )


def spread_apart(ends: list[float], gap: float = LABEL_GAP) -> list[float]:
    """Heights for names, at least ``gap`` apart and within 0 and 1, each near the end of its line.

    ``ends`` are the heights of the lines' ends, sorted. Names that would overlap form a group around their mean.
    """
    groups: list[list[float]] = []
    for height in ends:
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
    """Store a figure in the folder as ``name`` with the ending of each format. Yields each file when it is written.

    Raises:
        UserError: a file cannot be written.
    """
    for ending in FORMATS:
        yield write_figure(figure, folder / f"{name}.{ending}")


def write_figure(figure: Figure, path: Path) -> Path:
    """Store a figure in the format of the path's ending, whole or not at all. Returns the path.

    Raises:
        UserError: the file cannot be written.
    """
    return replace_file(path, image_of(figure, path.suffix[1:]))


def image_of(figure: Figure, kind: str) -> bytes:
    """A figure as an image of a kind that matplotlib knows, such as png, svg or webp; the same figure, the same bytes.

    The figure's own background is kept, whatever the style in force says.
    """
    image = io.BytesIO()
    options: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {"dpi": DPI}
    with mpl.rc_context(STYLE):  # the style's salt fixes the SVG's identifiers
        figure.savefig(image, format=kind, facecolor="auto", **options)
    return image.getvalue()


def charts_sentence(files: Iterable[Path]) -> str:
    """Where the charts are and how they are called, as in 'charts in plots/r: bars, time_by_features* (png, svg)'.

    A star marks a chart that was drawn for several slices of the table: ``time_by_features-libraries`` is one of its
    files. ``files`` are at least one, all in one folder.
    """
    paths = list(files)
    charts: dict[str, set[str]] = {}  # the files' names without ending, by the part before the slice
    for path in paths:
        charts.setdefault(path.stem.partition("-")[0], set()).add(path.stem)
    names = ", ".join(name if stems == {name} else f"{name}*" for name, stems in charts.items())
    endings = ", ".join(dict.fromkeys(path.suffix[1:] for path in paths))
    return f"charts in {paths[0].parent}: {names} ({endings})"
