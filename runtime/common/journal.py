"""A file of JSON Lines that grows by a record at a time and can be resumed after a kill."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from runtime.common.errors import UserError
from runtime.common.forks import Maker

log = logging.getLogger(__name__)

_BLOCK = 1 << 16
_BLANK = b" \t\r\n\0"  # a power cut may leave zeros


class Place(NamedTuple):
    """Where a record is in its file, in bytes."""

    start: int
    length: int


class Journal:
    """Records in the order in which they were appended, one JSON text a line.

    A record is in the file, and survives a kill, when `append` returns. A last line that a kill
    cut short is not read, and is removed before the next record is written; opening and reading
    alone never change the file. Several threads and processes may append to one file.

    Attributes:
        damaged: numbers, from 1, of the whole lines that the last `entries` could not read.

    Raises:
        UserError: `path` is a folder, a device or a pipe.
        OSError: the file cannot be made, read or written; the error names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged: list[int] = []
        if path.exists() and not path.is_file():  # opening a pipe would wait for its other end
            raise UserError(f"{path}: not a regular file; give the name of another")
        self._open()

    def _open(self) -> None:
        self._maker = Maker()
        self._lock = threading.Lock()
        self._file = self.path.open("a+b", buffering=0)

    def _own(self) -> None:
        """In a forked process open the file anew: a shared file's locks do not exclude others."""
        if not self._maker.is_here:
            self._open()

    def entries(self) -> Iterator[tuple[Place, Any]]:
        """All records, each with its place. Blank and damaged lines are skipped.

        Raises:
            UserError: a line is not even the beginning of a record: this is another kind of file.
        """
        self.damaged = []
        start = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                place = Place(start, len(line))
                start += len(line)
                if not line.strip(_BLANK):
                    continue
                try:
                    yield place, json.loads(line)
                except (ValueError, RecursionError):
                    if not line.strip(_BLANK).startswith((b"{", b"[")):
                        raise UserError(
                            f"{self.path}, line {number}: not a record; this seems to be another"
                            " kind of file: move it away, or give the name of a new one"
                        ) from None
                    if line.endswith(b"\n"):
                        self.damaged.append(number)
        if self.damaged:
            log.warning(
                "%s: %d damaged lines were skipped, the first is line %d",
                self.path,
                len(self.damaged),
                self.damaged[0],
            )

    def read(self, place: Place) -> Any:
        """The record at a place that `entries` or `append` gave."""
        self._own()
        with self._lock:
            self._file.seek(place.start)
            return json.loads(self._file.read(place.length))

    def append(self, record: dict[str, Any] | list[Any]) -> Place:
        """Write a record at the end of the file.

        Raises:
            OSError: it cannot be written, for example because the disk is full; the error names
                the file. What was half written is removed: a later call may succeed.
        """
        line = to_json(record).encode() + b"\n"
        self._own()
        with self._lock, self._locked():
            end, missing = self._end()
            try:
                self._write(missing + line)
            except BaseException as error:
                with suppress(OSError):
                    self._file.truncate(end)
                if isinstance(error, OSError):
                    raise OSError(error.errno, error.strerror, str(self.path)) from None
                raise
        return Place(end + len(missing), len(line))

    def close(self) -> None:
        """Close the file; what is in it stays."""
        self._file.close()

    def discard(self) -> None:
        """Close the file and delete it."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end(self) -> tuple[int, bytes]:
        """Where the next record goes, without a line that was cut; and what has to precede it."""
        size = self._file.seek(0, os.SEEK_END)
        begin, tail, step = size, b"", 1  # one byte tells, unless the last line was cut
        while begin and b"\n" not in tail:
            before = max(0, begin - step)
            self._file.seek(before)
            tail = self._file.read(begin - before) + tail
            begin, step = before, _BLOCK
        tail = tail.rpartition(b"\n")[2]
        if not tail:
            return size, b""
        try:
            json.loads(tail)
        except (ValueError, RecursionError):
            self._file.truncate(size - len(tail))
            return size - len(tail), b""
        return size, b"\n"  # whole: an editor took the end of the line

    def _write(self, data: bytes) -> None:
        while data:
            data = data[self._file.write(data) or 0 :]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from appending meanwhile."""
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_UN)


def to_json(record: Any) -> str:
    """JSON in readable characters; lone surrogates, which UTF-8 does not have, stay escaped."""
    text = json.dumps(record, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(record)
    return text
