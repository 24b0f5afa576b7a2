"""Sets of numbers: "x > 2", "2 < x" and "(2, ∞)" are one.

A text says a union of intervals, its parts between "or" and "∪"; within a part all must hold.
"""

from __future__ import annotations

import math
import re

from evaluation.judges import expressions

# (lower end, whether it belongs to the set, upper end, whether it does)
Interval = tuple[float, bool, float, bool]

_BOUND = r"[^,()\[\]<>≤≥=]{0,20}(?:\([^()]{0,20}\))?[^,()\[\]<>≤≥=]{0,20}"
_NOTATION = re.compile(rf"([(\[])({_BOUND}),({_BOUND})([)\]])")
_AFTER = re.compile(r"(?<![\w.^)])([a-z])\s*([<>≤≥])\s*([^<>≤≥=,;]{1,40}?)(?=$|[,;]|\band\b|且)")
_BEFORE = re.compile(
    r"(?:^|(?<=[,;:])|(?<=\band\b)|(?<=\bis\b))\s*([^<>≤≥=,;:]{1,40}?)\s*([<>≤≥])\s*[a-z](?![\w^])"
)
_OR = re.compile(r"\bor\b|∪|或|\bu\b|\bunion\b")
_EVERYTHING = re.compile(r"\ball (?:the )?real (?:numbers?|values?)\b|ℝ|\bevery real number\b")
_FLIPPED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}
_INFINITY = re.compile(r"([-+]?)\s*(?:∞|infinity|infty|inf)")


def unbounded_or_half_open(text: str) -> bool:
    """Whether a text has a relation, an infinity or a square bracket: (2, 3) alone is a point."""
    return bool(re.search(r"[<>≤≥∞]|inf|\[[^\]]*,[^\]]*[)\]]|,[^\]]*\]", text)) or bool(
        _EVERYTHING.search(text)
    )


def read(text: str) -> list[Interval] | None:
    """The union of intervals that a text says, in order, or None if it says none.

    Args:
        text: in lower case, with plain operators.
    """
    found = [each for part in _OR.split(text) if (each := _part(part)) is not None]
    return sorted(found) if found and len(found) == len(_OR.split(text)) else None


def same(one: list[Interval], other: list[Interval]) -> bool:
    """Whether two unions are the same set, ends to nine digits."""
    return len(one) == len(other) and all(
        a[1] == b[1] and a[3] == b[3] and _near(a[0], b[0]) and _near(a[2], b[2])
        for a, b in zip(one, other, strict=True)
    )


def _part(text: str) -> Interval | None:
    if _EVERYTHING.search(text):
        return (-math.inf, False, math.inf, False)
    found: list[Interval] = []
    for opening, low, high, closing in _NOTATION.findall(text):
        ends = _value(low), _value(high)
        if ends[0] is not None and ends[1] is not None:
            found.append((ends[0], opening == "[", ends[1], closing == "]"))
    for _, relation, bound in _AFTER.findall(text):
        found += _half(relation, bound)
    for bound, relation in _BEFORE.findall(text):
        found += _half(_FLIPPED[relation], bound)
    if not found:
        return None
    low, low_open = max((each[0], not each[1]) for each in found)
    high, high_closed = min((each[2], each[3]) for each in found)
    return (low, not low_open, high, high_closed)


def _half(relation: str, bound: str) -> list[Interval]:
    value = _value(bound)
    if value is None:
        return []
    if relation in "<≤":
        return [(-math.inf, False, value, relation == "≤")]
    return [(value, relation == "≥", math.inf, False)]


def _value(text: str) -> float | None:
    text = text.strip(" .$")
    if match := _INFINITY.fullmatch(text):
        return -math.inf if match[1] == "-" else math.inf
    try:
        values = expressions.evaluate(text)
    except ValueError:
        return None
    number = complex(values[0])
    return number.real if values.count(values[0]) == len(values) and number.imag == 0 else None


def _near(a: float, b: float) -> bool:
    return a == b or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
