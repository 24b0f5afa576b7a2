"""Reads raw files as entries, one at a time; the ending of the name gives the kind of file.

Files are read in pieces, so memory depends on the longest entry, not on the size of a file; for
pages and PDF files on the longest file.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from kb import pages
from kb.columns import parquet_entries
from kb.entries import LONGEST_ENTRY, Bad, Entry, from_record, is_header
from kb.json_stream import json_entries
from kb.markdown import markdown_entries
from kb.pdf import pdf_entries
from runtime.common.errors import UserError
from runtime.common.files import not_text, open_regular

_NOT_UTF8 = "is not UTF-8; convert the file first, for example with iconv -f latin1 -t utf-8"
_CELL = re.compile(r'(?:^|\t)(("(?:[^"]|"")*"(?=\t|$))|[^\t]*)')
_LISTED = 8  # kinds of files that are left out

log = logging.getLogger(__name__)

Progress = Callable[[int], object]


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, and folders as the files of known kinds below them, sorted.

    Files of other kinds in a folder are counted in a warning. Links to folders are not followed.

    Raises:
        UserError: a folder without a file of a known kind.
        OSError: a folder that cannot be read.
    """
    files = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        below = [Path(folder, name) for folder, _, names in _walk(path) for name in names]
        found = sorted(each for each in below if each.suffix.lower() in KINDS)
        if not found:
            raise UserError(f"{path}: no file in it of a kind that is understood ({_KNOWN})")
        if len(found) < len(below):
            others = Counter(each.suffix.lower() or "no suffix" for each in below)
            kinds = [f"{kind}: {n}" for kind, n in others.most_common() if kind not in KINDS]
            log.warning("%s: left out files of other kinds (%s)", path, ", ".join(kinds[:_LISTED]))
        files += found
    return files


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    def refuse(error: OSError) -> None:
        raise error

    return os.walk(folder, onerror=refuse)


def entries(
    path: Path,
    progress: Progress = lambda count: None,
    repeated: Collection[pages.Block] = (),
) -> Iterator[Entry | Bad]:
    """The entries of a file, by the ending of its name.

    Objects of JSON and Parquet are read by `kb.entries.from_record`. A TSV line is title and
    text, title, section and text, or a text alone, unless the first line names the columns.
    Headings of Markdown and HTML are title and section of the paragraphs beneath. An entry whose
    text is HTML is read like a page.

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
        else:
            if kind != ".parquet":
                _check_encoding(path, file)
            for entry in _READERS[kind](file, progress):
                if isinstance(entry, Entry) and pages.is_markup(entry.text):
                    yield from pages.markup_entries(entry)
                else:
                    yield entry


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
                yield from from_record(value, f"line {number}")


def _tsv(file: BinaryIO, progress: Progress) -> Iterator[Entry | Bad]:
    names: list[str] = []
    for number, line in _lines(file, progress):
        if isinstance(line, Bad):
            yield line
            continue
        where, cells = f"line {number}", _cells(line)
        if not line.strip() or (line.startswith("# ") and len(cells) == 1):
            continue
        if number == 1 and is_header(cells):
            names = cells
        elif names and len(cells) != len(names):
            yield Bad(where, f"has {len(cells)} columns, not {len(names)} as the first line")
        elif names:
            yield from from_record(dict(zip(names, cells, strict=True)), where)
        elif len(cells) > 3:
            yield Bad(where, f"has {len(cells)} columns; 1 to 3 are understood")
        elif not cells[-1].strip():
            yield Bad(where, "has no text")
        else:
            title, section = [*cells[:-1], "", ""][:2]
            yield Entry(title, section, cells[-1], where)


def _cells(line: str) -> list[str]:
    """The cells of a line. One between quotes may have tabs in it, and quotes twice."""
    if '"' not in line:
        return line.split("\t")
    return [
        cell[1:-1].replace('""', '"') if quoted else cell
        for cell, quoted in ((found[1], found[2] is not None) for found in _CELL.finditer(line))
    ]


def _paragraphs(file: BinaryIO, progress: Progress) -> Iterator[Entry | Bad]:
    """Paragraphs between blank lines."""
    held: list[str] = []
    start = size = 0
    spoiled = False  # without one of its lines a paragraph may have another meaning
    for number, line in chain(_lines(file, progress), [(0, "")]):
        if isinstance(line, Bad):
            yield line
            spoiled = True
            continue
        if not line.strip() or size > LONGEST_ENTRY // 2:
            if held and not spoiled:
                yield Entry("", "", "\n".join(held), f"line {start}")
            held, size, spoiled = [], 0, False
        if line.strip():
            start = start if held else number
            held.append(line)
            size += len(line)


def _markdown(file: BinaryIO, progress: Progress) -> Iterator[Entry | Bad]:
    return markdown_entries(_lines(file, progress))


_READERS: dict[str, Callable[[BinaryIO, Progress], Iterator[Entry | Bad]]] = {
    ".json": json_entries,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": parquet_entries,
    ".md": _markdown,
    ".markdown": _markdown,
    ".txt": _paragraphs,
    ".tsv": _tsv,
}
KINDS = (*_READERS, *pages.KINDS, ".pdf")
_KNOWN = ", ".join(KINDS)
