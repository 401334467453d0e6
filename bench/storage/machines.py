"""machines.csv: the machines that measured a run on several, a row each."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from .checks import unknown_name
from .kinds import Bytes, Count, Error, Rate, Size
from .tables import load_table, write_table

MACHINES = "machines.csv"
KEPT, APART, LEFT_OUT = "yes", "apart", "no"
VERSIONS = re.compile(r"(|[^\s,]+ [^,]+(, [^\s,]+ [^,]+)*)")  # as in 'python 3.11.7, numpy 2.4.6'
FACTS = ("cpu", "cores", "memory_bytes", "l1_bytes", "l2_bytes", "l3_bytes", "system")  # as in a run of one machine


@dataclass(frozen=True)
class Machine:
    """A row of machines.csv. Missing is NaN, empty when stored."""

    machine: str  # its id
    cpu: str
    cores: Size
    memory_bytes: Bytes
    system: str
    processors: str  # on which it measures; empty where the system does not say
    versions: str  # as in 'python 3.11.7, numpy 2.4.6'
    code: str  # a digest of the suite's source
    l1_bytes: Bytes | None = None  # of data caches, as the system states them
    l2_bytes: Bytes | None = None
    l3_bytes: Bytes | None = None
    ceiling_bytes_per_s: Rate = math.nan  # at the largest working set that its streams had
    calibrations: Count = 0  # looks at the calibration's cases
    drift: Error = math.nan  # of its calibration: see `fleet.calibration`
    kept: str = KEPT  # KEPT, APART or LEFT_OUT
    reason: str = ""  # why it is not kept

    @property
    def facts(self) -> dict[str, Any]:
        """What decides how fast code runs on it, as the run.json of a run of one machine has it."""
        return {name: value for name in FACTS if (value := getattr(self, name)) is not None}

    @property
    def installed(self) -> dict[str, str]:
        """The versions by package, without what is absent."""
        return dict(part.split(" ", 1) for part in self.versions.split(", ")) if self.versions else {}


def store_machines(machines: list[Machine], folder: Path) -> Path:
    """Store one or more machines in place of those that are there. Returns the path.

    Raises:
        UserError: they cannot be written.
    """
    return write_table(folder / MACHINES, machines)


def load_machines(folder: Path) -> list[Machine]:
    """The machines of a stored run; none where it was made on one.

    Raises:
        UserError: the table is damaged.
    """
    path = folder / MACHINES
    machines: list[Machine] = []
    if not path.exists():
        return machines
    for where, machine in load_table(path, Machine, "the run stores it anew"):
        if oddity := unknown_name(machine, {"kept": (KEPT, APART, LEFT_OUT)}):
            raise UserError(f"{where}: {oddity}")
        if not VERSIONS.fullmatch(machine.versions):
            raise UserError(f"{where}: column 'versions': {machine.versions!r} is no list of names and versions")
        machines.append(machine)
    return machines
