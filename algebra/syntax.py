"""A small language of expressions, read without any doubt or not at all.

The tree is made of plain data, and knows nothing of sympy. What mathematicians themselves read
in two ways is refused: 1/2x, 8/2(2 + 2), 2^2x, sqrt 2x, x2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARS = 300
_MAX_NODES = 200
_MAX_DEPTH = 40
_MAX_DIGITS = 40


class UnclearError(ValueError):
    """Not understood, or larger than allowed; the question is the model's."""


@dataclass(frozen=True)
class Number:
    """A number; `decimal` says that it was written as one."""

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
    """A function of one argument: sqrt, cbrt, abs, ln, exp, factorial, or log to a base."""

    function: str
    argument: Node
    base: int | None = None


Node = Number | Name | Operation | Call


@dataclass(frozen=True)
class Relation:
    """Expressions with the signs between them: one "=" or "!=", or inequalities one way.

    `text` is how it was written.
    """

    sides: tuple[Node, ...]
    signs: tuple[str, ...]
    text: str

    @property
    def is_equation(self) -> bool:
        return self.signs == ("=",)


FUNCTIONS = frozenset({"sqrt", "cbrt", "abs", "ln", "log", "exp"})
CONSTANTS = frozenset({"pi", "e"})
# Letters that may stand together as a product; words such as "by" and "an" may not.
PRODUCTS = frozenset(
    ["xy", "yz", "xz", "xyz", "ab", "bc", "ac", "abc", "mn", "pq", "uv"]
    + ["ax", "bx", "cx", "ay", "cy", "rt", "ah", "bh", "lw", "kx", "mx"]
)

_TOKEN = re.compile(
    r"\s*(?:(?P<mixed>(?<![\d.])\d+ +\d+/\d+(?![\d.]))|(?P<number>\d+(?:\.\d+)?|\.\d+)"
    r"|(?P<log>log_\d+)|(?P<name>[A-Za-z]+)|(?P<sign>[-+*/^()|!\[\]]))",
    re.ASCII,
)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def parse(text: str) -> Node:
    """The tree of an expression such as "3(x - 2)^2 + sqrt(x)/4".

    Raises:
        UnclearError: it is none, has two readings, or is too large.
    """
    return _Parser(_tokens(text)).whole()


def parse_relation(text: str) -> Relation:
    """The relation in "2x + 6 = 14" or "-1 < x <= 5". Raises UnclearError."""
    pieces = re.split(r"(<=|>=|!=|=|<|>)", text)
    signs = tuple(pieces[1::2])
    alike = {"<": "<", "<=": "<", ">": ">", ">=": ">"}
    if len(signs) == 2 and alike.get(signs[0], "a") != alike.get(signs[1], "b"):
        raise UnclearError("a chain of relations that do not go one way")
    if not 1 <= len(signs) <= 2:
        raise UnclearError("no relation")
    return Relation(tuple(parse(side) for side in pieces[::2]), signs, text.strip())


def names(node: Node) -> set[str]:
    """The variables in a tree, constants not counted."""
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


def _tokens(text: str) -> list[_Token]:
    text = text.rstrip()
    if len(text) > MAX_CHARS:
        raise UnclearError("too long")
    found = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or len(match[0]) > _MAX_DIGITS:
            raise UnclearError(f"{text[at : at + 10]!r} is no part of an expression")
        kind = str(match.lastgroup)
        found.append(_Token(kind, match[kind], match.start(kind), match.end()))
        at = match.end()
    if len(found) > _MAX_NODES:
        raise UnclearError("too large")
    return [piece for token in found for piece in _letters(token)]


def _letters(token: _Token) -> list[_Token]:
    """A run of letters as functions, constants and variables."""
    text = token.text
    if token.kind != "name" or len(text) == 1 or text in FUNCTIONS or text in CONSTANTS:
        return [token]
    if text not in PRODUCTS:
        raise UnclearError(f"{text!r} is a word")
    return [
        _Token("name", letter, token.start + n, token.start + n + 1)
        for n, letter in enumerate(text)
    ]


_END = _Token("end", "", -1, -1)


class _Parser:
    """Reads tokens by recursive descent."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0
        self._in_bars = False

    def whole(self) -> Node:
        node = self._sum()
        if self._next is not _END:
            raise UnclearError(f"{self._next.text!r} was not expected")
        variables = names(node)
        if "i" in variables or len({name.lower() for name in variables}) < len(variables):
            raise UnclearError("variables that may be mistaken")
        return node

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else _END

    def _take(self, sign: str = "") -> _Token:
        token = self._next
        if sign and token.text != sign:
            raise UnclearError(f"{sign!r} was expected")
        self._at += 1
        return token

    def _sum(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise UnclearError("too deep")
        node = self._product()
        while self._next.text in ("+", "-"):
            node = Operation(self._take().text, node, self._product())
        self._depth -= 1
        return node

    def _product(self) -> Node:
        start = self._at
        node = self._signed()
        divided = -1  # where the last division begins
        while True:
            if self._next.text in ("*", "/"):
                sign = self._take().text
                divided = start if sign == "/" else -1
                start = self._at
                node = Operation(sign, node, self._signed())
            elif self._begins_factor():
                if divided >= 0 and not self._is_spaced_fraction(divided):
                    raise UnclearError("a quotient followed by a factor")
                self._refuse_unclear_factor()
                divided, start = -1, self._at
                node = Operation("*", node, self._power())
            else:
                return node

    def _begins_factor(self) -> bool:
        token = self._next
        if token.kind in ("number", "mixed"):
            raise UnclearError("two numbers without a sign between them")
        opens = token.text in ("(", "[") or (token.text == "|" and not self._in_bars)
        return token.kind in ("name", "log") or opens

    def _is_spaced_fraction(self, first: int) -> bool:
        """Whether "3/4 x" was read: whole numbers, a slash between, then a space."""
        tokens = self._tokens[first : self._at]
        return (
            [token.kind for token in tokens] == ["number", "sign", "number"]
            and tokens[0].end == tokens[1].start
            and tokens[1].end == tokens[2].start
            and self._next.start > tokens[2].end
            and all(token.text.isdigit() for token in tokens[::2])
        )

    def _refuse_unclear_factor(self) -> None:
        """Refuse a factor after something whose end is not sure without a sign."""
        last = self._tokens[self._at - 1]
        before = self._tokens[self._at - 2] if self._at > 1 else _END
        if last.kind == "mixed" or last.text == "!":
            raise UnclearError("a factor after a mixed number or a factorial")
        if before.text in FUNCTIONS or before.kind == "log":
            raise UnclearError("a function's argument without parentheses, and a factor")
        if before.text == "^" and last.kind in ("number", "name"):
            base = self._tokens[self._at - 3] if self._at > 2 else _END
            if base.kind != "name" or base.text in CONSTANTS or last.kind == "name":
                raise UnclearError("an exponent without parentheses, and a factor")
        if last.kind == "name" and last.text in "fgh" and self._next.text == "(":
            raise UnclearError("a function, or a factor")

    def _signed(self) -> Node:
        if self._next.text in ("+", "-"):
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise UnclearError("too deep")
            negative = self._take().text == "-"
            node = self._signed()
            self._depth -= 1
            return Operation("neg", node) if negative else node
        return self._power()

    def _power(self) -> Node:
        node = self._atom()
        if self._next.text == "!":
            self._take()
            node = Call("factorial", node)
        if self._next.text == "^":
            self._take()
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise UnclearError("too deep")
            negative = self._next.text == "-" and bool(self._take())
            exponent = self._power()
            node = Operation("^", node, Operation("neg", exponent) if negative else exponent)
            self._depth -= 1
        return node

    def _atom(self) -> Node:
        token = self._take()
        if token.kind == "number":
            return Number(Fraction(token.text), "." in token.text)
        if token.kind == "mixed":
            whole, part = token.text.split(maxsplit=1)
            over, under = map(int, part.split("/"))
            if not 0 < over < under or self._next.text in ("/", "^", "!"):
                raise UnclearError("no mixed number")
            return Number(int(whole) + Fraction(over, under))
        if token.text in ("(", "["):
            return self._closed(")" if token.text == "(" else "]")
        if token.text == "|" and not self._in_bars:
            self._in_bars = True
            node = self._sum()
            self._take("|")
            self._in_bars = False
            return Call("abs", node)
        if token.kind == "log":
            base = int(token.text.removeprefix("log_"))
            if base < 2:
                raise UnclearError("no base of logarithms")
            return Call("log", self._argument(), base)
        if token.text in FUNCTIONS:
            return Call(token.text, self._argument(), 10 if token.text == "log" else None)
        if token.kind == "name":
            return Name(token.text)
        raise UnclearError(f"{token.text!r} was not expected")

    def _argument(self) -> Node:
        """A function's argument: in parentheses, or a number or letter alone."""
        if self._next.text == "(" or (
            self._next.kind in ("number", "name") and self._next.text not in FUNCTIONS
        ):
            in_parentheses = self._next.text == "("
            node = self._atom()
            if self._next.text in ("^", "!") and not in_parentheses:
                raise UnclearError("a power of a function, or of its argument")
            return node
        raise UnclearError("a function without an argument")

    def _closed(self, end: str) -> Node:
        in_bars, self._in_bars = self._in_bars, False
        node = self._sum()
        self._take(end)
        self._in_bars = in_bars
        return node
