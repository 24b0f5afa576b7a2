"""Text as search tokens: words without their endings, Chinese as pairs of characters."""

from __future__ import annotations

import re
import unicodedata

# Han characters: unified ideographs with extension A, compatibility ones, and the planes beyond.
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_RUN = re.compile(rf"[{_HAN}]+|[^\W_{_HAN}]+")
_HAN_START = re.compile(f"[{_HAN}]")
# 1,234,567 is one number, and a reader may write it without its commas.
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")
# Spellings with an apostrophe: its ending is dropped ("Canada's", "don’t").
_APOSTROPHE = re.compile(r"(?<=\w)['’](?:s|t|re|ll|ve|d|m)\b")

# Words that say nothing about what is asked.
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
    gives all pairs of neighbours; a single one stands for itself.
    """
    found = []
    for run in _RUN.findall(fold(text)):
        if _HAN_START.match(run):
            found += [run] if len(run) == 1 else [run[i : i + 2] for i in range(len(run) - 1)]
        elif run not in STOPWORDS:
            found.append(_singular(run))
    return found


def fold(text: str) -> str:
    """A text in one spelling: case folded, no accents, no width, numbers without commas."""
    if not text.isascii():
        marked = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in marked if not unicodedata.combining(c))
    return _APOSTROPHE.sub("", _THOUSANDS.sub("", text.casefold()))


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
