"""What is timed against what, and by whom: the sides of a duel, and the task of a process and what it found."""

import math
from dataclasses import dataclass

from ..implementations import NUMPY
from ..operations.cases import Case
from ..verification.calling.convention import Convention

OWN_LIBRARIES = (NUMPY, "numba")  # what our own code is written in
TARGETS = "targets"  # the sitting of users' own functions


@dataclass(frozen=True)
class Side:
    """One version of a function: an implementation in a copy of the package, or a target, which is a user's function.

    ``place`` is the folder of the copy, or the target's module or file. ``name`` is the implementation or the
    attribute. ``convention`` says how to call a target; None: it is no target. ``root`` is the folder of the target's
    project; empty: found from its file. ``reduction`` is that of a loss, ``limited`` whether it is right with a limit.
    ``timeout_s`` limits each of a target's requests and ``max_bytes`` what a call may allocate; None: as usual.
    ``padding`` slows an implementation down: after each call, this share of the
    call's time is spent spinning. None leaves it as it is; 0.0 adds only the clock's own cost.
    """

    place: str
    name: str
    operation: str = "softmax"
    padding: float | None = None
    convention: Convention | None = None
    root: str = ""
    reduction: str = "mean"
    limited: bool = False
    timeout_s: float | None = None
    max_bytes: int | None = None

    @property
    def target(self) -> str:
        """The target as ``verify`` takes it: ``module:attribute`` or ``path.py:attribute``."""
        return f"{self.place}:{self.name}"


@dataclass(frozen=True)
class Duel:
    """The two sides that are timed against each other at a case; ``label`` is unique in its task.

    ``library`` is the package that the sides need. ``margin`` is the largest slow-down, as a share, that is no concern.
    ``padding`` is the share by which the work of a control is slowed down on purpose.
    """

    label: str
    case: Case
    base: Side
    work: Side
    library: str = NUMPY
    margin: float = 0.0
    padding: float = 0.0

    @property
    def of_targets(self) -> bool:
        """Whether the sides are functions of users."""
        return self.base.convention is not None

    @property
    def sitting(self) -> str:
        """The kind of process that times it: 'numpy', which our own code of one thread shares, or as in 'torch:1'.

        The targets of users share one whose process only takes turns: each side has a process of its own.
        """
        if self.of_targets:
            return TARGETS
        own = self.library in OWN_LIBRARIES and self.case.threads == 1
        return NUMPY if own else f"{self.library}:{self.case.threads}"


@dataclass(frozen=True)
class Effort:
    """How long a process times a duel: until the standard error of its value is ``precision``, at most ``limit_s``.

    The value is the median over the blocks of this process. Only the spread of the blocks decides when to stop, never
    their middle, so stopping favours no verdict.
    """

    precision: float
    limit_s: float


@dataclass(frozen=True)
class Task:
    """The work of one process: time the duels in an order drawn from ``seed``, or examine them if ``effort`` is None.

    To examine a duel is to judge the result of both sides and to read their peak memory. All duels have one number of
    threads. ``processors`` are the numbers of those that the process may use; empty: all.
    """

    duels: list[Duel]
    seed: int
    effort: Effort | None
    processors: tuple[int, ...] = ()


@dataclass(frozen=True)
class Value:
    """What one process found of a duel.

    Timed: ``log_ratio`` is ln(work / base); ``base_s`` and ``work_s`` are the shortest calls; ``failed`` is the error
    of a side that raised. Examined: the peaks in bytes, the base's largest and the work's smallest, and what is wrong
    with the result of each side, also if that shows only when it is timed (empty: nothing).
    """

    label: str
    log_ratio: float = math.nan
    base_s: float = math.nan
    work_s: float = math.nan
    base_peak_bytes: int | None = None
    work_peak_bytes: int | None = None
    base_wrong: str = ""
    work_wrong: str = ""
    failed: str = ""
