"""Recognizes exercises.

A question is an exercise if the whole of it matches one of the known forms and each of its
expressions can be parsed. With one more word ("explain why", a name, a unit) it is left to the
model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from algebra.forms import ENGLISH
from algebra.forms_chinese import CHINESE
from algebra.notation import plain
from algebra.phrases import COURTESIES, HAN, SPOKEN, without_courtesies
from algebra.readings import UnclearError
from algebra.syntax import FUNCTIONS
from algebra.tokens import FRACTIONS, PRODUCTS

MAX_CHARS = 400


@dataclass(frozen=True)
class Exercise:
    """A recognized exercise.

    Attributes:
        kind: which function answers it (`worker`).
        given: the arguments of that function.
        chinese: whether to answer in Chinese.
    """

    kind: str
    given: tuple[Any, ...]
    chinese: bool = False


def recognize(question: str) -> Exercise | None:
    """Parse a question as an exercise; None if it is not one."""
    if len(question) > MAX_CHARS:
        return None
    text = plain(question)
    if len(text) > 2 * MAX_CHARS:
        return None
    chinese = HAN.search(text) is not None
    text = without_courtesies(text)
    if _may_be_exclamation(text) or _has_two_kinds_of_x(text):
        return None
    for pattern, build in FORMS:
        match = pattern.fullmatch(text)
        if match is None or _cuts_a_word(match):
            continue
        try:
            kind, *given = build(**{k: v for k, v in match.groupdict().items() if v is not None})
        except (UnclearError, ArithmeticError):
            continue
        if any(_may_begin_with_dash(text, match.start(name)) for name in match.groupdict()):
            return None
        return Exercise(kind, tuple(given), chinese)
    return None


def _cuts_a_word(match: re.Match[str]) -> bool:
    """Whether a part of the match begins or ends within a word."""
    ends = {at for name in match.groupdict() for at in match.span(name) if at > 0}
    return any(re.match("[A-Za-z]{2}", match.string[at - 1 : at + 1]) for at in ends)


def _may_be_exclamation(text: str) -> bool:
    """Whether the ! at the end of a text is no factorial: "Solve 2x = 10!", but not "Find 5!"."""
    last = text.endswith("!") and text.count("!") == 1
    return last and re.fullmatch(r"[^\d+*/÷^=-]*\d+!", text) is None


def _has_two_kinds_of_x(text: str) -> bool:
    """Whether x may be both a letter and "times", or have lost its exponent: 3 x 2 + x = 10."""
    times = rf"(?<= )[xX](?= [\d{''.join(FRACTIONS)}])"
    words = re.findall("[A-Za-z]+", re.sub(times, "", text))
    letters = any(word in ("x", "X") or (word in PRODUCTS and "x" in word) for word in words)
    return letters and re.search(times, text) is not None


def _may_begin_with_dash(text: str, at: int) -> bool:
    """Whether a part begins with a minus or a dash: "Solve for x - 2x + 1 = 9"."""
    return text[at : at + 2] == "- " or (
        text[at : at + 1] == "-" and re.search(r"\b[A-Za-z] $", text[:at]) is not None
    )


FORMS = [*ENGLISH, *CHINESE]


def vocabulary() -> tuple[frozenset[str], frozenset[str]]:
    """The lower-case words and the Chinese characters that occur in exercises."""
    patterns = [*(pattern for pattern, _ in [*FORMS, *SPOKEN]), *COURTESIES]
    sources = " ".join(
        [*(pattern.pattern for pattern in patterns), *FUNCTIONS, *PRODUCTS, "pi", "lg"]
    )
    return frozenset(_words(sources)), frozenset(HAN.findall(sources))


def _words(sources: str) -> Iterator[str]:
    for word in re.findall(r"(?<![\\<])[A-Za-z]{2,}", sources):
        yield word.lower()
        yield word.lower().removesuffix("s")
