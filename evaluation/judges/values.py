"""What mathematical expressions are worth, and whether two are equal.

Expressions are read by the grammar of the exact tool (`algebra.parser`), which reads the whole of a
text or nothing and bounds its size; `math-verify` compares what they mean. Its own parser takes the
part of a text that it knows (52_8 is 52, 1 1/2 is 1), which would make wrong answers right.
"""

from __future__ import annotations

import logging
import zlib
from functools import cache, lru_cache
from typing import Any

from algebra.parser import parse
from algebra.readings import UnclearError, every
from runtime.common.extras import missing

# A sympy expression, set or tuple. They come without types.
Value = Any

# Two values are compared at points first: what differs there by more than this is not equal.
_DIFFERENT = 1e-9
_DIGITS = 15
# A number of up to this many decimal places is not rounded in exercises.
_PLACES = 4


@lru_cache(maxsize=4096)
def read(text: str) -> tuple[Value, ...]:
    """The values of an expression, one for each of its readings; none if it cannot be read.

    Args:
        text: in plain notation and lower case, such as "2(x + 1)^2 / sqrt(3)".
    """
    sp = _sympy()
    from algebra.meaning import meaning

    def one() -> Value:
        try:
            return meaning(parse(text, lenient=True), {"i": sp.I})
        except (UnclearError, ArithmeticError, ValueError, TypeError):
            return None

    try:
        found = every(one)
    except UnclearError:  # too many readings
        return ()
    return tuple(dict.fromkeys(value for value in found if value is not None))


def equal(some: tuple[Value, ...], others: tuple[Value, ...]) -> bool:
    """Whether a reading of one text has the value of a reading of another."""
    return any(_equal(one, other) for one in some for other in others)


@lru_cache(maxsize=4096)
def _equal(one: Value, other: Value) -> bool:
    sp = _sympy()
    if isinstance(one, sp.Expr) and isinstance(other, sp.Expr) and _differ(one, other):
        return False
    # What is left is equal, or sets and tuples of few bounded expressions: no time limit is needed,
    # and math-verify's is a signal, which only the main thread may have.
    return bool(_verify()(one, other, float_rounding=9, timeout_seconds=None))


def _differ(one: Value, other: Value) -> bool:
    """Whether two expressions have other values where each variable is some number."""
    names = sorted({symbol.name for symbol in one.free_symbols | other.free_symbols})
    point = _point(one.free_symbols | other.free_symbols)
    if len(names) != len(point):  # one letter with two assumptions
        return True
    try:
        values = [complex(value.evalf(_DIGITS, subs=point)) for value in (one, other)]
    except (TypeError, ValueError, OverflowError):
        return bool(one != other)
    size = max(1.0, *map(abs, values))
    return not abs(values[0] - values[1]) <= _DIFFERENT * size


def _point(symbols: set[Value], number: int = 0) -> dict[Value, Value]:
    """A value for each variable, always the same for a number."""
    sp = _sympy()
    return {
        symbol: sp.Rational(zlib.crc32(f"{symbol.name}{number or ''}".encode()) % 997 + 2, 101)
        for symbol in symbols
    }


def proportional(some: tuple[Value, ...], others: tuple[Value, ...]) -> bool:
    """Whether a reading of one text, in several variables, is a multiple of one of another."""
    return any(_proportional(one, other) for one in some for other in others)


def _proportional(one: Value, other: Value) -> bool:
    symbols = one.free_symbols
    if len(symbols) < 2 or symbols != other.free_symbols:
        return False
    points = [_point(symbols, number) for number in range(3)]
    try:
        first, *ratios = [
            complex(one.evalf(_DIGITS, subs=point) / other.evalf(_DIGITS, subs=point))
            for point in points
        ]
    except (TypeError, ValueError, ArithmeticError):
        return False
    return all(abs(ratio - first) <= _DIFFERENT * abs(first) for ratio in ratios)


def factors(value: Value) -> int:
    """How many factors with a variable an expression is written with: 3 for x(x - 2)^2."""
    sp = _sympy()
    parts = [part.as_base_exp() for part in sp.Mul.make_args(value) if part.free_symbols]
    return sum(int(power) if power.is_Integer else 1 for _, power in parts)


def rounds(decimal: Value, places: int, exact: tuple[Value, ...]) -> bool:
    """Whether a decimal is the rounded form of a value without a short decimal, such as 1/3."""
    for value in exact:
        if not value.is_number or (value.is_Rational and 10**_PLACES % value.q == 0):
            continue
        if abs(complex(value) - complex(decimal)) <= 0.5 * 10.0**-places * (1 + 1e-9):
            return True
    return False


def number(text: str) -> Value | None:
    """The value of a real expression with one reading and no variables, or None."""
    found = read(text)
    return found[0] if len(found) == 1 and found[0].is_real and found[0].is_number else None


def infinity() -> Value:
    """Where the numbers end."""
    return _sympy().oo


def interval(low: Value, high: Value, left_open: bool, right_open: bool) -> Value:
    """The numbers between two ends."""
    return _sympy().Interval(low, high, left_open, right_open)


def union(sets: list[Value]) -> Value:
    """What is in one of some sets."""
    return _sympy().Union(*sets)


def intersection(sets: list[Value]) -> Value:
    """What is in all of some sets."""
    return _sympy().Intersection(*sets)


def named(text: str) -> Value:
    """Something that equals only what is written in the same way: 55_8, 2:3."""
    return _sympy().Symbol(text)


@cache
def _sympy() -> Any:
    try:
        import sympy
    except ModuleNotFoundError as error:
        raise missing(error, "judging mathematics", "evaluation") from None
    return sympy


@cache
def _verify() -> Any:
    try:
        from math_verify import verify
    except ModuleNotFoundError as error:
        raise missing(error, "judging mathematics", "evaluation") from None
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # that there is no time limit
    return verify
