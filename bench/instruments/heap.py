"""A heap in its steady state: without it, a call's time depends on what its process has allocated before."""

import numpy as np

# glibc raises its mmap threshold to the size of the largest mapped block freed so far, up to 32 MiB with the block's
# header. Freeing a block just below that brings the heap to the state of a long-running program.
SETTLING_BYTES = (32 << 20) - (64 << 10)


def settle_heap() -> None:
    """Bring the allocator's adaptive thresholds to their steady state, whatever ran before."""
    np.empty(SETTLING_BYTES, dtype=np.uint8)
