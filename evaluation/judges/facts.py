"""Short facts in English: equal, contained as whole words, or near enough in words.

Nearness is SQuAD's token F1 (Rajpurkar et al., arXiv:1606.05250) over the words that carry
meaning. It must reach `THRESHOLD`. Of a name of two words one that is right and one that is wrong
make 1/2 ("George Bush" for "George Washington"), while the last name alone makes 2/3
("Washington"): the threshold lies between. A long answer has a low F1 however right it is, so
one with every word of a reference of several words counts as right too. Numbers are not near
each other: all those of the reference must be there. What a reference has in parentheses need not
be said: "Aconcagua (6,961 m)" is "Aconcagua", though not with another number.
"""

from __future__ import annotations

import re

from evaluation.judges import dates, quantities
from evaluation.judges.decision import deciding
from evaluation.judges.mentions import forms, states
from evaluation.judges.names import core, joined, says_last_name, without_longer_names
from evaluation.judges.text import (
    FUNCTION_WORDS,
    f1,
    folded,
    is_number,
    places,
    tokens,
    without,
)
from evaluation.records import Item, Verdict

NAME = "facts"
THRESHOLD = 0.6

_LIST = re.compile(r"[^,]+(?:, [^,]+)*,? and [^,]+", re.IGNORECASE)
_LIST_COMMA = re.compile(r",? and |, ", re.IGNORECASE)


def judge(item: Item, answer: str) -> Verdict:
    """The verdict for the reference that the answer comes nearest to."""
    verdicts = []
    for reference in item.references:
        if settled := (_dated(reference, answer) or _measured(reference, answer)):
            verdicts.append(settled)
        else:
            said = deciding(item.question, answer, reference)
            other = joined(without_longer_names(reference, said, item.question), item.question)
            one = joined(reference, item.question)
            verdicts += [_against(item.question, f, other) for f in forms(one, other, tokens)]
    return max(verdicts, key=lambda verdict: (verdict.correct, verdict.score))


def _dated(reference: str, answer: str) -> Verdict | None:
    """The verdict on an answer that gives a date, a time of day or a currency, or None."""
    if dates.contradicts(reference, answer):
        return Verdict(False, 0.0, NAME, f"gives another date, era or currency than {reference}")
    if dates.same_date(reference, answer):
        right: bool | None = True
    elif (right := dates.within(reference, answer)) is None:
        right = dates.same_time(reference, answer)
    if right is None:
        return None
    how = "is" if right else "is not"
    return Verdict(right, float(right), NAME, f"what it gives {how} {reference}")


def _measured(reference: str, answer: str) -> Verdict | None:
    """The verdict on an answer that gives a quantity in another unit, or None."""
    wanted = quantities.quantity(reference)
    right = quantities.converted(wanted, answer) if wanted else None
    if right is None:
        return None
    how = "is" if right else "is not"
    return Verdict(right, float(right), NAME, f"what it gives {how} {reference}")


def _against(question: str, reference: str, answer: str) -> Verdict:
    def verdict(correct: bool, reason: str) -> Verdict:
        return Verdict(correct, 1.0 if correct and score < THRESHOLD else score, NAME, reason)

    given, wanted = folded(answer), folded(reference)
    words, needed = without(FUNCTION_WORDS, given), without(FUNCTION_WORDS, wanted)
    score = f1(words, needed)
    if given and "".join(given) == "".join(wanted):  # "May Flower"
        return verdict(True, "equals the reference")
    if FUNCTION_WORDS.issuperset(wanted):  # "It" and "Who" are everywhere
        return verdict(False, f'"{reference}" is said in other words or not at all')
    if states(answer, wanted):
        return verdict(True, f'contains "{reference}"')
    missing = [token for token in needed if is_number(token) and token not in given]
    if missing:
        return verdict(False, f"lacks the number {missing[0]}")
    if places(wanted, given):
        return verdict(False, f'denies "{reference}" or has others beside it')
    lacking = [part for part in _listed(reference) if not set(part) & set(words)]
    if lacking:
        return verdict(False, f"lacks {' '.join(lacking[0])} of what is listed")
    if score >= THRESHOLD:
        return verdict(True, f"token F1 {score:.2f}")
    short = core(reference, question)
    for part in (says_last_name(short, answer, question), short if short != reference else ""):
        if part and states(answer, folded(part)):
            return verdict(True, f'says "{part}" for "{reference}"')
    if len(set(needed)) > 1 and set(needed) <= set(words):
        return verdict(True, f'has every word of "{reference}"')
    return verdict(False, f"token F1 {score:.2f} is under {THRESHOLD}")


def _listed(reference: str) -> list[list[str]]:
    """What "red, white and blue" lists, each in the tokens that carry meaning."""
    if not _LIST.fullmatch(reference):
        return []
    parts = [without(FUNCTION_WORDS, folded(part)) for part in _LIST_COMMA.split(reference)]
    return [part for part in parts if part]
