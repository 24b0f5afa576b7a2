"""Reading whole files that settings name, whatever is in their place."""

from __future__ import annotations

import errno
import json
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

from runtime.common.atomic import replacing

# What the operating system says when a file cannot grow.
NO_ROOM = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EFBIG])


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading bytes; a pipe or device is refused, since it may never end.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    # Opening a pipe would wait for a writer otherwise.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


def read_bytes(path: Path) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: as `open_regular`.
    """
    with open_regular(path) as file:
        return file.read()


def read_text(path: Path) -> str:
    """The text of a regular file, without a byte order mark; all line ends become "\\n".

    Raises:
        OSError: as `read_bytes`.
        ValueError: it is not UTF-8; the message says how to convert UTF-16.
    """
    raw = read_bytes(path)
    if hint := not_text(raw):
        raise ValueError(hint)
    return raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def not_text(begin: bytes) -> str:
    """Why a file that begins with these bytes cannot be text in UTF-8, with what to do; or ""."""
    if begin.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in begin[:256]:
        return (
            "not UTF-8, but UTF-16 or binary data; convert it first, for example with"
            " iconv -f utf-16 -t utf-8"
        )
    return ""


def read_json(path: Path) -> Any:
    """What the JSON in a regular file stands for.

    Raises:
        OSError: as `read_bytes`.
        ValueError: it is not JSON in UTF-8, or nested too deeply to be read.
    """
    try:
        return json.loads(read_text(path))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all.

    Raises:
        OSError: it cannot be written, or something else than a regular file is in its place.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=1) + "\n", "utf-8")
