"""Loops in a text: a phrase that a model writes over and over and cannot leave.

A loop counts only where it was surely not meant: it was still going on where the text was cut
off, or it goes on far beyond what a person would write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

_SENTENCE_END = re.compile(r"\n|[.!?](?=\s)|[。！？]")
_STOPS = (".", "!", "?", "。", "！", "？")
# Enough to be a loop where the text was cut off in it. Refrains, equal lines of code and lists
# that alternate repeat a few times and are right, so a few copies are none; of a phrase as long
# as a paragraph fewer are enough.
_CUT_COPIES, _CUT_CHARS = 6, 60
_LONG_PHRASE, _LONG_PHRASE_COPIES = 80, 4
# Enough to be a loop in any text. "I must not talk in class", 20 times, is none.
_FAR_COPIES, _FAR_CHARS = 24, 400
# Matrices, tables and rules repeat as words do not.
_WORDLESS = 4
# A shorter repetition can be no loop of any kind.
_SHORTEST_RUN = min(
    _LONG_PHRASE * (_LONG_PHRASE_COPIES - 1), _CUT_CHARS * (_CUT_COPIES - 1) / _CUT_COPIES
)


class _Loop(NamedTuple):
    """`text[start:end]` repeats its first `period` characters over and over."""

    start: int
    end: int
    period: int


def without_loops(text: str, cut: bool) -> str:
    """A text without blanks at its end, with one copy of each phrase that loops.

    `cut`: the model was stopped where the text ends.
    """
    while loop := _find_loop(text, cut):
        start, end, period = loop
        if end == len(text):
            text = text[: _end_of_copy(text, start + period, start + 2 * period)].rstrip()
        else:
            whole = (end - start) // period
            text = text[: start + period] + text[start + whole * period :]
    return text


class Repetitions:
    """Tells, while a text grows, how much of it no loop can take away any more.

    Where the end of the text was written before, in the same order, it may be the second copy
    of a phrase, so it is not safe yet. In most texts that is a word or two. Characters beyond the
    first `most` are ignored.

    Attributes:
        safe: characters from the start that are safe; depends on the text alone, not on its
            pieces.
    """

    def __init__(self, most: int) -> None:
        self.safe = 0
        self._most = most
        self._text = ""
        self._codes = np.zeros(most, np.uint32)
        # [period] → number of characters at the end that equal the one `period` before them
        self._runs = np.zeros(most + 1, np.int32)
        # [length] → how many of the first characters are letters, and how many digits
        self._letters = np.zeros(most + 1, np.int32)
        self._digits = np.zeros(most + 1, np.int32)
        # [length] → where the first copy of a loop ends that ends there; `length` without a loop
        self._first_copies = [0]
        self._frozen = most

    def add(self, text: str) -> None:
        """Go on with `text`."""
        for character in text[: self._most - len(self._text)]:
            self._add(character)

    def _add(self, character: str) -> None:
        length, code = len(self._text), ord(character)
        runs = self._runs[1 : length + 1]
        runs += 1
        runs *= self._codes[:length][::-1] == code
        self._codes[length] = code
        self._letters[length + 1] = self._letters[length] + character.isalpha()
        self._digits[length + 1] = self._digits[length] + character.isdigit()
        self._text += character
        longest = int(runs.max(initial=0))
        self._first_copies.append(self._first_copy(longest))
        safe = self._trimmed(length + 1 - longest)
        # Were the text cut where the safe part ends, a loop that ends there would go.
        while self._first_copies[safe] < safe:
            safe = self._trimmed(self._first_copies[safe])
        self.safe = max(self.safe, min(safe, self._frozen))

    def _first_copy(self, longest: int) -> int:
        """Where the first copy ends of a loop at the end of the text; its length if there is none.

        A loop that counts in any text and goes on to something else changes what follows it,
        so nothing after its first copy is safe before the whole text is known.
        """
        length = len(self._text)
        if longest < _SHORTEST_RUN:
            return length
        periods = np.flatnonzero(self._runs[:length] >= _SHORTEST_RUN)
        ends = length - self._runs[periods]  # of the first copies
        has_words = self._letters[ends] > self._letters[ends - periods]
        is_number = self._digits[ends] - self._digits[ends - periods] == periods
        sizes = length - ends + periods
        if len(found := ends[_counts_anywhere(periods, sizes, has_words, is_number)]):
            self._frozen = min(self._frozen, int(found.min()))
        if len(found := ends[_counts_at_a_cut(periods, sizes, has_words, is_number)]):
            return int(found.min())
        return length

    def _trimmed(self, length: int) -> int:
        """`length` without blanks and half characters at the end of the text."""
        while length and (self._text[length - 1].isspace() or self._text[length - 1] == "\ufffd"):
            length -= 1
        return length


def _end_of_copy(text: str, earliest: int, latest: int) -> int:
    """Where to stop after a loop's first copy: after a sentence if one ends soon enough."""
    copy = text[:earliest].rstrip()
    if copy.endswith(_STOPS) or "\n" in text[len(copy) : earliest]:
        return earliest
    sentence = _SENTENCE_END.search(text, earliest, latest)
    return sentence.end() if sentence else earliest


def _find_loop(text: str, cut: bool) -> _Loop | None:
    if len(text) < (_CUT_CHARS if cut else _FAR_CHARS):
        return None
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    longest = len(text) // (_LONG_PHRASE_COPIES if cut else _FAR_COPIES)
    for period in range(1, longest + 1):
        for loop in _loops(codes, period, cut):
            if _is_known(loop, text, cut):
                return loop
    return None


def _loops(codes: np.ndarray, period: int, cut: bool) -> Iterator[_Loop]:
    """All loops of a period that could count, or only the last if its period is a long one."""
    n = len(codes)
    same = codes[period:] == codes[:-period]
    if period * _FAR_COPIES <= n >= _FAR_CHARS:
        breaks = np.concatenate([[-1], np.flatnonzero(~same), [len(same)]])
        lengths = np.diff(breaks) - 1
        for at in np.flatnonzero(lengths + period >= max(_FAR_CHARS, _FAR_COPIES * period)):
            start = int(breaks[at]) + 1
            yield _Loop(start, start + int(lengths[at]) + period, period)
    if cut and same[-1]:
        backwards = same[::-1]
        length = int(backwards.argmin()) if not backwards.all() else len(same)
        yield _Loop(n - length - period, n, period)


def _is_known(loop: _Loop, text: str, cut: bool) -> bool:
    """Whether a loop is surely not meant."""
    phrase = text[loop.start : loop.start + loop.period]
    length = loop.end - loop.start
    about = (loop.period, length, any(c.isalpha() for c in phrase), phrase.isdigit())
    ends_there = cut and loop.end == len(text)
    return bool(_counts_anywhere(*about) or (ends_there and _counts_at_a_cut(*about)))


def _counts_anywhere(period: Any, length: Any, has_words: Any, is_number: Any) -> Any:
    """Whether a loop counts in any text. Each argument is a number, or an array of loops' numbers.

    Args:
        period: characters of the phrase.
        length: characters of all copies.
        has_words: the phrase has a letter.
        is_number: the phrase has only digits; how many a number should have cannot be known.
    """
    factor = _WORDLESS - (_WORDLESS - 1) * has_words
    long = (length >= _FAR_COPIES * factor * period) & (length >= _FAR_CHARS * factor)
    return long & (is_number == False)  # noqa: E712  (of arrays, too)


def _counts_at_a_cut(period: Any, length: Any, has_words: Any, is_number: Any) -> Any:
    """Whether a loop counts at the end of a text that was cut off. Arguments: as above."""
    long_phrase = (period >= _LONG_PHRASE) & (length >= _LONG_PHRASE_COPIES * period)
    copies = (length >= _CUT_COPIES * period) & (length >= _CUT_CHARS)
    return (long_phrase | copies) & (has_words == True) & (is_number == False)  # noqa: E712
