"""Converts trees to sympy's objects, within bounds, and those to text.

sympy never gets text: its own parser evaluates text as Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from math import log2
from typing import Any

import sympy as sp

from algebra.readings import UnclearError
from algebra.syntax import TRIGONOMETRIC, Call, Name, Node, Number

# Bits of a number, the power of a variable, and terms of a product written out.
_MAX_BITS = 1000
_MAX_POWER = 60
_MAX_TERMS = 120
_MAX_FACTORIAL = 60
# Digits that are compared to decide that something is zero.
_DIGITS = 50

Expression = Any  # sympy comes without types


class UndefinedError(ArithmeticError):
    """The expression has no value: a division by zero, a logarithm of zero."""


class NotRealError(UndefinedError):
    """The expression has no real value: a square root or a logarithm of a negative number."""


def symbol(name: str) -> Expression:
    """The real variable of that name."""
    return sp.Symbol(name, real=True)


def meaning(node: Node, values: Mapping[str, Expression] | None = None) -> Expression:
    """The sympy expression of a tree.

    Args:
        node: the tree.
        values: of variables. Undefined values are found even where sympy would simplify them
            away, such as x/x at 0.

    Raises:
        UnclearError: larger than allowed, or of a kind that is not supported.
        UndefinedError: a division by zero.
    """
    if isinstance(node, Number):
        return sp.Rational(node.value.numerator, node.value.denominator)
    if isinstance(node, Name):
        if values and node.name in values:
            return values[node.name]
        return {"pi": sp.pi, "e": sp.E}.get(node.name) or symbol(node.name)
    if isinstance(node, Call):
        return _call(node, meaning(node.argument, values))
    left = meaning(node.left, values)
    if node.right is None:
        return -left
    right = meaning(node.right, values)
    if node.sign == "+":
        return left + right
    if node.sign == "-":
        return left - right
    if node.sign == "*":
        return _bounded(left * right)
    if node.sign == "/":
        if is_zero(right):
            raise UndefinedError("a division by zero")
        return _bounded(left / right)
    return _power(left, right)


def _call(node: Call, argument: Expression) -> Expression:
    if node.function == "factorial":
        if not argument.is_Integer or not 0 <= argument <= _MAX_FACTORIAL:
            raise UnclearError("a factorial that is too large, or of no whole number")
        return sp.factorial(argument)
    if node.function == "abs":
        return sp.Abs(argument)
    if node.function == "exp":
        return _power(sp.E, argument)
    if node.function in TRIGONOMETRIC:
        return {"sin": sp.sin, "cos": sp.cos, "tan": sp.tan}[node.function](argument)
    if node.function in ("ln", "log"):
        if argument.is_number and not argument.is_positive:
            raise NotRealError("a logarithm of a number that is not positive")
        return sp.log(argument) / (sp.log(node.base) if node.base else 1)
    if argument.is_number and argument.is_negative:
        if node.function == "cbrt":
            return -sp.cbrt(-argument)
        raise NotRealError("a root of a negative number")
    if node.function == "cbrt" and not argument.is_number:
        raise UnclearError("a cube root of a variable")
    return sp.sqrt(argument) if node.function == "sqrt" else sp.cbrt(argument)


def _power(base: Expression, exponent: Expression) -> Expression:
    if not exponent.is_number:
        if not (base.is_number and base.is_positive):
            raise UnclearError("a variable in the exponent of a variable")
        if base.is_Rational:
            _bounded(base)
        return base**exponent
    if not exponent.is_Rational:
        if not (base.is_Rational or base == sp.E) or not base.is_positive:
            raise UnclearError("an exponent that is not a fraction")
        if abs(float(exponent)) * abs(log2(float(base))) > _MAX_BITS:
            raise UnclearError("a power that is too large")
        return base**exponent
    if is_zero(base) and exponent <= 0:
        if exponent == 0:
            raise UnclearError("0^0 is 1 to some, and undefined to others")
        raise UndefinedError("a negative power of zero")
    if base.is_number:
        size = log2(max(2.0, *(abs(float(part)) for part in _parts(base))))
        if abs(exponent) * size > _MAX_BITS or exponent.q > _MAX_POWER:
            raise UnclearError("a power that is too large")
        if base.is_negative and not exponent.is_Integer:
            raise NotRealError("a root of a negative number")
    elif abs(exponent) * _degree(base) > _MAX_POWER or exponent.q > 2:
        raise UnclearError("a power that is too large, or a root of a variable")
    return _bounded(base**exponent)


def _degree(base: Expression) -> Expression:
    """The absolute value of the exponent of a power: 60 for x^60."""
    exponent = base.as_base_exp()[1]
    return max(1, abs(exponent)) if exponent.is_number else 1


def _parts(number: Expression) -> list[Expression]:
    """Numbers that bound the size of a number and of its inverse."""
    _bounded(number)
    found = [sp.Integer(part) for r in number.atoms(sp.Rational) for part in (r.p, r.q)]
    return [*found, sp.Integer(2 ** min(32, len(number.args) + 1))]


def _bounded(value: Expression) -> Expression:
    for number in value.atoms(sp.Rational):
        if max(int(number.p).bit_length(), int(number.q).bit_length()) > _MAX_BITS:
            raise UnclearError("a number that is too large")
    return value


def expanded(value: Expression) -> Expression:
    """Expand products of sums. Raises UnclearError if the result would be long."""
    if _terms(value) > _MAX_TERMS:
        raise UnclearError("too many terms")
    return sp.expand(value)


def _terms(value: Expression) -> int:
    """An upper bound on the number of terms after expanding."""
    if value.is_Add:
        return min(10**6, sum(map(_terms, value.args)))
    if value.is_Mul:
        count = 1
        for factor in value.args:
            count = min(10**6, count * _terms(factor))
        return count
    if value.is_Pow and value.exp.is_Integer:
        each = _terms(value.base)
        return int(min(10**6, each ** min(20, abs(int(value.exp))))) if each > 1 else 1
    return 1


def is_zero(value: Expression) -> bool:
    """Whether an expression without variables is 0: exactly, or in its first fifty digits."""
    if value.is_Rational:
        return bool(value == 0)
    if not value.is_number:
        return bool(value == 0 or (value.is_rational_function() and sp.cancel(value) == 0))
    return bool(abs(value.evalf(_DIGITS, maxn=400)) < sp.Float(10) ** (-_DIGITS + 15))


def is_finite(value: Expression) -> bool:
    """Whether an expression has no infinities and is defined."""
    return not value.has(sp.zoo, sp.nan, sp.oo, -sp.oo)


# --- spelling ---------------------------------------------------------------------


def show(value: Expression, decimal: bool = False) -> str:
    """Format an expression as in a school book: 2x^2 - 3x/4 + √5.

    Args:
        decimal: write a fraction as a decimal if that ends.
    """
    if value.is_Rational:
        return _number(value, decimal)
    if value.is_Add:
        return _sum(value, decimal)
    if value.is_Mul:
        return _product(value, decimal)
    if value.is_Pow or isinstance(value, sp.exp):
        return _shown_power(value, decimal)
    if isinstance(value, sp.Abs):
        return f"|{show(value.args[0], decimal)}|"
    if isinstance(value, sp.log):
        return f"ln({show(value.args[0], decimal)})"
    if value.is_Symbol:
        return str(value.name)
    named = {sp.pi: "π", sp.E: "e", sp.I: "i"}
    if value in named:
        return named[value]
    raise UnclearError(f"{type(value).__name__} cannot be shown")


def approximate(value: Expression) -> str:
    """A real number to four places: 3.1416; for very large or small ones to five digits."""
    number = sp.N(value, 30)
    if number != 0 and not sp.Rational(1, 100) < abs(number) < 10**9:
        return f"{float(number):.5g}"
    return f"{float(number):.4f}".rstrip("0").rstrip(".")


def decimal_text(value: Fraction) -> str | None:
    """A fraction as a decimal if it ends within twelve places, else None."""
    if (10**12 * value).denominator != 1:
        return None
    sign, digits = ("-" if value < 0 else ""), str(abs(int(10**12 * value))).rjust(13, "0")
    return sign + f"{digits[:-12]}.{digits[-12:]}".rstrip("0").rstrip(".")


def _number(value: Expression, decimal: bool) -> str:
    if value.is_Integer:
        return str(value)
    text = decimal_text(Fraction(int(value.p), int(value.q))) if decimal else None
    return text or f"{value.p}/{value.q}"


def _sum(value: Expression, decimal: bool) -> str:
    common = sp.Integer(1)
    if value.is_number:  # (3 + √17)/2
        common = sp.ilcm(*(term.as_coeff_Mul()[0].q for term in value.args))
    terms = (value * common).expand().as_ordered_terms() if common != 1 else _ordered(value)
    text = ""
    for term in terms:
        negative = term.could_extract_minus_sign()
        part = show(-term if negative else term, decimal)
        if text:
            text += (" - " if negative else " + ") + part
        else:
            text = ("-" if negative else "") + part
    return text if common == 1 else f"({text})/{common}"


def _ordered(value: Expression) -> list[Expression]:
    terms = list(value.as_ordered_terms())
    if value.is_number:  # 3 + √17
        terms.sort(key=lambda term: not term.is_Rational)
    elif len(terms) == 2 and terms[0].could_extract_minus_sign() and terms[1].is_number:
        terms.reverse()  # 3 - x
        if terms[0].could_extract_minus_sign():
            terms.reverse()
    return terms


def _product(value: Expression, decimal: bool) -> str:
    factor, rest = value.as_coeff_Mul()
    if factor.could_extract_minus_sign():
        return "-" + show(-value, decimal) if not (-value).is_Add else f"-({show(-value)})"
    if decimal and not factor.is_Integer and decimal_text(Fraction(int(factor.p), int(factor.q))):
        return f"{_number(factor, True)}{_in_product(rest, decimal)}"
    over, under = sp.fraction(value)
    if under != 1:
        top = show(over, decimal)
        bottom = show(under, decimal)
        plain = (
            under.is_Symbol
            or under.is_Integer
            or under == sp.pi
            or bottom[:3] == "ln("
            or (under.is_Pow and bottom[0] != "√")
        )
        alone = not over.is_Add
        return f"{top if alone else f'({top})'}/{bottom if plain else f'({bottom})'}"
    factors = sorted(value.as_ordered_factors(), key=lambda part: part.has(sp.I) is False)
    if factor not in (1, -1):
        factors = [factor, *(part for part in factors if part != factor)]
    parts = [_in_product(part, decimal) for part in factors]
    text = parts[0]
    for before, part in pairwise(parts):
        digits = part[0].isdigit() and before[-1].isdigit()
        text += ("*" if digits or (before[-1].isalpha() and part[:2] == "ln") else "") + part
    return text


def _in_product(value: Expression, decimal: bool) -> str:
    text = show(value, decimal)
    return f"({text})" if value.is_Add else text


def _shown_power(value: Expression, decimal: bool) -> str:
    base, exponent = value.as_base_exp()
    if exponent == sp.Rational(1, 2):
        inside = show(base, decimal)
        return f"√{inside}" if base.is_Integer else f"√({inside})"
    if exponent.is_Rational and exponent < 0:
        under = show(base**-exponent, decimal)
        simple = base.is_Symbol or base.is_Integer
        return f"1/{under if simple else f'({under})'}"
    inside = show(base, decimal)
    simple = base.is_Symbol or (base.is_Integer and base > 0) or base in (sp.E, sp.pi)
    power = show(exponent, decimal)
    alone = exponent.is_Symbol or exponent.is_Integer
    return f"{inside if simple else f'({inside})'}^{power if alone else f'({power})'}"
