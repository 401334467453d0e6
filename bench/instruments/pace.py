"""The pace of a processor: how long a loop takes whose work is always the same.

Two threads of a core share its units, and in a virtual machine the other one may be somebody else's: for seconds or
minutes everything takes up to twice as long, and visits of that time agree with each other. The loop needs no memory
and no library, so it says how fast the processor was while something else was timed beside it.
"""

import time

ADDITIONS, LOOPS = 1000, 2


def loop_s() -> float:
    """Seconds of the faster one of two loops of a thousand additions in Python."""
    return min(_loop() for _ in range(LOOPS))


def _loop() -> float:
    total = 0
    started = time.perf_counter()
    for number in range(ADDITIONS):
        total += number
    return time.perf_counter() - started
