"""The errors that a user sees: each says what is wrong and what to do."""


class UserError(RuntimeError):
    """Bad input; the commands print its message in place of a traceback."""


class SetupError(UserError):
    """The pipeline cannot be set up; the message says what is wrong and what to do."""
