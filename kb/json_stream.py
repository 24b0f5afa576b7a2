"""The records of a JSON file of any size, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from runtime.common.extras import require

_PIECE = 1 << 16
# Deeper nesting is not a record.
_DEEPEST = 200


class JsonError(ValueError):
    """Not JSON, or neither a list nor an object, from a record on that the message names."""


class _WrongError(ValueError):
    pass


class _Source:
    """A file whose reading is reported and bounded, without the mark that some editors put first.

    Attributes:
        begun: how many bytes had been read when the present record began.
    """

    def __init__(self, file: BinaryIO, progress: Callable[[int], object], longest: int) -> None:
        self._file, self._progress, self._longest = file, progress, longest
        self.count = self.begun = 0

    def read(self, size: int) -> bytes:
        # Here, since the parser holds a whole text before it says anything of it.
        if self.count - self.begun > self._longest + _PIECE:
            raise _WrongError(f"a value is longer than {self._longest >> 20} MiB")
        piece = self._file.read(size)
        self._progress(len(piece))
        first, self.count = self.count == 0, self.count + len(piece)
        return piece.removeprefix(b"\xef\xbb\xbf") if first else piece


def records(
    file: BinaryIO, progress: Callable[[int], object], longest: int
) -> Iterator[tuple[int, Any]]:
    """The records of a JSON list, or of the lists in a JSON object, with their numbers from 1 on.

    Another object or text in the object is a record with its key as its title.

    Args:
        file: opened for reading bytes; it is read in pieces.
        progress: gets the number of bytes that were read since the last call.
        longest: most bytes of a record.

    Raises:
        JsonError: names the record after which the file is not JSON.
        ModuleNotFoundError: ijson is not installed.
    """
    require("reading a JSON file", "knowledge", "ijson")
    import ijson

    source = _Source(file, progress, longest)
    number = 0
    try:
        for number, record in enumerate(_records(ijson, source), start=1):
            yield number, record
    except (ijson.JSONError, UnicodeDecodeError, _WrongError) as error:
        said = " ".join(str(error).split())[:200]
        where = f"after record {number}" if number else "at its beginning"
        raise JsonError(f"{where}: not JSON with entries ({said}); the rest was not read") from None


def _records(ijson: Any, source: _Source) -> Iterator[Any]:
    is_object = False
    depth = around = 0  # containers that are open, and those of them that are no part of a record
    key = ""
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
                yield record
            elif isinstance(record, dict):
                yield {"title": key, **record}
            elif isinstance(record, str):
                yield {"title": key, "text": record}
            # Numbers and the like in a file's object describe the file itself.
