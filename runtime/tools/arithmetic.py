"""The value of a tree whose variables are known, in fractions alone: no sympy is needed."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from runtime.tools.syntax import Name, Node, Number, Operation, UnclearError

_MAX_BITS = 500


def evaluate(node: Node, values: Mapping[str, Fraction]) -> Fraction:
    """The exact value of an expression of numbers, + - * / and small whole powers.

    Raises:
        UnclearError: a function, an unknown variable, or a number that is too large.
        ZeroDivisionError: a division by zero.
    """
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Name) and node.name in values:
        return values[node.name]
    if not isinstance(node, Operation):
        raise UnclearError("neither a number nor a known variable")
    left = evaluate(node.left, values)
    if node.right is None:
        return -left
    right = evaluate(node.right, values)
    if node.sign == "^":
        if right.denominator != 1 or abs(right) * _bits(left) > _MAX_BITS:
            raise UnclearError("a power that is too large, or a root")
        return Fraction(left**right.numerator)
    signs = {"+": left.__add__, "-": left.__sub__, "*": left.__mul__, "/": left.__truediv__}
    value = Fraction(signs[node.sign](right))
    if _bits(value) > _MAX_BITS:
        raise UnclearError("a number that is too large")
    return value


def text_of(value: Fraction) -> str:
    """A fraction as a decimal if that ends within six places, else as 19/12."""
    if value.denominator == 1:
        return str(value.numerator)
    if (10**6 * value).denominator == 1:
        return f"{float(value):.6f}".rstrip("0")
    return f"{value.numerator}/{value.denominator}"


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())
