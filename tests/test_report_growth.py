"""Fitted growth: held against simulated tables whose exponents are known, and against the reference run."""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from softmax_bench.report.growth import TOKENS, VOCABULARIES, Growth, extrapolated, growths_of
from softmax_bench.storage.frames import to_frame
from softmax_bench.storage.results import Row, Run, load_rows, load_run

from .figures import RESULTS

BATCHES, FEATURES = (1, 8, 32, 128, 512), (10, 32, 128, 512, 2048, 8192)
LONGEST_S = 0.5
CALL_S, ROW_S, ITEM_S = 2.6e-6, 2e-8, 1e-9  # as the reference run has them
CACHE_BYTES, SLOWER = 3.3e7, 3.0  # where a cache ends, and how much slower an item is beyond
GRADUAL, SHARP = 2, 4  # powers: how fast the cache's share falls beyond its end
TABLES = 60
KINDS = [
    ("explicit_jacobian", (2.0, 1.0), SLOWER, GRADUAL),
    ("explicit_jacobian", (2.0, 1.0), SLOWER, SHARP),
    ("vectorized", (1.0, 1.0), SLOWER, GRADUAL),
    ("vectorized", (1.0, 1.0), SLOWER, SHARP),
    ("explicit_jacobian", (2.0, 1.0), 1.0, SHARP),
    ("row_loop", (1.5, 0.8), 1.0, SHARP),
]


@pytest.fixture(scope="module")
def reference() -> tuple[list[Row], Run]:
    return load_rows(RESULTS / "reference"), load_run(RESULTS / "reference")


def simulated(
    name: str, exponents: tuple[float, float], rng: np.random.Generator, slower: float, power: int
) -> Iterator[Row]:
    """A table with the given exponents of features and batch: fixed costs, a cache's end, noise, rows that are off."""
    by_features, by_batch = exponents
    for batch, features in itertools.product(BATCHES, FEATURES):
        items = float(batch) ** by_batch * float(features) ** by_features
        beyond = 1 / (1 + (CACHE_BYTES / (24.0 * items)) ** power)  # the share of an item's bytes that misses the cache
        truth = CALL_S + ROW_S * batch + ITEM_S * items * (1 + (slower - 1) * beyond)
        if truth > LONGEST_S:
            continue
        off = rng.uniform(1.2, 1.6) if rng.random() < 0.05 else 1.0
        deviation = rng.choice([0.015, 0.04])
        time_s = truth * off * np.exp(deviation * rng.standard_normal())
        reach = np.exp(1.96 * deviation)
        row = Row("r", "softmax", name, batch, features, "float64", "normal", 1, "measured")
        peak = 70_000 + int(24 * items)
        yield dataclasses.replace(
            row, time_s=time_s, time_low_s=time_s / reach, time_high_s=time_s * reach, settled=1, peak_bytes=peak
        )


def times_of(rows: list[Row], run: Run) -> Growth:
    return next(growth for growth in growths_of(to_frame(rows), run) if growth.quantity == "time")


def held(tables: int, name: str, exponents: tuple[float, float], slower: float, power: int, run: Run) -> float:
    """The share of the intervals, fitted to so many tables, that hold the known exponents."""
    rng = np.random.default_rng(20_240)
    inside = []
    for _ in range(tables):
        growth = times_of(list(simulated(name, exponents, rng, slower, power)), run)
        for found, known in zip((growth.features, growth.batch), exponents, strict=True):
            assert found is not None
            inside.append(found.low <= known <= found.high)
    return float(np.mean(inside))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "exponents", "slower", "power"), KINDS)
def test_nine_in_ten_intervals_hold_the_known_exponents(
    name: str, exponents: tuple[float, float], slower: float, power: int, reference: tuple[list[Row], Run]
) -> None:
    assert held(TABLES, name, exponents, slower, power, reference[1]) >= 0.9


def test_intervals_hold_the_exponents_of_some_tables(reference: tuple[list[Row], Run]) -> None:
    assert held(10, "vectorized", (1.0, 1.0), 1.0, SHARP, reference[1]) >= 0.9


def test_the_reference_grows_as_theory_says(reference: tuple[list[Row], Run]) -> None:
    rows, run = reference
    frame = to_frame([row for row in rows if row.implementation in ("explicit_jacobian", "vectorized")])
    found = {(growth.implementation, growth.quantity): growth for growth in growths_of(frame, run)}
    for name, features in (("explicit_jacobian", 2), ("vectorized", 1)):
        time, memory = found[name, "time"], found[name, "memory"]
        assert time.features is not None
        assert memory.features is not None
        assert time.theory == memory.theory == (features, 1)
        assert time.features.value == pytest.approx(features, abs=0.2)
        assert memory.features.value == pytest.approx(features, abs=0.02)
        assert time.features.low < time.features.value < time.features.high
        assert time.points + time.left_out == sum(
            row.status == "measured" and row.implementation == name and (row.dtype, row.logits) == ("float64", "normal")
            for row in rows
        )


def test_a_time_of_a_single_visit_is_not_fitted(reference: tuple[list[Row], Run]) -> None:
    rows, run = reference
    mine = [row for row in rows if row.implementation == "vectorized" and row.threads == 1]
    largest = max((row for row in mine if row.status == "measured"), key=lambda row: row.time_s)
    cold = [dataclasses.replace(row, visits=1, time_s=9 * row.time_s) if row is largest else row for row in mine]

    def of_time(given: list[Row]) -> Growth:
        return next(growth for growth in growths_of(to_frame(given), run) if growth.quantity == "time")

    without = of_time([row for row in mine if row is not largest])
    assert of_time(cold).features == without.features
    assert of_time(cold).left_out == without.left_out + 1


def test_a_vocabulary_is_extrapolated_in_bytes_and_seconds(reference: tuple[list[Row], Run]) -> None:
    rows, run = reference
    found = {(one.implementation, one.features): one for one in extrapolated(to_frame(rows), run)}
    assert len(found) == 2 * len(VOCABULARIES)
    for features in VOCABULARIES:
        jacobian, vectorized = found["explicit_jacobian", features], found["vectorized", features]
        assert jacobian.bytes_by_formula == 8 * (features**2 + 2 * TOKENS * features**2 + 8192)
        assert vectorized.bytes_by_formula == 8 * (TOKENS * features + TOKENS) + 1100
        for one in (jacobian, vectorized):
            assert one.seconds is not None
            assert one.bytes_by_fit is not None
            assert one.bytes_by_formula is not None
            assert one.bytes_by_fit.low < one.bytes_by_formula < one.bytes_by_fit.high
            assert one.seconds.low < one.seconds.value < one.seconds.high
        assert jacobian.seconds is not None
        assert vectorized.seconds is not None
        assert jacobian.seconds.low > 1000 * vectorized.seconds.high


def test_too_few_sizes_have_no_growth(reference: tuple[list[Row], Run]) -> None:
    rows, run = reference
    few = [row for row in rows if (row.batch, row.features) in {(32, 512), (32, 2048)}]
    assert not list(growths_of(to_frame(few), run))
    assert not list(growths_of(to_frame([]), run))
    assert all(one.seconds is None and one.bytes_by_fit is None for one in extrapolated(to_frame(few), run))
