"""Texts made comparable: one spelling for what is spelled in several ways, then tokens.

A token is a word, a number or a single Chinese character, so that "does the answer contain
these tokens in a row" respects word boundaries in Latin script and knows none in Chinese.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from algebra.words import with_english_digits, with_ordinals, without_separators
from runtime.common.extras import missing

try:
    import opencc
except ModuleNotFoundError as error:
    raise missing(error, "evaluating", "evaluation") from None

ARTICLES = frozenset({"a", "an", "the"})
_WORDS = (
    "is are was were be been it its he she they this that these those which who whom whose what"
    " of in on at by to for from with as and or answer called known lies located there has have"
    " had did does do degree degrees you we i van von de da di"
)
FUNCTION_WORDS = ARTICLES | frozenset(_WORDS.split())
_UNITS = {
    **dict.fromkeys(["metre", "metres", "meter", "meters"], "m"),
    **dict.fromkeys(["kilometre", "kilometres", "kilometer", "kilometers"], "km"),
    **dict.fromkeys(["centimetre", "centimetres", "centimeter", "centimeters"], "cm"),
    **dict.fromkeys(["gram", "grams"], "g"),
    **dict.fromkeys(["kilogram", "kilograms"], "kg"),
    **dict.fromkeys(["foot", "feet"], "ft"),
    **dict.fromkeys(["celsius", "centigrade"], "c"),
    "fahrenheit": "f",
    "ce": "ad",
}
_NOT = re.compile(
    r"\b(ca(?=n't)|can(?=not)|do|does|did|is|are|was|were|has|have|had|could|would|should|wo)(?:n'?t|not)\b"
)
_CAPITALIZED = re.compile(r"\b[A-Z]\w*")
# How much of the text around a mention is looked at.
_AROUND = 200
# Answers that are an opening word: "No, there is yet another" says no, and not yet another.
YES_NO = frozenset({"yes", "no", "true", "false", "correct", "incorrect", "是", "否", "对", "错"})

_ROMANS = "I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI XVII XVIII XIX XX"
_ROMAN_VALUES = {roman: str(n) for n, roman in enumerate(_ROMANS.split(), start=1)}

# Roman numerals come after a name: "Elizabeth I", "World War II", "Louis XIV".
_ROMAN = re.compile(r"(?<=[a-z] )([IVX]+)\b(?!['’](?:m|d|ve|ll)\b)")
_BEFORE_CHRIST = re.compile(r"\bbefore christ\b|\bb\.? ?c\.? ?e\b\.?|\bb\.? ?c\b\.?(?! ?e\b)")
_ORDINAL_ENDING = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b")
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_VULGAR_FRACTIONS = re.compile("[¼-¾⅐-⅞]")

HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_HAS_HAN = re.compile(f"[{HAN}]")
_TOKEN = re.compile(
    # a number, a Chinese character, a word or a formula such as H2O
    rf"(?<![\w)])[-+]?\d+(?:\.\d+)?|\d+(?:\.\d+)?|[{HAN}]"
    rf"|(?:(?![{HAN}])[^\W\d_])+(?:\d+(?:(?![{HAN}])[^\W\d_])*)*"
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
    # OpenCC would raise on a lone surrogate.
    text = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode("utf-8"))
    text = text.replace("\u2044", "/").replace("\u2212", "-")
    if has_han(text):
        text = _TO_SIMPLIFIED.convert(text)
    return re.sub("[’‘`´]", "'", text).casefold()


def normal(text: str) -> str:
    """`spelled`, without accents and thousands separators, numbers in digits, ’ for 's."""
    text = _ROMAN.sub(lambda match: _ROMAN_VALUES.get(match[1], match[1]), text)
    text = unicodedata.normalize("NFD", spelled(without_separators(text)))
    text = unicodedata.normalize("NFC", "".join(c for c in text if unicodedata.category(c) != "Mn"))
    text = without_separators(text)  # full-width digits are digits only now
    text = _BEFORE_CHRIST.sub("bc", with_english_digits(with_ordinals(text)))
    text = _NOT.sub(r"\1 not", text)
    text = re.sub(r"\s?(?:%|\bper ?cent\b)", " percent", text)
    text = re.sub(r"'s\b", "’", text).replace("'", "")
    return _ORDINAL_ENDING.sub("", text)


def tokens(text: str, symbols: bool = False) -> list[str]:
    """Words, numbers and Chinese characters of a text, all of them normal.

    Numbers are equal if their tokens are: "6,961", "+6961" and "6961.0" are "6961".

    Args:
        text: any text.
        symbols: signs such as "<" are tokens too.
    """
    return [_canonical(token) for token in (_SYMBOL if symbols else _TOKEN).findall(normal(text))]


_SUFFIX = re.compile(r"(?<=[a-z]{4})(?:ism|ists?)$|(?<=[a-z]{3})(?:ed|ing|es|e|(?<!s)s)$")


def stem(token: str) -> str:
    """A word without the ending of a plural or a creed: Protestants, Protestantism."""
    return token if token in FUNCTION_WORDS else _SUFFIX.sub("", token)


@dataclass(frozen=True)
class Word:
    """A word of a text: its stem, where it stands in the normal text, whether it has a capital."""

    form: str
    start: int
    end: int
    capital: bool


class Reading:
    """A text as words that know how they were written.

    Attributes:
        text: the text, normal.
        words: its words without articles, units abbreviated.
        forms: their stems.
    """

    def __init__(self, text: str, symbols: bool = False) -> None:
        self.text = normal(text)
        plain = unicodedata.normalize("NFKD", re.sub(r"['’](?!s\b)", "", text))
        plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
        capitals = {found.casefold() for found in _CAPITALIZED.findall(plain)}
        pattern = _SYMBOL if symbols else _TOKEN
        found = [(_canonical(match[0]), match) for match in pattern.finditer(self.text)]
        self.words = [
            Word(stem(_UNITS.get(token, token)), *match.span(), match[0] in capitals)
            for token, match in [each for each in found if each[0] not in ARTICLES] or found
        ]
        self.forms = [word.form for word in self.words]

    def before(self, at: int) -> str:
        """The text before a word, not all of it where it is long."""
        start = self.words[at].start
        return self.text[max(0, start - _AROUND) : start]

    def between(self, at: int) -> str:
        """The text between a word and the one before it."""
        return self.text[self.words[at - 1].end : self.words[at].start]

    def after(self, end: int) -> str:
        """The text after the word before `end`, not all of it where it is long."""
        start = self.words[end - 1].end
        return self.text[start : start + _AROUND]


@lru_cache(maxsize=1024)
def read(text: str, symbols: bool = False) -> Reading:
    """The reading of a text; with `symbols`, signs such as "<" are words too."""
    return Reading(text, symbols)


def folded(text: str) -> list[str]:
    """Tokens without articles, units abbreviated, words stemmed."""
    return read(text).forms


def without(words: frozenset[str], found: Sequence[str]) -> list[str]:
    """Tokens that are not among `words`; all of them if none would be left."""
    return [token for token in found if token not in words] or list(found)


def is_number(token: str) -> bool:
    """Whether a token is a number."""
    return token[-1].isdecimal() and not token[0].isalpha()


def _canonical(token: str) -> str:
    if not is_number(token):
        return token
    sign = "-" if token[0] == "-" else ""
    whole, _, part = token.lstrip("+-").partition(".")
    whole, part = whole.lstrip("0") or "0", part.rstrip("0")
    return sign + (f"{whole}.{part}" if part else whole)


def places(part: list[str], whole: list[str]) -> list[int]:
    """Positions of `part` in `whole` as a run of tokens; none if it is empty."""
    n = len(part)
    last = len(whole) - n if n else -1
    return [at for at in range(last + 1) if whole[at] == part[0] and whole[at : at + n] == part]


def f1(answer: Sequence[str], reference: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over tokens, as SQuAD has it (arXiv:1606.05250)."""
    common = sum((Counter(answer) & Counter(reference)).values())
    return 2 * common / (len(answer) + len(reference)) if common else 0.0
