"""Sets of numbers: "x > 2", "2 < x" and "(2, ∞)" are one.

A text says a union of intervals, its parts between "or" and "∪"; within a part all must hold.
"""

from __future__ import annotations

import re
from typing import Any

from evaluation.judges import values

Interval = Any  # a set of sympy's

_BOUND = r"[^,()\[\]<>≤≥=]{0,20}(?:\([^()]{0,20}\))?[^,()\[\]<>≤≥=]{0,20}"
_NOTATION = re.compile(rf"([(\[])({_BOUND}),({_BOUND})([)\]])")
_AFTER = re.compile(r"(?<![\w.^)])([a-z])\s*([<>≤≥])\s*([^<>≤≥=,;]{1,40}?)(?=$|[,;]|\band\b|且)")
_BEFORE = re.compile(r"(?:^|(?<=[,;:]))\s*([^<>≤≥=,;:]{1,40}?)\s*([<>≤≥])\s*[a-z](?![\w^])")
_OR = re.compile(r"\bor\b|∪|或|\bunion\b")
_EVERYTHING = re.compile(r"\ball (?:the )?real (?:numbers?|values?)\b|ℝ|\bevery real number\b")
_FLIPPED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}
_INFINITY = re.compile(r"([-+]?)\s*(?:∞|infinity|infty|inf)")


def unbounded_or_half_open(text: str) -> bool:
    """Whether a text has a relation, an infinity or a square bracket: (2, 3) alone is a point."""
    return bool(re.search(r"[<>≤≥∞]|inf|\[[^\]]*,[^\]]*[)\]]|,[^\]]*\]", text)) or bool(
        _EVERYTHING.search(text)
    )


def read(text: str) -> Interval | None:
    """The union of intervals that a text says, or None if it says none.

    Args:
        text: in lower case, with plain operators.
    """
    parts = [_part(part) for part in _OR.split(text)]
    if not parts or any(part is None for part in parts):
        return None
    return values.union(parts)


def _part(text: str) -> Interval | None:
    infinity = values.infinity()
    found: list[Interval] = []
    for opening, low, high, closing in _NOTATION.findall(text):
        ends = _value(low), _value(high)
        if ends[0] is not None and ends[1] is not None:
            found.append(values.interval(ends[0], ends[1], opening == "(", closing == ")"))
    relations = [(relation, bound) for _, relation, bound in _AFTER.findall(text)]
    relations += [(_FLIPPED[relation], bound) for bound, relation in _BEFORE.findall(text)]
    for relation, bound in relations:
        value = _value(bound)
        if value is None:
            continue
        low, high = (-infinity, value) if relation in "<≤" else (value, infinity)
        found.append(values.interval(low, high, relation == ">", relation == "<"))
    if not found and _EVERYTHING.search(text):
        return values.interval(-infinity, infinity, True, True)
    return values.intersection(found) if found else None


def _value(text: str) -> Any:
    text = text.strip(" .$")
    if match := _INFINITY.fullmatch(text):
        return -values.infinity() if match[1] == "-" else values.infinity()
    return values.number(text)
