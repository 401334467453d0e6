"""A machine as a row: what it is, what it runs, how fast its memory is, and whether it agrees with itself."""

import dataclasses
import hashlib
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..instruments import host

PROCESSORS_VARIABLE = "SOFTMAX_BENCH_PROCESSORS"  # of a worker: the numbers of its processors, as in '0 1'
ABSENT = "absent"
KEPT, APART, LEFT_OUT = "yes", "apart", "no"


@dataclass(frozen=True)
class Machine:
    """A row of machines.csv. Missing is NaN, empty when stored."""

    machine: str  # its id
    cpu: str
    cores: int
    memory_bytes: int
    system: str
    processors: str  # on which it measures; empty where the system does not say
    versions: str  # as in 'python 3.11.7, numpy 2.4.6'
    code: str  # a digest of the suite's source
    ceiling_bytes_per_s: float = math.nan  # at the largest working set that its streams had
    calibrations: int = 0  # looks at the calibration's cases
    drift: float = math.nan  # see `calibration`
    kept: str = KEPT  # KEPT, APART or LEFT_OUT
    reason: str = ""  # why it is not kept

    @property
    def installed(self) -> dict[str, str]:
        """The versions by package, without what is absent."""
        return dict(part.split(" ", 1) for part in self.versions.split(", ")) if self.versions else {}


def described() -> dict[str, Any]:
    """The values of a `Machine` for this one; in a worker's process, with the worker's processors."""
    facts = host.machine()
    return {
        "machine": host.machine_id(),
        **{name: facts[name] for name in ("cpu", "cores", "memory_bytes", "system")},
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
    """What keeps a machine's rows from standing beside the reference's, each in a phrase."""
    its, others = machine.installed, reference.installed
    found = [
        f"{package} is {its.get(package, ABSENT)}, elsewhere {others.get(package, ABSENT)}"
        for package in sorted({*its, *others})
        if its.get(package) != others.get(package)
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
