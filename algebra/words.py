"""Replaces numbers in words, English and Chinese, by digits; for the tool and the judges.

with_digits("two hundred and five")   # "205"
with_digits("1.4 billion")            # "1400000000"
with_digits("三百六十五，负五，三分之一")  # "365，-5，1/3"
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

_UNITS = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
# The value of each English number word below 100.
CARDINALS = {word: n for n, word in enumerate(_UNITS)} | {
    word: n for n, word in zip(range(20, 100, 10), _TENS, strict=True)
}

_CARDINAL = re.compile(
    rf"\b(?:({'|'.join(_TENS)})[- ]({'|'.join(_UNITS[1:10])})|"
    rf"({'|'.join(sorted(CARDINALS, key=len, reverse=True))}))\b"
)
# Years as they are said: nineteen eighty-nine, nineteen oh five.
_YEAR = re.compile(
    rf"\b({'|'.join(_UNITS[13:])})[ -](?:({'|'.join(_TENS)})(?:[ -]({'|'.join(_UNITS[1:10])}))?"
    rf"|(?:oh|o)[ -]({'|'.join(_UNITS[1:10])}))\b"
)
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9}
_ORDINALS |= {f"{_UNITS[n]}th": n for n in (0, 4, 6, 7, 10, 11, *range(13, 20))} | {"twelfth": 12}
_ORDINALS |= {f"{ten[:-1]}ieth": n for n, ten in zip(range(20, 100, 10), _TENS, strict=True)}
_ORDINAL = re.compile(
    rf"\b(?:({'|'.join(_TENS)})[- ])?({'|'.join(sorted(_ORDINALS, key=len, reverse=True))})\b"
)
_HUNDRED = re.compile(r"\b(\d{1,2}|a) hundred\b(?:(?: and)? (\d{1,2})\b(?![.,]\d))?")
# "2 thousand 500" and "1 thousand and 1" are one number each.
_SCALED = re.compile(
    rf"\b(\d{{1,15}}(?:\.\d{{1,15}})?|a)[ -]({'|'.join(_SCALES)})\b"
    r"(?:(?P<and> and)? (?P<rest>\d{1,3})\b(?![.,]\d| (?:thousand|million|billion|trillion)))?"
)
# "1.5e3" and "1.5 x 10^3".
_SCIENTIFIC = re.compile(
    r"(?<![\w.^)])(\d{1,15}(?:\.\d{1,15})?)(?:e|\s?(?:[*×·]|(?<=\s)x(?=\s))\s?10\^\(?)"
    r"([-+]?\d{1,2})\)?(?![\w.]\d|\w)"
)
# Not in lists of numbers: 100,200,30.
_THOUSANDS = re.compile(r"(?<![\d.])(?<!\d,)[1-9]\d{0,2}(?:[,\u00a0\u2009\u202f]\d{3})+(?!,?\d)")

_HAN_DIGITS = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_HAN_UNITS = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "亿": 100_000_000}
_NUMERAL = re.compile(
    rf"(?<![\d.])(负)?(\d{{1,15}}(?:\.\d{{1,15}})?)?([{''.join([*_HAN_DIGITS, *_HAN_UNITS])}]+)"
)
_MINUS = re.compile(r"负(?=\d)")
_SHARE = re.compile(r"(?<!\d)(\d{1,15})分之(\d{1,15}(?:\.\d{1,15})?)")


def without_separators(text: str) -> str:
    """Remove thousands separators: 6,961 becomes 6961."""
    return _THOUSANDS.sub(lambda match: re.sub(r"\D", "", match[0]), text)


def with_digits(text: str) -> str:
    """Replace the numbers in a text by digits.

    The text is in lower case and simplified characters. Chinese numerals within words change too
    (三国 becomes 3国), in answers and references alike.
    """
    return with_chinese_digits(with_english_digits(text))


def with_english_digits(text: str) -> str:
    """Write 25 for twenty-five, 1500 for 1.5e3, 5000000 for five million, in lower-case text."""
    text = _YEAR.sub(_year, text)
    text = _CARDINAL.sub(lambda match: str(sum(CARDINALS.get(w, 0) for w in match.groups())), text)
    text = _HUNDRED.sub(lambda match: str(100 * _one(match[1]) + int(match[2] or 0)), text)
    text = _SCALED.sub(_scaled, text)
    return _SCIENTIFIC.sub(_written_out, text)


def with_ordinals(text: str) -> str:
    """Write 13th for thirteenth and 21th for twenty-first, in lower-case text."""
    return _ORDINAL.sub(lambda m: f"{CARDINALS.get(m[1], 0) + _ORDINALS[m[2]]}th", text)


def with_chinese_digits(text: str) -> str:
    """Write 1949 for 一九四九, 365 for 三百六十五, 1400000000 for 14亿, -5 for 负五.

    Shares become fractions or percentages: 1/3 for 三分之一, 25% for 百分之二十五.
    """
    text = _MINUS.sub("-", _NUMERAL.sub(_arabic, text))
    return _SHARE.sub(lambda m: f"{m[2]}%" if m[1] == "100" else f"{m[2]}/{m[1]}", text)


def _year(match: re.Match[str]) -> str:
    rest = sum(CARDINALS.get(word, 0) for word in match.groups()[1:])
    return str(100 * CARDINALS[match[1]] + rest)


def _one(number: str) -> Decimal:
    return Decimal(1 if number == "a" else number)


def _scaled(match: re.Match[str]) -> str:
    whole = _one(match[1]).scaleb(_SCALES[match[2]])
    rest = match["rest"]
    if rest is None or (match["and"] and int(rest) >= 100):  # "2 million and 300 others"
        return f"{whole:f}{match[0][match.end(2) - match.start() :]}"
    return f"{whole + int(rest):f}"


def _written_out(match: re.Match[str]) -> str:
    exponent = int(match[2])
    return f"{Decimal(match[1]).scaleb(exponent):f}" if abs(exponent) <= 15 else match[0]


def _arabic(match: re.Match[str]) -> str:
    sign, number, numeral = "-" if match[1] else "", match[2] or "", match[3]
    if not any(c in _HAN_UNITS for c in numeral):  # digit by digit: 一九四九
        return sign + number + "".join(str(_HAN_DIGITS[c]) for c in numeral)
    # The finished part, what the next 万 or 亿 multiplies, and what the next unit multiplies.
    total, section = Fraction(0), Fraction(0)
    pending = Fraction(number) if number else None
    for c in numeral:
        if c in _HAN_DIGITS:
            pending = Fraction(_HAN_DIGITS[c])
        elif _HAN_UNITS[c] < 10_000:
            section += (1 if pending is None else pending) * _HAN_UNITS[c]
            pending = None
        else:
            total += (section + (pending or 0) or 1) * _HAN_UNITS[c]
            section, pending = Fraction(0), None
    total += section + (pending or 0)
    return sign + str(total.numerator if total.denominator == 1 else float(total))
