"""The trees of expressions that `parser` builds: plain data, without sympy."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Number:
    """A number; `decimal` is True if it was written as a decimal."""

    value: Fraction
    decimal: bool = False


@dataclass(frozen=True)
class Name:
    """A variable, or one of the constants `pi` and `e`."""

    name: str


@dataclass(frozen=True)
class Operation:
    """`sign` is one of + - * / ^, or "neg" with `right` None."""

    sign: str
    left: Node
    right: Node | None = None


@dataclass(frozen=True)
class Call:
    """A function of one argument: one of FUNCTIONS, a factorial, or a logarithm to a base."""

    function: str
    argument: Node
    base: int | None = None


Node = Number | Name | Operation | Call


@dataclass(frozen=True)
class Relation:
    """Expressions with "=" or "!=", or one or two inequalities in one direction, between them.

    `text` is the original text.
    """

    sides: tuple[Node, ...]
    signs: tuple[str, ...]
    text: str

    @property
    def is_equation(self) -> bool:
        return self.signs == ("=",)


FUNCTIONS = frozenset({"sqrt", "cbrt", "abs", "ln", "log", "exp"})
# For judges only: exercises do not say in which unit an angle is.
TRIGONOMETRIC = frozenset({"sin", "cos", "tan"})
CONSTANTS = frozenset({"pi", "e"})


def names(node: Node) -> set[str]:
    """The variables in a tree, without constants."""
    return {n.name for n in walk(node) if isinstance(n, Name) and n.name not in CONSTANTS}


def walk(node: Node) -> list[Node]:
    """All nodes of a tree."""
    found: list[Node] = []
    left = [node]
    while left:
        node = left.pop()
        found.append(node)
        if isinstance(node, Operation):
            left += [node.left] if node.right is None else [node.left, node.right]
        elif isinstance(node, Call):
            left.append(node.argument)
    return found


def has_decimals(node: Node) -> bool:
    """Whether a number in a tree was written as a decimal."""
    return any(isinstance(n, Number) and n.decimal for n in walk(node))
