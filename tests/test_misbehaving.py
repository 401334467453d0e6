"""Implementations of a user's module that misbehave: each gets a row with the true reason, the next are measured."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from softmax_bench.storage.results import Row, load_rows, load_visits

from .conftest import COMMAND, TIMED, UNTIMED, SoftmaxBench

HEAD = """
import ctypes, os, signal, sys, time
import numpy as np
from softmax_bench.implementations import implementation

facts = {"workspace": "3*B*N*s", "traffic": "B*N*s", "source": "a mistake"}
calls = []

def right(probs, grad_output):
    return (grad_output - (grad_output * probs).sum(axis=1, keepdims=True)) * probs
"""
# What each does in the place of a right result.
MISTAKES = {
    "overwriting": "result = right(probs, grad_output); probs *= 0.5; return result",
    "exiting": "sys.exit()",
    "exiting_at_once": "os._exit(3)",
    "crashing": "ctypes.string_at(0)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "hanging": "time.sleep(600)",
    "hungry": "np.ones(40 * probs.nbytes // 8 + (1 << 28)); return right(probs, grad_output)",
    "growing": "kept = [np.ones(1 << 20) for _ in range(1000)]; return right(probs, grad_output)",
    "interrupting": "raise KeyboardInterrupt",
    "then_nan": "calls.append(1); return right(probs, grad_output) * (np.nan if len(calls) > 99 else 1)",
    "then_none": "calls.append(1); return right(probs, grad_output) if len(calls) < 99 else None",
    "then_shorter": "calls.append(1); return right(probs, grad_output)[: 1 if len(calls) > 99 else None]",
}
REASONS = {
    "overwriting": ("wrong", "overwrites its inputs: probs"),
    "exiting": ("failed", "SystemExit"),
    "exiting_at_once": ("failed", "the process ended with 3"),
    "crashing": ("failed", "the process was ended by SIGSEGV"),
    "killed": ("failed", "the process was ended by SIGKILL"),
    "hanging": ("failed", "the process did not answer within"),
    "hungry": ("failed", "MemoryError"),
    "growing": ("failed", "the process was ended by SIGKILL, as the kernel does where memory runs out"),
    "interrupting": ("failed", "KeyboardInterrupt"),
    "then_nan": ("wrong", "got nan, expected"),
    "then_none": ("wrong", "returned NoneType, expected an array"),
    "then_shorter": ("wrong", "returned shape (1, 16), expected (4, 16)"),
}
SIZES = ("--operation=softmax", "--library=numpy", "--batch=4", "--features=16", "--features=32", "--logits=normal")


def swept(softmax_bench: SoftmaxBench, folder: Path, names: list[str], *options: str) -> dict[tuple[str, int], Row]:
    """The rows of a sweep over some of the mistakes and two right implementations."""
    head = '@implementation("softmax", **facts)\ndef'
    defined = [f"{head} {name}(probs, grad_output):\n    {MISTAKES[name]}\n" for name in names]
    (folder / "competitors.py").write_text("\n".join([HEAD, *defined]), encoding="utf-8")
    chosen = [f"--implementation={name}" for name in (*names, "vectorized", "row_blocks")]
    where = ("--results=results", "--run-id=r", "--no-charts", "--max-bytes=100000000")
    done = softmax_bench("run", *where, *SIZES, *chosen, *options, "-p", "competitors")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    rows = {(row.implementation, row.features): row for row in load_rows(folder / "results" / "r")}
    for features in (16, 32):
        for name in ("vectorized", "row_blocks"):
            assert rows[name, features].status == "measured", rows[name, features].reason
            assert rows[name, features].max_error_ulp < 100
    return rows


def check_reasons(rows: dict[tuple[str, int], Row], names: list[str]) -> None:
    for name in names:
        status, reason = REASONS[name]
        assert rows[name, 16].status == status
        assert reason in rows[name, 16].reason


@pytest.mark.faults
def test_what_misbehaves_when_it_is_examined_fails_alone(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    names = ["overwriting", "exiting", "exiting_at_once", "crashing", "killed", "hungry", "interrupting"]
    rows = swept(softmax_bench, tmp_path, names, *UNTIMED)
    check_reasons(rows, names)
    assert {rows[name, 32].status for name in names} == {"wrong", "failed"}


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """A control group whose processes may use a gigabyte together; the kernel kills the largest one beyond it."""
    version_1 = Path("/sys/fs/cgroup/memory")
    root = version_1 if version_1.is_dir() else Path("/sys/fs/cgroup")
    group = root / f"softmax-bench-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    limit = group / ("memory.limit_in_bytes" if root == version_1 else "memory.max")
    if not limit.exists():
        group.rmdir()
        pytest.skip("control groups have no memory controller here")
    limit.write_text(str(1 << 30), encoding="ascii")
    yield group
    for _ in range(100):  # a process that is ending still belongs to it
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.1)


@pytest.mark.faults
def test_what_the_kernel_kills_when_memory_runs_out_fails_alone(tmp_path: Path, little_memory: Path) -> None:
    def in_group(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["sh", "-c", f'echo $$ > {little_memory}/cgroup.procs; exec "$@"', "sh", *COMMAND, *arguments],
            capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )  # fmt: skip

    rows = swept(in_group, tmp_path, ["growing"], *UNTIMED, "--max-bytes=10000000000")
    check_reasons(rows, ["growing"])


@pytest.mark.faults
def test_what_turns_bad_after_its_first_calls_is_wrong(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    names = ["then_nan", "then_none", "then_shorter"]
    rows = swept(softmax_bench, tmp_path, names, "--minutes=0.4", *TIMED[1:])
    check_reasons(rows, names)
    assert all(row.time_s > 0 for (name, _), row in rows.items() if name == "vectorized")
    assert load_visits(tmp_path / "results" / "r")


@pytest.mark.faults
def test_what_hangs_is_ended_once_and_not_tried_again(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    rows = swept(softmax_bench, tmp_path, ["hanging"], *UNTIMED)
    check_reasons(rows, ["hanging"])
    assert rows["hanging", 32].reason == "not tried: it hung at softmax-hanging-B4-N16-float64-normal"
