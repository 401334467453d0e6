"""The machine: what it is, what software it runs, how much memory it leaves, and how fast it streams fresh memory."""

import hashlib
import importlib.metadata
import os
import platform
import time
from pathlib import Path

import numpy as np
import psutil

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parent

# No core moves more than two loads and one store of 64 bytes a cycle, and none runs above 6 GHz: the floor under
# every time, whatever the machine.
FASTEST_CACHE_BYTES_PER_S = 3 * 64 * 6e9
RECORDED_PACKAGES = ("numpy", "scipy", "pandas", "memray", "pytest", "pytest-benchmark", "threadpoolctl")


def machine() -> dict[str, str | int]:
    """What decides how fast code runs here: processor, cores, memory, system."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions(extras: tuple[str, ...] = ()) -> dict[str, str]:
    """The versions of Python and of the libraries that bear on a measurement, and of further packages."""
    found = {"python": platform.python_version()}
    for package in (*RECORDED_PACKAGES, *extras):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def code_hashes() -> dict[str, str]:
    """A digest of each source file of the suite, by its path relative to the root."""
    files = sorted([*PACKAGE.rglob("*.py"), ROOT / "conftest.py"])
    return {
        path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in files
        if path.exists()
    }


def available_bytes() -> int:
    """Memory that can still be taken: what the system has available, or less where a control group is tighter."""
    return min([psutil.virtual_memory().available, *_control_group_headrooms()])


def fresh_stream_bytes_per_s(array_bytes: int = 64 << 20, repeats: int = 6) -> float:
    """Bytes a second read and written by a product of two arrays into newly allocated memory, one thread.

    What a large temporary costs: cache misses and page faults together. Used to predict times. The fastest of the
    repeats, because a virtual machine's memory can be ten times slower where its host has yet to back it.
    """
    left = np.ones(array_bytes // 8)
    right = np.ones_like(left)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        np.multiply(left, right)
        seconds.append(time.perf_counter() - start)
    return 3 * left.nbytes / min(seconds)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _control_group_headrooms() -> list[int]:
    """Limit minus usage of every control group that this process is in, version 1 and 2; [] where there is none."""
    try:
        memberships = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    headrooms = []
    for line in memberships:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            base, limit_name, usage_name = Path("/sys/fs/cgroup"), "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, limit_name, usage_name = (
                Path("/sys/fs/cgroup/memory"),
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            )
        else:
            continue
        folder = base / group.lstrip("/")
        for candidate in (folder, *folder.parents):
            if not candidate.is_relative_to(base):
                break
            try:
                limit = int((candidate / limit_name).read_text(encoding="ascii"))
                headrooms.append(max(0, limit - int((candidate / usage_name).read_text(encoding="ascii"))))
            except (OSError, ValueError):  # no such group in this namespace, or "max": no limit
                continue
    return headrooms
