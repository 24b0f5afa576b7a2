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
from evaluation.judges.text import f1, is_number, places, read, spelled, tokens
from evaluation.records import Item, Verdict

NAME = "chinese"
THRESHOLD = 0.8

_NOT = re.compile("[不没未非]")
_PART_END = re.compile(r"[:,;、。，；：和及与\s()（）]+")
# In a text of at most this many characters (a name, an idiom, a line of a poem) each must be there.
_SHORT = 12
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
    if dates.contradicts(reference, answer):
        return verdict(False, "gives another date, era or currency")
    if (within := dates.within(reference, answer)) is not None:
        return verdict(within, f"gives a year {'in' if within else 'outside'} “{reference}”")
    if dates.same_date(reference, answer) or (given == wanted[:1] != [] and is_number(given[0])):
        return verdict(True, f"is “{reference}”")
    if states([read(with_arabic_digits(answer))], read(with_arabic_digits(reference)).forms):
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
    if score >= THRESHOLD and bool(_NOT.search(answer)) == bool(_NOT.search(reference)):
        return verdict(True, f"character F1 {score:.2f}")
    return verdict(False, f"character F1 {score:.2f} is under {THRESHOLD}")


def with_arabic_digits(text: str) -> str:
    """A text in its one spelling with its Chinese numerals as digits."""
    return with_chinese_digits(spelled(without_separators(text)))


def _characters(text: str) -> list[str]:
    """Tokens: Chinese characters, numbers, and words in Latin script."""
    return tokens(with_arabic_digits(text))
