from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from softmax_bench.operations.cases import known_as
from softmax_bench.sweep.selection import Selection
from softmax_bench.sweep.summary import own_sentences
from softmax_bench.verification.competitor import guessed_formulas
from softmax_bench.verification.cost import CostRow

from tests.conftest import SoftmaxBench

HOBBY = Path(__file__).parent / "targets" / "hobby_layers.py"


def rows(tmp_path: Path) -> list[list[str]]:
    (table,) = tmp_path.glob("results/*/cases.csv")
    return [line.split(",") for line in table.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_a_users_own_backward_is_in_table_and_charts_with_the_others(
    softmax_bench: SoftmaxBench, tmp_path: Path
) -> None:
    chosen = [f"--implementation={name}" for name in ("explicit_jacobian", f"{HOBBY}:ActivationSoftmax")]
    sizes = ["--batch=4", "--features=16", "--features=32"]
    timed = ("--minutes=0.3", "--", "--benchmark-max-time=0.001")  # beside other tests all cases have to be examined
    done = softmax_bench("run", "--grid=quick", "--results=results", "--run-id=mine", *chosen, *sizes, *timed)
    assert done.returncode == 0, done.stdout + done.stderr
    header, *table = rows(tmp_path)
    mine = [row for row in table if row[header.index("implementation")] == "hobby_layers.py:ActivationSoftmax"]
    assert [row[header.index("status")] for row in mine] == ["measured", "measured"], mine
    assert all(int(row[header.index("peak_bytes")]) > 0 for row in mine)
    assert all(row[header.index("predicted_peak_bytes")] == "" for row in mine)
    assert {row[header.index("implementation")] for row in table} == {
        "explicit_jacobian",
        "hobby_layers.py:ActivationSoftmax",
        "softmax_bench:vectorized",
    }
    said = " ".join(done.stdout.split())
    assert "hobby_layers.py:ActivationSoftmax is" in said
    assert "than vectorized called in the same way, with new inputs each time (softmax_bench:vectorized)" in said
    page = (tmp_path / "plots/mine/report.html").read_text(encoding="utf-8")
    assert "vectorized is called as yours is here" in page
    assert page.count("hobby_layers.py:ActivationSoftmax: right") > 0
    assert "softmax_bench:vectorized: right" not in page
    charts = list(tmp_path.glob("plots/mine/memory_by_features.svg"))
    assert len(charts) == 1
    assert "hobby_layers.py:ActivationSoftmax" in charts[0].read_text(encoding="utf-8")


def test_ones_own_is_compared_with_what_is_called_in_the_same_way() -> None:
    def row(implementation: str, features: int, time_s: float) -> dict[str, object]:
        shape = {"operation": "softmax", "batch": 8, "features": features, "dtype": "float64", "logits": "normal"}
        return {**shape, "threads": 1, "implementation": implementation, "status": "measured", "time_s": time_s}

    mine = [row("a.py:f", features, 2e-6) for features in (8, 16, 32)]
    alike = [row("softmax_bench:vectorized", features, time_s) for features, time_s in ((8, 3e-6), (16, 4e-6))]
    hot = [row("vectorized", 8, 1e-6)]
    (sentence,) = own_sentences(pd.DataFrame([*mine, *alike, *hot]))
    assert sentence.startswith("a.py:f is 1.75× (1.52–1.98×) faster than vectorized called in the same way")
    assert "the median of 2 shapes" in sentence
    assert not list(own_sentences(pd.DataFrame([*mine, *hot])))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (f"{HOBBY}:ActivationSoftmaxDiagonal", "is wrong (diagonal only)"),
        (f"{HOBBY}:Absent", "has no 'Absent'"),
        (f"{HOBBY.with_name('misbehaving.py')}:calls_exit", "could not be called"),
    ],
)
def test_a_wrong_or_absent_backward_is_refused(softmax_bench: SoftmaxBench, target: str, message: str) -> None:
    done = softmax_bench("run", "--grid=quick", "--results=results", f"--implementation={target}")
    assert done.returncode == 2
    assert message in done.stdout + done.stderr


def test_a_guess_covers_what_was_measured_and_distinguishes_linear_from_quadratic() -> None:
    shapes = [(16, 32), (16, 128), (16, 512), (4, 128), (64, 128), (256, 128)]
    quadratic = [CostRow("f", b, n, 1e-9 * b * n * n + 1e-5, 2 * b * n * n * 8) for b, n in shapes]
    linear = [CostRow("f", b, n, 1e-9 * b * n + 1e-5, 2 * b * n * 8) for b, n in shapes]
    for measured, steep in ((quadratic, True), (linear, False)):
        workspace, traffic = guessed_formulas(measured, 1e9)
        for row in measured:
            assert workspace(row.batch, row.features, 8) >= row.peak_bytes
            assert traffic(row.batch, row.features, 8) >= row.time_s * 1e9
        growth = workspace(16, 8192, 8) / workspace(16, 4096, 8)
        assert growth == pytest.approx(4 if steep else 2, rel=0.01)


def test_the_name_in_tables_leaves_folders_out() -> None:
    assert known_as("some/where/layers.py:Softmax") == "layers.py:Softmax"
    assert known_as("vectorized") == "vectorized"
    assert np.unique([case.implementation for case in Selection("quick", implementation=("vectorized",)).cases()]) == [
        "vectorized"
    ]
