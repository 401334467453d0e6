"""The machine: what it is, what software it runs, which code, how much memory it leaves, and the time."""

import datetime
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from ..paths import PACKAGE
from ..units import quantity

RECORDED_PACKAGES = (
    *("numpy", "scipy", "pandas", "memray", "pytest", "pytest-benchmark", "threadpoolctl"),
    *("numba", "torch", "jax", "numexpr"),
)
MACHINE_VARIABLE = "SOFTMAX_BENCH_MACHINE"
MACHINE_ID = Path("/etc/machine-id")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")  # where Linux says what caches a core has


def machine() -> dict[str, str | int]:
    """What decides how fast code runs here: processor, cores, memory, system."""
    return {
        "cpu": _cpu_name(),
        "cores": cores(),
        "memory_bytes": psutil.virtual_memory().total,
        **cache_sizes(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def in_words(described: Mapping[str, Any]) -> str:
    """A machine, as `machine` describes it, in a line."""
    return (
        f"{described['cpu']}, {described['cores']} cores, {quantity(described['memory_bytes'], 'B')} memory, "
        f"{described['system']}"
    )


def machine_id() -> str:
    """A name that tells this machine from others and stays: ``SOFTMAX_BENCH_MACHINE``, or its host name and a digest.

    The digest is of the host name and of systemd's machine-id, where there is one: cloned images share the latter.
    """
    try:
        installed = MACHINE_ID.read_text(encoding="ascii").strip()
    except OSError:
        installed = ""
    name = platform.node() or "machine"
    digest = hashlib.sha256(f"{name} {installed}".encode()).hexdigest()[:8]
    return re.sub(r"[^A-Za-z0-9._-]", "-", os.environ.get(MACHINE_VARIABLE) or f"{name}-{digest}")


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
    """A digest of each source file of the suite, by its path in the package."""
    return {
        path.relative_to(PACKAGE).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def commit() -> str:
    """The commit of the suite's repository, ending in -dirty where files were changed; '' where it is in none."""
    try:
        for command in (["ls-files", "--error-unmatch", "cli.py"], ["describe", "--always", "--dirty", "--exclude=*"]):
            done = subprocess.run(["git", "-C", str(PACKAGE), *command], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def now_utc() -> str:
    """The time as ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def available_bytes() -> int:
    """Memory that can still be taken: what the system has available, or less where a control group is tighter."""
    return min([psutil.virtual_memory().available, *_control_group_headrooms()])


def cores() -> int:
    """How many processors the machine has."""
    return os.cpu_count() or 1


def processors() -> list[int]:
    """The numbers of the processors that this process may run on; [] where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def cache_sizes() -> dict[str, int]:
    """Bytes of each level of data cache as the system states them, as ``l1_bytes`` and so on; {} where it does not."""
    stated = {}
    for folder in sorted(CACHES.glob("index*")):
        level, kind, size = ((folder / name).read_text(encoding="ascii").strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            stated[f"l{level}_bytes"] = int(size.removesuffix("K")) << 10
    return stated


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
