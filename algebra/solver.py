"""Asks a process for the answers to exercises, and ends it when it takes too long."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Self

from algebra.exercises import MAX_CHARS, vocabulary
from algebra.tokens import FRACTIONS
from runtime.common.child import Child, ChildEndedError, Limits, NoChildError

log = logging.getLogger(__name__)

# Seconds on the clock for one question. The worker's own limit, of computing time, is much shorter;
# it may miss it in a long computation of C's, or be kept waiting.
_LONGEST = 5.0
_MEMORY = 1 << 30  # bytes
_SIGNS = frozenset("+-*/^=<>≤≥×÷√%(|") | FRACTIONS.keys()


def available() -> bool:
    """Whether sympy is installed."""
    return find_spec("sympy") is not None


def may_be_exercise(question: str) -> bool:
    """Whether a question is worth parsing: short, with a number or sign, all words known.

    Takes microseconds. False is certain; most questions end here.
    """
    if len(question) > MAX_CHARS or not any(c.isdigit() or c in _SIGNS for c in question):
        return False
    if "\\" in question:  # LaTeX's commands are told apart later
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
    """Answers exercises exactly, in a process that it owns; close it when done.

    The process starts with it and imports sympy meanwhile. Calls from several threads take turns;
    a forked process starts one of its own.

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
        """The answer to a question if it is an exercise that is surely understood, else None."""
        return self.answers([question])[0]

    def answers(self, questions: Sequence[str]) -> list[str | None]:
        """The same for many, in their order. Never raises for what a question says.

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
                "the process for exact algebra died or took too long: %.80r is left to the model",
                question,
            )
            return None
        except NoChildError as error:
            self._give_up(error)
            return None
        return found

    def _give_up(self, error: NoChildError) -> None:
        if not self._gave_up:
            log.warning("no process for exact algebra (%s): all is left to the model", error)
        self._gave_up = True
