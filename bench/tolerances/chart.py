"""The charts of the tolerances study, from its stored rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ..charts.style import COLOURS, MARKS, STYLE, made_with, name_lines, new_figure, settle, write_charts
from .draws import BATCH
from .findings import OPERATION, passes_from, shares
from .rules import ASSERT_CLOSE, NUMPY_CLOSE, OURS
from .study import Study

# By chart: the dtype, and the rules that are drawn, each in its own colour, and those of both charts in the same. Of
# rules with nearly the same tolerances one stands for the others.
FLOAT32 = (
    "absolute 1e-2",
    "absolute 1e-3",
    "KernelBench",
    "Liger-Kernel",
    NUMPY_CLOSE,
    "xformers",
    "cs231n 1e-4",
    OURS,
)
BFLOAT16 = ("FlashInfer", "flash-attention", "KernelBench", "Liger-Kernel", ASSERT_CLOSE, "DeepGEMM", OURS)
CHARTED = {"passing_float32": ("float32", FLOAT32), "passing_bfloat16": ("bfloat16", BFLOAT16)}
OURS_COLOUR = "#000000"
OTHERS = [colour for colour in COLOURS if colour != OURS_COLOUR]
TITLES = {"normal": "normal logits", "flat": "flat logits", "averaged": "flat logits, averaged loss"}
NAMES_WIDTH = 0.36  # of a panel, right of its data
ALSO = {"KernelBench": "KernelBench, quack"}  # the same tolerances at both charted dtypes


def draw_study(study: Study, rows: pd.DataFrame, folder: Path) -> Iterator[Path]:
    """Draw the charts of a stored study into a folder, as PNG and SVG. Yields each file when it is written.

    Raises:
        UserError: a file cannot be written.
    """
    caption = (
        f"Share of softmax's known mistakes that pass in each of {study.draws} draws of {BATCH} rows. A ring: a "
        "gradient of zeros passes from here on. Logits: normal, or flat, which is uniform in [0, 1). grad_output: "
        "normal, over 4096 where the loss is averaged.\n"
        f"{made_with(study.machine, study.versions)} · {study.started[:10]}"
    )
    for name, (dtype, rules) in CHARTED.items():
        yield from write_charts(passing(rows, dtype, rules, caption), folder, name)


def passing(rows: pd.DataFrame, dtype: str, rules: tuple[str, ...], caption: str) -> Figure:
    """The share of mistakes that pass against features, a line a rule, with a panel for each kind of inputs."""
    mine = rows[(rows["dtype"] == dtype) & (rows["operation"] == OPERATION)]
    kinds = list(dict.fromkeys(mine["inputs"]))
    with mpl.rc_context(STYLE):
        title = f"How many wrong gradients of softmax pass the usual tests in {dtype}?"
        figure = new_figure(title, caption, (16.0, 5.6))
        panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for panel, kind in zip(panels, kinds, strict=True):
            _draw(panel, mine[mine["inputs"] == kind], rules)
            panel.set(title=TITLES[kind], xlabel="features")
        panels[0].set_ylabel("share of the known mistakes that pass")
        settle(figure)
        for panel in panels:
            name_lines(panel)
        return figure


def _draw(panel: Axes, rows: pd.DataFrame, rules: tuple[str, ...]) -> None:
    """A line a rule, and a ring where a gradient of zeros passes from there on."""
    sizes = sorted(rows["features"].unique())
    for number, rule in enumerate(rules):
        mine = rows[rows["rule"] == rule].sort_values("features")
        colour = OURS_COLOUR if rule == OURS else OTHERS[number]
        style: dict[str, Any] = {"color": colour, "marker": MARKS[number % len(MARKS)], "markersize": 3.5}
        share = shares(mine)
        panel.plot(mine["features"], share, linewidth=1.4, label=ALSO.get(rule, rule), **style)
        zeros_from = passes_from(mine, "zeros_pass")
        if zeros_from is not None:
            at = share[mine["features"] == zeros_from]
            ring: dict[str, Any] = {"marker": "o", "markersize": 11, "markerfacecolor": "none", "markeredgewidth": 1.4}
            panel.plot([zeros_from], at, linestyle="none", label="_ring", color=colour, **ring)
    panel.set_xscale("log", base=2)
    panel.set_xlim(sizes[0] / 1.5, sizes[-1] * (sizes[-1] / sizes[0]) ** (NAMES_WIDTH / (1 - NAMES_WIDTH)))
    panel.set_ylim(-0.03, 1.0)
    panel.set_xticks(sizes[1::3], [str(size) for size in sizes[1::3]])
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
