import dataclasses

import pytest
from softmax_bench.operations.cases import Case
from softmax_bench.storage.results import Row, RunOptions
from softmax_bench.sweep import budget
from softmax_bench.sweep.budget import (
    Prediction,
    examination_s,
    implausible,
    memory_budget_bytes,
    predict,
    reason_to_skip,
)

GIB = 1 << 30


def case_of(implementation: str, batch: int = 512, features: int = 8192) -> Case:
    return Case("softmax", implementation, batch, features, "float64", "normal")


def row_of(case: Case, **values: object) -> Row:
    return Row("r1", **dataclasses.asdict(case), status="measured", **values)  # type: ignore[arg-type]


def test_a_jacobian_of_512_gib_is_skipped_with_its_predicted_size() -> None:
    case = case_of("explicit_jacobian")
    prediction = predict(case, 1e10)
    assert prediction.peak_bytes == pytest.approx(2 * 512 * 8192**2 * 8, rel=0.01)
    reason = reason_to_skip(case, prediction, 12 * GIB, 2.0)
    assert reason.startswith("predicted peak 550 GB (with inputs 551 GB) over the budget of 12.9 GB")


def test_a_slow_case_that_fits_is_skipped_with_its_predicted_time() -> None:
    case = case_of("row_loop")
    reason = reason_to_skip(case, predict(case, 1e10), 12 * GIB, 2.0)
    assert reason == "predicted 165 s a call over the budget of 2.00 s"


def test_the_vectorized_form_of_the_same_shape_runs() -> None:
    case = case_of("vectorized")
    assert reason_to_skip(case, predict(case, 1e10), 12 * GIB, 2.0) == ""


def test_inputs_count_towards_the_budget() -> None:
    case = case_of("row_blocks")
    assert "over the budget" in reason_to_skip(case, predict(case, 1e10), case.array_bytes, 2.0)


@pytest.mark.parametrize(
    ("implementation", "values", "said"),
    [
        ("vectorized", {"peak_bytes": 8, "time_min_s": 1.0}, "the result alone has 33554432"),
        ("vectorized", {"peak_bytes": 100 * GIB, "time_min_s": 1.0}, "and the machine has"),
        ("vectorized", {"peak_bytes": GIB, "time_min_s": 1e-9}, "moving the arrays takes"),
        ("vectorized", {"peak_bytes": GIB, "time_min_s": 0.01}, ""),
        ("row_blocks", {"peak_bytes": 0, "time_min_s": 0.01}, ""),
    ],
)
def test_what_arithmetic_forbids_is_marked(implementation: str, values: dict[str, object], said: str) -> None:
    case = case_of(implementation)
    reason = implausible(row_of(case, **values), case, memory_bytes=24 * GIB)
    assert said in reason
    assert bool(reason) == bool(said)


def test_a_prediction_is_the_stated_workspace_and_the_traffic_over_the_rate() -> None:
    case = case_of("vectorized", 4, 8)
    prediction = predict(case, 100.0)
    assert prediction.peak_bytes == case.spec.workspace(4, 8, 8)
    assert prediction.call_s == case.spec.traffic(4, 8, 8) / 100.0


def test_a_case_may_take_all_of_its_budget_and_nothing_more() -> None:
    case = case_of("vectorized", 4, 8)  # an array has 256 bytes
    prediction = Prediction(peak_bytes=1000, call_s=0.5)
    assert reason_to_skip(case, prediction, 1000 + 10 * 256, 0.5) == ""
    assert "(with inputs 3.56 kB) over the budget of 3.56 kB" in reason_to_skip(case, prediction, 999 + 10 * 256, 0.5)
    assert reason_to_skip(case, prediction, 10**9, 0.499) == "predicted 500 ms a call over the budget of 499 ms"


def test_without_a_limit_a_case_may_take_half_of_the_available_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "available_bytes", lambda: 7000)
    assert memory_budget_bytes(None) == 3500
    assert memory_budget_bytes(9000) == 9000


def test_an_examination_takes_two_calls_unless_the_case_is_skipped() -> None:
    case = case_of("vectorized", 32, 512)
    options = RunOptions(max_call_s=1.0, max_bytes=GIB, benchmark={}, stream_bytes_per_s=1e8)
    assert examination_s(case, options) == pytest.approx(0.1 + 2 * case.spec.traffic(32, 512, 8) / 1e8)
    assert examination_s(case, dataclasses.replace(options, max_call_s=1e-6)) == 0.0
    assert examination_s(case, dataclasses.replace(options, max_bytes=10)) == 0.0


@pytest.mark.parametrize(
    ("features", "implementation", "peak_bytes", "said"),
    [
        (128, "vectorized", 1024, ""),
        (128, "vectorized", 1023, "implausible: peak of 1023 bytes, and the result alone has 1024"),
        (127, "vectorized", 0, ""),  # from the cache of NumPy's small buffers
        (128, "vectorized", 24 * GIB, ""),
        (128, "vectorized", 24 * GIB + 1, "implausible: peak of 25.8 GB, and the machine has 25.8 GB"),
        (128, "vectorized", None, ""),
        (4096, "vectorized_out", 0, ""),  # the result is given to it
    ],
)
def test_a_peak_has_bounds(features: int, implementation: str, peak_bytes: int | None, said: str) -> None:
    case = case_of(implementation, 1, features)
    assert implausible(row_of(case, peak_bytes=peak_bytes, time_min_s=1.0), case, 24 * GIB) == said


@pytest.mark.parametrize("threads", [1, 2])
def test_a_call_takes_at_least_what_the_fastest_cache_needs_for_three_arrays(threads: int) -> None:
    case = dataclasses.replace(case_of("row_blocks", 32, 512), threads=threads)
    floor_s = 3 * 32 * 512 * 8 / (3 * 64 * 6e9) / threads
    assert implausible(row_of(case, time_min_s=1.001 * floor_s), case, GIB) == ""
    assert "implausible: a call of " in implausible(row_of(case, time_min_s=0.999 * floor_s), case, GIB)
