"""The kinds of error that a user causes."""


class UserError(Exception):
    """A user's mistake, its message one line that says what is wrong, where, and what to do."""


class NothingToDrawError(UserError):
    """A table lacks what a chart shows; the message says what it needs."""
