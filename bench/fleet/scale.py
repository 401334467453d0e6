"""The stored figures of simulated runs: cases a second, memory, and how busy driver and scheduler were."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..storage.descriptions import load_description
from ..storage.tables import load_table

CASE_S = 0.1  # that a case is pretended to take
SHARE_CASES = 100
MEASURED, SAMPLES, NAME = "scale.csv", "samples.csv", "fleet-scale"
HINT = "softmax-bench fleet scale measures it anew"


@dataclass(frozen=True)
class Scale:
    """A row of scale.csv: a simulated run. Bytes are of resident memory, shares of processor time of one processor."""

    workers: int
    cases: int
    shares: int
    seconds: float
    cases_per_s: float
    not_measuring: float  # share of the workers' time
    driver_first_bytes: int  # when a tenth of the cases was stored
    driver_last_bytes: int
    scheduler_last_bytes: int
    driver_busy: float
    scheduler_busy: float


@dataclass(frozen=True)
class Sample:
    """A row of samples.csv: a moment of a simulated run."""

    workers: int
    second: float
    cases: int  # stored so far
    driver_bytes: int
    scheduler_bytes: int
    driver_busy: float
    scheduler_busy: float


@dataclass(frozen=True)
class Study:
    """What run.json holds."""

    started: str  # ISO 8601, UTC
    machine: dict[str, Any]
    versions: dict[str, str]
    case_s: float
    share_cases: int


def load_study(folder: Path) -> Study:
    """How the stored simulations were made.

    Raises:
        UserError: the description is missing or damaged.
    """
    return load_description(folder, Study, HINT)


def load_scale(folder: Path) -> tuple[list[Scale], list[Sample]]:
    """The stored simulated runs and their samples.

    Raises:
        UserError: a table is missing or damaged.
    """
    scales = [scale for _, scale in load_table(folder / MEASURED, Scale, HINT)]
    return scales, [sample for _, sample in load_table(folder / SAMPLES, Sample, HINT)]
