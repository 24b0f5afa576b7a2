"""The process that computes: questions in, answers out, one JSON text a line each.

It is run as a file, so that it works wherever this package was imported from, and bounds itself:
in memory for good, in time for each question. What exceeds them is answered by null.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from pathlib import Path

MEMORY = 1 << 30  # bytes of address space
SECONDS = 0.5  # of computing, for one question
_WARM_UP = ("Solve x^2 - x - 3 = 0", "Simplify (x^2 - 1)/(x - 1)", "Solve 2x < 5", "What is 1 + 1?")


class TimeUpError(BaseException):
    """Not an Exception, lest sympy catch it."""


def _time_up(*_: object) -> None:
    raise TimeUpError


def answer(question: str) -> str | None:
    """The answer to an exercise, the same in all its readings; None if there is none."""
    from algebra.exercises import recognize
    from algebra.readings import agreed
    from algebra.working import work

    def in_one_reading() -> str | None:
        exercise = recognize(question)
        return work(exercise) if exercise else None

    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        return agreed(in_one_reading)
    # Whatever goes wrong in a computation, the question is the model's.
    except (Exception, TimeUpError, RecursionError, MemoryError):
        return None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def main() -> None:
    """Answer until the input ends, which it does when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    signal.signal(signal.SIGPROF, _time_up)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for question in _WARM_UP:
        answer(question)
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            text = answer(json.loads(line))
        except TimeUpError:  # it came a moment late
            text = None
        print(json.dumps(text), flush=True)


if __name__ == "__main__":
    # Started by its path, with -P: Python does not look for this package by itself.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
