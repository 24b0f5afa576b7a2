"""Runs in the child process (`runtime.common.child`); nothing else imports this module.

Each question has a limit of CPU time; if it is exceeded the answer is None.
"""

from __future__ import annotations

import signal

from algebra.exercises import recognize
from algebra.readings import agreed
from algebra.working import work

SECONDS = 0.5  # of CPU time, for one question
# Fills sympy's caches before the first question.
_WARM_UP = ("Solve x^2 - x - 3 = 0", "Simplify (x^2 - 1)/(x - 1)", "Solve 2x < 5", "What is 1 + 1?")


class TimeUpError(BaseException):
    """Not an `Exception`, because sympy catches those."""


def answer(question: str) -> str | None:
    """The answer to an exercise; None if there is none, or if its readings differ."""

    def in_one_reading() -> str | None:
        exercise = recognize(question)
        return work(exercise) if exercise else None

    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            return agreed(in_one_reading)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    # Whatever goes wrong here, the model answers the question.
    except (Exception, TimeUpError):
        return None


def _time_up(*_: object) -> None:
    raise TimeUpError


signal.signal(signal.SIGPROF, _time_up)
for _question in _WARM_UP:
    answer(_question)
