"""Reads Markdown as entries: paragraphs and table rows, under the headings above them."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from itertools import chain, pairwise
from typing import Any

from kb.entries import LONGEST_ENTRY, Bad, Entry
from kb.tables import Row, Table
from runtime.common.extras import require

_CHUNK = 50_000  # characters that are parsed at once, if no block is longer
_DEEPEST = 100  # what is nested more deeply the parser would drop; it is kept as it is
_LOST = "\ufdd0"  # in place of a line that cannot be read; Unicode has no such character
_FRONT = re.compile(r"(---|\+\+\+)[ \t]*\n((?:.*\n){0,200}?)\1[ \t]*\n")
_TITLE = re.compile(r"""(?m)^title[ \t]*[:=][ \t]*["']?(.*?)["']?[ \t]*$""")
_UNDERLINED = re.compile(".{1,200}")  # any other text is a paragraph, with a rule below it
_IDENTIFIER = re.compile(r"[ \t]*\{[#.:][^{}]*\}$")
_COMMENT = re.compile(r"(?s)<!--.*-->")
# The parser's own rule would drop "[Anna]: Yes." and know a target in its own chunk only.
_LINK_TARGET = re.compile(r"(?m)^ {0,3}\[[^\]^][^\]]*\]:\s*<?(?:\w+:|[/#.])\S*([ \t]+[\"'(].*)?$")
_BAR = re.compile(r"(?<!\\)\|")


def markdown_entries(lines: Iterable[tuple[int, str | Bad]]) -> Iterator[Entry | Bad]:
    """The entries of numbered lines. Blocks without a blank line between them are one entry.

    Raises:
        MissingLibraryError: markdown-it-py is not installed.
    """
    require("reading Markdown", "knowledge", "markdown_it")
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"maxNesting": _DEEPEST}).enable("table").disable("reference")
    # Of the marks in a text only those of links are read: "2*3*4" has no emphasis.
    parser.inline.ruler.enableOnly(["text", "backticks", "link", "image"])
    parser.validateLink = lambda url: True  # type: ignore[method-assign]
    above = ("", "")
    held: list[str] = []
    first, size, enough = 1, 0, _CHUNK
    for _, line in chain(lines, [(0, None)]):
        if isinstance(line, Bad):
            yield line
        if line is not None:
            held.append(_LOST if isinstance(line, Bad) else line)
            size += len(held[-1]) + 1
            if size < enough:
                continue
        if first == 1 and (front := _FRONT.match("\n".join([*held, ""]))):
            above = ("".join(_TITLE.findall(front[2])[:1]), "")
            first += front[0].count("\n")
            del held[: first - 1]
        tokens: list[Any] = []
        parser.block.parse("\n".join(held), parser, {}, tokens)
        blocks = [token for token in tokens if token.map]
        cut, heading = len(held), 0
        if line is not None and blocks:  # what the last block is depends on what follows
            last = [token for token in blocks if not token.level][-1]
            # A long list or table is cut within, and the heading of the table repeated.
            inner = blocks[-1].map[0] or (len(held) if size > LONGEST_ENTRY // 2 else 0)
            cut = last.map[0] or inner
            heading = 2 if last.type == "table_open" and not last.map[0] and cut else 0
        blocks = [token for token in blocks if token.map[0] < cut]
        above = yield from _entries(parser, blocks, held[:cut], first, above)
        first += cut - heading
        held = held[:heading] + held[cut:]
        size = sum(map(len, held)) + len(held)
        enough = max(_CHUNK, 2 * size)


def _entries(
    parser: Any, blocks: list[Any], lines: list[str], first: int, above: tuple[str, str]
) -> Generator[Entry, None, tuple[str, str]]:
    """The entries of blocks, below a title and section; returns those at the end."""
    texts: list[str] = []
    start = end = table_end = 0
    markers: dict[int, str] = {}  # of items of lists, by line
    for before, block in pairwise([None, *blocks]):
        kind, (begin, after) = block.type, block.map
        if texts and (begin > end or kind in ("heading_open", "table_open")):
            yield Entry(*above, "\n".join(texts), f"line {first + start}")
            texts = []
        if begin < table_end:
            continue
        deep = kind in ("list_item_open", "blockquote_open") and block.level >= _DEEPEST - 1
        if kind == "table_open":
            table, table_end = Table(), after
            for number in (begin, *range(begin + 2, min(after, len(lines)))):
                text = table.text(_row(parser, lines[number], number == begin))
                if text and _LOST not in text:
                    yield Entry(*above, text, f"line {first + number}")
        elif kind == "list_item_open" and not deep:
            markers[begin] = f"{markers.get(begin, '')}{block.info}{block.markup} "
        elif deep or block.content:
            text = "\n".join(lines[begin:after]) if deep else block.content
            if kind in ("inline", "html_block"):
                text = _unlinked(parser, _LINK_TARGET.sub("", text))
            text = text.strip()
            named = before is not None and before.type == "heading_open" and not before.level
            if named and (before.markup[0] == "#" or _UNDERLINED.fullmatch(text)):
                name = "" if _LOST in text else _IDENTIFIER.sub("", text).strip(" .")
                above = (name, "") if before.tag == "h1" else (above[0], name)
            elif text and _LOST not in text and not _COMMENT.fullmatch(text):
                start, end = start if texts else begin, after
                texts.append(markers.pop(begin, "") + text)
    if texts:
        yield Entry(*above, "\n".join(texts), f"line {first + start}")
    return above


def _row(parser: Any, line: str, heading: bool) -> Row:
    """A line of a table. The parser would drop cells beyond those of the heading."""
    row = Row()
    cells = _BAR.split(line.strip().lstrip("> \t").removeprefix("|"))
    for cell in cells if cells[-1].strip() else cells[:-1]:
        row.open(heading)
        row.add(_unlinked(parser, cell.strip().replace("\\|", "|")))
    return row


def _unlinked(parser: Any, text: str) -> str:
    """A text with the texts of its links and images in place of them."""
    if "](" not in text:
        return text
    tokens: list[Any] = []
    parser.inline.parse(text, parser, {}, tokens)
    return "".join(map(_told, tokens))


def _told(token: Any) -> str:
    if token.children:
        return "".join(map(_told, token.children))
    return f"{token.markup}{token.content}{token.markup}"
