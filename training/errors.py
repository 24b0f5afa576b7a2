"""The error a user sees when an adapter cannot be trained."""

from runtime.common.errors import UserError


class TrainingError(UserError):
    """Names the file, line or option that is at fault, and says what to do."""
