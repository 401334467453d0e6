"""Where things are: the package's own files, and the folders of results and charts under the folder one works in."""

from pathlib import Path

PACKAGE = Path(__file__).parent
IMPLEMENTATIONS = PACKAGE / "implementations"
RESULTS, PLOTS = Path("results"), Path("plots")  # of the folder in which a command is started


def plots_beside(results: Path) -> Path:
    """The folder of the charts that belongs to a folder of stored runs: ``plots`` next to it."""
    return results.parent / PLOTS
