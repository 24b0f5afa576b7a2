"""Entries, as which all raw files are read, and problems with those that are not entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# A longer line, paragraph, JSON value or page is not an entry.
LONGEST_ENTRY = 16 << 20
_TITLES = ("title", "name", "topic", "entity", "headword")
_SECTIONS = ("section", "heading", "category")
_TEXTS = ("text", "content", "passage", "body", "fact", "description")


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


def from_record(value: Any, where: str) -> Entry | Bad:
    """A JSON value as an entry; `kb.reading` says how its keys are understood."""
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
