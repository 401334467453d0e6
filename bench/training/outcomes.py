"""What became of each gradient, from the stored table alone: an outcome by stated criteria, and sentences."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..units import factor
from .gradients import ONE_NODE, QUESTIONS_PAIR, RIGHT
from .study import DIVERGED, RAISED, Epoch

AS_WELL, WORSE, NOT, DIVERGES, RAISES = "learns as well", "learns worse", "does not learn", "diverges", "raises"
OUTCOMES = {  # in the singular and in the plural
    AS_WELL: "learn as well",
    WORSE: "learn worse",
    NOT: "do not learn",
    DIVERGES: "diverge",
    RAISES: "raise",
}
# Two standard errors of the difference between two shares of about 97 % of 517 images: 2 * sqrt(2 * 0.97 * 0.03 / 517).
AS_WELL_WITHIN = 0.02
LEARNS_ABOVE = 0.5
AGREE_WITHIN = 1e-6
CRITERIA = (
    f"{AS_WELL}: test accuracy at most {100 * AS_WELL_WITHIN:.0f} points below the right gradients'; {WORSE}: lower, "
    f"but above {LEARNS_ABOVE:.0%}; {NOT}: no more than that; {DIVERGES}: a gradient or a logit is not finite; "
    f"{RAISES}: its shape does not fit"
)
PLACES = {
    "softmax": "softmax",
    "softmax_cross_entropy": "one node",
    "cross_entropy": "loss node",
    "cross_entropy+softmax": "both nodes",
}


@dataclass(frozen=True)
class Result:
    """One network trained with one gradient: its rows in order, and what became of it."""

    epochs: tuple[Epoch, ...]
    outcome: str

    @property
    def last(self) -> Epoch:
        """The row in which the training ended."""
        return self.epochs[-1]

    @property
    def is_right(self) -> bool:
        """Whether the gradient is a right one."""
        return self.last.kind == RIGHT

    @property
    def title(self) -> str:
        """The gradient in words, after the node that it is the backward of: 'softmax: diagonal only'."""
        name = self.last.gradient if self.is_right else self.last.gradient.replace("+", " + ").replace("_", " ")
        return f"{PLACES[self.last.operation]}: {name}"

    @property
    def epoch_s(self) -> float:
        """Seconds of an epoch's training steps, the median; NaN where no epoch was completed."""
        times = [row.epoch_s for row in self.epochs if not math.isnan(row.epoch_s)]
        return statistics.median(times) if times else math.nan

    @property
    def softmax_share(self) -> float:
        """The part of the training steps' time that softmax's backward took, the median over epochs; NaN as above."""
        shares = [row.softmax_backward_s / row.epoch_s for row in self.epochs if not math.isnan(row.epoch_s)]
        return statistics.median(shares) if shares else math.nan


def judge(rows: Iterable[Epoch]) -> dict[str, list[Result]]:
    """The results of each network, in the order of the table's first rows."""
    trainings: dict[tuple[str, str, str], list[Epoch]] = {}
    for row in rows:
        trainings.setdefault((row.network, row.operation, row.gradient), []).append(row)
    networks: dict[str, list[list[Epoch]]] = {}
    for (network, _, _), epochs in trainings.items():
        networks.setdefault(network, []).append(epochs)
    judged = {}
    for network, all_epochs in networks.items():
        right = min((epochs[-1].test_accuracy for epochs in all_epochs if epochs[-1].kind == RIGHT), default=math.nan)
        judged[network] = [Result(tuple(epochs), _outcome(epochs[-1], right)) for epochs in all_epochs]
    return judged


def _outcome(last: Epoch, right_accuracy: float) -> str:
    if last.outcome in (DIVERGED, RAISED):
        return DIVERGES if last.outcome == DIVERGED else RAISES
    if last.test_accuracy >= right_accuracy - AS_WELL_WITHIN:
        return AS_WELL
    return WORSE if last.test_accuracy > LEARNS_ABOVE else NOT


def by_outcome(results: list[Result]) -> list[Result]:
    """The right gradients as they come, then the wrong ones by outcome, test accuracy and name."""
    order = list(OUTCOMES)

    def place(one: Result) -> tuple[int, float, str]:
        accuracy = one.last.test_accuracy
        return order.index(one.outcome), 0.0 if math.isnan(accuracy) else -accuracy, one.title

    return [one for one in results if one.is_right] + sorted((one for one in results if not one.is_right), key=place)


def spread(results: Iterable[Result]) -> float:
    """How far the right gradients' final losses lie apart, as a share of the least; infinite where one has none."""
    losses = [result.last.loss for result in results if result.is_right]
    return math.inf if any(map(math.isnan, losses)) else (max(losses) - min(losses)) / min(losses)


def sentences(network: str, results: list[Result]) -> Iterator[str]:
    """What was seen in a network, in plain words."""
    right, wrong = ([one for one in results if one.is_right is kind] for kind in (True, False))
    loss, accuracy = max(one.last.loss for one in right), min(one.last.test_accuracy for one in right)
    yield (
        f"{network}: the {len(right)} right gradients end at a training loss of {loss:.4g}, their losses at most "
        f"{spread(results):.0e} of that apart, and tell {accuracy:.1%} of the test images right."
    )
    counts = Counter(one.outcome for one in wrong)
    told = ", ".join(f"{counts[outcome]} {plural}" for outcome, plural in OUTCOMES.items() if outcome in counts)
    yield f"Of the {len(wrong)} wrong ones {told}."
    survivors = [one.title for one in wrong if one.outcome == AS_WELL]
    if survivors:
        yield f"Wrong, and training does not show it: {'; '.join(survivors)}."
    yield from _cost(right)
    yield from _of_the_question(wrong)


def _cost(right: list[Result]) -> Iterator[str]:
    known = {one.last.gradient: one for one in right}
    if {"explicit_jacobian", "vectorized"} <= set(known):
        slow, fast = known["explicit_jacobian"], known["vectorized"]
        yield (
            f"Softmax's backward takes {slow.softmax_share:.0%} of the time with explicit_jacobian and "
            f"{fast.softmax_share:.0%} with vectorized; an epoch takes {factor(slow.epoch_s / fast.epoch_s)} as long."
        )


def _of_the_question(wrong: list[Result]) -> Iterator[str]:
    for one in wrong:
        if one.last.gradient == "+".join(QUESTIONS_PAIR):
            yield (
                f"The question's SoftmaxLoss is the one node, {ONE_NODE}, and right. Its last pair of nodes, (probs - "
                f"targets) / batch at the loss and probs * (1 - probs) at softmax, {one.outcome}: "
                f"{one.last.test_accuracy:.1%} of the test images, training loss {one.last.loss:.3g}."
            )
