import os
import subprocess
import sys

import numpy as np
import pytest
from softmax_bench.instruments import bandwidth, host
from softmax_bench.instruments.clock import minor_faults
from softmax_bench.instruments.memory import memory_limit, read_peak

MIB = 1 << 20


def test_peak_is_the_bytes_of_what_lives_at_once() -> None:
    def two_at_once() -> None:
        first = np.ones(MIB)
        second = np.ones(MIB // 2)
        del first, second
        np.ones(MIB)

    assert read_peak(two_at_once).peak_bytes == pytest.approx(12 * MIB, abs=2048)


def test_what_was_there_before_does_not_count() -> None:
    kept = np.ones(4 * MIB)
    assert read_peak(lambda: None).peak_bytes == 0
    assert kept.size


def test_a_difference_between_readings_is_flagged() -> None:
    sizes = iter([3 * MIB, 2 * MIB, MIB])
    peak = read_peak(lambda: np.ones(next(sizes), dtype=np.uint8))
    assert peak.peak_bytes == pytest.approx(MIB, abs=1024)
    assert peak.note.startswith("peak readings differ: 3")


def test_without_memray_tracemalloc_reads_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "memray", None)  # Python's way to say that it does not import
    peak = read_peak(lambda: np.ones(MIB))
    assert peak.peak_bytes == pytest.approx(8 * MIB, abs=4096)
    assert "tracemalloc" in peak.note


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts mapped memory on Linux only")
def test_an_overrun_is_a_memory_error_and_the_limit_goes_away() -> None:
    with memory_limit(64 * MIB):
        np.ones(4 * MIB)
        with pytest.raises(MemoryError):
            np.ones(64 * MIB)  # 512 MiB
    np.ones(16 * MIB)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the heap in question is glibc's")
def test_a_settled_heap_serves_large_arrays_without_page_faults() -> None:
    # In a process of its own: the state of this one's heap depends on the tests before.
    code = (
        "import numpy as np\n"
        "from softmax_bench.instruments.clock import minor_faults, settle_heap\n"
        "call = lambda: np.ones(3 << 17)\n"
        "fresh = minor_faults(call)\n"
        "settle_heap(); call()\n"
        "print(fresh, minor_faults(call))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    fresh, settled = map(int, done.stdout.split())
    assert settled == 0
    assert fresh > 0


def test_page_faults_of_a_call_that_touches_fresh_memory() -> None:
    faults = minor_faults(lambda: np.ones(16 * MIB))
    assert faults is None or faults > 0


def test_available_memory_is_within_the_machines() -> None:
    assert 0 < host.available_bytes() <= int(host.machine()["memory_bytes"])


def test_code_hashes_name_every_source_file() -> None:
    assert {"sweep/sitting.py", "implementations/softmax.py", "cli.py"} <= set(host.code_hashes())


@pytest.mark.parametrize("threads", [1, 2])
def test_the_ceiling_covers_working_sets_in_powers_of_two_at_plausible_rates(threads: int) -> None:
    points = bandwidth.stream_ceiling(threads, largest_bytes=100_000)
    sizes = [point.working_set_bytes for point in points]
    assert sizes == sorted(set(sizes))
    assert {16 << 10, 32 << 10, 64 << 10, 128 << 10} <= set(sizes)
    assert sizes[-1] == 128 << 10  # what 100 kB need, as they fit the second-level cache
    assert {point.threads for point in points} == {threads}
    for point in points:
        assert 1e8 < point.bytes_per_s < threads * bandwidth.FASTEST_CACHE_BYTES_PER_S


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not tell processors")
def test_measuring_the_ceiling_leaves_the_caller_its_processors() -> None:
    before = os.sched_getaffinity(0)
    bandwidth.stream_ceiling(2, largest_bytes=10_000)
    assert os.sched_getaffinity(0) == before


def test_where_the_rate_falls_steeply_the_ceiling_is_measured_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "_stream", lambda blocks, size, pool: 4e9 if size <= 40 << 10 else 1e9)
    sizes = [point.working_set_bytes for point in bandwidth.stream_ceiling(1, largest_bytes=100_000)]
    assert sizes == [16 << 10, 32 << 10, 38968, 46341, 64 << 10, 128 << 10]


def test_the_ceiling_of_what_fits_no_cache_goes_beyond_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        bandwidth, "cache_sizes", lambda: {"l1_bytes": 4 << 10, "l2_bytes": 16 << 10, "l3_bytes": 64 << 10}
    )
    points = bandwidth.stream_ceiling(1, largest_bytes=20_000)
    assert points[-1].working_set_bytes == 8 * (64 << 10)
    monkeypatch.setattr(bandwidth, "cache_sizes", dict)
    monkeypatch.setattr(bandwidth, "UNKNOWN_CACHE_BYTES", 8 << 10)
    assert bandwidth.stream_ceiling(1, largest_bytes=20_000)[-1].working_set_bytes == 64 << 10
