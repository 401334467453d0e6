"""Arrays that begin at a cache line: where they lie, and what becomes of them."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from softmax_bench.instruments.cache_lines import LINE_BYTES, at_cache_lines

BYTES = (1, 8, 80, 1000, 5000, 1 << 17, 33 << 20)


def made() -> list[np.ndarray]:
    return [np.empty(size, dtype=np.uint8) for size in BYTES]


def beginnings(arrays: list[np.ndarray]) -> set[int]:
    return {array.ctypes.data % LINE_BYTES for array in arrays}


def test_arrays_begin_at_a_cache_line_within_the_block_alone() -> None:
    with at_cache_lines():
        within = made() + made()
        product = np.ones(1001) * 2.0
    assert beginnings([*within, product]) == {0}
    assert product.sum() == 2002.0
    assert beginnings(made() + [np.empty(1 << 17, dtype=np.uint8) for _ in range(3)]) != {0}


def test_an_array_of_the_block_grows_and_goes_like_any_other() -> None:
    with at_cache_lines():
        array = np.arange(1000)
    array.resize(100_000, refcheck=False)
    assert array[:1000].sum() == 499_500
    assert not array[1000:].any()


def test_the_block_ends_with_the_error_in_it() -> None:
    with pytest.raises(ValueError, match="mine"), at_cache_lines():
        raise ValueError("mine")
    assert beginnings(made()) != {0}


def test_other_threads_are_left_alone() -> None:
    elsewhere: list[set[int]] = []
    with at_cache_lines():
        thread = threading.Thread(target=lambda: elsewhere.append(beginnings(made())))
        thread.start()
        thread.join()
    assert elsewhere != [{0}]


@pytest.mark.parametrize(
    ("options", "before"),
    [(["-X", "dev"], ""), (["-X", "tracemalloc"], ""), ([], "import tracemalloc; tracemalloc.start()\n")],
)
def test_nothing_changes_where_pythons_allocators_are_watched(options: list[str], before: str) -> None:
    code = before + (
        "import numpy as np\n"
        "from softmax_bench.instruments.cache_lines import at_cache_lines\n"
        "with at_cache_lines(): arrays = [np.empty(1000) for _ in range(8)]\n"
        "del arrays[::2]\n"
        "print('fine')"
    )
    ended = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "fine\n"), ended.stderr


def test_an_array_that_outlives_the_interpreters_modules_is_freed() -> None:
    code = (
        "import sys, numpy as np\n"
        "from softmax_bench.instruments.cache_lines import at_cache_lines\n"
        "with at_cache_lines(): sys.kept = [np.empty(1 << n) for n in range(22)]\n"
        "print('fine')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "fine\n"), ended.stderr
