"""The tokens of expressions, with their positions: spaces decide how a text is read."""

from __future__ import annotations

import re
from dataclasses import dataclass

from algebra.readings import UnclearError
from algebra.syntax import CONSTANTS, FUNCTIONS

MAX_CHARS = 300
_MAX_TOKENS = 200
_MAX_DIGITS = 40
# Letters that form a product; words such as "by" and "an" do not.
PRODUCTS = frozenset(
    ["xy", "yz", "xz", "xyz", "ab", "bc", "ac", "abc", "mn", "pq", "uv"]
    + ["ax", "bx", "cx", "ay", "cy", "rt", "ah", "bh", "lw", "kx", "mx"]
    + ["PV", "IR", "nRT", "Prt", "mc", "mv"]
)
# Fractions that are one character.
FRACTIONS = {
    **{"½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5)},
    **{"⅖": (2, 5), "⅗": (3, 5), "⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6), "⅐": (1, 7)},
    **{"⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8), "⅑": (1, 9), "⅒": (1, 10)},
}
_ONE = f"[{''.join(FRACTIONS)}]"
_PATTERN = re.compile(
    rf"\s*(?:(?P<mixed>(?<![\d.])\d+(?: +\d+/\d+(?![\d.])| ?{_ONE}))|(?P<fraction>{_ONE})"
    r"|(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<log>log_\d+)|(?P<name>[A-Za-z]+)"
    r"|(?P<sign>[-+*/÷^()|!\[\]]))",
    re.ASCII,
)
# 2e-3 is 0.002 or 2e - 3; "+-" is a sign of its own, "--" may be a dash; log_28x is the logarithm
# of x, or of 8x; 2*x* + 3 is 2x + 3 with Markdown's italics; 2-1/2 may be a mixed number.
_DOUBTFUL = re.compile(
    r"\d[eE][-+]?\d|\+-|-\+|--|log_(?!10(?!\d))\d{2,}[A-Za-z]|\*[A-Za-z]{1,3}\* ?-"
    r"|(?<![\w./^])\d+-(?:1/\d+|2/[3-9]|3/[458]|[57]/8)(?![\d.])"
)


@dataclass(frozen=True)
class Token:
    """A token: its kind (number, mixed, fraction, log, name or sign), text and position."""

    kind: str
    text: str
    start: int
    end: int


END = Token("end", "", -1, -1)


def tokens(text: str, functions: frozenset[str] = FUNCTIONS) -> list[Token]:
    """Split a text in plain notation into tokens; "xy" becomes two variables.

    Args:
        text: an expression.
        functions: names of functions that may occur.

    Raises:
        UnclearError: an unknown character or word, or the text is too long.
    """
    text = text.rstrip()
    if len(text) > MAX_CHARS:
        raise UnclearError("too long")
    if doubtful := _DOUBTFUL.search(text):
        raise UnclearError(f"{doubtful[0]!r} has several readings")
    found = []
    at = 0
    while at < len(text):
        match = _PATTERN.match(text, at)
        if match is None or len(match[0]) > _MAX_DIGITS:
            raise UnclearError(f"{text[at : at + 10]!r} cannot be in an expression")
        kind = str(match.lastgroup)
        found.append(Token(kind, match[kind], match.start(kind), match.end()))
        at = match.end()
    if len(found) > _MAX_TOKENS:
        raise UnclearError("too large")
    return [piece for token in found for piece in _letters(token, functions)]


def _letters(token: Token, functions: frozenset[str]) -> list[Token]:
    """Split a run of letters into functions, constants and variables."""
    text = token.text
    if token.kind != "name" or len(text) == 1 or text in functions or text in CONSTANTS:
        return [token]
    if text not in PRODUCTS:
        raise UnclearError(f"{text!r} is a word")
    return [
        Token("name", letter, token.start + n, token.start + n + 1) for n, letter in enumerate(text)
    ]


def check_bars(found: list[Token]) -> None:
    """Refuse |a|b|c|, where bars can be paired in two ways."""
    bars = [n for n, token in enumerate(found) if token.text == "|"]
    for n in bars[1:-1]:
        before, after = found[n - 1], found[n + 1]
        ends = before.kind != "sign" or before.text in ")]!"
        begins = after.kind != "sign" or after.text in "(["
        if ends and begins:
            raise UnclearError("bars that can be paired in two ways")


def check_labels(found: list[Token], functions: frozenset[str]) -> None:
    """Refuse numbers of exercises and marks: (2) x = 4, (a) x = 4, x = 5 [3]."""
    for n, opens in enumerate(found):
        before, number, closes, after, last = (
            found[n + at] if 0 <= n + at < len(found) else END for at in (-1, 1, 2, 3, 4)
        )
        bracketed = opens.text + closes.text in ("()", "[]")
        if not bracketed or number.kind not in ("number", "name"):
            continue
        if before is END:
            spaced = closes.end < after.start and after.end < last.start  # (2) + 3, not (2) -3
            operator = after.text in ("*", "/", "÷", "^", "!", "(", *("+-" if spaced else ""))
            unclear = not operator
        elif before.kind == "sign" and before.text not in (")", "]", "!", "|"):
            unclear = False
        else:
            apart = before.end < opens.start or opens.text == "["
            unclear = apart and number.kind == "number" and before.text not in functions
        if unclear:
            raise UnclearError("a factor, or the number of an exercise or of marks")


def may_be_floor(inside: list[Token]) -> bool:
    """Whether square brackets may round down: [x/2] and [2.5], not [3(x + 1)] or [3 + 4]."""
    grouped = any(token.text in ("(", "[", "|") for token in inside)
    whole = all(token.text.isdigit() or token.text in ("+", "-", "*") for token in inside)
    return not (grouped or whole) or len(inside) == 1
