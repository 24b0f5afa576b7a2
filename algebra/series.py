"""Exercises on sums and recurrences, whole division and mixed numbers. Fractions all the way."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from algebra.meaning import meaning, show
from algebra.numbers import braced, mixed, rule, text_of
from algebra.readings import UnclearError
from algebra.sentences import Words
from algebra.syntax import Node, Number, names

_MAX_BITS = 2000


def _sum_of_terms(words: Words, family: str, first: Number, step: Number, n: int) -> str:
    a, d = first.value, step.value
    if family == "arithmetic":
        last = a + (n - 1) * d
        total = n * (a + last) / 2
        return words.so(
            f"{n} * ({text_of(a)} + {braced(last)})/2 = {text_of(total)}", text_of(total)
        )
    if d.numerator.bit_length() * n > _MAX_BITS or d.denominator.bit_length() * n > _MAX_BITS:
        raise UnclearError("a very large sum")
    total = n * a if d == 1 else a * (1 - d**n) / (1 - d)
    return words.sentence(words.phrase("sum", text_of(total, False)))


def _sum_of_sequence(words: Words, given: tuple[Number, ...], family: str, n: int) -> str:
    name, step = rule(given, family)
    if name not in ("arithmetic", "geometric"):
        raise UnclearError("a rule without a short formula")
    return _sum_of_terms(words, name, given[0], Number(step), n)


def _infinite_sum(words: Words, first: Number, ratio: Number) -> str:
    a, r = first.value, ratio.value
    if not abs(r) < 1 or not r or not a:
        raise UnclearError("a series that does not converge, or none")
    shown = text_of(a / (1 - r), False)
    return words.so(f"{braced(a, False)}/(1 - {braced(r, False)}) = {shown}", shown)


def _infinite_series(words: Words, given: tuple[Number, ...]) -> str:
    return _infinite_sum(words, given[0], Number(rule(given, "geometric")[1]))


def _sigma(words: Words, name: str, low: int, high: int, node: Node) -> str:
    """The sum of an expression over whole numbers."""
    if names(node) - {name} or not 0 <= high - low <= 500:
        raise UnclearError("other variables, or too many terms")
    values = [meaning(node, {name: meaning(Number(Fraction(n)))}) for n in range(low, high + 1)]
    if not all(value.is_Rational for value in values):
        raise UnclearError("terms that are not fractions")
    return words.sentence(words.phrase("sum", show(sum(values))))


def _recurrence(words: Words, first: Number, at: int, node: Node, shift: int, wanted: int) -> str:
    """A later term of a sequence; `node` has the term before as "P" and the index as "n"."""
    if names(node) - {"P", "n"} or not 0 <= wanted - at <= 200:
        raise UnclearError("other variables, or too many terms")
    value = meaning(Number(first.value))
    for n in range(at + 1, wanted + 1):
        index = meaning(Number(Fraction(n - shift)))
        value = meaning(node, {"P": value, "n": index})
        if not value.is_Rational or max(int(value.p).bit_length(), int(value.q).bit_length()) > 300:
            raise UnclearError("a very large term")
    return words.sentence(show(value))


def _integer_remainder(words: Words, asked: str, over: int, under: int) -> str:
    quotient, remainder = divmod(over, under)
    step = f"{over} = {under} * {quotient} + {remainder}"
    if asked == "remainder":
        return words.so(step, words.phrase("remainder", remainder))
    return words.so(
        step, words.both([words.phrase("quotient", quotient), words.phrase("remainder", remainder)])
    )


def _as_mixed(words: Words, given: Number, text: str) -> str:
    value = given.value
    if value.denominator == 1 or abs(value) < 1:
        raise UnclearError("not a mixed number")
    return words.sentence(f"{text} = {mixed(value, decimal=False)}")


KINDS: list[Callable[..., str]] = [
    *(_sum_of_terms, _sum_of_sequence, _infinite_sum, _infinite_series, _sigma, _recurrence),
    *(_integer_remainder, _as_mixed),
]
