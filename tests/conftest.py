"""What the tests share: the command line in a real process, and runs made with it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from softmax_bench.cli import main
from softmax_bench.instruments.host import MACHINE_VARIABLE
from softmax_bench.instruments.machine_lock import BESIDE

SoftmaxBench = Callable[..., "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).parents[1]
COMMAND = [str(Path(sys.executable).with_name("softmax-bench"))]
SIZES = ("--no-charts", "--batch=4", "--features=16", "--features=32", "--dtype=float64")
SMALL = (*SIZES, "--operation=softmax", "--library=numpy", "--logits=normal")
UNTIMED = ("--", "--benchmark-disable")
TIMED = ("--minutes=0.1", "--", "--benchmark-max-time=0.001")  # short visits, for as long as it takes a few to agree


@pytest.fixture(scope="session", autouse=True)
def _measurements_do_not_wait_for_each_other() -> None:
    """Let tests measure beside each other: they do not judge times. Each process of tests is a machine of its own."""
    os.environ[BESIDE] = "1"
    os.environ[MACHINE_VARIABLE] = f"tests-{os.getpid()}"


@pytest.fixture(scope="session", autouse=True)
def _processes_can_be_interrupted() -> None:
    """Let tests send SIGINT to what they start: a shell's background job ignores it, and so do its children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _sweeps_do_not_know_of_parallel_tests() -> None:
    """Let the sweeps that tests start measure time: pytest-benchmark does not in a process of pytest-xdist."""
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
        del os.environ[name]


@pytest.fixture
def softmax_bench(tmp_path: Path) -> SoftmaxBench:
    """Runs the command line to its end, in an empty folder from which extra modules can be imported."""

    def run(*arguments: str, timeout_s: float = 120.0) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMMAND, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "100"},
            timeout=timeout_s,
            check=False,
        )

    return run


@pytest.fixture
def sweep_small(softmax_bench: SoftmaxBench, tmp_path: Path) -> SoftmaxBench:
    """Sweeps two small shapes into the run `small` of the folder `results`, without times unless options are given."""

    def run(*options: str) -> "subprocess.CompletedProcess[str]":
        results = f"--results={tmp_path / 'results'}"
        return softmax_bench("run", results, "--run-id=small", *SMALL, *options, *(() if "--" in options else UNTIMED))

    return run


@pytest.fixture(scope="session")
def reference_run() -> Path:
    """The folder of the run that is kept with the code."""
    return ROOT / "results" / "reference"


def error_of(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The message of a command that ends with exit status 2 and one line."""
    with pytest.raises(SystemExit) as ended:
        main.main(list(arguments))
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert err.count("\n") == 1
    return err
