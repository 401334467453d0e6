"""Libraries beside NumPy in the sweep: each in a process of its own, absent ones skipped."""

import os
from pathlib import Path

import pytest
from softmax_bench.implementations import is_installed
from softmax_bench.storage.results import load_rows, load_run
from softmax_bench.sweep.selection import Selection

from tests.conftest import SIZES, TIMED, UNTIMED, SoftmaxBench

SIZE = ("--no-charts", "--batch=4", "--features=16", "--dtype=float64")
LIBRARIES = {
    "numba": ("fused", "fused_parallel_out"),
    "torch": ("torch_kernel", "torch_kernel_out", "torch_autograd"),
    "jax": ("jax_vjp", "jax_vjp_jit"),
    "numexpr": ("numexpr_out",),
}
ABSENT = '''
from softmax_bench.implementations import implementation

@implementation("softmax", library="nosuchlibrary", workspace="B*N*s", traffic="3*B*N*s", source="a test")
def elsewhere(probs, grad_output, *, threads):
    """One whose library is not there."""
    import nosuchlibrary
'''

# The library is one that is always there: what matters is that its cases have a process of their own.
DYING = '''
import os
from softmax_bench.implementations import implementation

@implementation("softmax", library="json", workspace="B*N*s", traffic="3*B*N*s", source="a test")
def dying(probs, grad_output):
    """One that ends its process."""
    return lambda: os._exit(7)
'''


@pytest.mark.parametrize(
    "library", [pytest.param(name, marks=[] if name == "numexpr" else [pytest.mark.slow]) for name in LIBRARIES]
)
def test_a_library_is_measured_in_a_process_of_its_own_for_each_number_of_threads(
    softmax_bench: SoftmaxBench, tmp_path: Path, library: str
) -> None:
    if not is_installed(library):
        pytest.skip(f"{library} is not installed")
    names = [f"--implementation={name}" for name in LIBRARIES[library]]
    done = softmax_bench("run", "--results=runs", "--run-id=its", *SIZE, "--logits=normal", *names, *UNTIMED)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = load_rows(tmp_path / "runs" / "its")
    assert {row.status for row in rows} == {"measured"}, [row.reason for row in rows]
    assert {row.implementation for row in rows} == set(LIBRARIES[library])
    cores = os.cpu_count() or 1
    threaded = {row.threads for row in rows if row.implementation != "fused"}
    assert threaded == {1, cores}
    assert len(load_run(tmp_path / "runs" / "its").sittings) == 1
    assert done.stdout.count("Stored in") == 1
    assert all(row.first_call_s > 0 for row in rows)


@pytest.mark.slow
def test_torch_compile_is_measured_where_it_runs(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    done = softmax_bench(
        "run", "--results=runs", "--run-id=its", *SIZE, "--logits=normal", "--implementation=torch_compiled",
        "--threads=1", "--minutes=0.5", *TIMED[1:], timeout_s=300,
    )  # fmt: skip
    rows = load_rows(tmp_path / "runs" / "its")
    assert [row.status for row in rows] == ["measured"], done.stdout
    assert rows[0].first_call_s > 100 * rows[0].time_s  # compiling is reported, and not in the time


def test_what_is_not_installed_is_left_out_and_named_once(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    (tmp_path / "competitors.py").write_text(ABSENT, encoding="utf-8")
    names = ["--implementation=elsewhere", "--implementation=vectorized"]
    done = softmax_bench(
        "run", "--results=runs", "--run-id=its", *SIZES, "--logits=normal", *names, *UNTIMED, "-p", "competitors"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {row.implementation for row in load_rows(tmp_path / "runs" / "its")} == {"vectorized"}
    assert load_run(tmp_path / "runs" / "its").not_installed == {"nosuchlibrary": 2 * len({1, os.cpu_count()})}
    assert "elsewhere" not in done.stdout
    assert done.stdout.count(" cases left out, not installed: nosuchlibrary") == 1


def test_a_process_that_dies_fails_its_case_and_no_other(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    (tmp_path / "competitors.py").write_text(DYING, encoding="utf-8")
    names = ["--implementation=dying", "--implementation=vectorized"]
    chosen = [*SIZE, "--logits=normal", "--threads=1", *names]
    done = softmax_bench("run", "--run-id=its", *chosen, *UNTIMED, "-p", "competitors")
    assert done.returncode == 1
    rows = {row.implementation: row for row in load_rows(tmp_path / "results" / "its")}
    assert rows["dying"].status == "failed"
    assert rows["dying"].reason == "the process ended with 7"
    assert rows["vectorized"].status == "measured"
    assert "1 measured, 1 failed" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_sweep_of_nothing_that_is_installed_is_refused(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    (tmp_path / "competitors.py").write_text(ABSENT, encoding="utf-8")
    done = softmax_bench("run", "--implementation=elsewhere", "--", "-p", "competitors")
    assert done.returncode == 2
    assert "nothing to measure: nosuchlibrary not installed" in done.stderr
    assert not (tmp_path / "results").exists()


def test_a_library_can_be_chosen() -> None:
    pytest.importorskip("numexpr")
    cases = Selection(library=("numexpr",), batch=(4,), features=(8,)).cases()
    assert {case.implementation for case in cases} == {"numexpr_out"}
