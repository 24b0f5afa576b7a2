"""Texts made comparable: one spelling for what is spelled in several ways, then tokens.

A token is a word, a number or a single Chinese character, so that "does the answer contain
these tokens in a row" respects word boundaries in Latin script and knows none in Chinese.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from runtime.common.extras import missing

try:
    import opencc
except ModuleNotFoundError as error:
    raise missing(error, "evaluating", "evaluation") from None

ARTICLES = frozenset({"a", "an", "the"})
# Answers that are an opening word: "No, there is yet another" says no, and not yet another.
YES_NO = frozenset({"yes", "no", "true", "false", "correct", "incorrect", "是", "否", "对", "错"})

_UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
_UNITS += " fifteen sixteen seventeen eighteen nineteen twenty"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINALS = "zeroth first second third fourth fifth sixth seventh eighth ninth tenth"
_ROMANS = "I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI XVII XVIII XIX XX"
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_CARDINAL = {word: n for n, word in enumerate(_UNITS.split())}
_CARDINAL |= {word: n for n, word in zip(range(20, 100, 10), _TENS.split(), strict=True)}
_NUMBER_WORDS = {word: str(n) for n, word in enumerate(_ORDINALS.split())}
_NUMBER_WORDS |= {word: str(n) for word, n in _CARDINAL.items()}
_ROMAN_VALUES = {roman: str(n) for n, roman in enumerate(_ROMANS.split(), start=1)}

_CARDINALS = re.compile(
    rf"\b(?:({_TENS.replace(' ', '|')})[- ]({'|'.join(_UNITS.split()[1:10])})|"
    rf"({'|'.join(sorted(_CARDINAL, key=len, reverse=True))}))\b"
)
_HUNDREDS = re.compile(r"\b(\d{1,2}|a) hundred\b(?:(?: and)? (\d{1,2})\b(?![.,]\d))?")
# "2 thousand 500" and "1 thousand and 1" are one number each.
_SCALED = re.compile(
    rf"\b(\d{{1,15}}(?:\.\d{{1,15}})?|a)[ -]({'|'.join(_SCALES)})\b"
    r"(?:(?P<and> and)? (?P<rest>\d{1,3})\b(?![.,]\d| (?:thousand|million|billion|trillion)))?"
)
# "1.5e3" and "1.5 x 10^3", as far as they are written out by anybody.
_SCIENTIFIC = re.compile(
    r"(?<![\w.^)])(\d{1,15}(?:\.\d{1,15})?)(?:e|\s?(?:[*×·]|(?<=\s)x(?=\s))\s?10\^\(?)"
    r"([-+]?\d{1,2})\)?(?![\w.]\d|\w)"
)
# Roman numerals come after a name: "Elizabeth I", "World War II", "Louis XIV".
_ROMAN = re.compile(r"(?<=[a-z] )([IVX]+)\b(?!['’](?:m|d|ve|ll)\b)")
_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:[,\u00a0\u2009\u202f]\d{3})+(?!\d)")
_ORDINAL_ENDING = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b")
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_VULGAR_FRACTIONS = re.compile("[¼-¾⅐-⅞]")

_HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_HAS_HAN = re.compile(f"[{_HAN}]")
_TOKEN = re.compile(
    rf"(?<![\w)])[-+]?\d+(?:\.\d+)?|\d+(?:\.\d+)?|[{_HAN}]|(?:(?![{_HAN}])[^\W\d_])+"
)
_SYMBOL = re.compile(rf"{_TOKEN.pattern}|[^\w\s]")

_TO_SIMPLIFIED = opencc.OpenCC("t2s")

_SELF = r"(?:i|we|as an? (?:ai|artificial intelligence|(?:large )?language model)\b[^.!?]{0,60}?)"
_UNABLE = (
    r"(?:can ?not|can't|could not|couldn't|(?:am|'m|are|'re) (?:unable|not able)"
    r"|(?:do not|don't) (?:know|have (?:enough|any|access|the|that|personal|information)))\b"
)
_REFUSAL = re.compile(
    r"^\W*(?:(?:(?:i am|i'm|we're) )?(?:very )?sorry\W+(?:but )?|unfortunately\W+|well\W+)?"
    rf"(?:{_SELF} ?(?:really |honestly |simply )?{_UNABLE}"
    r"|(?:i have |i've )?no idea\b|(?:i am |i'm )?not sure\W*$|unknown\W*$|n/?a\W*$"
    r"|(?:(?:很|非常)?抱歉|对不起)?\W*(?:作为[^。！？]{0,30}?)?我?(?:也|们)?"
    r"(?:不(?:太)?(?:知道|清楚|确定|了解)|(?:无法|不能|没法|没办法|没有办法)(?:回答|确定|提供|给出|判断)))"
)


def is_refusal(answer: str) -> bool:
    """Whether an answer begins by declining to answer."""
    return bool(_REFUSAL.match(spelled(answer[:300])))


def has_han(text: str) -> bool:
    """Whether there is a Chinese character in a text."""
    return bool(_HAS_HAN.search(text))


def spelled(text: str) -> str:
    """One spelling: NFKC, simplified characters, lower case, "'" for apostrophes, "-" for minus.

    Superscripts and vulgar fractions stay what they mean: "x²" is "x^2", "2½" is "2 1/2".
    """
    text = _SUPERSCRIPTS.sub(lambda match: "^" + match[0], text)
    text = _VULGAR_FRACTIONS.sub(lambda match: " " + match[0], text)
    # A lone surrogate is no text: OpenCC would raise on it.
    text = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode("utf-8"))
    text = text.replace("\u2044", "/").replace("\u2212", "-")
    if has_han(text):
        text = _TO_SIMPLIFIED.convert(text)
    return re.sub("[’‘`´]", "'", text).casefold()


def without_separators(text: str) -> str:
    """A text with 6961 for 6,961."""
    return _THOUSANDS.sub(lambda match: re.sub(r"\D", "", match[0]), text)


def with_digits(text: str) -> str:
    """A `spelled` text with 25 for twenty-five, 1500 for 1.5e3, 5000000 for five million."""
    text = _CARDINALS.sub(lambda match: str(sum(_CARDINAL.get(w, 0) for w in match.groups())), text)
    text = _HUNDREDS.sub(lambda match: str(100 * _one(match[1]) + int(match[2] or 0)), text)
    text = _SCALED.sub(_scaled, text)
    return _SCIENTIFIC.sub(_written_out, text)


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


def normal(text: str) -> str:
    """`spelled`, without accents, possessives and thousands separators, numbers in digits."""
    text = _ROMAN.sub(lambda match: _ROMAN_VALUES.get(match[1], match[1]), text)
    text = unicodedata.normalize("NFD", spelled(without_separators(text)))
    text = unicodedata.normalize("NFC", "".join(c for c in text if unicodedata.category(c) != "Mn"))
    text = with_digits(without_separators(text))  # full-width digits are digits only now
    text = re.sub(r"'s\b|'", "", text)
    return _ORDINAL_ENDING.sub("", text)


def tokens(text: str, symbols: bool = False) -> list[str]:
    """Words, numbers and Chinese characters of a text, all of them normal.

    Numbers are equal if their tokens are: "6,961", "+6961" and "6961.0" are "6961".

    Args:
        text: any text.
        symbols: signs such as "<" are tokens too.
    """
    return [_canonical(token) for token in (_SYMBOL if symbols else _TOKEN).findall(normal(text))]


def without(words: frozenset[str], found: Sequence[str]) -> list[str]:
    """Tokens that are not among `words`; all of them if none would be left."""
    return [token for token in found if token not in words] or list(found)


def is_number(token: str) -> bool:
    """Whether a token is a number."""
    return token[-1].isdecimal()


def _canonical(token: str) -> str:
    if not is_number(token):
        return _NUMBER_WORDS.get(token, token)
    sign = "-" if token[0] == "-" else ""
    whole, _, part = token.lstrip("+-").partition(".")
    whole, part = whole.lstrip("0") or "0", part.rstrip("0")
    return sign + (f"{whole}.{part}" if part else whole)


def places(part: list[str], whole: list[str]) -> list[int]:
    """Where `part` lies in `whole` as a run of tokens; nowhere if it is empty."""
    n = len(part)
    last = len(whole) - n if n else -1
    return [at for at in range(last + 1) if whole[at] == part[0] and whole[at : at + n] == part]


def f1(answer: Sequence[str], reference: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over tokens, as SQuAD has it (arXiv:1606.05250)."""
    common = sum((Counter(answer) & Counter(reference)).values())
    return 2 * common / (len(answer) + len(reference)) if common else 0.0
