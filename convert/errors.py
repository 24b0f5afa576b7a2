"""The error for input that cannot be converted."""

from runtime.common.errors import UserError


class ConvertError(UserError):
    """The message names the file or tensor and says what to do."""
