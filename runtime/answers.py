"""From what the model wrote to the answer.

Only what is *known* to be no answer is taken away; everything else stays to the letter:

- thinking: a block that the prompt opened, or that the text begins with. Its place tells it,
  as the tag does not: a model that writes about "<think>" writes the very same token;
- an echo of the whole question, word for word, on a line of its own in front;
- a label such as "Answer:" in front of everything, which says itself that the answer follows,
  unless the question is about labels;
- a loop that was still going on where the text was cut off, or that goes on far beyond what
  a person would write;
- blanks around the answer, and half a character at the end of a text that was cut off;
- what goes beyond 5,000 characters.

Control tokens never get here: the engine knows them by their ids and gives no text for them.
What looks like one was written as text.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product

from runtime.loops import Repetitions, without_loops

MAX_CHARS = 5000

_OPEN, _CLOSE = "<think>", "</think>"
_TAG = re.compile(r"</?think>")
_BLANK = re.compile(r"\s*")
_ANSWER_NAMES = ("final answer", "answer", "答案", "回答", "答")
_QUESTION_NAMES = ("question", "q", "问题", "问")
_LABEL = re.compile(rf"(?:{'|'.join(_ANSWER_NAMES)}) ?[:：][^\S\n]*", re.IGNORECASE)
# Where a question names the label, or asks for one, it is part of the answer.
_ABOUT_LABELS = re.compile(rf"\blabel(?:s|led|ed)?\b|标签|{_LABEL.pattern}", re.IGNORECASE)
_QUESTION_LABEL = re.compile(rf"(?:(?:{'|'.join(_QUESTION_NAMES)}) ?[:：] ?)?", re.IGNORECASE)
_LINE_END = re.compile(r"[^\S\n]*(?:\n|\Z)")
# An indentation has at least and at most this many characters: many models begin with a blank.
_SHALLOWEST, _DEEPEST = 2, 100


def _begun(names: tuple[str, ...]) -> re.Pattern[str]:
    """Matches all beginnings of labels with one of these names, without their colon."""
    beginnings = (
        "".join(f"(?:{re.escape(character)}" for character in name + tail) + ")?" * len(name + tail)
        for name, tail in product(names, ("", " "))
    )
    return re.compile("|".join(beginnings), re.IGNORECASE)


_BEGUN_LABEL, _BEGUN_QUESTION_LABEL = _begun(_ANSWER_NAMES), _begun(_QUESTION_NAMES)
_LONGER_THAN_LABELS = max(map(len, _ANSWER_NAMES)) + len(" ") + 1


def clean(text: str, question: str = "", cut: bool = False, opened_thinking: bool = False) -> str:
    """The answer in a model's text: at most 5,000 characters, empty only if `text` is blank.

    Cleaning an answer again changes nothing. Takes time in proportion to the text's length.

    Args:
        question: to recognize an echo of it.
        cut: the model was stopped where the text ends.
        opened_thinking: the prompt ended inside a think block, so the text begins in it.
    """
    bare = _bare(text, question, cut, opened_thinking)
    answer = _settled(bare, question, cut, loops=True)
    if answer != bare:
        # What a stream of this text has shown stays; nested loops could take it away.
        shown = Cleaner(question, opened_thinking).add(text)
        if not answer.startswith(shown):
            return _settled(bare, question, cut, loops=False)
    return answer


class Cleaner:
    """Cleans a text while it is written, and holds back only what may still be taken away.

    What `add` and `finish` return is, put together, what `clean` returns for the whole text with
    the same arguments, whatever pieces it comes in.
    """

    def __init__(self, question: str = "", opened_thinking: bool = False) -> None:
        self._question = question.strip()
        self._opened_thinking = opened_thinking
        self._text = ""
        self._start: int | None = None  # of the text without what stands before the answer
        self._indented = False
        self._n_looked_at = 0
        self._repetitions = Repetitions(MAX_CHARS)
        self._n_shown = 0

    def add(self, text: str) -> str:
        """Go on with `text`; returns what can be shown now."""
        self._text += text
        if self._start is None:
            self._start = self._find_start()
        if self._start is None:
            return ""
        answer = self._text[self._start :]
        self._repetitions.add(answer[self._n_looked_at : MAX_CHARS])
        self._n_looked_at = len(answer)
        safe = answer[: self._repetitions.safe]
        if not self._n_shown and not self._is_settled(safe):
            return ""
        shown, self._n_shown = self._n_shown, max(self._n_shown, len(safe))
        return safe[shown:]

    def finish(self, cut: bool = False) -> str:
        """The rest of the answer. `cut`: as for `clean`."""
        answer = clean(self._text, self._question, cut, self._opened_thinking)
        return answer[self._n_shown :]

    def _find_start(self) -> int | None:
        """Where the answer begins, its indentation included; None before that is known."""
        start = _known_start(self._text, self._question, self._opened_thinking)
        if start is None:
            return None
        begin = _first_word(self._text, start)
        indentation = self._text[start:begin].rpartition("\n")[2]
        if not _SHALLOWEST <= len(indentation) <= _DEEPEST:
            return begin
        second_line = _second_line(self._text[begin:])
        if not second_line and len(self._text) - begin < MAX_CHARS:
            return None
        self._indented = second_line.isspace()
        return begin - len(indentation) if self._indented else begin

    def _is_settled(self, answer: str) -> bool:
        """Whether this beginning of an answer stays when it is cleaned again without loops."""
        if _known_start(answer, self._question) != 0:
            return False
        return not self._indented or bool(_second_line(answer.lstrip()))


class Verbatim:
    """Takes the place of a `Cleaner` and shows a text as it is."""

    def add(self, text: str) -> str:
        return text

    def finish(self, cut: bool = False) -> str:
        return ""


def _settled(text: str, question: str, cut: bool, loops: bool) -> str:
    """The bare text made shorter until nothing changes; `loops` takes loops away, too."""
    while True:
        cut = cut or len(text) > MAX_CHARS
        shorter = text[:MAX_CHARS].rstrip()
        shorter = _bare(without_loops(shorter, cut) if loops else shorter, question, cut)
        if shorter == text:
            return text
        text = shorter


def _bare(text: str, question: str, cut: bool, opened_thinking: bool = False) -> str:
    """The text without what is before and after the answer."""
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
        elif label := _label(text, begin, question):
            end = label.end()
        else:
            end = _end_of_echo(text, begin, question)
    return at


def _known_start(text: str, question: str, opened_thinking: bool = False) -> int | None:
    """Where the answer begins however the text goes on; None if that depends on what follows."""
    end = _end_of_thinking(text, 0, balanced=True) if opened_thinking else 0
    while end is not None and (begin := _first_word(text, end)) < len(text):
        at = end
        word = text[begin : begin + _LONGER_THAN_LABELS]
        if text.startswith(_OPEN, begin):
            end = _end_of_thinking(text, begin + len(_OPEN), balanced=True)
        elif label := _label(text, begin, question):
            end = label.end()
        elif _OPEN.startswith(word) or (
            _BEGUN_LABEL.fullmatch(word) and not _is_about_labels(question)
        ):
            return None
        elif (echo := _end_of_echo(text, begin, question)) is not None:
            end = echo
        elif _may_become_echo(text, begin, question):
            return None
        else:
            return at
    return None


@lru_cache(maxsize=64)
def _is_about_labels(question: str) -> bool:
    return _ABOUT_LABELS.search(question) is not None


def _label(text: str, at: int, question: str) -> re.Match[str] | None:
    """The label to take away at a place of a text, if there is one."""
    label = _LABEL.match(text, at)
    return label if label and not _is_about_labels(question) else None


def _may_become_echo(text: str, at: int, question: str) -> bool:
    if not question:
        return False
    if _BEGUN_QUESTION_LABEL.fullmatch(text[at : at + _LONGER_THAN_LABELS]):
        return True
    label = _QUESTION_LABEL.match(text, at)
    begin = label.end() if label else at
    return len(text) - begin < len(question) and question.startswith(text[begin:])


def _first_word(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return blank.end() if blank else at


def _end_of_thinking(text: str, at: int, balanced: bool = False) -> int | None:
    """Where the block ends that was open at `at`, with all blocks within it if `balanced`."""
    depth, end = 1, None
    for tag in _TAG.finditer(text, at):
        if tag.group() == _OPEN:
            depth += 1
            continue
        depth, end = depth - 1, tag.end()
        if depth == 0:
            return end
    return None if balanced else end


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
    if _SHALLOWEST <= len(indentation) <= _DEEPEST and _second_line(body).isspace():
        return indentation + body
    return body


def _second_line(text: str) -> str:
    """The first character of the second line that is not empty; "" without one."""
    return text[:MAX_CHARS].partition("\n")[2].lstrip("\n")[:1]
