"""What the process that computes runs (`runtime.common.child`); nothing else imports this module.

Time is bounded for each question; what exceeds it is answered by None.
"""

from __future__ import annotations

import signal

from algebra.exercises import recognize
from algebra.readings import agreed
from algebra.working import work

SECONDS = 0.5  # of computing, for one question
# So that the first question finds sympy's caches filled.
_WARM_UP = ("Solve x^2 - x - 3 = 0", "Simplify (x^2 - 1)/(x - 1)", "Solve 2x < 5", "What is 1 + 1?")


class TimeUpError(BaseException):
    """Not an `Exception`, because sympy would catch that."""


def answer(question: str) -> str | None:
    """The answer to an exercise, the same in all its readings; None if there is none."""

    def in_one_reading() -> str | None:
        exercise = recognize(question)
        return work(exercise) if exercise else None

    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            return agreed(in_one_reading)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    # Whatever goes wrong in a computation, the model answers the question.
    except (Exception, TimeUpError):
        return None


def _time_up(*_: object) -> None:
    raise TimeUpError


signal.signal(signal.SIGPROF, _time_up)
for _question in _WARM_UP:
    answer(_question)
