"""The error for an adapter that cannot be trained."""

from runtime.common.errors import UserError


class TrainingError(UserError):
    """The message names the file, line or option and says what to do."""
