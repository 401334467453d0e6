"""What became of each gradient, from the stored table alone: its outcome by fixed criteria, and a report in words."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..units import factor
from .gradients import ONE_NODE, QUESTIONS_PAIR, RIGHT
from .study import DIVERGED, RAISED, Epoch

AS_WELL, WORSE, NOT, DIVERGES, RAISES = "learns as well", "learns worse", "does not learn", "diverges", "raises"
OUTCOMES = {  # singular: plural
    AS_WELL: "learn as well",
    WORSE: "learn worse",
    NOT: "do not learn",
    DIVERGES: "diverge",
    RAISES: "raise",
}
# Two standard errors of the difference between two accuracies of about 97 % on 517 images:
# 2 * sqrt(2 * 0.97 * 0.03 / 517).
AS_WELL_WITHIN = 0.02
LEARNS_ABOVE = 0.5
AGREE_WITHIN = 1e-6  # of the loss
CRITERIA = (
    f"{AS_WELL}: test accuracy at most {100 * AS_WELL_WITHIN:.0f} points below the right gradients; {WORSE}: lower, "
    f"but above {LEARNS_ABOVE:.0%}; {NOT}: at most {LEARNS_ABOVE:.0%}; {DIVERGES}: a gradient or a logit "
    f"is not finite; {RAISES}: the gradient's shape does not fit"
)
PLACES = {
    "softmax": "softmax",
    "softmax_cross_entropy": "one node",
    "cross_entropy": "loss node",
    "cross_entropy+softmax": "both nodes",
}


@dataclass(frozen=True)
class Result:
    """A network trained with a gradient: its rows in order, and the outcome."""

    epochs: tuple[Epoch, ...]
    outcome: str

    @property
    def last(self) -> Epoch:
        """The training's last row."""
        return self.epochs[-1]

    @property
    def is_right(self) -> bool:
        """Whether the gradient is a right one."""
        return self.last.kind == RIGHT

    @property
    def title(self) -> str:
        """The node and its gradient in words, as in 'softmax: diagonal only'."""
        name = self.last.gradient if self.is_right else self.last.gradient.replace("+", " + ").replace("_", " ")
        return f"{PLACES[self.last.operation]}: {name}"

    @property
    def epoch_s(self) -> float:
        """The median time of an epoch's training steps in seconds; NaN if no epoch was completed."""
        times = [row.epoch_s for row in self.epochs if not math.isnan(row.epoch_s)]
        return statistics.median(times) if times else math.nan

    @property
    def softmax_share(self) -> float:
        """The median share of softmax's backward in the time of an epoch's steps; NaN if no epoch was completed."""
        shares = [row.softmax_backward_s / row.epoch_s for row in self.epochs if not math.isnan(row.epoch_s)]
        return statistics.median(shares) if shares else math.nan


def judge(rows: Iterable[Epoch]) -> dict[str, list[Result]]:
    """The results by network, in the order of the table."""
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
    """The right gradients in their order, then the wrong ones sorted by outcome, test accuracy and name."""
    order = list(OUTCOMES)

    def place(result: Result) -> tuple[int, float, str]:
        accuracy = result.last.test_accuracy
        return order.index(result.outcome), 0.0 if math.isnan(accuracy) else -accuracy, result.title

    right, wrong = right_and_wrong(results)
    return right + sorted(wrong, key=place)


def right_and_wrong(results: Iterable[Result]) -> tuple[list[Result], list[Result]]:
    """The right gradients and the wrong ones, each in their order."""
    right: list[Result] = []
    wrong: list[Result] = []
    for result in results:
        (right if result.is_right else wrong).append(result)
    return right, wrong


def spread(results: Iterable[Result]) -> float:
    """The range of the right gradients' final losses over the smallest of them; infinite if a loss is missing."""
    losses = [result.last.loss for result in right_and_wrong(results)[0]]
    return math.inf if any(map(math.isnan, losses)) else (max(losses) - min(losses)) / min(losses)


def sentences(network: str, results: list[Result]) -> Iterator[str]:
    """The report of a network's results."""
    right, wrong = right_and_wrong(results)
    loss, accuracy = max(result.last.loss for result in right), min(result.last.test_accuracy for result in right)
    yield (
        f"{network}: the {len(right)} right gradients end at a training loss of {loss:.4g}. Their losses differ by at "
        f"most {spread(results):.0e} of that. They classify {accuracy:.1%} of the test images correctly."
    )
    counts = Counter(result.outcome for result in wrong)
    counted = ", ".join(f"{counts[outcome]} {plural}" for outcome, plural in OUTCOMES.items() if outcome in counts)
    yield f"Of the {len(wrong)} wrong ones {counted}."
    survivors = [result.title for result in wrong if result.outcome == AS_WELL]
    if survivors:
        yield f"Wrong, but training does not show it: {'; '.join(survivors)}."
    yield from _cost(right)
    yield from _answer_to_the_question(wrong)


def _cost(right: list[Result]) -> Iterator[str]:
    """How much longer training takes with the explicit Jacobian."""
    known = {result.last.gradient: result for result in right}
    if {"explicit_jacobian", "vectorized"} <= set(known):
        slow, fast = known["explicit_jacobian"], known["vectorized"]
        yield (
            f"Softmax's backward takes {slow.softmax_share:.0%} of the time with explicit_jacobian and "
            f"{fast.softmax_share:.0%} with vectorized; an epoch takes {factor(slow.epoch_s / fast.epoch_s)} as long."
        )


def _answer_to_the_question(wrong: list[Result]) -> Iterator[str]:
    """What became of the two gradients in the question that this project answers."""
    for result in wrong:
        if result.last.gradient == "+".join(QUESTIONS_PAIR):
            yield (
                f"The question's SoftmaxLoss is {ONE_NODE}, and right. The question's last pair of nodes has (probs - "
                f"targets) / batch at the loss and probs * (1 - probs) at softmax. It {result.outcome}: "
                f"{result.last.test_accuracy:.1%} of the test images, training loss {result.last.loss:.3g}."
            )
