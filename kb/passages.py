"""Entries as passages: cleaned, short ones of one topic merged, long ones split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kb.reading import Entry
from runtime.questions import clean_text

# What finds most right answers (docs/knowledge.md): words, two Han characters counting as one.
LENGTH = 100
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|(?<=[。！？；])|\n+")
_WORD = re.compile(r"[\u3400-\u9fff]{1,2}|[^\s\u3400-\u9fff]+")
# A "word" of more characters is cut, so that no passage is endless.
_LONGEST_WORD = 100
_LONGEST_HEADING = 120


@dataclass(frozen=True)
class Draft:
    """A passage before it has its place: heading, text, and the entry that it begins with."""

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
    """A text without markup's tags, control characters and needless white space."""
    text = _TAG.sub(" ", clean_text(text))
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(filter(None, lines))


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
