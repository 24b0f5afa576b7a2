"""Runs in the child process (`runtime.common.child`); nothing else imports this module.

Each question has a limit of CPU time; if it is exceeded the answer is None.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

from algebra import functions, matrices, numbers, rewriting, series, solving
from algebra.exercises import recognize
from algebra.readings import agreed, assumed
from algebra.sentences import Words

MAX_CHARS = 500  # of an answer
# The functions that answer exercises, by the kinds that `builders` names.
_KINDS: dict[str, Callable[..., str]] = {
    work.__name__.removeprefix("_"): work
    for module in (solving, rewriting, numbers, functions, matrices, series)
    for work in module.KINDS
}
SECONDS = 0.5  # of CPU time, for one question
# Fills sympy's caches before the first question.
_WARM_UP = ("Solve x^2 - x - 3 = 0", "Simplify (x^2 - 1)/(x - 1)", "Solve 2x < 5", "What is 1 + 1?")


class TimeUpError(BaseException):
    """Not an `Exception`, because sympy catches those."""


def answer(question: str) -> str | None:
    """The answer to an exercise; None if there is none, or if its readings differ."""

    def in_one_reading() -> str | None:
        exercise = recognize(question)
        if exercise is None:
            return None
        words = Words(exercise.chinese, assumed())
        return _KINDS[exercise.kind](words, *exercise.given)

    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            found = agreed(in_one_reading)
            return found if found and len(found) <= MAX_CHARS else None
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
