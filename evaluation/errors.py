"""The error of an evaluation that cannot be done."""

from runtime.common.errors import UserError


class EvaluationError(UserError):
    """Bad input to the evaluation; the message says what is wrong and what to do."""
