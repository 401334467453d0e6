import gc
import importlib
import os
import random
import resource
import subprocess
import sys
import time
import tracemalloc
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from softmax_bench.instruments import bandwidth, clock, host
from softmax_bench.instruments.bandwidth import Stream, Streamer, streams_of
from softmax_bench.instruments.clock import VisitSettings, minor_faults, time_visit
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
    assert peak.high_bytes == pytest.approx(3 * MIB, abs=1024)
    assert peak.note.startswith("peak readings differ: 3")


def test_without_memray_tracemalloc_reads_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "memray", None)  # Python's way to say that it does not import
    peak = read_peak(lambda: np.ones(MIB), 1)
    assert peak.peak_bytes == pytest.approx(8 * MIB, abs=4096)
    assert peak.note == "peak read by tracemalloc, which sees NumPy's arrays only"
    assert not tracemalloc.is_tracing()


def test_a_broken_memray_is_named_with_its_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "memray.py").write_text("raise OSError('no such library')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "memray", raising=False)
    peak = read_peak(lambda: np.ones(MIB), 1)
    assert peak.note.endswith("NumPy's arrays only (memray does not import: no such library)")


def test_tracemalloc_reads_what_a_call_adds_at_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "memray", None)
    sizes = iter([2 * MIB, MIB, 3 * MIB])
    peak = read_peak(lambda: np.ones(next(sizes), dtype=np.uint8))
    assert peak.peak_bytes == pytest.approx(MIB, abs=4096)
    assert peak.high_bytes == pytest.approx(3 * MIB, abs=4096)
    assert "; peak readings differ: 2" in peak.note


def test_what_tracemalloc_had_seen_before_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "memray", None)
    tracemalloc.start()
    kept = np.ones(4 * MIB)
    assert read_peak(lambda: np.ones(MIB), 1).peak_bytes == pytest.approx(8 * MIB, abs=8192)
    assert kept.size


@pytest.mark.parametrize("count", [1, 2])
def test_a_peak_is_read_as_often_as_it_is_asked_for_while_the_collector_rests(count: int) -> None:
    enabled = []
    assert read_peak(lambda: enabled.append(gc.isenabled()), count).note == ""
    assert enabled == [False] * count
    assert gc.isenabled()
    gc.disable()
    try:
        read_peak(lambda: None, 1)
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts mapped memory on Linux only")
def test_an_overrun_is_a_memory_error_and_the_limit_goes_away() -> None:
    with memory_limit(64 * MIB):
        np.ones(4 * MIB)
        with pytest.raises(MemoryError):
            np.ones(64 * MIB)  # 512 MiB
    np.ones(16 * MIB)


def limited_bytes(extra_bytes: int) -> int:
    """By how much the process's data may grow inside of a limit."""
    used = int(psutil.Process().memory_info().data)
    with memory_limit(extra_bytes):
        return resource.getrlimit(resource.RLIMIT_DATA)[0] - used


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts mapped memory on Linux only")
def test_the_limit_grants_what_was_asked_for_and_256_mib() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    assert limited_bytes(64 * MIB) == pytest.approx((64 + 256) * MIB, abs=MIB)
    assert limited_bytes(0) == pytest.approx(256 * MIB, abs=MIB)
    with memory_limit(64 * MIB):
        np.ones((64 + 200) * MIB, dtype=np.uint8)
        with pytest.raises(MemoryError):
            np.ones((64 + 300) * MIB, dtype=np.uint8)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts mapped memory on Linux only")
def test_a_limit_that_is_lower_already_stays() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    lower = int(psutil.Process().memory_info().data) + 128 * MIB
    resource.setrlimit(resource.RLIMIT_DATA, (lower, hard))
    try:
        with memory_limit(64 * MIB):
            assert resource.getrlimit(resource.RLIMIT_DATA) == (lower, hard)
        assert resource.getrlimit(resource.RLIMIT_DATA) == (lower, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def test_a_system_that_does_not_count_data_is_left_unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: None)
    with memory_limit(0):
        assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the heap in question is glibc's")
def test_a_settled_heap_serves_large_arrays_without_page_faults() -> None:
    # In a process of its own: the state of this one's heap depends on the tests before.
    code = (
        "import numpy as np\n"
        "from softmax_bench.instruments.clock import minor_faults\n"
        "from softmax_bench.instruments.heap import settle_heap\n"
        "call = lambda: np.ones(3 << 17)\n"
        "fresh = minor_faults(call)\n"
        "settle_heap(); call()\n"
        "print(fresh, minor_faults(call))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    fresh, settled = map(int, done.stdout.split())
    assert settled == 0
    assert fresh > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the mappings in question are Linux's")
def test_mapped_arrays_lie_next_to_each_other_whatever_was_freed_before() -> None:
    code = (
        "import numpy as np\n"
        "from softmax_bench.instruments.heap import settle_heap, side_by_side\n"
        "settle_heap()\n"
        "def array(mib): return np.empty(mib << 20, np.uint8)\n"
        "def places(): return sorted(one.ctypes.data for one in [array(40) for _ in range(3)])\n"
        "def show(places): print(*(b - a for a, b in zip(places, places[1:])), places[-1] % (2 << 20))\n"
        "kept = [array(mib) for mib in (60, 41, 60, 45, 60)]\n"
        "del kept[3], kept[1]\n"
        "free = [array(31) for _ in range(3)]; held = np.empty(1 << 16); del free\n"  # of the heap, side by side
        "show(places())\n"
        "with side_by_side(array(40).nbytes): show(places())\n"
        "with side_by_side(1000): show(places())\n"
        "show(places())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    scattered, together, left_alone, afterwards = done.stdout.splitlines()
    each = (40 << 20) + 4096  # with the page that holds the allocator's header
    assert together == f"{each} {each} {(2 << 20) - (40 << 20) % (2 << 20) - 4096 + 16}"
    assert scattered == left_alone == afterwards != together


def test_page_faults_of_a_call_that_touches_fresh_memory() -> None:
    faults = minor_faults(lambda: np.ones(16 * MIB))
    assert faults is None or faults > 0


def test_available_memory_is_within_the_machines() -> None:
    assert 0 < host.available_bytes() <= int(host.machine()["memory_bytes"])


def test_code_hashes_name_every_source_file() -> None:
    assert {"sweep/rounds.py", "implementations/softmax.py", "cli.py"} <= set(host.code_hashes())


def test_a_visit_makes_a_warm_call_and_then_as_many_as_fit() -> None:
    settings = VisitSettings(visit_s=0.02, group_s=0.001)
    made = 0

    def call() -> None:
        nonlocal made
        made += 1
        time.sleep(0.005)

    timing = time_visit(call, settings)
    assert made == 2 * (1 + 1) + timing.calls  # of each half the warm one, the one that says how many fit, and those
    assert 0.005 <= timing.fastest_s <= timing.median_s
    assert timing.pace_s > 0.0


def test_half_of_a_visit_is_timed_with_arrays_that_begin_at_a_cache_line() -> None:
    beginnings: list[int] = []
    kept: list[np.ndarray] = []  # so that each array has a place of its own

    def call() -> None:
        kept.append(np.empty(1000))
        beginnings.append(kept[-1].ctypes.data % 64)

    time_visit(call, VisitSettings(visit_s=0.004, group_s=0.0001))
    least = 3  # calls of each part: the warm one, those that say how many fit, the timed ones
    assert set(beginnings[-least:]) == {0}
    assert len(set(beginnings)) > 1


def test_a_call_longer_than_a_visit_is_timed_once_after_the_warm_one() -> None:
    made = 0

    def call() -> None:
        nonlocal made
        made += 1
        time.sleep(0.01)

    settings = VisitSettings(visit_s=0.002, group_s=0.001)
    timing = time_visit(call, settings)
    assert timing.calls == 1
    assert timing.pace_s > 0.0
    assert made == 2


def simulated(monkeypatch: pytest.MonkeyPatch, *, first_s: float, next_s: float) -> Callable[[], None]:
    """A call that takes known times by the clock of visits, which a busy machine does not change."""
    now_s, calls = 0.0, 0

    def call() -> None:
        nonlocal now_s, calls
        calls += 1
        now_s += first_s if calls == 1 else next_s

    monkeypatch.setattr(clock, "time", types.SimpleNamespace(perf_counter=lambda: now_s))
    return call


def test_a_first_call_that_is_slow_for_its_caches_alone_does_not_shorten_the_visit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = simulated(monkeypatch, first_s=0.0015, next_s=1e-6)
    # The first call alone would be a group, and two of it a visit.
    timing = time_visit(call, VisitSettings(visit_s=0.003, group_s=0.001))
    assert timing.calls > 1000
    assert timing.fastest_s < 1e-5


def test_after_a_dear_warm_call_more_calls_are_timed_but_not_many(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed_after(warm_s: float) -> int:
        call = simulated(monkeypatch, first_s=warm_s, next_s=0.01)
        return time_visit(call, VisitSettings(visit_s=0.002, group_s=0.001)).calls

    assert timed_after(0.01) == 1
    assert timed_after(0.045) == 2
    assert timed_after(0.2) == 3


def test_short_calls_are_timed_in_groups() -> None:
    settings = VisitSettings(visit_s=0.002, group_s=0.0001)
    # The best of some: where the process waits for a processor, the first call seems to be long enough for a group.
    timing = max((time_visit(lambda: None, settings) for _ in range(10)), key=lambda timing: timing.calls)
    assert timing.calls > 1000
    assert timing.fastest_s < 1e-5


@pytest.mark.parametrize("threads", [1, 2])
def test_streams_move_their_working_set_at_a_plausible_rate(threads: int) -> None:
    streamer = Streamer(threads)
    for working_set_bytes in (1, 100_000, 3 << 20):
        (stream,) = streams_of(threads, working_set_bytes, past_caches=True)
        assert stream.working_set_bytes >= max(working_set_bytes, threads * bandwidth.LEAST_WORKING_SET_BYTES)
        timing = streamer.visit(stream, VisitSettings(0.001, 0.0001), random.Random(1))
        rate = stream.working_set_bytes / timing.fastest_s
        assert 1e6 < rate < threads * bandwidth.FASTEST_CACHE_BYTES_PER_S
        assert Stream.named(str(stream)) == stream
    streamer.close()


def test_stores_past_the_caches_write_the_product() -> None:
    pytest.importorskip("numba")
    stream = Stream(bandwidth.PAST_CACHES, 1, 4 << 20)
    streamer = Streamer(1)
    assert streamer.visit(stream, VisitSettings(0.001, 0.0001), random.Random(1)).fastest_s > 0
    left, right, product = (np.full(1024, value) for value in (3.0, 2.0, 0.0))
    _kernels = importlib.import_module("softmax_bench.implementations._kernels")
    aligned = [array[-array.ctypes.data % 64 // 8 :][:512] for array in (left, right, product)]
    _kernels.multiply_past_caches(*aligned, 1)
    assert (aligned[2] == 6.0).all()


def test_large_working_sets_have_a_stream_of_each_kind_and_too_large_ones_none() -> None:
    kinds = [stream.stores for stream in streams_of(1, 64 << 20, past_caches=True)]
    assert kinds == [bandwidth.ORDINARY, bandwidth.PAST_CACHES]
    assert [stream.stores for stream in streams_of(1, 64 << 20, past_caches=False)] == [bandwidth.ORDINARY]
    assert streams_of(1, 1 << 50, past_caches=True) == []


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not tell processors")
def test_streaming_leaves_the_caller_its_processors() -> None:
    before = os.sched_getaffinity(0)
    Streamer(2).visit(Stream(bandwidth.ORDINARY, 2, 64 << 10), VisitSettings(0.001, 0.0001), random.Random(1))
    assert os.sched_getaffinity(0) == before


def test_text_that_names_no_stream() -> None:
    assert Stream.named("softmax-vectorized-B1-N10-float64-normal") is None
