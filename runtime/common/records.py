"""Reads files of records: JSON Lines, or a JSON list in a `.json` file.

A problem with one record is reported with that record; the others are read.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from runtime.common.errors import SetupError
from runtime.common.files import not_text


@dataclass(frozen=True)
class Record:
    """One record of a file."""

    where: str  # "line 3", or "record 3" of a JSON list; counted from 1
    value: Any = None
    problem: str = ""  # why there is no value, worded to follow `where`


def read_records(path: Path) -> list[Record]:
    """The records of a file; blank lines are skipped.

    Raises:
        SetupError: the file cannot be read or is UTF-16, or a .json file is not a JSON list.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SetupError(f"{path}: cannot be read ({error.strerror})") from None
    if hint := not_text(raw):
        raise SetupError(f"{path}: {hint}")
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if b"\n" not in raw:  # lines may end with a carriage return alone
        raw = raw.replace(b"\r", b"\n")
    if path.suffix == ".json":
        try:
            items = _from_json(raw)
        except (ValueError, RecursionError) as error:
            raise SetupError(f"{path}: not valid JSON ({error})") from None
        if not isinstance(items, list):
            raise SetupError(f"{path}: expected a JSON list, got a {type(items).__name__}")
        return [Record(f"record {number}", item) for number, item in enumerate(items, start=1)]
    lines = enumerate(raw.split(b"\n"), start=1)
    return [_from_line(line, f"line {number}") for number, line in lines if line.strip()]


def _from_line(line: bytes, where: str) -> Record:
    try:
        return Record(where, _from_json(line.decode("utf-8")))
    except UnicodeDecodeError:
        return Record(where, problem="is not UTF-8")
    except ValueError as error:
        return Record(where, problem=f"is not JSON ({error})")
    except RecursionError:
        return Record(where, problem="is nested too deeply")


def _from_json(text: str | bytes) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a JSON value")

    def finite(number: str) -> float:
        if math.isinf(value := float(number)):
            raise ValueError(f"{number} is too large a number")
        return value

    return json.loads(text, parse_constant=refuse, parse_float=finite)
