"""Scale by simulation: a real scheduler and driver, hundreds of workers whose measuring only sleeps.

What is simulated is the measuring alone: a share takes ``CASE_S`` for each of its cases and yields stored figures.
Orders, messages, outcomes and tables are the real ones.
"""

import asyncio
import contextlib
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import psutil
from distributed import Client, Worker, get_worker

from ..errors import UserError
from ..instruments import host
from ..instruments.lifetime import ending_with_this
from ..instruments.scratch import temporary_folder
from ..operations.cases import Case
from ..storage.descriptions import store_description
from ..storage.files import make_folder
from ..storage.results import Run, RunOptions
from ..storage.tables import write_table
from .cluster import configure
from .driver import Driver, Follower, Plan
from .scale import CASE_S, MEASURED, SAMPLES, SHARE_CASES, Sample, Scale, Study
from .shares import Share
from .store import FleetStore

WORKERS_A_PROCESS = 125
STEPS = ((20, 8_000), (100, 40_000))  # workers and cases, before what is asked for
SAMPLE_S = 1.0


class SimulatedShares(Sequence[Share]):
    """So many cases in shares, each made when it is asked for."""

    def __init__(self, cases: int) -> None:
        self._cases = cases

    def __len__(self) -> int:
        return math.ceil(self._cases / SHARE_CASES)

    @overload
    def __getitem__(self, place: int) -> Share: ...
    @overload
    def __getitem__(self, place: slice) -> list[Share]: ...
    def __getitem__(self, place: int | slice) -> Share | list[Share]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        numbers = range(place * SHARE_CASES, min((place + 1) * SHARE_CASES, self._cases))
        cases = (Case("softmax", "vectorized", 1, 1 + number, "float64", "normal") for number in numbers)
        return Share(place, tuple(cases), CASE_S * len(numbers) / 60.0)


def simulated_machine(dask_worker: Any = None) -> dict[str, Any]:
    """A simulated worker's machine: one of its own. Dask hands over the worker."""
    name = str(dask_worker.name)
    facts = {"cpu": "simulated", "cores": 1, "memory_bytes": 1 << 30, "system": "simulated"}
    return {"machine": name, **facts, "processors": "", "versions": "", "code": ""}


def simulated_share(text: str) -> str:
    """The outcome of a share whose measuring only slept, its records sent as real ones are."""
    worker, order = get_worker(), json.loads(text)
    share, name = order["share"], str(worker.name)
    attempt = f"{share['number']}-{name}"
    event = {"share": share["number"], "worker": worker.address}
    began = json.dumps({"machine": name, "attempt": attempt})
    worker.log_event(order["topic"], {**event, "kind": "began", "content": began})
    began_s = time.time()
    time.sleep(CASE_S * len(share["cases"]))
    of_machine = {"machine": name, "attempt": attempt}
    rows = [{"run_id": order["run"]["run_id"], **case, **of_machine, "status": "measured"} for case in share["cases"]]
    visits = [
        {
            "case": f"softmax-vectorized-B1-N{case['features']}-float64-normal",
            "round": 1,
            "when_s": CASE_S * place,
            "calls": 1,
            "fastest_s": 1e-6,
            "median_s": 1e-6,
            **of_machine,
            "began_s": began_s + CASE_S * place,
            "took_s": CASE_S,
        }
        for place, case in enumerate(share["cases"])
    ]
    records = {"attempt": attempt, "first_row": 0, "rows": rows, "first_visit": 0, "visits": visits, "looks": []}
    worker.log_event(order["topic"], {**event, "kind": "records", "content": json.dumps(records)})
    timed = [{**row, "time_s": 1e-6, "time_low_s": 0.98e-6, "time_high_s": 1.02e-6, "visits": 1} for row in rows]
    ended_s = time.time()
    sent = {"sent_rows": len(rows), "sent_visits": len(visits)}
    moments = {"began_s": began_s, "ended_s": ended_s, "measuring_s": CASE_S * len(rows)}
    return json.dumps({**of_machine, "rows": timed, "ceiling": [], **sent, **moments})


async def _work(address: str, first: int, count: int) -> None:
    """Simulated workers in this process, until their scheduler is gone."""
    workers = [
        Worker(address, nthreads=1, name=f"machine-{first + place}", memory_limit=0, dashboard=False)
        for place in range(count)
    ]
    await asyncio.gather(*workers)
    await asyncio.gather(*(worker.finished() for worker in workers))


@contextlib.contextmanager
def simulated_cluster(workers: int, folder: Path) -> Iterator[tuple[Client, psutil.Process]]:
    """A client of a scheduler process with so many simulated workers, and that process; gone when the block ends."""
    configure()
    file = folder / "scheduler.json"
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    options = ["--host=127.0.0.1", "--port=0", "--no-dashboard", f"--scheduler-file={file}"]
    scheduler = subprocess.Popen(ending_with_this("dask", "scheduler", *options), **quiet)
    processes = []
    try:
        while not (file.exists() and file.read_text(encoding="utf-8").rstrip().endswith("}")):
            time.sleep(0.1)
            if scheduler.poll() is not None:
                raise UserError("the scheduler did not start")
        address = json.loads(file.read_text(encoding="utf-8"))["address"]
        for first in range(0, workers, WORKERS_A_PROCESS):
            count = min(WORKERS_A_PROCESS, workers - first)
            command = ending_with_this(__name__, address, str(first), str(count))
            processes.append(subprocess.Popen(command, **quiet))
        with Client(address, set_as_default=False, timeout=60) as client:
            client.wait_for_workers(workers, timeout=300)
            yield client, psutil.Process(scheduler.pid)
    finally:
        for process in [scheduler, *processes]:
            process.kill()
            process.wait()


class Sampler(threading.Thread):
    """Notes once a second how many cases are stored, how much memory driver and scheduler take, how busy they are."""

    def __init__(self, workers: int, store: FleetStore, scheduler: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._workers, self._store = workers, store
        self._processes = psutil.Process(), scheduler
        self._over = threading.Event()
        self.samples: list[Sample] = []

    def run(self) -> None:
        """Sample until it is over."""
        began_s = time.monotonic()
        for process in self._processes:
            process.cpu_percent()
        while not self._over.wait(SAMPLE_S):
            driver_bytes, scheduler_bytes = (process.memory_info().rss for process in self._processes)
            driver_busy, scheduler_busy = (round(process.cpu_percent() / 100.0, 3) for process in self._processes)
            second, cases = round(time.monotonic() - began_s, 2), sum(self._store.statuses.values())
            self.samples.append(
                Sample(self._workers, second, cases, driver_bytes, scheduler_bytes, driver_busy, scheduler_busy)
            )

    def end(self) -> None:
        """Sample no more."""
        self._over.set()
        self.join()


def simulate(workers: int, cases: int) -> tuple[Scale, list[Sample]]:
    """A simulated run, its tables in a temporary folder, and its samples.

    Raises:
        UserError: not all cases were stored.
    """
    shares = SimulatedShares(cases)
    with temporary_folder() as folder, simulated_cluster(workers, folder) as (client, scheduler):
        store = FleetStore(_simulated_run(), folder / "run")
        sampler = Sampler(workers, store, scheduler)
        plan = Plan(shares, everywhere=False, replicas=1, task=simulated_share, describe=simulated_machine)
        driver = Driver(client, store, plan, Follower())
        sampler.start()
        began_s = time.monotonic()
        driver.run()
        seconds = time.monotonic() - began_s
        sampler.end()
        store.close()
        stored = sum(store.statuses.values())
    if stored != cases:
        raise UserError(f"{stored} of {cases} simulated cases were stored")
    return _summed_up(workers, cases, len(shares), seconds, sampler.samples), sampler.samples


def _summed_up(workers: int, cases: int, shares: int, seconds: float, samples: Sequence[Sample]) -> Scale:
    under_way = [sample for sample in samples if cases / 10 <= sample.cases < cases] or list(samples)
    count = len(under_way)
    return Scale(
        workers=workers,
        cases=cases,
        shares=shares,
        seconds=round(seconds, 2),
        cases_per_s=round(cases / seconds, 1),
        not_measuring=round(1.0 - CASE_S * cases / (workers * seconds), 4),
        driver_first_bytes=under_way[0].driver_bytes,
        driver_last_bytes=under_way[-1].driver_bytes,
        scheduler_last_bytes=under_way[-1].scheduler_bytes,
        driver_busy=round(sum(sample.driver_busy for sample in under_way) / count, 3),
        scheduler_busy=round(sum(sample.scheduler_busy for sample in under_way) / count, 3),
    )


def _simulated_run() -> Run:
    options = RunOptions(max_call_s=1.0, max_bytes=1 << 30, benchmark={}, stream_bytes_per_s=1e10)
    here: dict[str, Any] = {"selection": {}, "machine": host.machine(), "versions": host.versions(), "code": {}}
    return Run("simulated", host.now_utc(), 0, **here, options=options, implementations=[], fleet={"replicas": 1})


def measure_scale(workers: int, cases: int, folder: Path) -> Iterator[Scale]:
    """Simulate runs of a growing number of workers up to the one that is asked for, and store each when it has ended.

    Raises:
        UserError: a run did not store all of its cases, or the folder cannot be written.
    """
    make_folder(folder)
    study = Study(host.now_utc(), host.machine(), host.versions(("distributed", "dask")), CASE_S, SHARE_CASES)
    store_description(folder, study)
    scales: list[Scale] = []
    samples: list[Sample] = []
    for step_workers, step_cases in [step for step in STEPS if step[0] < workers] + [(workers, cases)]:
        scale, its_samples = simulate(step_workers, step_cases)
        scales.append(scale)
        samples += its_samples
        write_table(folder / MEASURED, scales)
        write_table(folder / SAMPLES, samples)
        yield scale


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
