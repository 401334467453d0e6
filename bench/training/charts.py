"""The charts of the training study, from its stored table."""

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from ..charts.style import COLOURS, STYLE, made_with, name_lines, new_figure, settle, write_charts
from ..errors import NothingToDrawError
from ..units import significant
from .digits import CLASSES
from .networks import NETWORKS, Network
from .outcomes import AS_WELL, AS_WELL_WITHIN, DIVERGES, NOT, RAISES, WORSE, Result, by_outcome, judge, right_and_wrong
from .study import Epoch, Study, load_study

RIGHT_COLOUR, OTHERS_COLOUR = "#000000", "#C4C4C4"
# The wrong gradients with the clearest effects, by network as (operation, gradient). Their curves have names and
# colours, the curves of all other wrong gradients are grey.
NAMED = {
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
NAMED_COLOURS = tuple(colour for colour in COLOURS if colour != RIGHT_COLOUR)
OUTCOME_MARKS = {AS_WELL: ("o", COLOURS[0]), WORSE: ("s", COLOURS[1]), NOT: ("X", COLOURS[4])}
NAMES_AT = 1.05  # where the curves' names begin, in shares of the panel's width
RIGHT_EDGE = 0.999  # of the panel's width: a curve that reaches it has not ended early
ROW_INCHES = 0.17
ACCURACY_COLUMN, LOSS_COLUMN = 45, 106  # points from the panel to the right end of each column of numbers
LARGEST_LOSS = 40  # times the first loss; a curve above it leaves the panel


def draw_study(folder: Path, plots: Path) -> Iterator[Path]:
    """Draw every chart of a stored study into ``plots``, as PNG and SVG. Yields each file when it is written.

    Raises:
        UserError: the study cannot be read, or the folder cannot be written.
        NothingToDrawError: the study is empty.
    """
    study, rows = load_study(folder)
    judged = judge(rows)
    drawn = [network for network in NETWORKS if network.name in judged]
    if not drawn:
        raise NothingToDrawError(f"{folder}: no training is stored; start one with make train")
    for network, chart in itertools.product(drawn, (curves, accuracies)):
        with mpl.rc_context(STYLE):
            figure = chart(study, network, judged[network.name])
        yield from write_charts(figure, plots, f"{chart.__name__}_{network.name}")


def curves(study: Study, network: Network, results: list[Result]) -> Figure:
    """Loss and test accuracy by epoch: the right gradients in black, some wrong ones with names, the others grey."""
    title = f"What a wrong gradient does to training: {network.title}"
    others = sum(not result.is_right for result in results) - len(NAMED[network.name])
    raising = sum(result.outcome == RAISES for result in results)
    note = f"Grey: the {others} other wrong gradients; {raising} of them raise at once and have no line. ×: diverges."
    figure = new_figure(title, f"{note}\n{_caption(study, network)}", (11.0, 9.0))
    loss, accuracy = figure.subplots(2, 1, sharex=True)
    _draw_curves(loss, network, results, lambda row: row.loss)
    _draw_curves(accuracy, network, results, lambda row: row.test_accuracy)
    lowest = min(row.loss for result in results for row in result.epochs if not math.isnan(row.loss))
    loss.set(yscale="log", ylim=(lowest / 1.5, results[0].epochs[0].loss * LARGEST_LOSS))
    loss.set(title="Mean loss over the training images, nats", ylabel="loss")
    loss.yaxis.set_major_locator(LogLocator(base=10))
    loss.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    loss.yaxis.set_minor_locator(NullLocator())
    accuracy.set(ylim=(0, 1.03), title="Share of test images classified correctly", ylabel="accuracy", xlabel="epoch")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    loss.tick_params(labelbottom=True)
    for panel in (loss, accuracy):
        name_lines(panel, NAMES_AT, leaders_from=RIGHT_EDGE)
    settle(figure)
    return figure


def _draw_curves(panel: Axes, network: Network, results: list[Result], value: Callable[[Epoch], float]) -> None:
    right, wrong = right_and_wrong(results)
    by_key = {(result.last.operation, result.last.gradient): result for result in wrong}
    for key, result in by_key.items():
        if key not in NAMED[network.name]:
            _draw_curve(panel, result, value, "_", color=OTHERS_COLOUR, linewidth=0.7)
    for key, colour in zip(NAMED[network.name], NAMED_COLOURS, strict=False):
        if key in by_key:
            _draw_curve(panel, by_key[key], value, by_key[key].title, color=colour, linewidth=1.5)
    for place, result in enumerate(right):
        label = "_" if place else _label_of_right(right)
        _draw_curve(panel, result, value, label, color=RIGHT_COLOUR, linewidth=2.0)
    panel.set_xlim(0, max(result.last.epoch for result in results))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_curve(panel: Axes, result: Result, value: Callable[[Epoch], float], label: str, **style: Any) -> None:
    drawn = [row for row in result.epochs if not math.isnan(value(row))]
    panel.plot([row.epoch for row in drawn], [value(row) for row in drawn], label=label, **style)
    if result.outcome == DIVERGES:
        panel.plot(drawn[-1].epoch, value(drawn[-1]), marker="x", markersize=5, color=style["color"], label="_")


def _label_of_right(right: list[Result]) -> str:
    return f"the {len(right)} right ones, which coincide"


def accuracies(study: Study, network: Network, results: list[Result]) -> Figure:
    """Final test accuracy of every wrong gradient, sorted, below the right ones in one row.

    A gradient that diverges or raises has its outcome in words.
    """
    right, wrong = right_and_wrong(by_outcome(results))
    title = f"Which wrong gradients still learn? {network.title.capitalize()}"
    figure = new_figure(title, _caption(study, network), (11.0, ROW_INCHES * (len(wrong) + 1) + 2.0))
    panel = figure.subplots()
    reference = min(result.last.test_accuracy for result in right)
    within = f"up to {100 * AS_WELL_WITHIN:.0f} points below the right ones"
    panel.axvspan(reference - AS_WELL_WITHIN, reference, color="#E8E8E8", linewidth=0, label=within)
    _draw_accuracy(panel, 0, right[0], ("D", RIGHT_COLOUR))
    for place, result in enumerate(wrong, start=1):
        if result.outcome in OUTCOME_MARKS:
            _draw_accuracy(panel, place, result, OUTCOME_MARKS[result.outcome])
        else:
            reason = f": {result.last.reason}" if result.outcome == RAISES else f" in epoch {result.last.epoch}"
            panel.text(0.008, place, f"{result.outcome}{reason}", fontsize=7, color="#555555", va="center")
    panel.set(xlim=(0, 1), ylim=(len(wrong) + 0.7, -0.7))
    panel.set_xlabel("share of test images classified correctly after the last epoch")
    names = [_label_of_right(right), *(result.title for result in wrong)]
    panel.set_yticks(range(len(names)), names, fontsize=7.5)
    panel.tick_params(axis="y", length=0)
    panel.grid(visible=False, axis="y")
    panel.xaxis.set_major_formatter(PercentFormatter(1.0))
    _add_legend(panel, wrong)
    settle(figure)
    return figure


def _draw_accuracy(panel: Axes, place: int, result: Result, mark: tuple[str, str]) -> None:
    """A mark at the accuracy, and at the right of the panel the accuracy and the final loss as numbers."""
    accuracy, (shape, colour) = result.last.test_accuracy, mark
    panel.plot([0, accuracy], [place, place], color=colour, linewidth=0.6, alpha=0.5)
    panel.plot(accuracy, place, marker=shape, color=colour, markersize=5, linestyle="none", clip_on=False, zorder=3)
    _write_columns(panel, place, f"{accuracy:.1%}", significant(result.last.loss), colour)


def _write_columns(panel: Axes, place: float, accuracy: str, loss: str, colour: str) -> None:
    """Two texts at the right of the panel, at a fixed distance from it: so the layout can leave them their room."""
    for column, text in ((ACCURACY_COLUMN, accuracy), (LOSS_COLUMN, loss)):
        panel.annotate(
            text,
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(column, 0),
            textcoords="offset points",
            fontsize=7.5,
            ha="right",
            va="center",
            color=colour,
        )


def _add_legend(panel: Axes, wrong: list[Result]) -> None:
    """The columns' headings, and a legend with each mark's meaning and number, between rows with short lines."""
    _write_columns(panel, -1.2, "accuracy", "training loss", "#444444")
    places = {
        outcome: [place for place, result in enumerate(wrong, start=1) if result.outcome == outcome]
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
    """The text below a chart: how the network was trained, the machine, the software and the date."""
    plan, sizes = study.plan, study.networks[network.name]
    return (
        f"scikit-learn's digits, {plan['train_images']} training images in batches of {plan['batch']}; "
        f"{sizes['width']} hidden features, learning rate {sizes['learning_rate']}, float64, seed {plan['seed']}: "
        "the same for every gradient\n"
        f"{made_with(study.machine, study.versions, ['scikit-learn'])} · {study.started[:10]}"
    )
