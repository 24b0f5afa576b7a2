"""The value of an algebraic expression, in steps so few and small that it cannot hang.

An expression is read and evaluated in one pass, at a few fixed points where it has variables:
two expressions with equal values there are equal but for a chance that can be neglected
(Schwartz-Zippel). Rational numbers stay exact.
"""

from __future__ import annotations

import cmath
import math
import re
import zlib
from collections.abc import Callable
from fractions import Fraction

Value = Fraction | complex
# The values of an expression at each of the points.
Values = tuple[Value, ...]

FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sqrt": cmath.sqrt,
    "cbrt": lambda x: complex(math.cbrt(x.real)),
    "abs": lambda x: complex(abs(x)),
    "ln": cmath.log,
    "log": cmath.log10,
    "exp": cmath.exp,
    "sin": cmath.sin,
    "cos": cmath.cos,
    "tan": cmath.tan,
}
_CONSTANTS: dict[str, Value] = {"pi": complex(math.pi), "e": complex(math.e), "i": 1j}

MAX_CHARS = 300
_MAX_DEPTH = 30
_MAX_BITS = 5000
_N_POINTS = 3
_TOKEN = re.compile(rf"\s*(\d+(?:\.\d+)?|\.\d+|{'|'.join(FUNCTIONS)}|pi|[a-z]|[-+*/^()])")


def evaluate(text: str) -> Values:
    """An expression's values, such as those of "2(x + 1)^2 / sqrt(3)".

    Raises:
        ValueError: it is none, is undefined, or is longer, deeper or larger than allowed.
    """
    tokens = _tokens(text)
    try:
        return tuple(_Reader(tokens, point).whole() for point in range(_N_POINTS))
    except (ArithmeticError, TypeError) as error:
        raise ValueError(f"{text!r} has no value") from error


def equal(a: Values, b: Values) -> bool:
    """Whether two expressions have the same values; irrational ones to nine digits."""
    return all(map(_equal, a, b))


def _equal(a: Value, b: Value) -> bool:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    return cmath.isclose(complex(a), complex(b), rel_tol=1e-9, abs_tol=1e-12)


def _tokens(text: str) -> list[str]:
    if len(text) > MAX_CHARS:
        raise ValueError("the expression is too long")
    found, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"{text!r} is no expression")
        found.append(match[1])
        at = match.end()
    return found


class _Reader:
    """Evaluates tokens at one of the points by recursive descent."""

    def __init__(self, tokens: list[str], point: int) -> None:
        self._tokens = tokens
        self._point = point
        self._at = 0
        self._depth = 0

    def whole(self) -> Value:
        value = self._sum()
        if self._next:
            raise ValueError(f"{self._next!r} was not expected")
        return value

    @property
    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._next
        self._at += 1
        return token

    def _sum(self) -> Value:
        value = self._product()
        while self._next in ("+", "-"):
            value = value + self._product() if self._take() == "+" else value - self._product()
        return _bounded(value)

    def _product(self) -> Value:
        value = self._signed()
        while self._next and self._next not in ("+", "-", ")"):
            # Without an operator ("2x", "(x+1)(x-1)") it is a product as well.
            operator = self._take() if self._next in ("*", "/") else "*"
            factor = self._signed()
            value = _bounded(value * factor if operator == "*" else value / factor)
        return value

    def _signed(self) -> Value:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError("the expression is too deep")
        if self._next in ("+", "-"):
            value = self._signed() if self._take() == "+" else -self._signed()
        else:
            value = self._atom()
            if self._next == "^":
                self._take()
                value = _power(value, self._signed())
        self._depth -= 1
        return value

    def _atom(self) -> Value:
        token = self._take()
        if token == "(":
            value = self._sum()
            if self._take() != ")":
                raise ValueError("a parenthesis is not closed")
            return value
        if token in FUNCTIONS:
            return FUNCTIONS[token](complex(self._atom()))
        if token in _CONSTANTS:
            return _CONSTANTS[token]
        if token.isalpha():
            # Odd over 101: never zero, and no variable is a simple multiple of another.
            return Fraction(2 * (zlib.crc32(f"{token}{self._point}".encode()) % 999) - 997, 101)
        return Fraction(token)  # raises ValueError for an operator or the end


def _power(base: Value, exponent: Value) -> Value:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        bits = base.numerator.bit_length() + base.denominator.bit_length()
        if bits * abs(exponent) > _MAX_BITS:
            raise ValueError("the power is too large")
        return Fraction(base**exponent)
    return complex(base) ** complex(exponent)


def _bounded(value: Value) -> Value:
    """A value, if it is finite and not too large to go on with."""
    if isinstance(value, complex):
        if not cmath.isfinite(value):
            raise ValueError("the value is not finite")
    elif value.numerator.bit_length() + value.denominator.bit_length() > _MAX_BITS:
        raise ValueError("the value is too large")
    return value
