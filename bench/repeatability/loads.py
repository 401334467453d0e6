"""What else the machine does while a tool measures: nothing, or work that comes and goes, as neighbours do.

The hogs are processes of this module, ``python -m softmax_bench.repeatability.loads NAME SEED``.
"""

import contextlib
import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from ..instruments.host import processors

IDLE, CORE, MEMORY = "idle", "one core hogged by turns", "memory hogged by turns"
WORK_S, REST_S = (1.0, 4.0), (0.0, 3.0)  # each turn draws its own
COPIED_BYTES = 128_000_000


@contextlib.contextmanager
def load_machine(load: str, seed: str) -> Iterator[None]:
    """Keep the machine under a load until the block ends; ``seed`` decides how long its turns are."""
    if load == IDLE:
        yield
        return
    command = [sys.executable, "-m", __name__, load, seed]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as hog:
        try:
            if hog.stdout is not None:
                hog.stdout.readline()  # it says when it begins
            yield
        finally:
            hog.kill()


def turns(rng: random.Random, alive: Callable[[], bool]) -> Iterator[float]:
    """The end of each turn of work, on the clock of ``perf_counter``; rests between them, and stops with ``alive``."""
    while alive():
        yield time.perf_counter() + rng.uniform(*WORK_S)
        time.sleep(rng.uniform(*REST_S))


def hog_core(ends: Iterator[float]) -> None:
    """Keep one processor busy in each turn, each in its turn where the system lets a process choose."""
    for end_s, processor in zip(ends, itertools.cycle(processors() or [None]), strict=False):
        if processor is not None:
            os.sched_setaffinity(0, {processor})
        while time.perf_counter() < end_s:
            pass


def hog_memory(ends: Iterator[float]) -> None:
    """Copy an array back and forth in each turn."""
    here = np.ones(COPIED_BYTES, dtype=np.uint8)
    there = here.copy()
    for end_s in ends:
        while time.perf_counter() < end_s:
            np.copyto(there, here)
            np.copyto(here, there)


HOGS = {CORE: hog_core, MEMORY: hog_memory}
LOADS = (IDLE, *HOGS)


def main(load: str, seed: str) -> None:
    """Hog until the process that started this one is gone."""
    parent = os.getppid()
    print(load, flush=True)  # to the parent, which waits for it
    HOGS[load](turns(random.Random(seed), lambda: os.getppid() == parent))  # noqa: S311 - not a secret


if __name__ == "__main__":
    main(*sys.argv[1:])
