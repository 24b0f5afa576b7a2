"""Entries, as which all raw files are read, and problems with those that are not entries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from math import isfinite
from typing import Any

# A longer line, paragraph, JSON value or page is not an entry.
LONGEST_ENTRY = 16 << 20
_DEEPEST = 20  # more deeply nested values are not read
TITLES = ("title", "name", "topic", "entity", "headword", "question")
_SECTIONS = ("section", "heading", "category")
ANSWERS = ("answer", "answers")
TEXTS = ("text", "content", "passage", "context", "body", "fact", "description")


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


def from_record(value: Any, where: str, depth: int = 0) -> Iterator[Entry | Bad]:
    """A value of JSON or Parquet as an entry, or as several.

    It has a text (`text`, `content`, ...) and perhaps a title and a section. A question is the
    title of its answer. Without a text, a list of objects in it is entries under its title; one
    or two other texts are the text "one: other", and any other members "key: value; key: value".
    """
    if isinstance(value, str):
        yield Entry("", "", value, where)
        return
    if not isinstance(value, dict):
        yield Bad(where, f"is a {type(value).__name__}, not an object or a text")
        return
    told = {key: text for key, each in value.items() if (text := _told(each, "\n").strip())}

    def first(keys: tuple[str, ...]) -> str:
        found = (key for known in keys for key in told if key.casefold() == known)
        return told.pop(next(found, ""), "")

    keys = set(map(str.casefold, told))
    if "question" in keys and not keys.isdisjoint(ANSWERS):
        question, answer, more = first(("question",)), first(ANSWERS), first(TEXTS)
        yield Entry(question, "", f"{answer}\n{more}".strip(), where)
        return
    title, section, text = first(TITLES), first(_SECTIONS), first(TEXTS)
    below: dict[str, list[Any]] = {}
    if not text and not any(key.casefold() in TEXTS for key in value):
        below = {key: value[key] for key in told if depth < _DEEPEST and _objects(value[key])}
        left = {key: value[key] for key in told if key not in below}
        texts = [each for each in left.values() if isinstance(each, str)]
        bare = not title and len(texts) == len(left) <= 2
        text = ": ".join(each.strip() for each in texts) if bare else _told(left)
    if text:
        yield Entry(title, section, text, where)
    elif not below:
        yield Bad(where, "has no text")
    for key, values in below.items():
        for number, each in enumerate(values, start=1):
            for found in from_record(each, f"{where}, {key} {number}", depth + 1):
                if isinstance(found, Entry):
                    parts = filter(None, [section, found.title if title else "", found.section])
                    found = replace(found, title=title or found.title, section=" / ".join(parts))
                yield found


def is_header(cells: list[str]) -> bool:
    """Whether the first line of a table names columns that `from_record` knows."""
    names = {cell.strip().casefold() for cell in cells}
    told = not names.isdisjoint((*TEXTS, *ANSWERS))
    return told and not names.isdisjoint(("id", *TITLES, *_SECTIONS)) and len(names) == len(cells)


def _objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _told(value: Any, between: str = ", ", depth: int = 0) -> str:
    """A text, number or date, or a list or object of these, as one text; else "".

    Numbers in a list do not count: they are coordinates and the like.

    Args:
        between: stands between the items of a list.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(int(value) if value.is_integer() else value) if isfinite(value) else ""
    if isinstance(value, int | date) and not isinstance(value, bool):
        return str(value)
    if depth < _DEEPEST and isinstance(value, list):
        items = (each for each in value if not isinstance(each, int | float))
        return between.join(filter(str.strip, (_told(each, depth=depth + 1) for each in items)))
    if depth < _DEEPEST and isinstance(value, dict):
        told = {key: _told(each, depth=depth + 1) for key, each in value.items()}
        named = {key: "" if depth and key.casefold() in TEXTS else f"{key}: " for key in told}
        parts = (f"{named[key]}{text}" for key, text in told.items() if text.strip())
        return (", " if depth else "; ").join(parts)
    return ""
