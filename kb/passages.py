"""Entries as passages: cleaned, short ones of one topic merged, long ones split."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kb.entries import Entry
from runtime.questions import clean_text

# In words; two Han characters count as one. This length gave the most right answers
# (docs/knowledge.md).
LENGTH = 100
# Markup left in a text. "a<b and c>d" has none: only known tags count, and attributes need values.
_ATTRIBUTES = r"""(?:\s+[\w:-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>]+)){0,20}\s*/?"""
_INLINE = "a|abbr|b|big|cite|code|em|font|i|kbd|mark|q|s|small|span|strong|sub|tt|u|var|wbr"
_BLOCK = (
    "article|aside|blockquote|body|br|caption|center|dd|div|dl|dt|figcaption|figure|footer|h[1-6]"
    "|head|header|hr|html|img|li|main|nav|ol|p|pre|section|table|tbody|td|tfoot|th|thead|tr|ul"
)
# Parts that a browser does not show: their beginnings, and the end for each kind.
_UNSHOWN = re.compile(r"<(?:(script|style)\b[^<>]*>|!--)", re.IGNORECASE)
_UNSHOWN_ENDS = {
    "script": re.compile(r"</script\s*>", re.IGNORECASE),
    "style": re.compile(r"</style\s*>", re.IGNORECASE),
    "": re.compile("-->"),
}
_INLINE_TAG = re.compile(rf"</?(?:{_INLINE}){_ATTRIBUTES}>", re.IGNORECASE)
_SUPERSCRIPT = re.compile(rf"<sup{_ATTRIBUTES}>([^<>]*)</sup\s*>", re.IGNORECASE)
_RAISED = dict(zip("0123456789+-\u2212=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿ", strict=True))
# Where a word may be broken, and marks of direction: not seen, and not in what is searched for.
_UNSEEN = re.compile("[\u00ad\u200b\u200e\u200f\u2060\ufeff]")
_BLOCK_TAG = re.compile(rf"</?(?:{_BLOCK}){_ATTRIBUTES}>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|(?<=[。！？；])|\n+")
_WORD = re.compile(r"[\u3400-\u9fff]{1,2}|[^\s\u3400-\u9fff]+")
# Longer "words" are cut, so that no passage gets too long.
_LONGEST_WORD = 100
_LONGEST_HEADING = 120


@dataclass(frozen=True)
class Draft:
    """A passage without its number: heading, text, and the place of its first entry."""

    title: str
    section: str
    text: str
    where: str


def drafts(entries: Iterable[Entry], length: int = LENGTH) -> Iterator[Draft]:
    """Passages of at most about `length` words.

    Entries that follow each other under one title and one first part of their section are
    merged, each with the rest of its section before it, as long as they fit.
    """
    held: Draft | None = None
    count = 0
    for entry in entries:
        title, section = _clean(entry.title), _clean(entry.section)
        top, _, rest = section.partition(" / ")
        title, top = title[:_LONGEST_HEADING], top[:_LONGEST_HEADING]
        text = clean(entry.text)
        text = f"{rest[:_LONGEST_HEADING]}: {text}" if rest and text else text
        for part in split(text, length):
            words = len(_WORD.findall(part))
            merges = held is not None and title and (title, top) == (held.title, held.section)
            if held is not None and merges and count + words <= length:
                held = Draft(title, top, f"{held.text}\n{part}", held.where)
                count += words
            else:
                if held is not None:
                    yield held
                held, count = Draft(title, top, part, entry.where), words
    if held is not None:
        yield held


def clean(text: str) -> str:
    """A text without tags, entities, control characters and extra white space."""
    if "<" in text:
        text = _shown(text)
        text = _SUPERSCRIPT.sub(lambda found: superscript(found[1]), _INLINE_TAG.sub("", text))
        text = _BLOCK_TAG.sub(" ", text)
    if "&" in text:
        text = _ENTITY.sub(lambda found: html.unescape(found[0]), text)
    text = clean_text(_UNSEEN.sub("", text))
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(filter(None, lines))


def superscript(text: str) -> str:
    """A text in raised characters, or as it is if it has others than numbers: 10⁶, but 4th."""
    raised = [_RAISED.get(each) for each in text.strip()]
    return text if None in raised else "".join(filter(None, raised))


def _shown(text: str) -> str:
    """A text without scripts, styles and comments; those without an end count as text."""
    parts, at, endless = [], 0, set()
    for begin in _UNSHOWN.finditer(text):
        kind = (begin[1] or "").casefold()
        if begin.start() < at or kind in endless:
            continue
        end = _UNSHOWN_ENDS[kind].search(text, begin.end())
        if end is None:
            endless.add(kind)
            continue
        parts.append(text[at : begin.start()])
        at = end.end()
    return " ".join([*parts, text[at:]])


def _clean(text: str) -> str:
    return " ".join(clean(text).split())


def split(text: str, length: int) -> Iterator[str]:
    """Parts of at most `length` words, between sentences where that can be."""
    part: list[str] = []
    count = 0
    for sentence in _SENTENCE.split(text):
        for piece, words in _cut(sentence.strip(), length):
            if part and count + words > length:
                yield " ".join(part)
                part, count = [], 0
            part.append(piece)
            count += words
    if part:
        yield " ".join(part)


def _cut(sentence: str, length: int) -> Iterator[tuple[str, int]]:
    """A sentence and its words; one with more than `length` in pieces."""
    start = count = 0
    for word in _WORD.finditer(sentence):
        while word.end() - start > length * _LONGEST_WORD:
            yield sentence[start : start + length * _LONGEST_WORD], length
            start, count = start + length * _LONGEST_WORD, 0
        if count == length:
            yield sentence[start : word.start()].strip(), count
            start, count = word.start(), 0
        count += 1
    if sentence[start:].strip():
        yield sentence[start:].strip(), count
