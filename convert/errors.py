"""The error a user sees when something cannot be converted."""

from runtime.common.errors import UserError


class ConvertError(UserError):
    """Names the file or tensor that is at fault, and says what to do."""
