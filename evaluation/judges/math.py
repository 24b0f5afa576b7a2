"""Algebra: whether the result that an answer comes to is the reference's, in value.

`claims` says what the result is, and `values` what it is worth and whether two are equal.
"""

from __future__ import annotations

import re
from dataclasses import replace

from evaluation.judges import dates, facts, intervals, quantities, values
from evaluation.judges.claims import Claim, claims, conclusions, relation, results
from evaluation.judges.math_text import ASKED, plain
from evaluation.records import Item, Verdict

NAME = "math"

# What stands on the left of the definition of a function or a curve.
_DEFINED = frozenset({"y", "f", "g", "h"})
# A decimal with at least this many digits may stand for a value that it rounds.
_ROUNDED_DIGITS = 3


def judge(item: Item, answer: str) -> Verdict:
    """Right if the answer's result has the value of a reference; words are judged as facts."""
    found = _asked_for(item.question, results(answer))
    everything = claims(answer)
    for reference in item.references:
        wanted = results(reference)
        special = _special(item, reference, answer)
        if special is True:
            return Verdict(True, 1.0, NAME, f"the result is {reference}")
        if special is False:
            continue
        if not wanted:
            verdict = facts.judge(item, answer)
            if verdict.correct:
                return verdict
        elif _repeats(item.question, wanted, found) or _is_other_form(item.question, wanted, found):
            continue
        elif (
            _same(wanted, found)
            or _solves(wanted, everything)
            or _same_curve(item.question, wanted, found)
        ):
            return Verdict(True, 1.0, NAME, f"the result is {_shown(wanted)}")
    if not found:
        return Verdict(False, 0.0, NAME, "no result found")
    return Verdict(False, 0.0, NAME, f"the result is {_shown(found)}")


# Questions that ask for another form of what they give.
_FORM = re.compile(
    r"\b(?:factor|expand|simplify|rationali|multiply out|rewrite)|因式分解|展开|化简"
)
_PRODUCT_OR_SUM = re.compile(r"\b(?:factor|expand|multiply out)|因式分解|展开")
# Questions for the equation of a line or another curve, in any form.
_CURVE = re.compile(r"\bequation (?:of|for) (?:the|a)\b(?!.*\bform\b)|的方程(?!式)")


def _repeats(question: str, wanted: list[Claim], found: list[Claim]) -> bool:
    """Whether an answer only repeats the expression whose other form is asked for."""
    if not _FORM.search(question.casefold()) or len(found) != 1:
        return False
    text = re.sub(r"\s", "", found[0].text)
    given = re.sub(r"\s", "", plain(question))
    return text in given and text not in {re.sub(r"\s", "", claim.text) for claim in wanted}


def _is_other_form(question: str, wanted: list[Claim], found: list[Claim]) -> bool:
    """Whether an answer has the value, but not the form that is asked for.

    A decimal is not an exact value; a product of sums is not expanded, and a sum not factored.
    """
    question = question.casefold()
    if not _FORM.search(question):
        return False
    decimal = any(re.fullmatch(r"-?\d*\.\d+", claim.text) for claim in found)
    if decimal and not any("." in claim.text for claim in wanted):
        return True
    if not _PRODUCT_OR_SUM.search(question):
        return False
    forms = [any(map(_is_product, claims)) for claims in (wanted, found)]
    return forms[0] != forms[1] or (forms[0] and _factors(found) < _factors(wanted))


def _is_product(claim: Claim) -> bool:
    return bool(
        re.search(
            r"(?<![^()+-])[^()+\w-]*\w[^()+-]*[+-][^()]*\)\s*(?:\(|\^|\*)"
            r"|[\w)]\s*\*?\s*\([^()]*[+-]",
            claim.text,
        )
    )


def _factors(claims: list[Claim]) -> int:
    """How many factors with a variable the expressions are written with."""
    return sum(max(map(values.factors, claim.values), default=0) for claim in claims)


def _special(item: Item, reference: str, answer: str) -> bool | None:
    """The verdict on quantities with units, dates, sets of numbers and "no solution".

    None where the reference or the answer is none of these.
    """
    if dates.contradicts(reference, answer):
        return False
    if (same := dates.same_time(reference, answer)) is not None:
        return same
    measured = quantities.quantity(reference)
    if measured and (same := quantities.converted(measured, answer)) is not None:
        return same and not quantities.asks_for(item.question, measured.unit)
    if _NOTHING.search(reference.casefold()):
        return True if _NOTHING.search(answer.casefold()) else None
    wanted = plain(reference, points=False)
    if not intervals.unbounded_or_half_open(wanted) and not _SETS.search(item.question.casefold()):
        return None
    set_wanted = intervals.read(wanted)
    if set_wanted is None:
        return None
    for sentence in reversed(conclusions(plain(answer, points=False))):
        if (found := intervals.read(sentence)) is not None:
            return values.equal((set_wanted,), (found,))
    return None


# That nothing solves an equation.
_NOTHING = re.compile(
    r"\bno (?:real |such )?solutions?\b|∅|\\(?:emptyset|varnothing)|\bempty set\b|^\W*none\W*$|无解"
)
# Questions whose answer "(2, 3)" is an interval and no point.
_SETS = re.compile(r"\binterval|\binequalit|\bdomain\b|\brange\b|[<>≤≥]")


def _asked_for(question: str, found: list[Claim]) -> list[Claim]:
    """The claims on the unknown that a question asks for, if there are any; else all."""
    asked = [match[1] for match in ASKED.finditer(question.casefold())]
    return [claim for claim in found if claim.name in asked] or found


# --- comparing --------------------------------------------------------------------


def _same(wanted: list[Claim], found: list[Claim]) -> bool:
    """Whether two lists of claims say the same, in any order where names or repeats allow it."""
    if _is_point(wanted) or _is_point(found):
        return _same_points(_points(wanted), _points(found))
    names = {claim.name for claim in wanted}
    if len(names) > 1 and not any(claim.name for claim in found):
        return len(wanted) == len(found) and all(map(_agree, wanted, found))
    return all(any(_agree(a, b) for b in found) for a in wanted) and all(
        any(_agree(a, b) for a in wanted) for b in found
    )


def _is_point(claims: list[Claim]) -> bool:
    return any(claim.name.startswith("#") for claim in claims)


def _points(claims: list[Claim]) -> list[list[Claim]]:
    """Claims as points: those of coordinates, or x = 2, y = 3 in the order of the letters."""
    if not _is_point(claims):
        solutions: list[dict[str, Claim]] = [{}]
        for claim in [claim for claim in claims if claim.name] or claims:
            if claim.name and claim.name in solutions[-1]:  # x = 1, y = 2 or x = 3, y = 4
                solutions.append({})
            solutions[-1][claim.name or str(len(solutions[-1]))] = _nameless(claim)
        return [[found[name] for name in sorted(found)] for found in solutions]
    points: dict[str, list[Claim]] = {}
    for claim in claims:
        if claim.name.startswith("#"):
            points.setdefault(claim.name.partition(".")[0], []).append(_nameless(claim))
    return list(points.values())


def _nameless(claim: Claim) -> Claim:
    return replace(claim, name="")


def _same_points(wanted: list[list[Claim]], found: list[list[Claim]]) -> bool:
    def same(one: list[Claim], other: list[Claim]) -> bool:
        return len(one) == len(other) and all(map(_agree, one, other))

    return all(any(same(a, b) for b in found) for a in wanted) and all(
        any(same(a, b) for a in wanted) for b in found
    )


def _same_curve(question: str, wanted: list[Claim], found: list[Claim]) -> bool:
    """Whether two equations of the curve that is asked for agree: y = 2x - 3, 2x - y = 3."""
    if not _CURVE.search(question.casefold()):
        return False
    if len(wanted) != 1 or len(found) != 1 or relation(wanted[0]) or relation(found[0]):
        return False
    sides = [(values.read(claim.name), claim.values) for claim in (wanted[0], found[0])]
    return values.proportional(
        *(tuple(a - b for a in left for b in right) for left, right in sides)
    )


def _solves(wanted: list[Claim], everything: list[Claim]) -> bool:
    """Whether the last value that an answer gives to each of several unknowns is the wanted one."""
    last = {claim.name: claim for claim in everything}
    names = [claim.name for claim in wanted]
    return len(set(names)) == len(names) > 1 and all(
        claim.name in last and _agree(claim, last[claim.name]) for claim in wanted
    )


def _agree(a: Claim, b: Claim) -> bool:
    if a.name and b.name and a.name != b.name and not _define(a, b):
        return False
    if relation(a) != relation(b):
        return False
    if values.equal(a.values, b.values) or _rounded(a, b) or _rounded(b, a):
        return True
    if _omits(a.text, b.text) or _omits(b.text, a.text):
        return True
    if a.percent != b.percent:  # 75 % may be written as 75 and as 0.75
        share, number = (a, b) if a.percent else (b, a)
        return values.equal(tuple(value / 100 for value in share.values), number.values)
    return False


def _define(a: Claim, b: Claim) -> bool:
    """Whether two claims define a function or a curve: y = 2x + 1, f(x) = 2x + 1."""
    return all(
        claim.name in _DEFINED and any(value.free_symbols for value in claim.values)
        for claim in (a, b)
    )


def _omits(full: str, short: str) -> bool:
    """Whether one text is a number without the base of another, or a ratio as a quotient."""
    based = re.fullmatch(r"(\d+)_\d+", full)
    return short.strip("() ") == (based[1] if based else full.replace(":", "/"))


def _rounded(decimal: Claim, exact: Claim) -> bool:
    """Whether a decimal of three or more digits stands for a value that no short decimal equals."""
    digits = re.fullmatch(r"-?(\d*)\.(\d+)", decimal.text)
    if (
        digits is None
        or not decimal.values
        or len((digits[1] + digits[2]).lstrip("0")) < _ROUNDED_DIGITS
    ):
        return False
    return values.rounds(decimal.values[0], len(digits[2]), exact.values)


def _shown(claims: list[Claim]) -> str:
    parts = [f"{c.name} = {c.text}" if c.name.isalnum() else c.name + c.text for c in claims]
    return ", ".join(parts)[:80]
