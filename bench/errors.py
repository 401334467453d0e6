"""The errors that the command line reports to its user in one line."""


class UserError(Exception):
    """A user's mistake. The message is one line: what is wrong, where, and what to do.

    Characters of names and files that would break the line, or do something to a terminal, are shown as escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in message))


class NothingToDrawError(UserError):
    """A table lacks what a chart shows. The message says what the chart needs."""


class BusyError(UserError):
    """Another process writes what this one would write. The message says what."""
