"""Short facts in English: equal, stated as whole words, or near enough in words.

Nearness is SQuAD's token F1 (Rajpurkar et al., arXiv:1606.05250) over the words that carry
meaning, without the words that an answer repeats from its question. It must reach `THRESHOLD`, and
in a short reference no word may be replaced by another ("George Bush" for "George Washington").
An answer with every word of a reference of several words is right as well. Numbers and directions
of the reference must be there. What a reference has in parentheses need not be said: "Aconcagua
(6,961 m)" is "Aconcagua", though not with another number.
"""

from __future__ import annotations

import re

from algebra.words import with_ordinals
from evaluation.judges import dates, quantities
from evaluation.judges.decision import deciding
from evaluation.judges.mentions import DIRECTIONS, forms, is_denied, is_foreign, states
from evaluation.judges.names import acronym, joined, parts, unified
from evaluation.judges.text import (
    FUNCTION_WORDS,
    Reading,
    f1,
    folded,
    is_number,
    places,
    read,
    spelled,
    tokens,
    without,
)
from evaluation.records import Item, Verdict

NAME = "facts"
THRESHOLD = 0.6

_LIST = re.compile(r"[^,]+(?:(?:, [^,]+)*,? and [^,]+|(?:, [^,]+){2,})", re.IGNORECASE)
_LIST_COMMA = re.compile(r",? and |, ", re.IGNORECASE)
_COUNT = re.compile(r"\b(?:how many|number of)\b")
_ORDINAL = re.compile(r"\b\d+(?:st|nd|rd|th)\b(?= [a-z])")
# Signs between two words that would end a sentence.
_SIGN = re.compile(r"[.!?:;]+(?= \w)")
# A reference of at least this many words is not said by accident.
_LONG = 6
# In a reference of at most this many words, none may be replaced by another.
_FEW = 3


def judge(item: Item, answer: str) -> Verdict:
    """The verdict for the reference that the answer comes nearest to."""
    said = unified(answer)
    counted = all(is_number(token) for each in item.references for token in tokens(each))
    if counted and _COUNT.search(spelled(item.question)):  # "the first submarine" is not one
        said = _ORDINAL.sub(" ", with_ordinals(spelled(said)))
    verdicts = [
        _settled(reference, answer) or _against(item, form, _spaced(said, form))
        for reference in item.references
        for form in forms(unified(reference), said, tokens) + acronym(reference, answer)
    ]
    return max(verdicts, key=lambda verdict: (verdict.correct, verdict.score))


def _spaced(answer: str, reference: str) -> str:
    """An answer in which a reference is spaced as it is itself, and ends no sentence within."""
    return joined(answer, reference).replace(reference, _SIGN.sub("", reference))


def _settled(reference: str, answer: str) -> Verdict | None:
    """The verdict on an answer with a date, a time, a currency or another unit, or None."""
    right: bool | None = not dates.contradicts(reference, answer)
    if right and not dates.same_date(reference, answer):
        right = dates.within(reference, answer)
        if right is None:
            right = dates.same_time(reference, answer)
        if right is None and (wanted := quantities.quantity(reference)):
            right = quantities.converted(wanted, answer)
    if right is None:
        return None
    how = "is" if right else "is not"
    return Verdict(right, float(right), NAME, f"what it gives {how} {reference}")


def _against(item: Item, reference: str, answer: str) -> Verdict:
    def verdict(correct: bool, reason: str) -> Verdict:
        return Verdict(correct, 1.0 if correct and score < THRESHOLD else score, NAME, reason)

    question, wanted = item.question, folded(reference)
    clauses = deciding(question, answer, reference)
    given = [form for clause in clauses for form in clause.forms]
    words, needed = without(FUNCTION_WORDS, given), without(FUNCTION_WORDS, wanted)
    asked = read(question)
    others = [word for word in words if word not in needed and word not in asked.forms]
    more = {*words} - {*needed}
    score = f1([word for word in words if word in needed] + others, needed)
    if FUNCTION_WORDS.issuperset(wanted):  # "It" and "Who" are everywhere
        return verdict(False, f'"{reference}" is said in other words or not at all')
    if states(clauses, wanted, question) or _quotes(read(answer), wanted, question):
        return verdict(True, f'contains "{reference}"')
    if places(wanted, given):
        return verdict(False, f'denies "{reference}" or has others beside it')
    missing = [t for t in needed if (is_number(t) or t in DIRECTIONS) and t not in given]
    if missing:
        return verdict(False, f"lacks {missing[0]}")
    for part in parts(reference, question):
        if states(clauses, part, question, wanted):
            return verdict(True, f'says "{" ".join(part)}" for "{reference}"')
    lacking = [part for part in _listed(reference) if not set(part) & set(words)]
    foreign = any(is_foreign(w, asked) and w.form not in needed for c in clauses for w in c.words)
    if _listed(reference) and foreign:
        return verdict(False, "has others beside what is listed")
    if lacking:
        return verdict(False, f"lacks {' '.join(lacking[0])} of what is listed")
    new = {*needed} - {*asked.forms}
    if new and new.isdisjoint(words):  # "London Road" for Brompton Road, asked for a road
        return verdict(False, "only repeats words of the question")
    if score >= THRESHOLD and not (len(needed) <= _FEW and {*needed} - {*words} and more):
        return verdict(True, f"token F1 {score:.2f}")
    if len(set(needed)) > 1 and set(needed) <= set(words):
        return verdict(True, f'has every word of "{reference}"')
    return verdict(False, f"token F1 {score:.2f} is under {THRESHOLD}")


def _quotes(answer: Reading, wanted: list[str], question: str) -> bool:
    """Whether an answer has a long reference word for word, and does not deny it."""
    return len(wanted) >= _LONG and any(
        not is_denied(answer, at, at + len(wanted), question) for at in places(wanted, answer.forms)
    )


def _listed(reference: str) -> list[list[str]]:
    """What "red, white and blue" lists, each in the tokens that carry meaning."""
    if not _LIST.fullmatch(reference):
        return []
    found = [without(FUNCTION_WORDS, folded(part)) for part in _LIST_COMMA.split(reference)]
    return [part for part in found if part]
