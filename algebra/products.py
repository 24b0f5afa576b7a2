"""Products and quotients: which factors belong together, and in which order they are computed."""

from __future__ import annotations

from dataclasses import dataclass

from algebra.readings import assume, choose
from algebra.syntax import Node, Operation
from algebra.tokens import Token


@dataclass(frozen=True)
class Factor:
    """A factor of a product, and its tokens."""

    node: Node
    tokens: tuple[Token, ...]

    @property
    def simple(self) -> bool:
        return len(self.tokens) == 1

    @property
    def whole_number(self) -> bool:
        return self.simple and self.tokens[0].text.isdigit()


@dataclass(frozen=True)
class Sign:
    """The sign between two factors: "*", "/", "÷", or "" if there is none."""

    text: str
    at: int
    tight: bool

    @property
    def divides(self) -> bool:
        return self.text in ("/", "÷")


def _joined(text: str, factors: list[Factor], signs: list[Sign]) -> tuple[list[Factor], list[Sign]]:
    """Join factors without a sign between them, except after a quotient: 1/2x."""
    groups, between = [factors[0]], []
    for n, (sign, factor) in enumerate(zip(signs, factors[1:], strict=True)):
        if sign.text:
            groups.append(factor)
            between.append(sign)
            continue
        divided = between and n and signs[n - 1].divides
        if divided and not _is_spaced_fraction(groups, between[-1], sign):
            # What follows a divisor belongs to it or to the quotient: 8/2(2 + 2).
            if choose(2, (text, sign.at)) == 0:
                groups.append(factor)
                between.append(Sign("*", sign.at, False))
                continue
        elif divided:
            groups.append(factor)
            between.append(Sign("*", sign.at, False))
            continue
        last = groups[-1]
        groups[-1] = Factor(Operation("*", last.node, factor.node), last.tokens + factor.tokens)
    return groups, between


def _is_spaced_fraction(groups: list[Factor], slash: Sign, gap: Sign) -> bool:
    """Whether the text is like "3/4 x": integers, a slash without spaces, then a space."""
    over, under = groups[-2], groups[-1]
    written = over.whole_number and under.whole_number and slash.text == "/"
    return written and slash.tight and not gap.tight


def product(text: str, factors: list[Factor], signs: list[Sign]) -> Node:
    """The tree of factors and the signs between them.

    Signs bind from left to right, but a slash after a division may be a fraction bar: 6 ÷ 2/3.
    """
    factors, signs = _joined(text, factors, signs)
    node = factors[0].node
    at = 0
    while at < len(signs):
        sign, right = signs[at], factors[at + 1]
        after = signs[at + 1] if at + 1 < len(signs) else None
        other = right.node
        at += 1
        if after and _binds(text, sign, right, after, factors[at + 1]):
            other = Operation(after.text, other, factors[at + 1].node)
            at += 1
        node = Operation("/" if sign.divides else "*", node, other)
    return node


def _binds(text: str, sign: Sign, left: Factor, after: Sign, right: Factor) -> bool:
    """Whether in "a ÷ b/c" the second sign binds first."""
    if sign.divides and after.text == "/":
        if sign.text == "÷" and after.tight and left.simple and right.simple:
            assume("fractions")
            return True
        return choose(2, (text, after.at)) == 1
    if sign.text == "/" and not sign.tight and after.text == "*" and after.tight:
        return choose(2, (text, after.at)) == 1
    return False
