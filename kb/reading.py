"""Raw files as entries, one at a time: JSON, JSON Lines, Markdown, plain text and TSV.

Files are read in pieces, so memory depends on their longest entry and not on their size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from kb.json_stream import JsonError, records
from runtime.common.errors import UserError

# A longer line, paragraph or JSON value is not an entry.
LONGEST_ENTRY = 16 << 20
_TITLES = ("title", "name", "topic", "entity", "headword")
_SECTIONS = ("section", "heading", "category")
_TEXTS = ("text", "content", "passage", "body", "fact", "description")
_NOT_UTF8 = "is not UTF-8; convert the file first, for example with iconv -f latin1 -t utf-8"
_HEADING = re.compile(r"(#{1,6})\s+(.*)")

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Entry:
    """A piece of raw knowledge, not yet cleaned, and its place, such as "line 3"."""

    title: str
    section: str
    text: str
    where: str


@dataclass(frozen=True)
class Bad:
    """Something that is not an entry: its place and the problem."""

    where: str
    problem: str


def entries(path: Path, progress: Progress = lambda count: None) -> Iterator[Entry | Bad]:
    """The entries of a file, by the ending of its name.

    A record has a text (`text`, `content`, ...; without one all its texts are joined), and
    perhaps a title and a section; a question is a title, and its answer a text. A TSV line is
    title and text, title, section and text, or a text alone; Markdown headings are title and
    section of the paragraphs beneath.

    Args:
        path: .json, .jsonl, .ndjson, .md, .markdown, .txt or .tsv.
        progress: told how many bytes have been read since it was last told.

    Raises:
        UserError: another ending, or a file that is not JSON; names the file and the place.
        OSError: the file cannot be read.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(_READERS)
        raise UserError(f"{path}: not a kind of file that is understood ({kinds})")
    with path.open("rb") as file:
        _check_encoding(path, file)
        try:
            yield from reader(file, progress)
        except JsonError as error:
            raise UserError(f"{path}, {error}") from None


def _check_encoding(path: Path, file: BinaryIO) -> None:
    """Raise UserError for text in another encoding than UTF-8, where its beginning tells."""
    begin = file.read(256)
    file.seek(0)
    if begin.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in begin:
        raise UserError(
            f"{path}: not UTF-8, but UTF-16 or binary data; convert it first, for example with"
            " iconv -f utf-16 -t utf-8"
        )


def _lines(file: BinaryIO, progress: Progress) -> Iterator[tuple[int, str | Bad]]:
    """Line numbers and lines without their end, which may be that of any system."""
    number = 0
    while raw := file.readline(LONGEST_ENTRY + 1):
        progress(len(raw))
        if len(raw) > LONGEST_ENTRY:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(LONGEST_ENTRY)
                progress(len(raw))
            number += 1
            yield number, Bad(f"line {number}", f"is longer than {LONGEST_ENTRY >> 20} MiB")
            continue
        for line in raw.rstrip(b"\r\n").split(b"\r"):
            number += 1
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError:
                yield number, Bad(f"line {number}", _NOT_UTF8)
                continue
            yield number, text.removeprefix("\ufeff") if number == 1 else text


def _json(file: BinaryIO, progress: Progress) -> Iterator[Entry | Bad]:
    for number, value in records(file, progress, LONGEST_ENTRY):
        yield _entry(value, f"record {number}")


def _json_lines(file: BinaryIO, progress: Progress) -> Iterator[Entry | Bad]:
    for number, line in _lines(file, progress):
        if isinstance(line, Bad):
            yield line
        elif line.strip():
            try:
                yield _entry(json.loads(line), f"line {number}")
            except (ValueError, RecursionError) as error:
                yield Bad(f"line {number}", f"is not JSON ({error})")


def _entry(value: Any, where: str) -> Entry | Bad:
    if isinstance(value, str):
        return Entry("", "", value, where)
    if not isinstance(value, dict):
        return Bad(where, f"is a {type(value).__name__}, not an object or a text")
    texts = {key.casefold(): text for key, text in value.items() if isinstance(text, str)}

    def first(keys: tuple[str, ...]) -> str:
        return next((texts.pop(key) for key in keys if texts.get(key, "").strip()), "")

    if texts.get("question", "").strip() and texts.get("answer", "").strip():
        return Entry(texts["question"], "", texts["answer"], where)
    title, section, text = first(_TITLES), first(_SECTIONS), first(_TEXTS)
    text = text or ": ".join(text.strip() for text in texts.values() if text.strip())
    return Entry(title, section, text, where) if text else Bad(where, "has no text")


def _tsv(file: BinaryIO, progress: Progress) -> Iterator[Entry | Bad]:
    for number, line in _lines(file, progress):
        if isinstance(line, Bad):
            yield line
            continue
        if not line.strip() or line.startswith("#"):
            continue
        where, cells = f"line {number}", line.split("\t")
        if len(cells) > 3:
            yield Bad(where, f"has {len(cells)} columns; 1 to 3 are understood")
            continue
        text = cells[-1]
        title, section = [*cells[:-1], "", ""][:2]
        yield Entry(title, section, text, where) if text.strip() else Bad(where, "has no text")


def _text(file: BinaryIO, progress: Progress) -> Iterator[Entry | Bad]:
    return _paragraphs(file, progress, headings=False)


def _markdown(file: BinaryIO, progress: Progress) -> Iterator[Entry | Bad]:
    return _paragraphs(file, progress, headings=True)


def _paragraphs(file: BinaryIO, progress: Progress, headings: bool) -> Iterator[Entry | Bad]:
    """Paragraphs between blank lines; Markdown comments do not count."""
    title = section = ""
    held: list[str] = []
    start = size = 0
    spoiled = False  # without one of its lines a paragraph may say something else

    def paragraph() -> Iterator[Entry]:
        text = "\n".join(held)
        if text and not (headings and re.fullmatch(r"(?s)<!--.*-->", text.strip())):
            yield Entry(title, section, text, f"line {start}")

    for number, line in _lines(file, progress):
        if isinstance(line, Bad):
            yield line
            spoiled = True
            continue
        heading = _HEADING.fullmatch(line) if headings else None
        if heading or not line.strip() or size > LONGEST_ENTRY // 2:
            if not spoiled:
                yield from paragraph()
            held, size, spoiled = [], 0, False
        if heading:
            name = heading[2].strip(" #.")
            title, section = (name, "") if len(heading[1]) == 1 else (title, name)
        elif line.strip():
            start = start if held else number
            held.append(line)
            size += len(line)
    if not spoiled:
        yield from paragraph()


_READERS: dict[str, Callable[[BinaryIO, Progress], Iterator[Entry | Bad]]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".md": _markdown,
    ".markdown": _markdown,
    ".txt": _text,
    ".tsv": _tsv,
}
