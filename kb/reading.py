"""Reads raw files as entries, one at a time; the ending of the name gives the kind of file.

Files are read in pieces, so memory depends on the longest entry, not on the size of a file; for
pages and PDF files on the longest file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from kb import pages
from kb.columns import parquet_entries
from kb.entries import LONGEST_ENTRY, Bad, Entry, from_record
from kb.json_stream import json_entries
from kb.pdf import pdf_entries
from runtime.common.errors import UserError
from runtime.common.files import not_text, open_regular

_NOT_UTF8 = "is not UTF-8; convert the file first, for example with iconv -f latin1 -t utf-8"
_HEADING = re.compile(r"(#{1,6})\s+(.*)")

Progress = Callable[[int], object]


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, and folders as the files of known kinds below them, sorted.

    Raises:
        UserError: a folder without such a file.
    """
    files = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(each for each in path.rglob("*") if each.suffix.lower() in KINDS)
        if not found:
            raise UserError(f"{path}: no file in it of a kind that is understood ({_KNOWN})")
        files += found
    return files


def entries(
    path: Path,
    progress: Progress = lambda count: None,
    repeated: Collection[pages.Block] = (),
) -> Iterator[Entry | Bad]:
    """The entries of a file, by the ending of its name.

    A record has a text (`text`, `content`, ...; without one all its texts are joined), and
    perhaps a title and a section; a question is a title, and its answer a text. A TSV line is
    title and text, title, section and text, or a text alone; headings of Markdown and HTML are
    title and section of the paragraphs beneath.

    Args:
        path: its ending is one of `KINDS`.
        progress: called with the number of bytes read since the last call.
        repeated: what to leave out of pages of HTML; see `kb.pages.repeated_blocks`.

    Raises:
        UserError: another ending, or a file that cannot be read to its end; names the place.
        MissingLibraryError: what reads this kind of file is not installed.
        OSError: the file cannot be read, or is a pipe or device.
    """
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise UserError(f"{path}: not a kind of file that is understood ({_KNOWN})")
    with open_regular(path) as file:
        if kind in pages.KINDS:
            yield from pages.page_entries(path, repeated)
            progress(path.stat().st_size)
        elif kind == ".pdf":
            yield from pdf_entries(path, progress)
        elif kind in _RECORDS:
            if kind != ".parquet":
                _check_encoding(path, file)
            for entry in _RECORDS[kind](file, progress):
                if isinstance(entry, Entry) and pages.is_markup(entry.text):
                    yield from pages.markup_entries(entry)
                else:
                    yield entry
        else:
            _check_encoding(path, file)
            yield from _TEXTS[kind](file, progress)


def _check_encoding(path: Path, file: BinaryIO) -> None:
    """Raise UserError if the beginning shows another encoding than UTF-8."""
    hint = not_text(file.read(256))
    file.seek(0)
    if hint:
        raise UserError(f"{path}: {hint}")


def _lines(file: BinaryIO, progress: Progress) -> Iterator[tuple[int, str | Bad]]:
    """Line numbers and lines without their ends, which may be those of any system."""
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


def _json_lines(file: BinaryIO, progress: Progress) -> Iterator[Entry | Bad]:
    for number, line in _lines(file, progress):
        if isinstance(line, Bad):
            yield line
        elif line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield Bad(f"line {number}", f"is not JSON ({error})")
            else:
                yield from_record(value, f"line {number}")


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


def _paragraphs(file: BinaryIO, progress: Progress, headings: bool) -> Iterator[Entry | Bad]:
    """Paragraphs between blank lines; Markdown comments do not count."""
    title = section = ""
    held: list[str] = []
    start = size = 0
    spoiled = False  # without one of its lines a paragraph may have another meaning

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


_Reader = Callable[[BinaryIO, Progress], Iterator[Entry | Bad]]
_MARKDOWN, _PLAIN = (partial(_paragraphs, headings=headings) for headings in (True, False))
# Texts of records may be HTML.
_RECORDS: dict[str, _Reader] = {
    ".json": json_entries,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": parquet_entries,
}
_TEXTS: dict[str, _Reader] = {
    ".md": _MARKDOWN,
    ".markdown": _MARKDOWN,
    ".txt": _PLAIN,
    ".tsv": _tsv,
}
KINDS = (*_RECORDS, *_TEXTS, *pages.KINDS, ".pdf")
_KNOWN = ", ".join(KINDS)
