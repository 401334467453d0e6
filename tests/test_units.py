import math

import pytest
from softmax_bench.units import between, factor, gain, gain_in_words, quantity, significant, spread


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.31e-5, "53.1 µs"),
        (0.0651, "65.1 ms"),
        (0.0, "0 s"),
        (999.96, "1.00 ks"),
        (2.5e-9, "2.50 ns"),
        (1.0, "1.00 s"),
    ],
)
def test_quantity_has_three_digits_and_a_prefix(value: float, text: str) -> None:
    assert quantity(value, "s") == text


def test_missing_is_a_dash_and_never_zero() -> None:
    assert quantity(math.nan, "B") == "–"
    assert factor(math.nan) == "–"


@pytest.mark.parametrize(
    ("value", "text"), [(1154.3, "1150×"), (16384.0, "16.4k×"), (0.0595, "0.0595×"), (2.0, "2.00×")]
)
def test_factor(value: float, text: str) -> None:
    assert factor(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1154.3, "1150×"),
        (1.0, "1.00×"),
        (0.9996, "1.00×"),
        (0.99, "1.01× slower"),
        (0.00108, "926× slower"),
        (1e-5, "100k× slower"),
    ],
)
def test_a_loss_is_its_inverse_with_a_word(value: float, text: str) -> None:
    assert gain(value, "slower") == text


def test_a_loss_in_words_has_its_interval_turned_round() -> None:
    assert gain_in_words(1390, 1340, 1450, ("faster", "slower")) == "1390× (1340–1450×) faster"
    assert gain_in_words(0.5, 0.25, 0.8, ("faster", "slower")) == "2.00× (1.25–4.00×) slower"
    assert gain_in_words(520, math.nan, math.nan, ("less", "more")) == "520× less"
    assert gain(math.nan, "slower") == "–"


def test_significant_of_zero() -> None:
    assert significant(0.0) == "0"


def test_intervals_are_short_and_empty_where_they_are_missing() -> None:
    assert between(1130.0, 1170.0) == "(1130–1170×)"
    assert between(float("nan"), 1.0) == ""
    assert spread(100.0, 98.0, 101.0) == "±2%"
    assert spread(1.0, 0.1, 1.1) == "±900%"
    assert spread(1.0, float("nan"), float("nan")) == ""
