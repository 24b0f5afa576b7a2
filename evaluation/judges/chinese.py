"""Chinese answers, character by character.

Simplified and traditional characters, full and half width are one; punctuation and 《》 are
nothing; Chinese numerals are digits; what a reference has in parentheses need not be said.
Nearness is token F1 over characters. It must reach `THRESHOLD`: one other character in a name or
idiom of up to four makes it another name or idiom (吴敬梓 for 吴承恩, three of four characters make
3/4), so the threshold is above 3/4.
"""

from __future__ import annotations

import re

from algebra.words import with_chinese_digits, without_separators
from evaluation.judges import dates
from evaluation.judges.mentions import forms, states
from evaluation.judges.text import f1, has_han, is_number, places, spelled, stem, tokens
from evaluation.records import Item, Verdict

NAME = "chinese"
THRESHOLD = 0.8

_PART_END = re.compile(r"[:,;、。，；：和及与\s()（）]+")
# A text of so many characters is a name, an idiom or a line, which another character changes.
_SHORT = 8
# What an answer may put around a fact without changing it.
_PARTICLES = frozenset("的了是在呢吗啊")


def judge(item: Item, answer: str) -> Verdict:
    """The verdict for the reference that the answer comes nearest to."""
    wanted = [form for r in item.references for form in forms(r, answer, _characters)]
    verdicts = [_against(form, answer) for form in wanted]
    return max(verdicts, key=lambda verdict: (verdict.correct, verdict.score))


def _against(reference: str, answer: str) -> Verdict:
    def verdict(correct: bool, reason: str) -> Verdict:
        return Verdict(correct, 1.0 if correct and score < THRESHOLD else score, NAME, reason)

    given, wanted = _characters(answer), _characters(reference)
    score = f1(
        [c for c in given if c not in _PARTICLES], [c for c in wanted if c not in _PARTICLES]
    )
    if given and given == wanted:
        return verdict(True, "equals the reference")
    if dates.contradicts(reference, answer):
        return verdict(False, "gives another date, era or currency")
    if (within := dates.within(reference, answer)) is not None:
        return verdict(within, f"gives a year {'in' if within else 'outside'} “{reference}”")
    if dates.same_date(reference, answer) or (given and given == _number_of(wanted)):
        return verdict(True, f"is “{reference}”")
    if states(with_arabic_digits(answer), [*map(stem, wanted)]):
        return verdict(True, f"contains “{reference}”")
    if places(wanted, given):
        return verdict(False, f"denies “{reference}” or has others beside it")
    missing = [token for token in wanted if is_number(token) and token not in given]
    if missing:
        return verdict(False, f"lacks the number {missing[0]}")
    parts = [_characters(part) for part in _PART_END.split(reference) if part]
    if len(parts) > 1 and all(places(part, given) for part in parts):
        return verdict(True, f"has every part of “{reference}”")
    lacking = [c for c in wanted if c not in given and c not in _PARTICLES]
    if len(wanted) <= _SHORT and lacking:
        return verdict(False, f"lacks {lacking[0]} of a short text")
    if score >= THRESHOLD:
        return verdict(True, f"character F1 {score:.2f}")
    return verdict(False, f"character F1 {score:.2f} is under {THRESHOLD}")


def _number_of(wanted: list[str]) -> list[str]:
    """The number in a number with a measure word of a character or two, 34个, 1949年; else []."""
    number = wanted[0] if wanted and is_number(wanted[0]) else ""
    measure = wanted[1:]
    return [number] if number and 1 <= len(measure) <= 2 and all(map(has_han, measure)) else []


def with_arabic_digits(text: str) -> str:
    """A text in its one spelling with its Chinese numerals as digits."""
    return with_chinese_digits(spelled(without_separators(text)))


def _characters(text: str) -> list[str]:
    """Tokens: Chinese characters, numbers, and words in Latin script."""
    return tokens(with_arabic_digits(text))
