import math
from pathlib import Path

import numpy as np
import pytest
from softmax_bench.accuracy import study
from softmax_bench.accuracy.chart import accuracy_by_scale, accuracy_by_shape
from softmax_bench.accuracy.command import accuracy, sentences, to_table
from softmax_bench.accuracy.study import (
    PYTORCH,
    UNSHIFTED,
    Accuracy,
    Condition,
    competitors,
    errors_of,
    exact_of,
    load_study,
    measure,
)
from softmax_bench.errors import UserError
from softmax_bench.implementations import is_installed

from .conftest import ROOT


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[Accuracy]:
    """The study at one small shape and three scales."""
    monkeypatch.setattr(study, "SHAPES", ((32, 10),))
    monkeypatch.setattr(study, "SCALES", (1.0, 10.0, 300.0))
    monkeypatch.setattr(study, "DRAWS", 2)
    return list(measure(lambda _: None))


def test_one_node_stays_finite_where_two_fail(few: list[Accuracy]) -> None:
    for row in few:
        two = row.implementation.startswith("two_nodes")
        if row.scale == 300.0:
            assert bool(row.reason) == two
            assert math.isnan(row.grad_error_ulp) == two
        elif row.scale == 1.0:
            assert not row.reason
            assert row.grad_error_ulp < (2000 if row.dtype == "float16" else 16)
    names = {row.implementation for row in few}
    assert {"one_node", "one_node_integer_targets", "log_softmax", UNSHIFTED} <= names
    assert (PYTORCH in names) == is_installed("torch")


def test_rows_come_back_as_they_were_stored_and_are_reported(few: list[Accuracy], tmp_path: Path) -> None:
    study.store(few, tmp_path)
    _, rows = load_study(tmp_path)
    assert len(rows) == len(few)
    assert rows["grad_error_ulp"].isna().sum() == sum(math.isnan(row.grad_error_ulp) for row in few)
    first, *others = sentences(rows)
    assert first.startswith("Finite at every scale, dtype and shape: one_node, one_node_integer_targets, log_softmax")
    assert any("Not finite in float64: " in sentence and UNSHIFTED in sentence for sentence in others)
    assert to_table(rows).row_count == len(rows[["dtype", "implementation"]].drop_duplicates())


def test_the_kept_study_is_whole_and_is_drawn() -> None:
    _, rows = load_study(ROOT / "results" / "accuracy")
    assert rows["scale"].nunique() >= 6
    assert {"float32", "float64"} <= set(rows["dtype"])
    assert set(competitors()) - {PYTORCH} <= set(rows["implementation"])
    for chart in (accuracy_by_scale, accuracy_by_shape):
        panels = chart(rows, "a caption").axes
        assert len(panels) == 6
        kept = ROOT / "plots" / "accuracy"
        assert {f"{chart.__name__}.png", f"{chart.__name__}.svg"} <= {path.name for path in kept.iterdir()}


def test_a_known_error_is_read_in_ulp() -> None:
    inputs = study.make_draw(Condition("float64", 4, 5, 1.0), 3)
    exact = exact_of(inputs)
    loss, gradient = float(exact.loss), exact.gradient.astype(np.float64)
    errors = errors_of(lambda _: (loss, gradient), inputs, exact)
    assert errors.loss_ulp <= 0.5
    assert errors.grad_ulp <= 0.5
    assert errors.loss_is_finite
    assert errors.not_finite_elements == 0
    gradient[2, 3] += 7 * float(exact.gradient_unit[2, 3])
    assert errors_of(lambda _: (loss, gradient), inputs, exact).grad_ulp == pytest.approx(7, abs=0.6)
    gradient[1, 1] = np.inf
    errors = errors_of(lambda _: (np.nan, gradient), inputs, exact)
    assert not errors.loss_is_finite
    assert errors.not_finite_elements == 1


def test_a_folder_that_cannot_be_written_is_reported_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "accuracy").touch()  # a file in the folder's place
    with pytest.raises(UserError, match=r"accuracy: cannot be written \(File exists\)"):
        accuracy.main([f"--results={tmp_path}"], standalone_mode=False)


def test_a_missing_study_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"errors\.csv: cannot be read"):
        load_study(tmp_path)
