"""The one kind of error that a user causes."""


class UserError(Exception):
    """A user's mistake, its message one line that says what is wrong, where, and what to do."""
