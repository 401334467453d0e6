"""Text at the terminal: a sentence breaks between words, a line is cut; in a file both stay whole."""

from rich.console import Console
from rich.text import Text


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
