"""Text as search tokens: words without their endings, Chinese and kana as pairs of characters."""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Any

# Han characters: unified ideographs with extension A, compatibility ones, the planes beyond,
# and the signs for zero and for a repeated character.
_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
# Vowel signs of Indian scripts are marks, which are not word characters to `re`.
_INDIC = "\u0900-\u0963\u0966-\u0dff"
_HAS_HAN = re.compile(f"[{_HAN}]")
_RUN = re.compile(rf"[{_HAN}{_KANA}]+|(?:[^\W_{_HAN}{_KANA}]|[{_INDIC}])+")
_PAIRED = re.compile(f"[{_HAN}{_KANA}]")
# Marks that writers leave out: accents, and the points of Hebrew and Arabic. Others make another
# letter (か and が), and so does the breve of the Cyrillic й.
_OPTIONAL_MARK = re.compile(
    "[\u0300-\u0305\u0307-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
    "\u0610-\u061a\u064b-\u065f\u0670]|(?<![Ии])\u0306"
)
# 1,234,567 is one number, and a reader may write it without its commas.
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")
# Spellings with an apostrophe: its ending is dropped ("Canada's", "don’t").
_APOSTROPHE = re.compile(r"(?<=\w)['’](?:s|t|re|ll|ve|d|m)\b")

# Words that say nothing about a question's topic.
_STOPWORDS = (
    "a about above after again all also although am an and another any are as at be because been"
    " before being between both but by can could did do does doing during each either for from"
    " further had has have having he her here hers him his how i if in into is it its itself"
    " just may me might more most must my no nor not of off on once one only or other our ours"
    " out over own same she should so some such than that the their theirs them then there these"
    " they this those through to too under until up upon us very was we were what when where"
    " which while who whom whose why will with within without would you your yours"
)
STOPWORDS = frozenset(_STOPWORDS.split())


def tokens(text: str) -> list[str]:
    """The search tokens of a text, in their order.

    Words are folded (case, accents, full width), without stopwords, and without the ending of
    a plural (Harman's S-stemmer, "How effective is suffixing?", 1991). A run of Han characters
    and kana gives all pairs of neighbours; a single one stands for itself. Traditional
    characters become simplified ones where OpenCC is installed; `Index.load` and `kb.making`
    check that it is where a base has Chinese text.
    """
    found = []
    for run in _RUN.findall(fold(text)):
        if _PAIRED.match(run):
            found += [run] if len(run) == 1 else [run[i : i + 2] for i in range(len(run) - 1)]
        elif run not in STOPWORDS:
            found.append(_singular(run))
    return found


def fold(text: str) -> str:
    """A text in one spelling: case folded, no accents, no width, simplified Chinese, numbers
    without commas."""
    if not text.isascii():
        marked = unicodedata.normalize("NFKD", text)
        text = simplified(unicodedata.normalize("NFC", _OPTIONAL_MARK.sub("", marked)))
    return _APOSTROPHE.sub("", _THOUSANDS.sub("", text.casefold()))


def simplified(text: str) -> str:
    """A text with simplified characters for traditional ones, where OpenCC is installed."""
    if not text.isascii() and has_han(text) and (converter := _to_simplified()) is not None:
        converted: str = converter.convert(text)
        return converted
    return text


def has_han(text: str) -> bool:
    """Whether a text has Han characters, which are searched with OpenCC."""
    return bool(_HAS_HAN.search(text))


def can_simplify() -> bool:
    """Whether OpenCC is installed."""
    return _to_simplified() is not None


@functools.cache
def _to_simplified() -> Any:
    """OpenCC's converter from traditional to simplified characters; None if not installed."""
    try:
        import opencc
    except ModuleNotFoundError:
        return None
    return opencc.OpenCC("t2s")


def _singular(word: str) -> str:
    if len(word) < 4 or not word.endswith("s"):
        return word
    if word.endswith("ies") and word[-4] not in "ae":
        return word[:-3] + "y"
    if word.endswith("es") and word[-3] not in "aeo":
        return word[:-1]
    if word[-2] not in "us":
        return word[:-1]
    return word
