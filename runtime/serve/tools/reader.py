"""Reads calls of tools in what a model writes, while it is written.

All other text is content, so nothing is lost.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from runtime.serve.tools.formats import Form

# A part of a form: one of some texts; an empty tuple stands for any blanks.
_Part = tuple[str, ...]
_BLANKS: _Part = ()
_BLANK = re.compile(r"\s*")
_NAME = re.compile(r'"name"\s*:\s*"([^"]*)"')


@dataclass(frozen=True)
class Piece:
    """A piece of an answer."""

    text: str  # of the content, or of a call's arguments
    call: int | None = None  # the number of the call; None is the content
    name: str = ""  # the tool's, in a call's first piece


class Reader:
    """Tells calls from content in a text that comes in pieces.

    However a text is cut into pieces, the same content and calls come out. A call begins when
    everything before its arguments has come; what is in them is not checked. Blanks around calls
    are dropped, and a call of a tool that is not in `names` is content.

    Attributes:
        n_calls: how many calls have begun.
        complete: the arguments of the last call have their end.
    """

    def __init__(self, form: Form, names: Sequence[str]) -> None:
        self.n_calls = 0
        self.complete = True
        closing = [(form.closing.strip(),)] if form.closing else []
        self._before = _before_arguments(form, names)
        self._after = (_BLANKS, *_spaced([("}",), *closing]))
        self._within: Literal["content", "arguments", "end"] = "content"
        self._text = ""  # what is not told yet
        self._depth = 0  # of braces in arguments
        self._in_string = self._escaped = False

    def add(self, text: str) -> list[Piece]:
        """Go on with a text; returns what is known now."""
        self._text += text
        return self._read(ended=False)

    def finish(self) -> list[Piece]:
        """The rest, when the text has ended."""
        return self._read(ended=True)

    def _read(self, ended: bool) -> list[Piece]:
        pieces: list[Piece] = []
        before: tuple[int, str] | None = None
        while self._text and (now := (len(self._text), self._within)) != before:
            before = now
            if self._within == "content":
                pieces += self._content(ended)
            elif self._within == "arguments":
                pieces.append(self._arguments())
            else:
                self._end(ended)
        return pieces

    def _content(self, ended: bool) -> list[Piece]:
        text, first = self._text, self._before[0][0]
        begin = text.find(first)
        while begin >= 0:
            end = _match(self._before, text, begin)
            if end:
                shown = self._show(begin)
                return [*shown, self._begin(text[begin:end])]
            if end is None and not ended:
                return self._show(begin)
            begin = text.find(first, begin + 1)
        if not ended:
            return self._show(len(text) - _n_begun(text, first))
        self._text = ""
        return [] if self.n_calls and text.isspace() else [Piece(text)]

    def _show(self, end: int) -> list[Piece]:
        """Content up to a place, without blanks at its end, which may belong to a call."""
        shown = self._text[:end].rstrip()
        self._text = self._text[len(shown) :]
        return [Piece(shown)] if shown else []

    def _begin(self, head: str) -> Piece:
        """Begin a call; its head ends with the first brace of the arguments."""
        at = self._text.index(head) + len(head) - 1
        self._text, self._within, self.complete = self._text[at:], "arguments", False
        self.n_calls += 1
        (name,) = _NAME.findall(head)
        return Piece("", self.n_calls - 1, name)

    def _arguments(self) -> Piece:
        text = self._text
        for at, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = character == "\\"
                self._in_string = character != '"'
            elif character == '"':
                self._in_string = True
            elif character in "{}":
                self._depth += 1 if character == "{" else -1
                if not self._depth:
                    self._text, self._within, self.complete = text[at + 1 :], "end", True
                    return Piece(text[: at + 1], self.n_calls - 1)
        self._text = ""
        return Piece(text, self.n_calls - 1)

    def _end(self, ended: bool) -> None:
        end = _match(self._after, self._text, 0)
        if end is not None:
            self._text, self._within = self._text[end:], "content"
        elif ended:  # within what closes the call
            self._text = ""


def _before_arguments(form: Form, names: Sequence[str]) -> tuple[_Part, ...]:
    """What is before the arguments, up to their first brace."""
    key, quoted = f'"{form.arguments}"', tuple(f'"{name}"' for name in names)
    parts = [("{",), ('"name"',), (":",), quoted, (",",), (key,), (":",), ("{",)]
    if form.opening:
        parts.insert(0, (form.opening.strip(),))
    return _spaced(parts)


def _spaced(parts: Sequence[_Part]) -> tuple[_Part, ...]:
    """Parts with any blanks between them."""
    return tuple(each for part in parts for each in (_BLANKS, part))[1:]


def _match(parts: Sequence[_Part], text: str, at: int) -> int | None:
    """Where parts end that begin at a place of a text.

    Returns:
        0 if they are not there; None if that depends on how the text goes on.
    """
    for part in parts:
        if not part:
            blanks = _BLANK.match(text, at)
            at = blanks.end() if blanks else at
            continue
        found = next((option for option in part if text.startswith(option, at)), None)
        if found is None:
            rest = text[at:]
            return None if any(option.startswith(rest) for option in part) else 0
        at += len(found)
    return at


def _n_begun(text: str, word: str) -> int:
    """How many characters at the end of a text may be the beginning of a word."""
    return next(n for n in range(min(len(word) - 1, len(text)), -1, -1) if text.endswith(word[:n]))
