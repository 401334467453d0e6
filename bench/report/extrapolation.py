"""The section on growth: fitted exponents beside theory, and what sizes in use would need, marked as extrapolated."""

from collections.abc import Iterator, Sequence

from ..units import quantity, significant
from .content import Answer, Section, Table
from .growth import BUFFERS, DOMINATES, TOKENS, Extrapolated, Growth, extrapolated
from .power_law import Estimate
from .source import DTYPE, JACOBIAN, LOGITS, VECTORIZED, Source

RANGE = (
    f"A power law is fitted where size dominates: to times of at least {DOMINATES:g} times that at the fewest features "
    f"of the same batch, and to peaks of at least {BUFFERS:g} of NumPy's buffers. The fit is robust (Huber's, on "
    "logarithms). Where times rise because memory leaves a cache, that step is fitted, too. Brackets: 95 % intervals."
)


def growth_section(source: Source) -> Iterator[Section]:
    """Exponents of every implementation over all shapes; nothing for a run with too few of them."""
    growths = source.growths
    if not growths:
        return
    needs = extrapolated(source.by_shape, source.run, dtype=DTYPE, logits=LOGITS)
    yield Section(
        "growth",
        "Growth",
        answers=list(_answers(growths)),
        sentences=[RANGE],
        tables=list(_needs(needs, int(source.run.machine.get("memory_bytes", 0)))),
        fold="exponents of every implementation",
        folded=[_exponents(growths)],
    )


def _answers(growths: Sequence[Growth]) -> Iterator[Answer]:
    for name in (JACOBIAN, VECTORIZED):
        said = [
            f"{growth.quantity} as features^{_exponent(growth.features)} and batch^{_exponent(growth.batch)}"
            f"{_theory(growth)}"
            for growth in growths
            if growth.implementation == name
        ]
        if said:
            yield Answer(f"How does {name} grow?", f"{'; '.join(said)}.")


def _theory(growth: Growth) -> str:
    return "" if growth.theory is None else f" (theory: {growth.theory[0]} and {growth.theory[1]})"


def _exponent(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _exponents(growths: Sequence[Growth]) -> Table:
    rows = [
        [
            growth.implementation,
            growth.quantity,
            _exponent(growth.features),
            _exponent(growth.batch),
            "–" if growth.theory is None else f"{growth.theory[0]}, {growth.theory[1]}",
            f"{growth.points}",
            f"{growth.left_out}",
            "" if growth.step == 1.0 else f"{significant(growth.step)}× at {quantity(growth.boundary_bytes, 'B')}",
        ]
        for growth in growths
    ]
    headings = ["implementation", "of", "in features", "in batch", "theory", "rows fitted", "left out", "step"]
    return Table(f"Exponents of growth: {LOGITS} logits, {DTYPE}, one thread", headings, rows)


def _needs(needs: Sequence[Extrapolated], memory_bytes: int) -> Iterator[Table]:
    rows = [
        [
            f"{need.batch} × {need.features}",
            need.implementation,
            "–" if need.bytes_by_formula is None else quantity(need.bytes_by_formula, "B"),
            _quantity(need.bytes_by_fit, "B"),
            _quantity(need.seconds, "s"),
            _fits(need, memory_bytes),
        ]
        for need in sorted(needs, key=lambda need: need.features)
    ]
    if any(row[3:5] != ["–", "–"] for row in rows):
        caption = f"Extrapolated, not measured: vocabularies in use, a batch of {TOKENS}"
        headings = ["batch × features", "implementation", "peak by formula", "peak by fit", "time by fit", "fits here"]
        yield Table(caption, headings, rows)


def _fits(need: Extrapolated, memory_bytes: int) -> str:
    if not memory_bytes or need.bytes_by_formula is None:
        return "–"
    return "yes" if need.bytes_by_formula < memory_bytes else "no"


def _quantity(estimate: Estimate | None, unit: str) -> str:
    if estimate is None:
        return "–"
    value, low, high = (quantity(part, unit) for part in (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low} to {high})"
