"""Computes the answer to an exercise."""

from __future__ import annotations

from collections.abc import Callable

from algebra import functions, matrices, numbers, rewriting, series, solving
from algebra.exercises import Exercise
from algebra.meaning import UndefinedError
from algebra.readings import UnclearError, assumed
from algebra.sentences import Words

MAX_CHARS = 500  # of an answer

# The functions that answer exercises, by the kinds that `builders` names.
_KINDS: dict[str, Callable[..., str]] = {
    work.__name__.removeprefix("_"): work
    for module in (solving, rewriting, numbers, functions, matrices, series)
    for work in module.KINDS
}


def work(exercise: Exercise) -> str:
    """The answer to an exercise: a sentence with its steps in short.

    Raises:
        UnclearError: the answer is not certain.
    """
    try:
        text = _KINDS[exercise.kind](Words(exercise.chinese, assumed()), *exercise.given)
    except UndefinedError as error:
        raise UnclearError(str(error)) from None
    if len(text) > MAX_CHARS:
        raise UnclearError("a very long answer")
    return text
