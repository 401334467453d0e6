"""The charts of the training study, from its stored table."""

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from ..charts.style import COLOURS, STYLE, spread_apart, write_charts
from ..errors import NothingToDrawError
from ..units import quantity, significant
from .digits import CLASSES
from .networks import NETWORKS, Network
from .outcomes import AS_WELL, AS_WELL_WITHIN, DIVERGES, NOT, RAISES, WORSE, Result, by_outcome, judge
from .study import Epoch, Study, load_study

RIGHT_COLOUR, OTHERS_COLOUR = "#000000", "#C4C4C4"
# The wrong gradients that show most, by network as (operation, gradient): named in the curves, all others are grey.
TOLD = {
    "last": (
        ("cross_entropy+softmax", "fused_gradient_at_loss_node+diagonal_only"),
        ("cross_entropy", "fused_gradient_at_loss_node"),
        ("softmax", "divided_by_batch"),
        ("softmax", "diagonal_only"),
        ("softmax", "first_row_jacobian"),
        ("softmax_cross_entropy", "wrong_sign"),
    ),
    "middle": (
        ("softmax", "diagonal_only"),
        ("softmax", "jacobian_summed"),
        ("softmax", "outer_product_missing"),
        ("softmax", "identity_missing"),
        ("softmax", "scaled"),
        ("softmax", "pass_through"),
    ),
}
TOLD_COLOURS = tuple(colour for colour in COLOURS if colour != RIGHT_COLOUR)
OUTCOME_MARKS = {AS_WELL: ("o", COLOURS[0]), WORSE: ("s", COLOURS[1]), NOT: ("X", COLOURS[4])}
ROW_INCHES = 0.17
ACCURACY_COLUMN, LOSS_COLUMN = 1.11, 1.27  # of the panel's width
GROWTH_SHOWN = 40  # times the first loss; what grows without end leaves the panel


def draw_study(folder: Path, plots: Path) -> Iterator[Path]:
    """Draw every chart of a stored study into ``plots``, as PNG and SVG, and yield the files as they are written.

    Raises:
        UserError: the study cannot be read, or the folder cannot be written.
        NothingToDrawError: it is empty.
    """
    study, rows = load_study(folder)
    judged = judge(rows)
    drawn = [network for network in NETWORKS if network.name in judged]
    if not drawn:
        raise NothingToDrawError(f"{folder}: no training is stored: make train")
    for network, chart in itertools.product(drawn, (curves, accuracies)):
        with mpl.rc_context(STYLE):
            figure = chart(study, network, judged[network.name])
        yield from write_charts(figure, plots, f"{chart.__name__}_{network.name}")


def curves(study: Study, network: Network, results: list[Result]) -> Figure:
    """Loss and test accuracy by epoch: the right gradients as one line, the wrong ones grey, the telling ones named."""
    figure = Figure(figsize=(11.0, 9.0))
    loss, accuracy = figure.subplots(2, 1, sharex=True)
    _draw_curves(loss, network, results, lambda row: row.loss)
    _draw_curves(accuracy, network, results, lambda row: row.test_accuracy)
    lowest = min(row.loss for one in results for row in one.epochs if not math.isnan(row.loss))
    loss.set(yscale="log", ylim=(lowest / 1.5, results[0].epochs[0].loss * GROWTH_SHOWN))
    loss.set(title="Loss over the training images, nats", ylabel="loss")
    loss.yaxis.set_major_locator(LogLocator(base=10))
    loss.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    loss.yaxis.set_minor_locator(NullLocator())
    accuracy.set(ylim=(0, 1.03), title="Share of the test images told right", ylabel="test accuracy", xlabel="epoch")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    loss.tick_params(labelbottom=True)
    figure.suptitle(f"What a wrong gradient does to training: {network.title}", fontweight="bold", fontsize=13)
    others = sum(not one.is_right for one in results) - len(TOLD[network.name])
    raising = sum(one.outcome == RAISES for one in results)
    note = f"grey: the {others} other wrong gradients ({raising} raise at once and have no line) · ×: it diverges there"
    figure.text(0.5, 0.94, note, fontsize=8.5, color="#444444", ha="center")
    figure.text(0.5, 0.012, _caption(study, network), fontsize=7.5, color="#444444", ha="center")
    figure.subplots_adjust(left=0.065, right=0.66, top=0.9, bottom=0.105, hspace=0.2)
    for panel in (loss, accuracy):
        _name_lines(panel)
    return figure


def _draw_curves(panel: Axes, network: Network, results: list[Result], value: Callable[[Epoch], float]) -> None:
    told = dict(zip(TOLD[network.name], TOLD_COLOURS, strict=False))
    right = [one for one in results if one.is_right]
    others = [one for one in results if not one.is_right and (one.last.operation, one.last.gradient) not in told]
    for one in others:
        _draw_curve(panel, one, value, "_", color=OTHERS_COLOUR, linewidth=0.7)
    for key, colour in told.items():
        for one in results:
            if (one.last.operation, one.last.gradient) == key:
                _draw_curve(panel, one, value, one.title, color=colour, linewidth=1.5)
    for one in right:
        label = f"the {len(right)} right ones, which coincide" if one is right[0] else "_"
        _draw_curve(panel, one, value, label, color=RIGHT_COLOUR, linewidth=2.0)
    panel.set_xlim(0, max(one.last.epoch for one in results))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_curve(panel: Axes, result: Result, value: Callable[[Epoch], float], label: str, **style: Any) -> None:
    drawn = [row for row in result.epochs if not math.isnan(value(row))]
    panel.plot([row.epoch for row in drawn], [value(row) for row in drawn], label=label, **style)
    if result.outcome == DIVERGES:
        panel.plot(drawn[-1].epoch, value(drawn[-1]), marker="x", markersize=5, color=style["color"], label="_")


def _name_lines(panel: Axes) -> None:
    """Each line's name right of the panel, level with the line's end or as near as other names allow.

    A line that ends early has its colour alone to tell it: a leader across the panel would look like data.
    """
    to_panel = panel.transData + panel.transAxes.inverted()
    lines = [line for line in panel.get_lines() if not str(line.get_label()).startswith("_")]
    ends = []
    for line in lines:
        x, y = to_panel.transform(np.asarray(line.get_xydata(), dtype=float)[-1]).clip(0.0, 1.0)
        ends.append((float(x), float(y)))
    order = sorted(range(len(lines)), key=lambda place: ends[place][1])
    heights = spread_apart([ends[place][1] for place in order])
    for place, height in zip(order, heights, strict=True):
        colour = str(lines[place].get_color())
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 2}
        panel.annotate(
            str(lines[place].get_label()),
            ends[place],
            xycoords="axes fraction",
            xytext=(1.05, height),
            textcoords="axes fraction",
            color=colour,
            fontsize=8,
            verticalalignment="center",
            arrowprops=leader if ends[place][0] == 1 else None,
        )


def accuracies(study: Study, network: Network, results: list[Result]) -> Figure:
    """Final test accuracy of every gradient, sorted: the right ones in one row, those that did not finish in words."""
    ordered = by_outcome(results)
    right, wrong = ([one for one in ordered if one.is_right is kind] for kind in (True, False))
    height = ROW_INCHES * (len(wrong) + 1) + 2.0
    figure = Figure(figsize=(10.5, height))
    panel = figure.subplots()
    figure.subplots_adjust(left=0.31, right=0.83, top=1 - 0.85 / height, bottom=1.0 / height)
    reference = min(one.last.test_accuracy for one in right)
    within = f"up to {100 * AS_WELL_WITHIN:.0f} points below the right ones"
    panel.axvspan(reference - AS_WELL_WITHIN, reference, color="#E8E8E8", linewidth=0, label=within)
    _draw_accuracy(panel, 0, right[0], ("D", RIGHT_COLOUR))
    for place, one in enumerate(wrong, start=1):
        if one.outcome in OUTCOME_MARKS:
            _draw_accuracy(panel, place, one, OUTCOME_MARKS[one.outcome])
        else:
            reason = f": {one.last.reason}" if one.outcome == RAISES else f" in epoch {one.last.epoch}"
            panel.text(0.008, place, f"{one.outcome}{reason}", fontsize=7, color="#555555", va="center")
    panel.set(xlim=(0, 1), ylim=(len(wrong) + 0.7, -0.7), xlabel="test images told right after the last epoch")
    names = [f"the {len(right)} right ones, which coincide", *(one.title for one in wrong)]
    panel.set_yticks(range(len(names)), names, fontsize=7.5)
    panel.tick_params(axis="y", length=0)
    panel.grid(visible=False, axis="y")
    panel.xaxis.set_major_formatter(PercentFormatter(1.0))
    _add_legend(panel, wrong)
    figure.suptitle(f"Which wrong gradients still learn? {network.title.capitalize()}", fontweight="bold", fontsize=13)
    figure.text(0.5, 0.12 / height, _caption(study, network), fontsize=7.5, color="#444444", ha="center")
    return figure


def _draw_accuracy(panel: Axes, place: int, result: Result, mark: tuple[str, str]) -> None:
    """A dot, and at the panel's right its value beside the final loss."""
    accuracy, (shape, colour) = result.last.test_accuracy, mark
    panel.plot([0, accuracy], [place, place], color=colour, linewidth=0.6, alpha=0.5)
    panel.plot(accuracy, place, marker=shape, color=colour, markersize=5, linestyle="none", clip_on=False, zorder=3)
    for column, text in ((ACCURACY_COLUMN, f"{accuracy:.1%}"), (LOSS_COLUMN, significant(result.last.loss))):
        panel.text(column, place, text, fontsize=7.5, ha="right", va="center", color=colour)


def _add_legend(panel: Axes, wrong: list[Result]) -> None:
    """The columns' headings, and each mark's meaning with how many there are of it, where no row reaches."""
    for column, heading in ((ACCURACY_COLUMN, "accuracy"), (LOSS_COLUMN, "training loss")):
        panel.text(column, -1.2, heading, fontsize=7.5, ha="right", va="center", color="#444444")
    places = {
        outcome: [place for place, one in enumerate(wrong, start=1) if one.outcome == outcome]
        for outcome in OUTCOME_MARKS
    }
    for outcome, (shape, colour) in OUTCOME_MARKS.items():
        label = f"wrong, {outcome} ({len(places[outcome])})"
        panel.plot([], [], marker=shape, color=colour, markersize=5, linestyle="none", label=label)
    last = max((place for outcome in OUTCOME_MARKS for place in places[outcome]), default=0)
    panel.vlines(1 / CLASSES, -0.7, last + 0.5, color="#888888", linewidth=0.8, linestyle=":", label="guessing")
    free = places[NOT] or [len(wrong)]
    middle = (0.55, sum(free) / len(free))
    panel.legend(loc="center", bbox_to_anchor=middle, bbox_transform=panel.transData, fontsize=8)


def _caption(study: Study, network: Network) -> str:
    """How it was trained, and the machine and the software."""
    plan, of_machine = study.plan, study.machine
    sizes = study.networks[network.name]
    return (
        f"Digits of scikit-learn, {plan['train_images']} to learn from, in batches of {plan['batch']}; "
        f"{sizes['width']} hidden features, learning rate {sizes['learning_rate']}, float64, seed {plan['seed']}: "
        "the same for every gradient\n"
        f"{of_machine['cpu']}, {of_machine['cores']} cores, {quantity(of_machine['memory_bytes'], 'B')} memory, "
        f"{of_machine['system']} · Python {study.versions['python']}, NumPy {study.versions['numpy']}, "
        f"scikit-learn {study.versions['scikit-learn']} · {study.started[:10]}"
    )
