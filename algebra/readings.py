"""One text, several readings: whatever is done with the text is done once for each of them.

A parser that meets "1/2x" asks `choose` which of two readings to take. `every` runs a piece of
work again and again until all combinations of such choices have been taken, so that its caller
sees all results and can say nothing where they differ:

    every(lambda: value_of(parse("6/2(1 + 2)")))  # [9, 1]

Where the conventions of the field settle a reading, `assume` notes the convention instead, and the
answer says so.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

MOST = 16

Found = TypeVar("Found")


class UnclearError(ValueError):
    """Not understood, or larger than allowed; the question is the model's."""


class _Choices:
    """The choices of one run: those to be repeated, then the first option each time."""

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
    """Which of several readings to take here, counted from 0.

    Args:
        options: how many readings there are.
        place: a text and a position in it; a text that is parsed again is read in the same way.

    Raises:
        UnclearError: the caller does not enumerate readings (`every`).
    """
    current = _CURRENT.get()
    if current is None:
        raise UnclearError("several readings")
    return current.choose(options, place)


def assume(convention: str) -> None:
    """Note that a reading rests on a convention, by the name of a phrase in `sentences`."""
    current = _CURRENT.get()
    if current is not None and convention not in current.assumed:
        current.assumed.append(convention)


def assumed() -> tuple[str, ...]:
    """The conventions that have been assumed in this reading."""
    current = _CURRENT.get()
    return tuple(current.assumed) if current else ()


def every(work: Callable[[], Found]) -> list[Found]:
    """The results of some work under all readings.

    Raises:
        UnclearError: there are more than `MOST`, or the work raises it.
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
    """The one result of some work. Raises UnclearError where readings lead to several."""
    first, *others = every(work)
    if any(other != first for other in others):
        raise UnclearError("readings that differ")
    return first
