"""Quantities as text: three significant digits and a decimal prefix."""

import math

PREFIXES = {-3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T"}


def quantity(value: float, unit: str) -> str:
    """A value with its unit, as in '53.1 µs' or '131 kB'; '–' if it is missing."""
    if math.isnan(value):
        return "–"
    if value == 0:
        return f"0 {unit}"
    # Round before the prefix is chosen: 999.96 s is 1.00 ks, not 1000 s.
    rounded = float(f"{value:.3g}")
    power = math.floor(math.log10(abs(rounded)) / 3 + 1e-12)
    power = min(max(power, min(PREFIXES)), max(PREFIXES))
    return f"{significant(rounded / 1000.0**power)} {PREFIXES[power]}{unit}"


def factor(value: float) -> str:
    """A ratio, as in '1150×', with a prefix from ten thousand on, as in '16.4k×'; '–' if it is missing."""
    if math.isnan(value):
        return "–"
    text = significant(value) if float(f"{value:.3g}") < 1e4 else quantity(value, "").replace(" ", "")
    return f"{text}×"


def gain(value: float, loss: str) -> str:
    """A ratio of which more is better, as in '1150×'; below 1 its inverse with a word for it, as in '926× slower'."""
    return f"{factor(1.0 / value)} {loss}" if _is_loss(value) else factor(value)


def gain_in_words(value: float, low: float, high: float, words: tuple[str, str]) -> str:
    """A ratio with its interval and the word for it, as in '1390× (1340–1450×) faster' or '2.00× (1.90–2.10×) slower'.

    ``words`` are for a gain and for a loss. A missing interval is left out.
    """
    if _is_loss(value):
        return " ".join(filter(None, [factor(1.0 / value), between(1.0 / high, 1.0 / low), words[1]]))
    return " ".join(filter(None, [factor(value), between(low, high), words[0]]))


def _is_loss(value: float) -> bool:
    return value > 0 and float(f"{value:.3g}") < 1


def between(low: float, high: float) -> str:
    """A ratio's interval, as in '(1130–1170×)'; empty if it is missing."""
    return "" if math.isnan(low) or math.isnan(high) else f"({factor(low).removesuffix('×')}–{factor(high)})"


def spread(value: float, low: float, high: float) -> str:
    """How far an interval reaches from its value, the farther side of it, as in '±1.2%'; empty if it is missing."""
    if math.isnan(low) or math.isnan(high):
        return ""
    percent = 100.0 * max(high / value, value / low) - 100.0
    return f"±{float(f'{percent:.2g}'):g}%"


def significant(value: float) -> str:
    """Three significant digits without an exponent: '0.0123', '5.25', '53.1', '1150'."""
    if value == 0:
        return "0"
    value = float(f"{value:.3g}")
    digits = max(0, 2 - math.floor(math.log10(abs(value)) + 1e-12))
    return f"{value:.{digits}f}"
