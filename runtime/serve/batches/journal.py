"""A batch's lines, checked, and the answers to them in a file that grows."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from runtime.common.journal import Journal, Place, to_json

JsonDict = dict[str, Any]

MOST_LINES = 1_000_000
_MOST_ERRORS = 100
_LONGEST_ID = 512


@dataclass(frozen=True)
class Line:
    """A line of a batch: its place in the file, from 1 on, the client's id, and the body."""

    number: int
    custom_id: str
    body: JsonDict


def lines(path: Path) -> Iterator[Line]:
    """The lines of a file that `check` found nothing wrong with."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if raw.strip():
                entry = json.loads(raw)
                yield Line(number, entry["custom_id"], entry["body"])


def check(path: Path, endpoint: str) -> tuple[int, list[JsonDict]]:
    """The number of lines in a batch's file, and what is wrong with them, in OpenAI's form."""
    seen: set[str] = set()
    problems: list[JsonDict] = []
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.strip():
                continue
            if found := _problem(raw, endpoint, seen):
                problems.append(problem(*found, number))
            if len(problems) >= _MOST_ERRORS or len(seen) > MOST_LINES:
                break
    if not seen and not problems:
        problems.append(problem("empty_file", "the file has no lines"))
    if len(seen) > MOST_LINES:
        problems.append(problem("too_many_lines", f"over {MOST_LINES} lines"))
    return len(seen), problems


def problem(code: str, message: str, param: str | None = None, line: int | None = None) -> JsonDict:
    """What is wrong with a batch, in OpenAI's form."""
    return {"code": code, "message": message, "param": param, "line": line}


def _problem(raw: bytes, endpoint: str, seen: set[str]) -> tuple[str, str, str | None] | None:
    """Code, message and field of what is wrong with a line."""
    try:
        entry = json.loads(raw)
        json.dumps(entry, ensure_ascii=False).encode()  # lone surrogates cannot be written again
    except (ValueError, RecursionError):
        return "invalid_json_line", "the line is not JSON in UTF-8", None
    if not isinstance(entry, dict):
        return "invalid_json_line", "the line is not a JSON object", None
    id_ = entry.get("custom_id")
    if not isinstance(id_, str) or not 1 <= len(id_) <= _LONGEST_ID:
        return "invalid_custom_id", f"a text of 1 to {_LONGEST_ID} characters", "custom_id"
    if id_ in seen:
        return "duplicate_custom_id", f"an earlier line has {id_[:80]!r} too", "custom_id"
    if entry.get("method") != "POST":
        return "invalid_method", "only POST is served", "method"
    if entry.get("url") != endpoint:
        return "mismatched_endpoint", f"the batch is for {endpoint}", "url"
    if not isinstance(entry.get("body"), dict):
        return "invalid_body", "a JSON object", "body"
    seen.add(id_)
    return None


class Answers:
    """The answers of a batch, in a journal; `done` has which lines have one, and if it failed.

    Raises:
        UserError: it is another kind of file.
        OSError: it cannot be read or made.
    """

    def __init__(self, path: Path) -> None:
        self.done: dict[int, bool] = {}
        self._places: dict[int, Place] = {}
        self._journal = Journal(path)
        for place, entry in self._journal.entries():
            if isinstance(entry, dict) and {"number", "failed", "result"} <= entry.keys():
                self._note(entry["number"], entry["failed"], place)

    def _note(self, number: int, failed: bool, place: Place) -> None:
        self.done[number] = failed
        self._places[number] = place

    def write(self, number: int, failed: bool, result: JsonDict) -> None:
        """Keep an answer; it survives a kill from here on. Raises OSError."""
        record = {"number": number, "failed": failed, "result": result}
        self._note(number, failed, self._journal.append(record))

    @property
    def n_failed(self) -> int:
        return sum(self.done.values())

    def results(self, failed: bool) -> BinaryIO:
        """A file of all answers, or all errors, in the order of the lines. Raises OSError."""
        made: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  (the caller closes it)
        for number in sorted(n for n, its in self.done.items() if its == failed):
            result = self._journal.read(self._places[number])["result"]
            made.write(to_json(result).encode() + b"\n")
        made.seek(0)
        return made

    def close(self) -> None:
        self._journal.close()
