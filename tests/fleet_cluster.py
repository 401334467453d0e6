"""A Dask cluster of real processes for the tests of runs on many machines, each worker a machine by its variable."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from .conftest import COMMAND
from .processes import await_that

CASES = (
    *("--batch=4", "--features=16", "--features=32", "--dtype=float64", "--logits=normal", "--operation=softmax"),
    *("--implementation=explicit_jacobian", "--implementation=vectorized"),
)
ALL_CASES = sorted(
    f"softmax-{name}-B4-N{features}-float64-normal"
    for name in ("explicit_jacobian", "vectorized")
    for features in (16, 32)
)
SHORT = (*CASES, "--minutes=0.02", "--share-minutes=0.01", "--no-charts")
ONE_SHARE = (*SHORT, "--share-minutes=1")
UNDER_WAY = (*CASES, "--minutes=0.12", "--share-minutes=0.06", "--every-round", "--no-charts")  # a share takes seconds
ENDS_S = 400  # far more than it takes


class Cluster:
    """A scheduler and workers, all in a folder of their own, and ended with the block."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.file = folder / "scheduler.json"
        self._environment = {**os.environ, **environment, "TMPDIR": str(folder)}
        self._processes: list[subprocess.Popen[str]] = []
        self._workers = 0  # that were started for this scheduler
        self.scheduler = self.start_scheduler()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            for pid in [*(child.pid for child in children_of(process)), process.pid]:
                kill(pid)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    @property
    def address(self) -> str:
        return str(json.loads(self.file.read_text(encoding="utf-8"))["address"])

    def start_scheduler(self, port: int = 0) -> "subprocess.Popen[str]":
        self.file.unlink(missing_ok=True)
        self._workers = 0
        started = self._start("dask", "scheduler", f"--port={port}", "--host=127.0.0.1", "--no-dashboard",
                              f"--scheduler-file={self.file}")  # fmt: skip
        await_that(lambda: self.file.exists() and self.file.read_text(encoding="utf-8").rstrip().endswith("}"))
        return started

    def start_worker(self, machine: str, *options: str, **environment: str) -> "subprocess.Popen[str]":
        self._workers += 1
        return self._start("dask", "worker", self.address, "--nthreads=1", "--no-dashboard", *options,
                           SOFTMAX_BENCH_MACHINE=machine, **environment)  # fmt: skip

    def start_run(self, *options: str) -> "subprocess.Popen[str]":
        """The driver of a run, in the cluster's folder, started when all workers that were started are there."""
        self.await_workers()
        arguments = ["fleet", "run", f"--scheduler={self.address}", *options]
        process = subprocess.Popen([*COMMAND, *arguments], cwd=self.folder, env={**self._environment, "COLUMNS": "100"},
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
        self._processes.append(process)
        return process

    def run(self, *options: str) -> tuple[int, str]:
        """The exit status of a run and what it said."""
        return ended(self.start_run(*options))

    def await_workers(self) -> None:
        """Wait until the scheduler knows all workers: one is there seconds after it was started, or many."""
        from distributed import Client  # noqa: PLC0415 - an extra

        if self._workers:
            with warnings.catch_warnings(action="ignore"), Client(self.address, set_as_default=False) as client:
                client.wait_for_workers(self._workers, timeout=ENDS_S)

    def _start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", *arguments]
        with (self.folder / "log").open("a", encoding="utf-8") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env={**self._environment, **environment}, stdout=log, stderr=log, text=True
            )
        self._processes.append(process)
        return process


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    output, _ = process.communicate(timeout=ENDS_S)
    return process.returncode, output


def children_of(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
