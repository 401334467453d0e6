"""What a machine is, as it says itself, and what keeps the rows of two machines apart."""

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..instruments import host
from ..storage.machines import FACTS, Machine

PROCESSORS_VARIABLE = "SOFTMAX_BENCH_PROCESSORS"  # of a worker: the numbers of its processors, as in '0 1'
ABSENT = "absent"


def described() -> dict[str, Any]:
    """The values of a `Machine` for this one; in a worker's process, with the worker's processors."""
    facts = host.machine()
    return {
        "machine": host.machine_id(),
        **{name: facts[name] for name in FACTS if name in facts},
        "processors": " ".join(map(str, processors())),
        "versions": versions_text(host.versions()),
        "code": digest(host.code_hashes()),
    }


def processors() -> list[int]:
    """The processors on which this process is to measure: those of its worker, or all that it may use."""
    given = os.environ.get(PROCESSORS_VARIABLE, "")
    return [int(number) for number in given.split()] or host.processors()


def versions_text(versions: Mapping[str, str]) -> str:
    """Versions as a machine's row keeps them."""
    return ", ".join(f"{package} {version}" for package, version in versions.items() if version != ABSENT)


def digest(code: Mapping[str, str]) -> str:
    """A digest of the suite's source files, by their own digests."""
    return hashlib.sha256(repr(sorted(code.items())).encode()).hexdigest()[:16]


def differences(machine: Machine, reference: Machine) -> list[str]:
    """What keeps a machine's rows from standing beside the reference's, each in a phrase.

    A library that only one of them has does not: its cases are skipped on the other.
    """
    its, others = machine.installed, reference.installed
    found = [
        f"{package} is {its[package]}, elsewhere {others[package]}"
        for package in its
        if package in others and its[package] != others[package]
    ]
    return found + (["the suite's code is another"] if machine.code != reference.code else [])


def reference_of(machines: Sequence[Machine]) -> Machine:
    """The machine with the versions and the code that most have; of several such the first by id."""
    count = Counter((machine.versions, machine.code) for machine in machines)
    return min(machines, key=lambda machine: (-count[machine.versions, machine.code], machine.machine))


def left_out(machine: Machine, kept: str, reason: str) -> Machine:
    """The machine, not kept, with the reason."""
    return dataclasses.replace(machine, kept=kept, reason=reason)


def in_words(machines: Sequence[Machine]) -> dict[str, Any]:
    """Several machines as run.json describes one: their processors by name, the largest numbers."""
    return {
        "cpu": "; ".join(sorted({machine.cpu for machine in machines})),
        "cores": max(machine.cores for machine in machines),
        "memory_bytes": max(machine.memory_bytes for machine in machines),
        "system": "; ".join(sorted({machine.system for machine in machines})),
        "machines": len(machines),
    }
