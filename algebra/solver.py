"""Runs the exact algebra in a child process with limits of time and memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Self

from algebra.exercises import MAX_CHARS, vocabulary
from runtime.common.child import Child, ChildEndedError, Limits, NoChildError

log = logging.getLogger(__name__)

# Seconds of wall time for one question. The worker's own limit, of CPU time, is much shorter, but
# a long computation in C can delay it.
_LONGEST = 5.0
_MEMORY = 1 << 30  # bytes


def available() -> bool:
    """Whether sympy is installed."""
    return find_spec("sympy") is not None


def may_be_exercise(question: str) -> bool:
    """Whether a question is worth parsing: short, and all words known.

    Takes microseconds and rules out most questions. If it is False, the question is no exercise.
    """
    if len(question) > MAX_CHARS:
        return False
    if "\\" in question:  # LaTeX's commands are checked later
        return True
    text = "".join(c if c.isalpha() else " " for c in question)
    for word in text.split():
        if word.isascii():
            if len(word) > 1 and word.lower() not in _WORDS:
                return False
        elif any("\u4e00" <= c <= "\u9fff" and c not in _HAN for c in word):
            return False
    return True


_WORDS, _HAN = vocabulary()


class Solver:
    """Answers exercises exactly, in a child process. Close it when done.

    The child starts at once and imports sympy in the background. Calls from several threads take
    turns. After a fork, the new process starts a child of its own.

    Raises:
        ModuleNotFoundError: sympy is not installed (`pip install 'subject-lora-serve[algebra]'`).
    """

    def __init__(self) -> None:
        if not available():
            raise ModuleNotFoundError(
                "ALGEBRA_TOOL needs sympy: pip install 'subject-lora-serve[algebra]'"
            )
        self._child = Child(
            "algebra.worker:answer", Limits(memory=_MEMORY), {"PYTHONINTMAXSTRDIGITS": "5000"}
        )
        self._closed = self._gave_up = False
        try:
            self._child.start()
        except NoChildError as error:
            self._give_up(error)

    def answer(self, question: str) -> str | None:
        """The answer to a question, or None if it is not an exercise with one clear reading."""
        return self.answers([question])[0]

    def answers(self, questions: Sequence[str]) -> list[str | None]:
        """The answers to several questions, in order. No question raises an error.

        Raises:
            ValueError: the solver has been closed.
        """
        if self._closed:
            raise ValueError("this solver has been closed")
        return [
            self._ask(question) if may_be_exercise(question) else None for question in questions
        ]

    def close(self) -> None:
        """End the process. A second call does nothing."""
        self._closed = True
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, question: str) -> str | None:
        try:
            found: str | None = self._child.ask(
                question.encode("utf-8", "replace").decode(), _LONGEST
            )
        except ChildEndedError:
            log.warning(
                "the exact algebra process died or timed out; the model answers %.80r",
                question,
            )
            return None
        except NoChildError as error:
            self._give_up(error)
            return None
        return found

    def _give_up(self, error: NoChildError) -> None:
        if not self._gave_up:
            log.warning("exact algebra is off (%s): the model answers all questions", error)
        self._gave_up = True
