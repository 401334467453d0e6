"""The errors that the command line reports to its user in one line."""


class UserError(Exception):
    """A user's mistake. The message is one line: what is wrong, where, and what to do."""


class NothingToDrawError(UserError):
    """A table lacks what a chart shows. The message says what the chart needs."""


class BusyError(UserError):
    """Another process writes what this one would write. The message says what."""
