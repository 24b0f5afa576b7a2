"""The error a user sees when nothing can be served."""


class SetupError(RuntimeError):
    """The pipeline cannot be set up; the message says what is wrong and what to do."""
