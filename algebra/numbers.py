"""Exercises with numbers alone: percentages, sequences, units, points. Fractions all the way."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from math import gcd, isqrt, lcm, prod

from algebra.meaning import decimal_text, meaning, show
from algebra.parser import parse
from algebra.readings import UnclearError
from algebra.sentences import Words
from algebra.syntax import Node, Number, has_decimals
from algebra.units import Unit, convert

_MAX_BITS = 2000
Point = tuple[Node, Node]


def text_of(value: Fraction, decimal: bool = True) -> str:
    """A number as a decimal if that ends and is wanted, else as a fraction."""
    if value.denominator == 1:
        return str(value.numerator)
    return (decimal_text(value) if decimal else None) or f"{value.numerator}/{value.denominator}"


def mixed(value: Fraction, decimal: bool = True) -> str:
    """The same with a mixed number for a fraction above 1: 33 1/3."""
    text = text_of(value, decimal)
    if "/" not in text or abs(value) < 1:
        return text
    whole, over = divmod(abs(value.numerator), value.denominator)
    return f"{'-' if value < 0 else ''}{whole} {over}/{value.denominator}"


def braced(value: Fraction, decimal: bool = True) -> str:
    """The same, in brackets if it is negative or a fraction."""
    text = text_of(value, decimal)
    return f"({text})" if value < 0 or "/" in text else text


# --- percentages ------------------------------------------------------------------------


def _percent_of(words: Words, rate: Number, whole: Number, unit: str) -> str:
    part = rate.value / 100 * whole.value
    step = f"{text_of(rate.value)}/100 * {braced(whole.value)} = {text_of(part)}"
    return words.so(step, unit + text_of(part))


def _percent_change(words: Words, sign: int, start: Number, rate: Number, unit: str) -> str:
    change = rate.value / 100 * start.value
    end = start.value + sign * change
    step = f"{text_of(rate.value)}/100 * {braced(start.value)} = {text_of(change)}"
    sum_ = f"{text_of(start.value)} {'+' if sign > 0 else '-'} {braced(change)} = {text_of(end)}"
    return words.so(words.both([step, sum_]), unit + text_of(end))


def _share(words: Words, part: Number, whole: Number) -> str:
    if not whole.value:
        raise UnclearError("a share of 0")
    rate = part.value / whole.value * 100
    step = f"{braced(part.value)}/{braced(whole.value)} * 100 = {text_of(rate)}"
    return words.so(step, f"{mixed(rate)}%")


def _base(words: Words, part: Number, rate: Number) -> str:
    if not rate.value:
        raise UnclearError("0 percent")
    whole = part.value * 100 / rate.value
    return words.so(
        f"{braced(part.value)} * 100/{braced(rate.value)} = {text_of(whole)}", text_of(whole)
    )


def _change(words: Words, start: Number, end: Number, asked: str) -> str:
    if start.value <= 0 or end.value == start.value:
        raise UnclearError("a change from 0, or no change")
    rate = (end.value - start.value) / start.value * 100
    if asked != "change" and (asked == "increase") != (rate > 0):
        raise UnclearError("a decrease that is an increase, or the reverse")
    over = f"{text_of(end.value)} - {text_of(start.value)}"
    step = f"({over})/{text_of(start.value)} * 100 = {text_of(rate)}"
    size = f"{mixed(abs(rate))}%"
    if asked == "change":
        size = words.phrase("increased" if rate > 0 else "decreased", size)
    return words.so(step, size)


# --- whole numbers and lists --------------------------------------------------------------


def _gcd(words: Words, values: tuple[int, ...]) -> str:
    return words.sentence(words.phrase("gcd", words.listed(values), gcd(*values)))


def _lcm(words: Words, values: tuple[int, ...]) -> str:
    return words.sentence(words.phrase("lcm", words.listed(values), lcm(*values)))


def _sum(words: Words, values: tuple[Number, ...]) -> str:
    return _combined(words, " + ", values, sum((n.value for n in values), Fraction(0)))


def _product(words: Words, values: tuple[Number, ...]) -> str:
    return _combined(words, " * ", values, prod((n.value for n in values), start=Fraction(1)))


def _combined(words: Words, sign: str, values: tuple[Number, ...], result: Fraction) -> str:
    decimal = any(n.decimal for n in values)
    parts = sign.join(braced(n.value, decimal) for n in values)
    return words.sentence(f"{parts} = {text_of(result, decimal)}")


def _mean(words: Words, values: tuple[Number, ...]) -> str:
    total = sum((n.value for n in values), Fraction(0))
    mean = total / len(values)
    added = " + ".join(braced(n.value) for n in values)
    return words.so(f"({added})/{len(values)} = {text_of(total)}/{len(values)}", text_of(mean))


def _median(words: Words, values: tuple[Number, ...]) -> str:
    row = sorted(n.value for n in values)
    half = len(row) // 2
    median = row[half] if len(row) % 2 else (row[half - 1] + row[half]) / 2
    return words.so(words.phrase("sorted", ", ".join(map(text_of, row))), text_of(median))


def _primes(words: Words, values: tuple[int, ...]) -> str:
    (value,) = values
    if not 1 < value < 10**9:
        raise UnclearError("not a number to factor")
    left, found = value, []
    for prime in range(2, isqrt(value) + 1):
        while left % prime == 0:
            found.append(prime)
            left //= prime
        if left == 1:
            break
    if not found:
        return words.sentence(words.phrase("prime", value))
    found += [left] if left > 1 else []
    powers = [(prime, found.count(prime)) for prime in sorted(set(found))]
    return words.sentence(
        f"{value} = " + " * ".join(f"{p}^{n}" if n > 1 else f"{p}" for p, n in powers)
    )


def _ratio(words: Words, a: int, b: int) -> str:
    common = gcd(a, b)
    return words.sentence(f"{a}:{b} = {a // common}:{b // common}")


# --- sequences ------------------------------------------------------------------------------


def rule(given: tuple[Number, ...], family: str = "") -> tuple[str, Fraction]:
    """The name and the step of the one simple rule that the first terms of a sequence follow.

    Four terms are enough for equal steps or ratios, or three if the question names the rule: 1, 2,
    4 alone may continue in several ways. Raises UnclearError if there is no rule or several.
    """
    terms = [number.value for number in given]
    enough = len(terms) >= (3 if family else 4)
    steps = [b - a for a, b in pairwise(terms)]
    found: dict[str, Fraction] = {}
    if enough and len(set(steps)) == 1:
        found["arithmetic"] = steps[0]
    if enough and all(terms) and len({b / a for a, b in pairwise(terms)}) == 1:
        found["geometric"] = terms[1] / terms[0]
    grown = {b - a for a, b in pairwise(steps)}
    if len(terms) >= 5 and len(grown) == 1 and 0 not in grown:
        found["quadratic"] = grown.pop()
    triples = zip(terms, terms[1:], terms[2:], strict=False)
    if len(terms) >= 5 and all(a + b == c for a, b, c in triples):
        found["fibonacci"] = Fraction(0)
    if found.get("arithmetic") == 0 and not family:  # 5, 5, 5, 5
        return "arithmetic", Fraction(0)
    if (family and family not in found) or (not family and len(found) != 1):
        raise UnclearError("no rule, or several")
    return (family, found[family]) if family else found.popitem()


def _term(words: Words, given: tuple[Number, ...], n: int | None, family: str) -> str:
    """The next term, or the n-th."""
    name, step = rule(given, family)
    decimal = any(number.decimal for number in given)
    found = _nth([number.value for number in given], name, step, n or len(given) + 1)
    value = text_of(found, decimal)
    result = words.phrase("nth", n, value) if n else words.phrase("next", value)
    falls = name == "arithmetic" and step < 0
    said = words.phrase(
        "falling" if falls else name, text_of(abs(step) if falls else step, decimal)
    )
    return words.so(said, result)


def _nth(terms: list[Fraction], rule: str, step: Fraction, n: int) -> Fraction:
    first, second = terms[0], terms[1]
    if rule == "arithmetic":
        return first + (n - 1) * step
    if rule == "geometric":
        size = max(abs(step.numerator), step.denominator).bit_length()
        if size * n > _MAX_BITS and abs(step) != 1:
            raise UnclearError("a very large term")
        return first * step ** (n - 1)
    if n > 1000:
        raise UnclearError("a very late term")
    if rule == "quadratic":
        return first + (n - 1) * (second - first) + step * ((n - 1) * (n - 2) // 2)
    a, b = first, second
    for _ in range(n - 1):
        a, b = b, a + b
    return a


def _general_term(words: Words, given: tuple[Number, ...], family: str) -> str:
    name, step = rule(given, family)
    first = given[0].value
    if name == "arithmetic":
        return words.sentence(show(meaning(parse(f"({step})*n + ({first - step})"))))
    if name == "geometric":
        return words.sentence(f"{braced(first, False)} * {braced(step, False)}^(n - 1)")
    raise UnclearError("a rule without a short formula")


def _step(words: Words, given: tuple[Number, ...], family: str) -> str:
    _, step = rule(given, family)
    a, b = given[0].value, given[1].value
    sign = "-" if family == "arithmetic" else "/"
    value = text_of(step, any(n.decimal for n in given))
    return words.sentence(f"{text_of(b)} {sign} {braced(a)} = {value}")


def _described_term(words: Words, family: str, first: Number, step: Number, n: int) -> str:
    value = _nth([first.value, first.value], family, step.value, n)
    if family == "arithmetic":
        sum_ = f"{text_of(first.value)} + {n - 1} * {braced(step.value)}"
    else:
        sum_ = f"{braced(first.value)} * {braced(step.value)}^{n - 1}"
    return words.so(f"{sum_} = {text_of(value)}", text_of(value))


# --- units and forms -----------------------------------------------------------------------


def _convert(words: Words, amount: Number, old: Unit, new: Unit) -> str:
    value = convert(amount.value, old, new)
    if amount.value < 0 and old.quantity != "heat":
        raise UnclearError("a negative size")
    exact = decimal_text(value)
    if exact is not None and len(exact) <= 12:
        shown = f"= {exact}"
    else:
        shown = f"≈ {float(value):.6g}"
        if "e" in shown:
            raise UnclearError("a size that is hard to write")
    return words.sentence(
        f"{text_of(amount.value)} {old.called(amount.value)} {shown} {new.called(value)}"
    )


def _fraction(node: Node, percent: bool) -> Fraction:
    value = meaning(node)
    if not value.is_Rational:
        raise UnclearError("not a fraction")
    return Fraction(int(value.p), int(value.q)) / (100 if percent else 1)


def _as_fraction(words: Words, node: Node, percent: bool, text: str) -> str:
    return words.sentence(f"{text} = {text_of(_fraction(node, percent), decimal=False)}")


def _as_decimal(words: Words, node: Node, percent: bool, text: str) -> str:
    value = _fraction(node, percent)
    exact = decimal_text(value)
    return words.sentence(f"{text} = {exact}" if exact else f"{text} ≈ {float(value):.6g}")


def _as_percent(words: Words, node: Node, percent: bool, text: str) -> str:
    if percent:
        raise UnclearError("a percentage already")
    return words.sentence(f"{text} = {mixed(100 * _fraction(node, False))}%")


# --- points ---------------------------------------------------------------------------------


def _coordinates(*points: Point) -> list[Fraction]:
    return [_fraction(part, False) for point in points for part in point]


def _decimals(*points: Point) -> bool:
    return any(has_decimals(part) for point in points for part in point)


def _slope(words: Words, p: Point, q: Point) -> str:
    slope, step = _slope_step(p, q)
    if slope is None:
        return words.sentence(words.phrase("vertical"))
    shown = text_of(slope, _decimals(p, q))
    return words.so(f"{step} = {shown}", shown)


def _line(words: Words, p: Point, q: Point) -> str:
    a, b = _coordinates(p)
    slope, step = _slope_step(p, q)
    if slope is None:
        return words.sentence(f"x = {text_of(a, False)}")
    right = show(meaning(parse(f"({slope})*x + ({b - slope * a})")))
    return words.so(f"{step} = {text_of(slope, False)}", f"y = {right}")


def _slope_step(p: Point, q: Point) -> tuple[Fraction | None, str]:
    """The slope of a line and how to compute it; None for a vertical line."""
    a, b, c, d = _coordinates(p, q)
    if (a, b) == (c, d):
        raise UnclearError("one point")
    step = f"({text_of(d)} - {braced(b)})/({text_of(c)} - {braced(a)})"
    return (None if a == c else (d - b) / (c - a)), step


def _distance(words: Words, p: Point, q: Point) -> str:
    a, b, c, d = _coordinates(p, q)
    square = (c - a) ** 2 + (d - b) ** 2
    value = show(meaning(parse(f"sqrt({square})")))
    step = f"({text_of(c)} - {braced(a)})^2 + ({text_of(d)} - {braced(b)})^2 = {text_of(square)}"
    return words.so(step, value)


def _midpoint(words: Words, p: Point, q: Point) -> str:
    a, b, c, d = _coordinates(p, q)
    decimal = _decimals(p, q)
    return words.sentence(f"({text_of((a + c) / 2, decimal)}, {text_of((b + d) / 2, decimal)})")


KINDS: list[Callable[..., str]] = [
    *(_percent_of, _percent_change, _share, _base, _change, _gcd, _lcm, _sum, _product, _mean),
    *(_median, _primes, _ratio, _term, _general_term, _step, _described_term, _convert),
    *(_as_fraction, _as_decimal, _as_percent, _slope, _line, _distance, _midpoint),
]
