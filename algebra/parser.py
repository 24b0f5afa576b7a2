"""Parses expressions.

Tokens keep their position and spelling, because spaces and signs decide how a text is read:
"1/2 x" is half of x, "1/2x" may also be 1/(2x). Where the notation allows several readings the
parser asks `readings.choose`; it refuses what no convention allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from math import gcd

from algebra.products import Factor, Sign, product
from algebra.readings import UnclearError, assume, choose
from algebra.syntax import (
    CONSTANTS,
    FUNCTIONS,
    TRIGONOMETRIC,
    Call,
    Name,
    Node,
    Number,
    Operation,
    Relation,
    names,
)
from algebra.tokens import END, FRACTIONS, Token, check_bars, check_labels, may_be_floor, tokens

_MAX_DEPTH = 40
_OPERATORS = frozenset("+-*/÷")
# Letters that before a bracket are factors; others are as likely to be functions.
_FACTORS = frozenset("abckmntuvwxyz")


def parse(text: str, lenient: bool = False) -> Node:
    """The tree of an expression such as "3(x - 2)^2 + sqrt(x)/4".

    Args:
        text: in plain notation (`notation.plain`).
        lenient: for answers that are judged: `e` and `i` are always constants, and any letter
            may be a factor.

    Raises:
        UnclearError: not an expression, too large, or several readings and the caller does not
            enumerate them.
    """
    return _Parser(text, lenient).whole()


def parse_relation(text: str, lenient: bool = False) -> Relation:
    """Parse "2x + 6 = 14" or "-1 < x <= 5". Raises UnclearError."""
    if re.search(r"\S!=", text):
        raise UnclearError("not equal, or a factorial")  # n!=24
    pieces = re.split(r"(<=|>=|!=|=|<|>)", text)
    signs = tuple(pieces[1::2])
    alike = {"<": "<", "<=": "<", ">": ">", ">=": ">"}
    if len(signs) == 2 and alike.get(signs[0], "a") != alike.get(signs[1], "b"):
        raise UnclearError("a chain of relations in both directions")
    if not 1 <= len(signs) <= 2:
        raise UnclearError("not a relation")
    sides = tuple(parse(side, lenient) for side in pieces[::2])
    return Relation(sides, signs, text.strip())


class _Parser:
    """A recursive-descent parser."""

    def __init__(self, text: str, lenient: bool) -> None:
        self._text = text
        self._lenient = lenient
        self._functions = FUNCTIONS | TRIGONOMETRIC if lenient else FUNCTIONS
        self._tokens = tokens(text, self._functions)
        self._at = 0
        self._depth = 0
        self._in_bars = False
        # Positions after an exponent without brackets that may go on: 2^3 x, 2^-3 x, e^x y.
        self._open_exponents: set[int] = set()

    def whole(self) -> Node:
        check_bars(self._tokens)
        if not self._lenient:
            check_labels(self._tokens, self._functions)
        node = self._sum()
        if self._next is not END:
            raise UnclearError(f"{self._next.text!r} was not expected")
        variables = names(node)
        if self._lenient:
            return node
        if "i" in variables or len({name.lower() for name in variables}) < len(variables):
            raise UnclearError("variables that may be mistaken")
        return node

    # --- tokens ---

    @property
    def _next(self) -> Token:
        return self._look(0)

    def _look(self, ahead: int) -> Token:
        at = self._at + ahead
        return self._tokens[at] if 0 <= at < len(self._tokens) else END

    def _take(self, sign: str = "") -> Token:
        token = self._next
        if sign and token.text != sign:
            raise UnclearError(f"{sign!r} was expected")
        self._at += 1
        return token

    def _is_tight(self) -> bool:
        """Whether there is no space on either side of the next token."""
        token, before, after = self._next, self._look(-1), self._look(1)
        return before.end == token.start and token.end == after.start

    def _choose(self, token: Token) -> bool:
        """Whether to take the second of two readings that differ at a token."""
        return choose(2, (self._text, token.start)) == 1

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise UnclearError("too deep")

    # --- sums and products ---

    def _sum(self) -> Node:
        self._deeper()
        node, loose = self._product()
        between = False  # whether the last term is a quotient by a variable, close to a sum
        while self._next.text in ("+", "-"):
            tight = self._is_tight()
            sign = self._take().text
            other, other_loose = self._product()
            under = other.right if isinstance(other, Operation) and other.sign == "/" else None
            between = between and tight and under is None
            if tight and (loose or other_loose or between):  # x+1 / x-2, x+1/x-2
                raise UnclearError("a quotient of sums without brackets, or a sum")
            between = tight and under is not None and bool(names(under)) and not self._lenient
            node, loose = Operation(sign, node, other), other_loose
        self._depth -= 1
        return node

    def _product(self) -> tuple[Node, bool]:
        """A product, and whether a slash with spaces around it is in it."""
        factors = [self._factor(self._signed)]
        signs: list[Sign] = []
        while True:
            token = self._next
            if token.text in ("*", "/", "÷"):
                signs.append(Sign(token.text, token.start, self._is_tight()))
                self._take()
                factors.append(self._factor(self._signed))
            elif self._is_times(token):
                signs.append(Sign("*", token.start, False))
                self._take()
                factors.append(self._factor(self._signed))
            elif self._begins_factor(token):
                self._refuse_unclear_factor()
                spaced = self._look(-1).end < token.start
                signs.append(Sign("", token.start, not spaced))
                factors.append(self._factor(self._power))
            else:
                break
        loose = any(sign.text == "/" and not sign.tight for sign in signs)
        return product(self._text, factors, signs), loose

    def _factor(self, read: Callable[[], Node]) -> Factor:
        start = self._at
        node = read()
        return Factor(node, tuple(self._tokens[start : self._at]))

    def _is_times(self, token: Token) -> bool:
        """Whether the letter x between spaces stands for "times": 12 x 7."""
        before, after = self._look(-1), self._look(1)
        if token.kind != "name" or token.text not in "xX" or after is END:
            return False
        if not (before.end < token.start and token.end < after.start):
            return False
        if after.kind in ("number", "mixed", "fraction"):
            return True  # no variable is followed by a number
        begins = after.kind in ("name", "log") or after.text in "(["
        return begins and self._choose(token)

    def _begins_factor(self, token: Token) -> bool:
        if token.kind in ("number", "mixed", "fraction"):
            raise UnclearError("two numbers without a sign between them")
        opens = token.text in ("(", "[") or (token.text == "|" and not self._in_bars)
        return token.kind in ("name", "log") or opens

    def _refuse_unclear_factor(self) -> None:
        """Refuse a factor without a sign after something whose end is not clear."""
        last, before = self._look(-1), self._look(-2)
        if (last.kind == "mixed" and "/" in last.text) or last.text == "!":
            raise UnclearError("a factor after a fraction or a factorial")
        if before.text in self._functions or before.kind == "log":
            raise UnclearError("a function's argument without parentheses, and a factor")
        if self._at in self._open_exponents:
            raise UnclearError("an exponent without parentheses, and a factor")
        if self._next.text == "sqrt" and not self._lenient:
            self._refuse_index(last)
        if last.kind == "name" and self._next.text == "(" and not self._lenient:
            self._refuse_function(last)

    def _refuse_index(self, before: Token) -> None:
        """Refuse 3√8: three times a root, or a cube root. In LaTeX the two look different."""
        sign, inside = self._next, self._look(1)
        tight = before.end == sign.start and before.text.isdigit() and sign.end < inside.start
        inside = self._look(2) if inside.text == "(" else inside
        if tight and inside.text.isdigit() and 2 < int(before.text) < 9:
            index, under = int(before.text), int(inside.text)
            if round(under ** (1 / index)) ** index == under:
                raise UnclearError("a factor, or the index of a root")

    def _refuse_function(self, letter: Token) -> None:
        """Refuse p(2) and f(x + 1), which are a function's values rather than products."""
        inside = self._look(1).kind != "sign" and self._look(2).text == ")"
        negative = self._look(1).text == "-" and self._look(3).text == ")"
        alone = [
            token
            for token, after in zip(self._tokens, [*self._tokens[1:], END], strict=True)
            if token.text == letter.text and after.text != "("
        ]
        if letter.text not in _FACTORS | {"pi"} or ((inside or negative) and not alone):
            raise UnclearError(f"{letter.text}(...) may be a function")

    # --- powers and atoms ---

    def _signed(self) -> Node:
        if self._next.text in ("+", "-"):
            self._deeper()
            apart = self._next.text == "+" or self._next.end < self._look(1).start
            if apart and self._look(-1).text in _OPERATORS:  # 2*x* - 3, x - +3
                raise UnclearError("two signs one after the other")
            negative = self._take().text == "-"
            node = self._signed()
            self._depth -= 1
            return Operation("neg", node) if negative else node
        return self._power()

    def _power(self) -> Node:
        node = self._atom()
        base = self._look(-1)
        if self._next.text == "!":
            self._take()
            node = Call("factorial", node)
        if self._next.text == "^":
            self._take()
            self._deeper()
            negative = self._next.text == "-" and bool(self._take())
            first = self._next
            exponent = self._atom()
            if self._next.text in ("^", "!"):  # 2^3^2 is 2^9 to mathematicians, 8^2 to calculators
                raise UnclearError("a power or factorial, of an exponent or of a power")
            if first is self._look(-1) and self._may_be_fraction(first):
                slash = self._take()
                under = self._take()
                exponent_over = Operation("/", exponent, _number(under))
                if not self._choose(slash):
                    self._at -= 2
                else:
                    exponent = exponent_over
            node = Operation("^", node, Operation("neg", exponent) if negative else exponent)
            letter = base.kind == "name" and base.text not in CONSTANTS
            if letter and base.text not in _FACTORS and self._next.text == "(":
                raise UnclearError("a factor, or an inverse function")
            closed = letter or (base.text in ")]|" and self._next.text == "(")  # x^2y, (x)^2(y)
            if first.text not in "([" and not (closed and first.kind == "number"):
                self._open_exponents.add(self._at)
            self._depth -= 1
        return node

    def _may_be_fraction(self, over: Token) -> bool:
        """Whether a quotient after an exponent without brackets may belong to it: 8^2/3, 2^x/3.

        x^2/4 is x²/4, because a fraction as an exponent would be in lowest terms.
        """
        slash, under, after = self._next, self._look(1), self._look(2)
        if slash.text != "/" or not self._is_tight() or under.kind not in ("number", "name"):
            return False
        if after.text in ("^", "!", "(") or under.text in self._functions:
            return False
        if over.text.isdigit() and under.text.isdigit():
            return gcd(int(over.text), int(under.text)) == 1 and int(under.text) > 1
        return True

    def _atom(self) -> Node:
        token = self._take()
        if token.kind in ("number", "fraction"):
            return _number(token)
        if token.kind == "mixed":
            if self._next.text in ("/", "^", "!"):
                raise UnclearError("not a mixed number")
            return _mixed(token.text)
        if token.text in ("(", "["):
            return self._closed(")") if token.text == "(" else self._in_square_brackets()
        if token.text == "|" and not self._in_bars:
            self._in_bars = True
            node = self._sum()
            self._take("|")
            self._in_bars = False
            return Call("abs", node)
        if token.kind == "log":
            base = int(token.text.removeprefix("log_"))
            if base < 2:
                raise UnclearError("not a base of logarithms")
            return Call("log", self._argument("log"), base)
        if token.text in self._functions:
            if token.text == "log":
                assume("log")
            return Call(token.text, self._argument(token.text), 10 if token.text == "log" else None)
        if token.kind == "name":
            self._check_constant(token)
            return Name(token.text)
        raise UnclearError(f"{token.text!r} was not expected")

    def _check_constant(self, token: Token) -> None:
        """Refuse an e that may be a variable: only in e^x and ln(e) it is Euler's number."""
        if token.text != "e" or self._lenient:
            return
        before = [self._look(-2).text, self._look(-3).text]
        if self._next.text != "^" and not {"ln", "log"} & set(before):
            raise UnclearError("a variable, or Euler's number")

    def _argument(self, function: str) -> Node:
        """A function's argument: in parentheses, or a number or letter alone."""
        first = self._next
        if first.text == "(":
            node = self._atom()
            sign = self._next.text
            unclear = sign == "!" or (sign == "^" and function in ("ln", "log"))
            if unclear and not self._lenient:
                raise UnclearError("a power or factorial of a function, or of its argument")
            return node
        if first.kind not in ("number", "name", "fraction") or first.text in self._functions:
            raise UnclearError("a function without an argument")
        node = self._atom()
        after = self._next
        if after.text in ("^", "!"):
            raise UnclearError("a power of a function, or of its argument")
        tight = self._is_tight() and self._look(1).text not in self._functions
        if tight and after.text in ("+", "-", "*", "÷") and not self._lenient:
            raise UnclearError("a function of a letter, or of a sum")  # √x+1
        root = function in ("sqrt", "cbrt")
        if (after.text == "/" and (self._is_tight() or not root)) or (
            after.text in ("*", "÷") and not root
        ):  # √9/4, log 8 / 2
            return self._longer_argument(node)
        return node

    def _longer_argument(self, node: Node) -> Node:
        """An argument without brackets, with or without the quotient that follows it."""
        if not self._choose(self._next):
            return node
        sign = self._take()
        return Operation("/" if sign.text == "÷" else sign.text, node, self._power())

    def _in_square_brackets(self) -> Node:
        start = self._at
        node = self._closed("]")
        if not self._lenient and may_be_floor(self._tokens[start : self._at - 1]):
            raise UnclearError("brackets, or a number rounded down")
        return node

    def _closed(self, end: str) -> Node:
        in_bars, self._in_bars = self._in_bars, False
        node = self._sum()
        self._take(end)
        self._in_bars = in_bars
        return node


def _number(token: Token) -> Node:
    if token.kind == "fraction":
        return Number(Fraction(*FRACTIONS[token.text]))
    if token.kind == "name":
        return Name(token.text)
    return Number(Fraction(token.text), "." in token.text)


def _mixed(text: str) -> Number:
    if text[-1] in FRACTIONS:
        return Number(int(text[:-1]) + Fraction(*FRACTIONS[text[-1]]))
    whole, part = text.split(maxsplit=1)
    over, under = map(int, part.split("/"))
    if not 0 < over < under:
        raise UnclearError("not a mixed number")
    return Number(int(whole) + Fraction(over, under))
