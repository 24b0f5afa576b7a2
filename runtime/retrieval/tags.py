"""What kinds of fact a passage holds and a question asks for."""

from __future__ import annotations

import re

from runtime.retrieval.tokens import simplified

_YEAR = r"\b(?:1\d{3}|20\d{2})\b|\b\d{1,4} ?(?:BC|BCE|AD|CE)\b|[0-9]{3,4}年"
# tag: (what a passage with such a fact says, what a question for it says)
_KINDS: dict[str, tuple[str, str]] = {
    "capital": (r"\bcapitals?\b|首都", r"\bcapital (?:city )?of\b|\bcapital\b|首都"),
    "population": (r"\bpopulation\b|人口", r"\bpopulation\b|how many people|人口"),
    "border": (r"\bborder", r"\bborder|\bneighbo"),
    "height": (r"\belevation\b|\bhighest\b|海拔", r"\bhighest\b|\btallest\b|\bmountain\b|海拔"),
    "river": (r"\brivers?\b|\blakes?\b|[江河湖]", r"\brivers?\b|\blakes?\b|[江河湖]"),
    "language": (r"\blanguages?\b|语", r"\blanguages?\b|语言"),
    "money": (r"\bcurrency\b|\bcurrencies\b|货币", r"\bcurrency\b|货币"),
    "flag": (r"\bflag\b", r"\bflag\b"),
    "origin": (r"\betymology\b|\bnamed (?:after|for)\b", r"\bmeans?\b|\bmeaning\b|\bnamed\b"),
    "year": (_YEAR, r"\bwhen\b|\b(?:which|what|this) (?:year|decade|century|day)\b|哪一?年"),
    "author": (r"作者|\bwrote\b|\bwritten by\b", r"谁|作者|\bwho wrote\b"),
}
_SAYS = {tag: re.compile(says, re.IGNORECASE) for tag, (says, _) in _KINDS.items()}
_ASKS = {tag: re.compile(asks, re.IGNORECASE) for tag, (_, asks) in _KINDS.items()}
_YEAR_ASKED = re.compile(r"\b(?:1\d{3}|20\d{2})\b")


def tags_of(text: str) -> list[str]:
    """The kinds of fact in a passage, heading included, in a fixed order."""
    text = simplified(text)
    return [tag for tag, pattern in _SAYS.items() if pattern.search(text)]


def asked_for(question: str) -> set[str]:
    """The kinds of fact that a question asks for."""
    question = simplified(question)
    return {tag for tag, pattern in _ASKS.items() if pattern.search(question)}


def years_in(text: str) -> set[str]:
    """The years that a text names."""
    return set(_YEAR_ASKED.findall(text))
