"""Text at the terminal: a sentence breaks between words, a line is cut; in a file both stay whole."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

LONGEST_LINE = 1000


def new_console() -> Console:
    """A console that breaks long text between words at a terminal, and not at all in a file."""
    console = Console(highlight=False)
    console.soft_wrap = not console.is_terminal
    return console


def print_sentence(text: str, console: Console | None = None) -> None:
    """Print a text without markup, broken between words at a terminal."""
    console = console or new_console()
    console.print(text, markup=False, soft_wrap=not console.is_terminal)


def print_line(line: Text, console: Console) -> None:
    """Print one line, cut to a terminal's width."""
    if console.is_terminal:
        line.truncate(console.width, overflow="ellipsis")
    console.print(line, soft_wrap=True)


def print_table(table: Table, console: Console) -> None:
    """Print a table at the width that it needs: on a narrower terminal its lines break, and no number is cut."""
    unlimited = console.options.update(max_width=LONGEST_LINE)
    needed = Measurement.get(console, unlimited, table).maximum
    Console(file=console.file, width=max(needed, console.width), highlight=False).print(table)
