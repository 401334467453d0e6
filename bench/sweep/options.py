"""The options of the sweep, stated once: the command line and pytest offer the same ones."""

from dataclasses import dataclass

from ..operations.cases import DISTRIBUTIONS, DTYPES
from ..paths import RESULTS
from .budget import DEFAULT_CALL_BUDGET_S
from .selection import GRIDS


@dataclass(frozen=True)
class Option:
    """An option: its flag without the dashes, the type of its value, whether it repeats, default and help."""

    name: str
    kind: type
    help: str
    repeats: bool = False
    default: str | int | float | None = None
    metavar: str = "NAME"

    @property
    def destination(self) -> str:
        """The name under which pytest keeps the value."""
        return f"sweep_{self.name.replace('-', '_')}"


AXES = (
    Option("operation", str, "measure only this operation", repeats=True),
    Option("implementation", str, "measure only this one, or path.py:name of your own beside the others", repeats=True),
    Option("library", str, "measure only what needs this one beside NumPy, or numpy itself", repeats=True),
    Option("batch", int, "batch size in place of the grid's", repeats=True, metavar="B"),
    Option("features", int, "number of features in place of the grid's", repeats=True, metavar="N"),
    Option("dtype", str, f"{' or '.join(DTYPES)}, in place of the grid's", repeats=True),
    Option("logits", str, f"distribution of the logits: {', '.join(DISTRIBUTIONS)}", repeats=True),
    Option(
        "threads",
        int,
        "number of threads (1 unless given, and all cores for implementations that run threads)",
        repeats=True,
        metavar="T",
    ),
)
SWEEP = (
    Option("grid", str, f"the cases: {', '.join(GRIDS)}", default="default"),
    *AXES,
    Option("seed", int, "seed of the inputs", default=42, metavar="S"),
    Option("max-call-s", float, "skip cases predicted slower", default=DEFAULT_CALL_BUDGET_S, metavar="SECONDS"),
    Option("max-bytes", int, "skip cases predicted larger (half of the free memory unless given)", metavar="BYTES"),
    Option("results", str, "folder of the stored runs", default=str(RESULTS), metavar="FOLDER"),
    Option("run-id", str, "name of the new run (the time unless given)"),
    Option("resume", str, "measure what this stored run misses", metavar="RUN"),
    Option(
        "sitting",
        str,
        "of a resumed run, measure only the cases of this library and number of threads",
        metavar="NAME:T",
    ),
)
