"""Reads JSON files of any size as entries, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from kb.entries import ANSWERS, LONGEST_ENTRY, TEXTS, TITLES, Bad, Entry, from_record
from runtime.common.errors import UserError
from runtime.common.extras import require

_PIECE = 1 << 16
# Deeper nesting is not a record.
_DEEPEST = 200


class _WrongError(ValueError):
    """The file cannot be read further; the message says why."""


class _Source:
    """A file that counts and limits what is read of it, without its byte order mark.

    Attributes:
        begun: how many bytes had been read when the current record began.
    """

    def __init__(self, file: BinaryIO, progress: Callable[[int], object]) -> None:
        self._file, self._progress = file, progress
        self.count = self.begun = 0

    def read(self, size: int) -> bytes:
        # Checked here, since the parser holds a whole text before it returns any of it.
        if self.count - self.begun > LONGEST_ENTRY + _PIECE:
            raise _WrongError(f"a value is longer than {LONGEST_ENTRY >> 20} MiB")
        piece = self._file.read(size)
        self._progress(len(piece))
        first, self.count = self.count == 0, self.count + len(piece)
        return piece.removeprefix(b"\xef\xbb\xbf") if first else piece


def json_entries(file: BinaryIO, progress: Callable[[int], object]) -> Iterator[Entry | Bad]:
    """The entries of a JSON list, or of the lists in a JSON object.

    Another member of the object is an entry with its key as its title. If the object has a title
    itself, it is about that, and its other members are under that title.

    Args:
        file: opened for reading bytes; it is read in pieces.
        progress: called with the number of bytes read since the last call.

    Raises:
        UserError: names the file, and the record after which it is not JSON.
        MissingLibraryError: ijson is not installed.
    """
    require("reading a JSON file", "knowledge", "ijson")
    import ijson

    number = 0
    try:
        for number, record in enumerate(_records(ijson, _Source(file, progress)), start=1):
            yield from from_record(record, f"record {number}")
    except (ijson.JSONError, UnicodeDecodeError, _WrongError) as error:
        said = " ".join(str(error).split())[:200]
        where = f"after record {number}" if number else "at its beginning"
        if "trailing garbage" in said:
            said += "; if each line is an object, name the file .jsonl"
        raise UserError(
            f"{file.name}, {where}: not JSON with entries ({said}); the rest was not read"
        ) from None


def _records(ijson: Any, source: _Source) -> Iterator[Any]:
    is_object = False
    depth = around = 0  # open containers, and those of them outside of a record
    key = ""
    title = unused = ""  # of the file's own object, and its key while nothing is under it
    builder: Any = None
    for event, value in ijson.basic_parse(source, use_float=True, buf_size=_PIECE):
        opens, closes = event.startswith("start_"), event.startswith("end_")
        if builder is None:
            if not depth and not opens:
                raise _WrongError("a list or an object is expected")
            # The file's own list or object, and the lists in its object, hold the records.
            if opens and (not depth or (depth == 1 and is_object and event == "start_array")):
                is_object = event == "start_map" if not depth else is_object
                depth = around = depth + 1
                continue
            if closes:
                depth = around = depth - 1
                continue
            if event == "map_key":
                key = value
                continue
            builder, source.begun = ijson.ObjectBuilder(), source.count
        depth += opens - closes
        if depth > _DEEPEST:
            raise _WrongError("nested too deeply")
        builder.event(event, value)
        if depth == around:
            record, builder = builder.value, None
            if around == 2 or not is_object:
                unused = ""
                yield record
            elif isinstance(record, str) and not title and key.casefold() in TITLES:
                title, unused = record, key
            elif isinstance(record, dict):
                unused = ""
                yield {**({"title": title, "section": key} if title else {"title": key}), **record}
            elif title and not isinstance(record, bool | None):
                unused = ""
                text = record if key.casefold() in (*TEXTS, *ANSWERS) else {key: record}
                yield {"title": title, "text": text}
            elif isinstance(record, str):
                yield {"title": key, "text": record}
            # Other numbers and the like describe the file itself.
    if unused:
        yield {"title": unused, "text": title}
