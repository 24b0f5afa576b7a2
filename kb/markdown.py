"""Reads Markdown as entries: paragraphs and table rows, under the headings above them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from kb.entries import LONGEST_ENTRY, Bad, Entry
from kb.tables import Row, Table

_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t](.*))?")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*")
_LONGEST_UNDERLINED = 200
# No heading, even if underlined: an item of a list, a quotation, a row, HTML.
_NO_HEADING = re.compile(r"\s*(?:[-*+>|<]|\d+[.)]\s)")
_IDENTIFIER = re.compile(r"[ \t]*\{[#.:][^{}]*\}$")
_FENCE = re.compile(r" {0,3}(`{3,}(?!.*`)|~{3,})")
_DELIMITERS = re.compile(r"[ \t]*\|?([ \t]*:?-+:?[ \t]*\|)+([ \t]*:?-+:?)?[ \t]*")
_BAR = re.compile(r"(?<!\\)\|")
# Of a link or an image the text is kept.
_LINK = re.compile(
    r"""!?\[([^\[\]]*)\]\(<?[^\s()<>]*(?:\([^\s()]*\)[^\s()<>]*)*>?(?:\s+["'(][^"\n]*["')])?\)"""
)
_LINK_TARGET = re.compile(r" {0,3}\[[^\]^][^\]]*\]:\s*<?(?:\w+:|[/#.])\S*(?:\s+[\"'(].*)?")
_TITLE = re.compile(r"""title\s*[:=]\s*["']?(.*?)["']?\s*""")
_LONGEST_FRONT = 200  # lines

Lines = Iterable[tuple[int, str | Bad]]


def markdown_entries(lines: Lines) -> Iterator[Entry | Bad]:
    """The entries of numbered lines. Headings and tables in code and comments do not count."""
    title, lines = _front(lines)
    section = ""
    held: list[str] = []
    start = size = 0
    spoiled = False  # without one of its lines a paragraph may have another meaning
    until = ""  # what ends the code block or comment that a line is in
    table: Table | None = None

    def paragraph() -> Iterator[Entry]:
        nonlocal held, size, spoiled
        text = _unlinked("\n".join(held)).strip()
        if text and not spoiled and not re.fullmatch(r"(?s)<!--.*-->", text):
            yield Entry(title, section, text, f"line {start}")
        held, size, spoiled = [], 0, False

    for number, line in lines:
        if isinstance(line, Bad):
            yield line
            spoiled = True
            continue
        size += len(line)
        if size > LONGEST_ENTRY // 2:
            yield from paragraph()
        start = start if held else number
        if until:
            ends = until in line if until == "-->" else line.strip().startswith(until)
            if until == "-->" or not ends:
                held.append(line)
            until = "" if ends else until
            continue
        if table is not None and "|" in line:
            if told := table.text(_row(line, heading=False)):
                yield Entry(title, section, told, f"line {number}")
            continue
        table = None
        level, name = _heading(line)
        if len(held) == 1 and not spoiled and (under := _underline(held[0], line)):
            level, name = under, held.pop()
        if level or not line.strip():
            yield from paragraph()
        if level:
            name = _unlinked(_IDENTIFIER.sub("", name)).strip(" .")
            title, section = (name, "") if level == 1 else (title, name)
        elif held and _BAR.search(held[-1]) and _DELIMITERS.fullmatch(line):
            names = _row(held.pop(), heading=True)
            yield from paragraph()
            table = Table()
            table.text(names)
        elif fence := _FENCE.match(line):
            until = fence[1]
        elif line.strip() and not _LINK_TARGET.fullmatch(line):
            held.append(line)
            until = "-->" if line.lstrip().startswith("<!--") and "-->" not in line else ""
    yield from paragraph()


def _heading(line: str) -> tuple[int, str]:
    """The level and the name of a heading that begins with "#"; level 0 if there is none."""
    found = _HEADING.fullmatch(line)
    if found is None:
        return 0, ""
    name = (found[2] or "").strip()
    bare = name.rstrip("#")
    return len(found[1]), bare.strip() if bare[-1:] in ("", " ", "\t") else name


def _underline(line: str, under: str) -> int:
    """The level of the heading that a line is with another below it; 0 if it is none."""
    found = _UNDERLINE.fullmatch(under)
    if found is None or len(line) > _LONGEST_UNDERLINED or _NO_HEADING.match(line):
        return 0
    return 1 if found[1][0] == "=" else 2


def _unlinked(text: str) -> str:
    """A text with the texts of its links in place of the links; a link may be an image."""
    return _LINK.sub(r"\1", _LINK.sub(r"\1", text)) if "](" in text else text


def _front(lines: Lines) -> tuple[str, Lines]:
    """The title in a file's front matter, "" if there is none, and the lines after that."""
    lines = iter(lines)
    taken: list[tuple[int, str | Bad]] = []
    title = marker = ""
    for number, line in lines:
        taken.append((number, line))
        if isinstance(line, Bad) or len(taken) > _LONGEST_FRONT:
            break
        if number == 1:
            marker = line.rstrip()
            if marker not in ("---", "+++"):
                break
        elif line.rstrip() == marker:
            return title, lines
        elif found := _TITLE.fullmatch(line):
            title = found[1]
    return "", chain(taken, lines)


def _row(line: str, heading: bool) -> Row:
    """A line of a table."""
    row = Row()
    text = _unlinked(line).strip().removeprefix("|")
    cells = _BAR.split(text)
    if len(cells) > 1 and not cells[-1].strip():
        cells.pop()
    for cell in cells:
        row.open(heading)
        row.add(cell.strip().replace("\\|", "|"))
    return row
