"""Answers exercises that rewrite an expression: evaluate, expand, factor, simplify."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import sympy as sp

from algebra.meaning import (
    Expression,
    NotRealError,
    UndefinedError,
    approximate,
    expanded,
    is_finite,
    is_zero,
    meaning,
    show,
    symbol,
)
from algebra.readings import UnclearError
from algebra.sentences import Words
from algebra.syntax import Node, has_decimals, names

# --- values ---------------------------------------------------------------------------


def _substitute(words: Words, node: Node, pairs: tuple[tuple[str, Node], ...], text: str) -> str:
    values = {name: meaning(value) for name, value in pairs}
    given = words.both([f"{name} = {show(value, True)}" for name, value in values.items()])
    decimal = has_decimals(node) or any(has_decimals(value) for _, value in pairs)
    value = _exact(node, values)
    if value is None:
        return words.sentence(words.phrase("with", given, words.phrase("undefined", text)))
    return words.so(given, f"{text} = {value_text(value, decimal)}")


def _evaluate(words: Words, node: Node, text: str) -> str:
    value = _exact(node)
    if value is None:
        return words.sentence(words.phrase("undefined", text))
    shown = value_text(value, has_decimals(node))
    if _bare(shown) == _bare(text):
        if not value.is_Rational:
            return words.sentence(f"{text} ≈ {approximate(value)}")
        if re.fullmatch(r"\d+/\d+", text):
            raise UnclearError("a fraction in lowest terms, a date, a score")
        shown = show(value, True)
        if "/" in shown:
            return words.sentence(f"{text} ≈ {approximate(value)}")
        if shown == text:
            raise UnclearError("nothing to compute")
    return words.sentence(f"{text} = {shown}")


def _exact(node: Node, values: Mapping[str, Expression] | None = None) -> Expression | None:
    """The value of an expression; None for a division by zero."""
    try:
        return simplest(meaning(node, values))
    except NotRealError:
        raise UnclearError("not a real number") from None
    except UndefinedError:
        return None


def _bare(text: str) -> str:
    """A text without brackets and spaces, for comparing."""
    return text.translate(str.maketrans("", "", " ()"))


def simplest(value: Expression) -> Expression:
    """The simplest form of a number. Raises UnclearError if it is not real."""
    if not value.is_number:
        raise UnclearError("not a number")
    if not is_finite(value) or value.has(sp.I) or value.is_real is False:
        raise UnclearError("not a real number")
    if value.is_Rational:
        return value
    if value.has(sp.log):
        ratio = sp.nsimplify(value.evalf(40), rational=True, tolerance=sp.Float(10) ** -30)
        if ratio.q < 1000 and is_zero(value - ratio):
            return ratio
        return value
    simple = sp.sqrtdenest(sp.radsimp(sp.expand(value)))
    if not is_zero(simple - value):
        raise UnclearError("the check failed")
    return simple


def value_text(value: Expression, decimal: bool) -> str:
    """A number as text; with a decimal approximation if it has logarithms, π or e."""
    text = show(value, decimal)
    if value.has(sp.log, sp.pi, sp.E) or (decimal and "/" in text):
        text += f" ≈ {approximate(value)}"
    return text


# --- rewriting ------------------------------------------------------------------------


def _expand(words: Words, node: Node, text: str) -> str:
    value = meaning(node)
    if not value.is_polynomial(*value.free_symbols):
        raise UnclearError("not a polynomial")
    return words.sentence(f"{text} = {show(expanded(value), has_decimals(node))}")


def _factor(words: Words, node: Node, text: str) -> str:
    value = meaning(node)
    if not value.is_polynomial(*value.free_symbols) or has_decimals(node):
        raise UnclearError("not a polynomial, or one with decimals")
    before = expanded(value)
    poly = sp.Poly(before, *before.free_symbols) if before.is_Add else None
    if poly is None or not all(c.is_Rational for c in poly.coeffs()):
        raise UnclearError("a single term, or roots and the like")
    found = sp.factor(before)
    content, _ = poly.primitive()
    if found == before or (found.is_Mul and _is_trivial(found, before)):
        return words.sentence(words.phrase("irreducible", text))
    if abs(content).q != 1:
        raise UnclearError("fractions")
    return words.sentence(f"{text} = {show(found)}")


def _is_trivial(found: Expression, before: Expression) -> bool:
    """Whether a factorization only takes out -1, or nothing."""
    content, rest = found.as_coeff_Mul()
    return bool(abs(content) == 1 and sp.expand(rest - before * content) == 0 and rest.is_Add)


def _simplify(words: Words, node: Node, text: str) -> str:
    value = meaning(node)
    free = list(value.free_symbols)
    if value.is_number:
        return words.sentence(f"{text} = {value_text(simplest(value), has_decimals(node))}")
    if value.is_polynomial(*free):
        found = expanded(value)
    elif value.is_rational_function(*free):
        expanded(sp.fraction(sp.together(value))[0])
        found = sp.cancel(sp.together(value))
        over, under = sp.fraction(found)
        found = over / (sp.factor(under) if under.is_Add else under)
    elif all(power.exp.is_number for power in value.atoms(sp.Pow)) and not value.has(sp.log):
        found = expanded(value.replace(_is_root, lambda root: sp.sqrt(sp.factor(root.base))))
    else:
        raise UnclearError("no rule for this")
    roots = [power for power in found.atoms(sp.Pow) if not power.exp.is_Integer]
    bases = [root.base for root in roots]
    if value.has(sp.log) or any(b.is_Pow or b.atoms(sp.Pow) & set(roots) for b in bases):
        raise UnclearError("logarithms, or roots of powers or of roots")
    check_same(node, found)
    shown = show(found, has_decimals(node))
    if not value.is_rational_function(*free) and _bare(shown) == _bare(text):
        raise UnclearError("nothing to simplify, or no rule for it")
    return words.sentence(f"{text} = {shown}")


def _is_root(value: Expression) -> bool:
    """Whether this is the square root of a sum, of which a factor may come out."""
    return bool(value.is_Pow and value.exp == sp.Rational(1, 2) and value.base.is_Add)


def check_same(node: Node, found: Expression) -> None:
    """Compare an expression with its simpler form at several points. Raises UnclearError."""
    compared = 0
    variables = sorted(names(node))
    for shift in range(6):
        values = {
            name: sp.Rational(7 * n + 3 * shift + 2, 5 + shift)
            for n, name in enumerate(variables, start=1)
        }
        try:
            before = meaning(node, values)
        except (UndefinedError, UnclearError):
            continue
        after = found.subs({symbol(name): value for name, value in values.items()})
        if not is_finite(after) or not is_zero(before - after):
            raise UnclearError("not the same")
        compared += 1
    if not compared:
        raise UnclearError("nothing to compare")


KINDS: list[Callable[..., str]] = [_substitute, _evaluate, _expand, _factor, _simplify]
