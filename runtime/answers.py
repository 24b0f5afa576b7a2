"""From what the model wrote to the answer.

Only what is *known* to be no answer is taken away; everything else stays to the letter:

- thinking: a block that the prompt opened, or that the text begins with. Its place tells it,
  as the tag does not: a model that writes about "<think>" writes the very same token;
- an echo of the whole question, word for word, on a line of its own in front;
- a label such as "Answer:" in front of everything, which says itself that the answer follows;
- a loop that was still going on where the text was cut off, or that goes on far beyond what
  a person would write;
- blanks around the answer, and half a character at the end of a text that was cut off;
- what goes beyond 5,000 characters.

Control tokens never get here: the engine knows them by their ids and gives no text for them.
What looks like one was written as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

MAX_CHARS = 5000

_OPEN, _CLOSE = "<think>", "</think>"
_TAG = re.compile(r"</?think>")
_BLANK = re.compile(r"\s*")
_LABEL = re.compile(r"(?:(?:final )?answer|答案|回答|答) ?[:：][^\S\n]*", re.IGNORECASE)
_QUESTION_LABEL = re.compile(r"(?:(?:question|q|问题|问) ?[:：] ?)?", re.IGNORECASE)
_LINE_END = re.compile(r"[^\S\n]*(?:\n|\Z)")
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s)|[。！？]")
_STOPS = (".", "!", "?", "。", "！", "？")
# An indentation is at most so long.
_DEEPEST = 100
# So much is a loop where the text was cut off in it: three whole copies of a phrase, or two
# of a long one and the beginning of a third.
_CUT_COPIES, _CUT_CHARS = 3, 40
_LONG_PHRASE, _LONG_PHRASE_COPIES = 20, 2.3
# So much is one in any text. "I must not talk in class", 20 times, is not.
_FAR_COPIES, _FAR_CHARS = 24, 400
# Matrices, tables and rules repeat as no words do.
_WORDLESS = 4


class _Loop(NamedTuple):
    """`text[start:end]` repeats its first `period` characters over and over."""

    start: int
    end: int
    period: int

    @property
    def copies(self) -> float:
        return (self.end - self.start) / self.period


def clean(text: str, question: str = "", cut: bool = False, opened_thinking: bool = False) -> str:
    """The answer in a model's text: at most 5,000 characters, empty only if `text` is blank.

    Cleaning an answer again changes nothing. Takes time in proportion to the text's length.

    Args:
        text: what the model wrote.
        question: what it was asked, to tell an echo of it.
        cut: the text ends where the model was stopped, not where it would have.
        opened_thinking: the prompt ended inside a think block, so the text begins in it.
    """
    text = _bare(text, question, cut, opened_thinking)
    while True:
        cut = cut or len(text) > MAX_CHARS
        shorter = _without_loops(text[:MAX_CHARS].rstrip(), cut)
        shorter = _bare(shorter, question, cut)
        if shorter == text:
            return text
        text = shorter


def _bare(text: str, question: str, cut: bool, opened_thinking: bool = False) -> str:
    """The text without what stands before and after the answer."""
    if cut:  # the engine was stopped within a character of several bytes
        whole = text.rstrip("\ufffd")
        text = whole if whole.strip() else text
    return _trimmed(text[_start(text, question.strip(), cut, opened_thinking) :])


def _start(text: str, question: str, cut: bool, opened_thinking: bool) -> int:
    """Where the answer begins; something always follows there if anything is in the text."""
    last_close = text.rfind(_CLOSE)
    at, end = 0, _end_of_thinking(text, 0) if opened_thinking else 0
    while end is not None and (begin := _first_word(text, end)) < len(text):
        at = end
        if text.startswith(_OPEN, begin):
            end = _end_of_thinking(text, begin + len(_OPEN)) if begin < last_close else None
            if end is None and cut:  # it might have come to an answer yet
                end = begin + len(_OPEN)
        elif label := _LABEL.match(text, begin):
            end = label.end()
        else:
            end = _end_of_echo(text, begin, question)
    return at


def _first_word(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return blank.end() if blank else at


def _end_of_thinking(text: str, at: int) -> int | None:
    """Where the block ends that was open at `at`; None if nothing closes it."""
    depth, end = 1, None
    for tag in _TAG.finditer(text, at):
        if tag.group() == _OPEN:
            depth += 1
            continue
        depth, end = depth - 1, tag.end()
        if depth == 0:
            break
    return end


def _end_of_echo(text: str, at: int, question: str) -> int | None:
    label = _QUESTION_LABEL.match(text, at)
    begin = label.end() if label else at
    if not question or not text.startswith(question, begin):
        return None
    line_end = _LINE_END.match(text, begin + len(question))
    return line_end.end() if line_end else None


def _trimmed(text: str) -> str:
    """The text without blanks around it; code, verse and matrices keep their indentation."""
    text = text.rstrip()
    body = text.lstrip()
    indentation = text[: len(text) - len(body)].rpartition("\n")[2]
    _, _, rest = body[:MAX_CHARS].partition("\n")
    indented = rest.lstrip("\n")[:1].isspace()
    return indentation + body if indented and len(indentation) <= _DEEPEST else body


def _without_loops(text: str, cut: bool) -> str:
    """The text with one copy of what loops."""
    while loop := _find_loop(text, cut):
        start, end, period = loop
        if end == len(text):
            text = text[: _end_of_copy(text, start + period, start + 2 * period)].rstrip()
        else:
            whole = (end - start) // period
            text = text[: start + period] + text[start + whole * period :]
    return text


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
    longest = len(text) // (2 if cut else _FAR_COPIES)
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
    """Whether a loop is surely none that was meant."""
    phrase = text[loop.start : loop.start + loop.period]
    length = loop.end - loop.start
    if phrase.isdigit():  # how many digits a number should have nobody knows
        return False
    has_words = any(c.isalpha() for c in phrase)
    factor = 1 if has_words else _WORDLESS
    if loop.copies >= _FAR_COPIES * factor and length >= _FAR_CHARS * factor:
        return True
    if not (cut and has_words and loop.end == len(text)):
        return False
    long = loop.period >= _LONG_PHRASE and loop.copies >= _LONG_PHRASE_COPIES
    return long or (loop.copies >= _CUT_COPIES and length >= _CUT_CHARS)
