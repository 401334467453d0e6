"""The run that is kept with the code says what the README says of it."""

from pathlib import Path

from bench.charts import CHARTS
from bench.host import ROOT
from bench.implementations.cross_entropy import BACKWARD, BOTH, FORWARD
from bench.results import load_rows, load_run, to_frame
from bench.summary import article_sentence
from bench.units import factor


def test_readme_quotes_the_reference_run(reference_run: Path) -> None:
    assert article_sentence(to_frame(load_rows(reference_run))) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_reference_run_is_a_whole_default_sweep(reference_run: Path) -> None:
    rows = load_rows(reference_run)
    assert load_run(reference_run).selection["grid"] == "default"
    assert sum(row.status == "measured" for row in rows) >= 150
    assert not [row for row in rows if row.status in ("wrong", "failed")]


def test_reference_peaks_agree_with_the_stated_workspaces(reference_run: Path) -> None:
    large = [
        row
        for row in load_rows(reference_run)
        if row.status == "measured" and row.case.array_bytes >= 64 << 10 and row.case.spec.library in ("numpy", "numba")
    ]
    assert large
    for row in large:
        assert row.peak_bytes is not None
        assert row.predicted_peak_bytes is not None
        allowed = max(0.02 * row.predicted_peak_bytes, 128 << 10)
        assert abs(row.peak_bytes - row.predicted_peak_bytes) <= allowed, row.case


def test_every_chart_of_the_reference_run_is_kept() -> None:
    kept = {path.name for path in (ROOT / "plots" / "reference").iterdir()}
    assert {f"{chart.__name__}.{ending}" for chart in CHARTS for ending in ("png", "svg")} <= kept
    for operation in (FORWARD, BACKWARD, BOTH):
        for chart in ("time_by_features", "memory_by_features"):
            assert f"{chart}-{operation}-float64-normal-1.png" in kept


def test_readme_quotes_the_losses_ratios(reference_run: Path) -> None:
    frame = to_frame(load_rows(reference_run)).query("operation == @BOTH and batch == 32 and logits == 'normal'")
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for features in (10, 512):
        mine = frame[frame["features"] == features].set_index("implementation")
        for name in ("fused", "two_nodes_vectorized"):
            speedup, ratio = (factor(float(mine[column][name])) for column in ("speedup", "memory_ratio"))
            said = f"`{name}` has {speedup} the speed and 1/{ratio.removesuffix('×')} of the memory"
            assert said in text, features
