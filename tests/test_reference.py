"""The run that is kept with the code says what the README says of it."""

import math
from pathlib import Path

from softmax_bench.charts.by_shape import CHARTS, OVERVIEWS
from softmax_bench.implementations.cross_entropy import BACKWARD, BOTH, FORWARD
from softmax_bench.storage.results import load_rows, load_run, to_frame
from softmax_bench.sweep.summary import article_sentence
from softmax_bench.units import factor, quantity

from .conftest import ROOT


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
    assert {f"{chart.__name__}.{ending}" for chart in (*CHARTS, *OVERVIEWS) for ending in ("png", "svg")} <= kept
    for operation in (FORWARD, BACKWARD, BOTH):
        for chart in ("time_by_features", "memory_by_features"):
            assert f"{chart}-{operation}-float64-normal-1.png" in kept


LIMIT_ROWS = (
    *(("explicit_jacobian", 1), ("vectorized", 1), ("vectorized_out", 1), ("vectorized_vecdot", 1), ("row_blocks", 1)),
    *(("row_blocks_threads", 2), ("fused", 1), ("fused_reused", 1), ("fused_out", 1), ("fused_parallel_out", 2)),
    *(("torch_kernel_out", 1), ("torch_kernel_out", 2), ("torch_autograd", 1), ("torch_compiled", 1)),
    *(("jax_vjp_jit", 1), ("numexpr_out", 1)),
)


def limit_table(reference_run: Path) -> str:
    """The README's table of time and share of the ceiling at a small and at a large shape."""
    frame = to_frame(load_rows(reference_run), load_run(reference_run).ceiling)
    frame = frame.query("operation == 'softmax' and dtype == 'float64' and logits == 'normal'")
    lines = ["| | threads | 32 × 512 | of the ceiling | 512 × 8192 | of the ceiling |", "|---|---|---|---|---|---|"]
    for name, threads in LIMIT_ROWS:
        mine = frame[(frame["implementation"] == name) & (frame["threads"] == threads)].set_index(["batch", "features"])
        times, shares = mine["time_median_s"], mine["ceiling_share"]
        told = [
            f"{quantity(float(times[shape]), 's')} | {'–' if math.isnan(shares[shape]) else f'{shares[shape]:.0%}'}"
            for shape in ((32, 512), (512, 8192))
        ]
        lines.append(f"| `{name}` | {threads} | {' | '.join(told)} |")
    return "\n".join(lines)


def test_readme_shows_how_far_each_form_is_from_the_ceiling(reference_run: Path) -> None:
    assert limit_table(reference_run) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_quotes_the_losses_ratios(reference_run: Path) -> None:
    frame = to_frame(load_rows(reference_run)).query("operation == @BOTH and batch == 32 and logits == 'normal'")
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for features in (10, 512):
        mine = frame[frame["features"] == features].set_index("implementation")
        for name in ("fused", "two_nodes_vectorized"):
            speedup, ratio = (factor(float(mine[column][name])) for column in ("speedup", "memory_ratio"))
            said = f"`{name}` has {speedup} the speed and 1/{ratio.removesuffix('×')} of the memory"
            assert said in text, features
