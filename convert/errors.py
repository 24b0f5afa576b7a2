"""The error a user sees when something cannot be converted."""


class ConvertError(RuntimeError):
    """Names the file or tensor that is at fault, and says what to do."""
