"""Chinese answers, character by character.

Simplified and traditional characters, full and half width are one; punctuation and 《》 are
nothing; Chinese numerals are digits; what a reference has in parentheses need not be said.
Nearness is token F1 over characters. It must reach `THRESHOLD`: one other character in a name or
idiom of up to four makes it another name or idiom (吴敬梓 for 吴承恩, three of four characters make
3/4), so the threshold lies above 3/4.
"""

from __future__ import annotations

import re
from fractions import Fraction

from evaluation.judges.mentions import forms, states
from evaluation.judges.text import f1, is_number, places, spelled, tokens, without_separators
from evaluation.records import Item, Verdict

NAME = "chinese"
THRESHOLD = 0.8

_DIGITS = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "亿": 100_000_000}
_NUMERAL = re.compile(
    rf"(?<![\d.])(\d{{1,15}}(?:\.\d{{1,15}})?)?([{''.join([*_DIGITS, *_UNITS])}]+)"
)
_SHARE = re.compile(r"(\d+)分之(\d+(?:\.\d+)?)")
_PART_END = re.compile(r"[:,;、。，；：和及与\s()（）]+")
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
    if states(with_arabic_digits(answer), wanted):
        return verdict(True, f"contains “{reference}”")
    if places(wanted, given):
        return verdict(False, f"denies “{reference}” or has others beside it")
    missing = [token for token in wanted if is_number(token) and token not in given]
    if missing:
        return verdict(False, f"lacks the number {missing[0]}")
    parts = [_characters(part) for part in _PART_END.split(reference) if part]
    if len(parts) > 1 and all(places(part, given) for part in parts):
        return verdict(True, f"has every part of “{reference}”")
    if score >= THRESHOLD:
        return verdict(True, f"character F1 {score:.2f}")
    return verdict(False, f"character F1 {score:.2f} is under {THRESHOLD}")


def with_arabic_digits(text: str) -> str:
    """A text in its one spelling with 1949 for 一九四九, 365 for 三百六十五, 1400000000 for 14亿.

    A share is 1/3 for 三分之一 and 25% for 百分之二十五.
    Numerals within words change too (三国 is 3国), in answers and references alike.
    """
    text = _NUMERAL.sub(_arabic, spelled(without_separators(text)))
    return _SHARE.sub(lambda m: f"{m[2]}%" if m[1] == "100" else f"{m[2]}/{m[1]}", text)


def _characters(text: str) -> list[str]:
    """Tokens: Chinese characters, numbers, and words in Latin script."""
    return tokens(with_arabic_digits(text))


def _arabic(match: re.Match[str]) -> str:
    number, numeral = match[1] or "", match[2]
    if not any(c in _UNITS for c in numeral):  # digit by digit: 一九四九
        return number + "".join(str(_DIGITS[c]) for c in numeral)
    # What is settled, what the next 万 or 亿 multiplies, and what the next unit does.
    total, section = Fraction(0), Fraction(0)
    pending = Fraction(number) if number else None
    for c in numeral:
        if c in _DIGITS:
            pending = Fraction(_DIGITS[c])
        elif _UNITS[c] < 10_000:
            section += (1 if pending is None else pending) * _UNITS[c]
            pending = None
        else:
            total += (section + (pending or 0) or 1) * _UNITS[c]
            section, pending = Fraction(0), None
    total += section + (pending or 0)
    return str(total.numerator if total.denominator == 1 else float(total))
