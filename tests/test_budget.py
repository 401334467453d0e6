import dataclasses

import pytest
from softmax_bench.operations.cases import Case
from softmax_bench.storage.results import Row
from softmax_bench.sweep.budget import implausible, predict, reason_to_skip

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
