"""Handles texts that can be read in several ways.

A parser that finds "1/2x" asks `choose` which of two readings to take. `every` repeats a function
until all combinations of such choices have been taken, so that its caller gets all results and can
refuse to answer if they differ:

    every(lambda: value_of(parse("6/2(1 + 2)")))  # [9, 1]

Where a convention decides the reading, `assume` records the convention, and the answer names it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

MOST = 16

Found = TypeVar("Found")


class UnclearError(ValueError):
    """The text is not understood or too large; the model answers the question."""


class _Choices:
    """The choices of one run: the given ones, then always the first option."""

    def __init__(self, repeated: list[tuple[int, int]]) -> None:
        self.taken: list[tuple[int, int]] = []
        self.assumed: list[str] = []
        self._repeated = repeated
        self._by_place: dict[tuple[str, int], int] = {}

    def choose(self, options: int, place: tuple[str, int]) -> int:
        if place not in self._by_place:
            at = len(self.taken)
            option = self._repeated[at][0] if at < len(self._repeated) else 0
            self.taken.append((option, options))
            self._by_place[place] = option
        return self._by_place[place]

    def following(self) -> list[tuple[int, int]] | None:
        """The choices to repeat in the next run; None after the last."""
        taken = list(self.taken)
        while taken:
            option, options = taken.pop()
            if option + 1 < options:
                return [*taken, (option + 1, options)]
        return None


_CURRENT: ContextVar[_Choices | None] = ContextVar("choices", default=None)


def choose(options: int, place: tuple[str, int]) -> int:
    """Choose one of several readings, counted from 0.

    Args:
        options: how many readings there are.
        place: a text and a position in it; the same place always gets the same choice in a run.

    Raises:
        UnclearError: the caller does not enumerate readings (`every`).
    """
    current = _CURRENT.get()
    if current is None:
        raise UnclearError("several readings")
    return current.choose(options, place)


def assume(convention: str) -> None:
    """Record that this reading uses a convention, by the name of a phrase in `sentences`."""
    current = _CURRENT.get()
    if current is not None and convention not in current.assumed:
        current.assumed.append(convention)


def assumed() -> tuple[str, ...]:
    """The conventions recorded in this reading."""
    current = _CURRENT.get()
    return tuple(current.assumed) if current else ()


def every(work: Callable[[], Found]) -> list[Found]:
    """The results of a function for all readings.

    Raises:
        UnclearError: more than `MOST` readings, or raised by the function.
    """
    found: list[Found] = []
    repeated: list[tuple[int, int]] | None = []
    while repeated is not None:
        if len(found) == MOST:
            raise UnclearError("too many readings")
        choices = _Choices(repeated)
        token = _CURRENT.set(choices)
        try:
            found.append(work())
        finally:
            _CURRENT.reset(token)
        repeated = choices.following()
    return found


def agreed(work: Callable[[], Found]) -> Found:
    """The result of a function. Raises UnclearError if readings give different results."""
    first, *others = every(work)
    if any(other != first for other in others):
        raise UnclearError("readings that differ")
    return first
