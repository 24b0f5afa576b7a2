"""Reads HTML pages as entries: paragraphs and table rows, without navigation and the like."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kb.entries import LONGEST_ENTRY, Bad, Entry
from kb.passages import superscript
from kb.tables import Row, Table
from runtime.common.extras import require
from runtime.common.files import open_regular

KINDS = (".html", ".htm", ".xhtml")
# Not shown by a browser, not text, or marks within the text.
_HIDDEN = (
    "script, style, noscript, template, svg, canvas, iframe, object, audio, video, dialog, button,"
    " select, textarea, [hidden], [aria-hidden=true], [style*='display:none' i],"
    " [style*='display: none' i], sup.reference, .mw-editsection"
)
# Navigation of a site.
_AROUND = (
    "nav, footer, body > header, [role=navigation], [role=banner], [role=contentinfo],"
    " [role=search]"
)
_HEADINGS = {f"h{n}": n for n in range(1, 7)}
_OTHER_BLOCKS = (
    "address article aside blockquote body caption center dd details div dl dt fieldset figcaption"
    " figure form header hr legend li main ol option p pre section summary table tbody td tfoot th"
    " thead tr ul"
)
_BLOCKS = frozenset(_OTHER_BLOCKS.split()) | frozenset(_HEADINGS)
# A table that contains one of these is for layout, not for data.
_LAYOUT = ", ".join(["table", *_HEADINGS])
_MARKUP = re.compile(r"</(?:html|body|article|div|p|table|[uo]l|h[1-6]|script)\s*>", re.IGNORECASE)
# Between the parts of a title, one of which may name the site.
_SEPARATOR = re.compile(r" [-–—|·•»:]+ ")
# Characters of a heading's link to itself.
_ANCHOR = " §¶#"
_CHARSET = re.compile(
    rb"""<(?:\?xml[^>]+encoding|meta[^>]+charset)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE
)
_COMMENT = re.compile(rb"(?s)<!--.*?-->")
# In XML an element may end where it begins; in HTML these would go on to their end tag.
_ENDED = re.compile(r"<(title|script|style|textarea|iframe|noscript|template)\b([^<>]*)/>", re.I)
_LOST = "\ufffd"  # in place of bytes that are not in the page's encoding
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Prefixes of Python's names of text encodings; it has other codecs, such as hex and punycode.
_ENCODINGS = ("ascii", "big5", "cp", "euc", "gb", "hz", "iso", "koi8", "mac", "shift", "tis", "utf")
# Encodings that browsers read as a larger one.
_LARGER = {"ascii": "cp1252", "iso8859-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030"}
_LARGER |= dict.fromkeys(("utf-16", "utf-16-le", "utf-16-be"), "utf-8")  # read this far as ASCII
# Blocks on nearly all pages of a site are left out. This many pages are looked at, at most.
_SAMPLE, _FEWEST_PAGES, _SHARE = 200, 3, 0.8

Block = tuple[str, str]
"""A tag and its text: "h1" to "h6", "p" for any paragraph, "row" of a table, "title" for a part
of the page's title."""


def page_entries(path: Path, repeated: Collection[Block] = ()) -> Iterator[Entry | Bad]:
    """The entries of a page: its paragraphs under the headings above them.

    Args:
        path: the file.
        repeated: blocks to leave out; see `repeated_blocks`.

    Raises:
        MissingLibraryError: selectolax is not installed.
        OSError: the file cannot be read.
    """
    try:
        name, blocks = _page(path)
    except ValueError as error:
        yield Bad("the page", str(error))
        return
    own = [part for part in _parts(name) if ("title", part) not in repeated]
    name = " – ".join(own) if len(own) < len(_parts(name)) else name
    left = [block for block in blocks if block not in repeated]
    found = list(_entries(name, left, ""))
    yield from found
    if not found:
        yield Bad("the page", "has no text")


def is_markup(text: str) -> bool:
    """Whether a text is HTML with paragraphs, and not words with a tag among them."""
    return bool(_MARKUP.search(text))


def markup_entries(entry: Entry) -> Iterator[Entry | Bad]:
    """The entries of HTML that was another entry's text; see `page_entries`."""
    name, blocks = _parsed(entry.text)
    found = list(_entries(entry.title or name, blocks, f"{entry.where}, "))
    for each in found:
        if isinstance(each, Bad):
            yield each
            continue
        title = entry.title or each.title
        above = [each.section] if title == each.title else [each.title, each.section]
        section = " / ".join(filter(None, [entry.section, *above]))
        yield replace(each, title=title, section=section)
    if not found:
        yield Bad(entry.where, "has no text")


def _entries(name: str, blocks: Iterable[Block], where: str) -> Iterator[Entry | Bad]:
    headings: list[tuple[int, str]] = []
    for number, (tag, text) in enumerate(blocks, start=1):
        if tag in _HEADINGS:
            level, text = _HEADINGS[tag], "" if _LOST in text else text
            headings = [each for each in headings if each[0] < level] + [(level, text)]
            continue
        if _LOST in text:
            yield Bad(f"{where}block {number}", "is not in the encoding of the page")
            continue
        above = [text for _, text in headings]
        if not headings or (headings[0][0] > 1 and headings[0][1] != name):
            above.insert(0, name)
        title, *rest = [*filter(None, above)] or [""]
        yield Entry(title, " / ".join(rest), text, f"{where}block {number}")


def repeated_blocks(paths: Sequence[Path]) -> frozenset[Block]:
    """Blocks on nearly all of some pages, such as the name of the site, and shared parts of titles.

    Table rows never count as repeated, nor does anything on fewer than three pages.
    """
    step = max(1, len(paths) // _SAMPLE)
    seen: Counter[Block] = Counter()
    count = 0
    for path in paths[::step]:
        try:
            name, blocks = _page(path)
        except (ValueError, OSError):
            continue
        titles = {("title", part) for part in _parts(name)}
        seen.update(titles | {block for block in blocks if block[0] != "row"})
        count += 1
    if count < _FEWEST_PAGES:
        return frozenset()
    return frozenset(block for block, n in seen.items() if n >= max(_FEWEST_PAGES, _SHARE * count))


def _parts(name: str) -> list[str]:
    """The parts of a page's title, one of which may be the name of its site."""
    return _SEPARATOR.split(name)


def _page(path: Path) -> tuple[str, list[Block]]:
    """A page's own title and its blocks. Raises ValueError saying what is wrong."""
    with open_regular(path) as file:
        raw = file.read(LONGEST_ENTRY + 1)
    if len(raw) > LONGEST_ENTRY:
        raise ValueError(f"is longer than {LONGEST_ENTRY >> 20} MiB")
    text = _decoded(raw)
    if path.suffix.lower() == ".xhtml" or text.startswith("<?xml"):
        text = _ENDED.sub(r"<\1\2></\1>", text)
    return _parsed(text)


def _parsed(text: str) -> tuple[str, list[Block]]:
    """A page's own title and its blocks."""
    require("reading a page of HTML", "knowledge", "selectolax")
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(text)
    named = tree.css_first("title")
    name = " ".join(named.text().split()) if named is not None else ""
    # Not decomposed: that also frees the nodes inside, which may be among them.
    unread = {node.mem_id for node in tree.css(f"{_HIDDEN}, {_AROUND}")}
    mains = tree.css("main, [role=main]")
    blocks = list(_blocks(mains[0], unread)) if len(mains) == 1 else []
    if not blocks and tree.body is not None:
        blocks = list(_blocks(tree.body, unread))
    return "" if _LOST in name else name, blocks


def _decoded(raw: bytes) -> str:
    """The text of a page, in the encoding that it names, or UTF-8. Raises ValueError."""
    marked = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), "")
    if marked:
        return raw.decode(marked, "replace").removeprefix("\ufeff")
    named = _CHARSET.search(_COMMENT.sub(b"", raw[:4096]))
    if named is None:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"names no encoding and is not in utf-8 (byte {error.start}); convert it first, for"
                " example with iconv -f gb18030 -t utf-8"
            ) from None
    encoding = named[1].decode()
    try:
        known = codecs.lookup(encoding).name
    except LookupError:
        known = ""
    if not known.startswith(_ENCODINGS):
        raise ValueError(f"is in an unknown encoding, {encoding}")
    return raw.decode(_LARGER.get(known, known), "replace")


def _blocks(root: Any, unread: Collection[int]) -> Iterator[Block]:
    """The headings, rows and paragraphs below a node, in order, without unread nodes."""
    texts: list[str] = []
    heading = ""
    raised = 0  # where the text of a superscript begins
    row: Row | None = None
    tables: list[Table] = []

    def flushed() -> Iterator[Block]:
        text = " ".join("".join(texts).split())
        texts.clear()
        if heading:
            text = text.strip(_ANCHOR)
        if text and row is not None:
            row.add(text)
        elif text:
            yield (heading or "p"), text

    for tag, node in _walk(root, unread):
        if tag == "-text":
            texts.append(node.text_content or "")
        elif tag == "sup":
            raised = len(texts)
        elif tag == "/sup":
            texts[raised:] = [superscript("".join(texts[raised:]))]
        elif tag in ("br", "/dt"):
            texts.append("\n" if tag == "br" else ": ")
        elif tag == "dd" and row is None and texts[-1:] == [": "]:
            continue
        elif tag.removeprefix("/") in _BLOCKS:
            yield from flushed()
            if tag == "table":
                tables.append(Table())
            elif tag == "/table":
                tables.pop()
            elif tag == "tr" and tables and not _arranges(node):
                row = Row()
            elif tag in ("td", "th") and row is not None:
                head = tag == "th" or node.parent.parent.tag == "thead"
                row.open(head, _span(node, "colspan"), _span(node, "rowspan"))
            elif tag == "/tr" and row is not None:
                line, row = tables[-1].text(row), None
                if line:
                    yield "row", line
            if tag.removeprefix("/") in _HEADINGS:
                heading = "" if tag.startswith("/") else tag
    yield from flushed()


def _arranges(row: Any) -> bool:
    """Whether a row belongs to a table that is for layout."""
    return row.css_first(_LAYOUT) is not None


def _span(cell: Any, name: str) -> int:
    """The number of columns or rows that a cell spans."""
    found = re.match(r"\s*(\d{1,4})", cell.attributes.get(name) or "")
    return int(found[1]) if found else 1


def _walk(root: Any, unread: Collection[int]) -> Iterator[tuple[str, Any]]:
    """Every node below one with its tag, and "/tag" where an element ends. Not recursive: pages
    may be nested deeper than Python can."""
    above: list[Any] = []
    node = root.child
    while node is not None or above:
        if node is None:
            node = above.pop()
            yield f"/{node.tag}", node
            node = node.next
            continue
        if node.mem_id in unread:
            node = node.next
            continue
        yield node.tag, node
        if node.child is not None:
            above.append(node)
            node = node.child
        else:
            if node.tag != "-text":
                yield f"/{node.tag}", node
            node = node.next
