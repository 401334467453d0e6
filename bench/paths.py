"""Where things are: the package's own files, and the folders of results and charts under the folder one works in."""

from pathlib import Path

PACKAGE = Path(__file__).parent
IMPLEMENTATIONS = PACKAGE / "implementations"
RESULTS, PLOTS = Path("results"), Path("plots")  # of the folder in which a command is started


def charts_folder(stored: Path, plots: Path | None) -> Path:
    """Where the charts of a stored run or study go: under its name in ``plots``, by default next to the results."""
    return (plots or stored.parent.parent / PLOTS) / stored.name
