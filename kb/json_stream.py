"""The records of a JSON file of any size, one at a time, with the line that each begins in."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

_PIECE = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")


class JsonError(ValueError):
    """Not JSON, from a line on that the message names."""


class _Text:
    """A window on the file that moves on and never back."""

    def __init__(self, file: BinaryIO, progress: Callable[[int], object], longest: int) -> None:
        self._file, self._progress, self._longest = file, progress, longest
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()
        self._held, self._at, self._ended = "", 0, False
        self.line = 1

    def _more(self) -> bool:
        """Read on, at least as much as is held, so that a long value is not tried often."""
        if self._ended:
            return False
        piece = self._file.read(max(_PIECE, len(self._held) - self._at))
        self._progress(len(piece))
        self._ended = not piece
        try:
            text = self._decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            raise self.error(f"is not UTF-8 ({error.reason})") from None
        self._held, self._at = self._held[self._at :] + text, 0
        return True

    def error(self, problem: str) -> JsonError:
        return JsonError(f"line {self.line}: {problem}; what follows cannot be read")

    def _skip(self, end: int) -> None:
        self.line += self._held.count("\n", self._at, end)
        self._at = end

    def peek(self) -> str:
        """The next character that is not white space, "" at the end."""
        while True:
            match = _SPACE.match(self._held, self._at)
            self._skip(match.end() if match else self._at)
            if self._at < len(self._held):
                return self._held[self._at]
            if not self._more():
                return ""

    def take(self, wanted: str) -> str:
        """Pass over one of some characters. Raises JsonError if another comes."""
        found = self.peek()
        if not found or found not in wanted:
            raise self.error(f"expected one of {wanted} and found {found or 'the end'}")
        self._skip(self._at + 1)
        return found

    def value(self) -> Any:
        """The next whole value. Raises JsonError if it is none or too long."""
        self.peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._held, self._at)
                # A number may go on in the next piece.
                if end < len(self._held) or self._ended or not isinstance(value, (int, float)):
                    self._skip(end)
                    return value
            except json.JSONDecodeError as error:
                # Read on only where the end of what is held may be to blame.
                cut = error.pos >= len(self._held) - 16 or error.msg.startswith("Unterminated")
                if self._ended or not cut:
                    raise self.error(f"not JSON ({error.msg})") from None
            except RecursionError:
                raise self.error("nested too deeply") from None
            if len(self._held) - self._at > self._longest:
                raise self.error(f"a value is longer than {self._longest >> 20} MiB")
            self._more()


def records(
    file: BinaryIO, progress: Callable[[int], object], longest: int
) -> Iterator[tuple[int, Any]]:
    """Records as (line, value).

    A list gives its items; an object gives the items of lists that are its values, and its
    other values with their key as their title.

    Raises:
        JsonError: names the line from which on the file is not JSON.
    """
    text = _Text(file, progress, longest)
    if text.peek() == "[":
        yield from _items(text)
    elif text.peek() == "{":
        text.take("{")
        more = text.peek() != "}"
        while more:
            line, key = text.line, text.value()
            if not isinstance(key, str):
                raise text.error("a key is not a text")
            text.take(":")
            if text.peek() == "[":
                yield from _items(text)
            else:
                value = text.value()
                if isinstance(value, dict):
                    yield line, {"title": key, **value}
                elif isinstance(value, str):
                    yield line, {"title": key, "text": value}
                # Numbers and the like in a file's object tell of the file itself.
            more = text.take(",}") == ","
        if text.peek() == "}":
            text.take("}")
    else:
        raise text.error("a list or an object is expected")
    if text.peek():
        raise text.error("something follows the end")


def _items(text: _Text) -> Iterator[tuple[int, Any]]:
    text.take("[")
    if text.peek() == "]":
        text.take("]")
        return
    while True:
        text.peek()
        line = text.line
        yield line, text.value()
        if text.take(",]") == "]":
            return
