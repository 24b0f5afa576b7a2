"""Reads pieces of exercises: numbers, lists of numbers, operators in words, relations."""

from __future__ import annotations

import re

from algebra.parser import parse, parse_relation
from algebra.readings import UnclearError
from algebra.syntax import Number, Operation, Relation
from algebra.tokens import FRACTIONS
from algebra.words import without_separators

HAN = re.compile(r"[\u4e00-\u9fff]")
_ONE = f"[{''.join(FRACTIONS)}]"
NUMBER = (
    r"-?(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+ \d+/\d+|\d+/\d+"
    rf"|\d{{1,20}} ?{_ONE}|{_ONE}|\d{{1,20}}(?:\.\d{{1,20}})?)"
)
POINT = r"\( ?[^(),]{1,20} ?, ?[^(),]{1,20} ?\)"

# The number of an exercise, where words follow: "3. Solve", "(b) Find", "Question 2: What".
_NUMBERED = re.compile(
    r"(?:\(?\d{1,3}[.)]|\(?[a-h]\)|Q ?\d{1,3}[.:)]|(?:exercise|question|problem) \d{1,3}[.:)]) "
    r"(?=(?:solve|find|what|simplify|factor|expand|evaluate|calculate|compute|determine|if|given"
    r"|write|convert|how|work)\b)|\(?\d{1,3}[.),] ?(?=[解求计化因把将已])",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    r"(?:please|can you|could you|help me|question:|请问|请你|请|帮我)[, ]*", re.IGNORECASE
)
_AFTER = re.compile(
    r"[,;. ]*(?:please|thanks|thank you|show (?:your|all|all your) work|show your steps"
    r"|show the steps|step by step|[\[(]\d+ (?:marks?|points?)[\])]"
    r"|写出过程|并写出过程|要有过程)[.! ]*",
    re.IGNORECASE,
)
# The method that is asked for does not change the result.
_METHOD = re.compile(
    r",? (?:by|using|with)(?: the)?(?: method of)? (?:substitution|elimination|factoring"
    r"|factorization|completing the square|quadratic formula)(?: method)?(?=[:.,]| |$)",
    re.IGNORECASE,
)
_METHOD_ZH = re.compile(r"用(?:代入|加减|加减消元|配方|公式|因式分解)法")
COURTESIES = (_NUMBERED, _BEFORE, _AFTER, _METHOD, _METHOD_ZH)


def without_courtesies(text: str) -> str:
    """Remove its number, "please", "show your work" and the final mark from a question."""
    text = _METHOD_ZH.sub("", _METHOD.sub("", text))
    for pattern in (_NUMBERED, _BEFORE):
        begun = pattern.match(text)
        text = text[begun.end() :] if begun else text
    ends = [m for m in _AFTER.finditer(text) if m.end() == len(text)]
    text = text[: ends[0].start()] if ends else text
    text = text.strip()
    if text.endswith(("=?", "= ?")):
        return text
    return text if text.endswith("...") else text.rstrip(" .?;,:")


# What a power in words belongs to: of "2/3 squared" and "3 plus 4 squared" that is not clear.
_BASE = r"(?:^|(?<=[=<>])) ?(\d+(?:\.\d+)?|[a-z]|\([^()]+\))"
_SPOKEN = (
    (r"\b(?:is )?(?:greater|more) than or equal to\b", " >= "),
    (r"\b(?:is )?less than or equal to\b", " <= "),
    (r"\bis (?:greater|more) than\b", " > "),
    (r"\bis less than\b", " < "),
    (r"\b(?:is equal to|equals)\b", " = "),
    (r"\b(?:multiplied by|times)\b", " * "),
    (r"\bdivided by\b", " ÷ "),
    (r"\bplus\b", " + "),
    (r"\bminus\b", " - "),
    (r"\bnegative (?=\d|[a-z]\b)", " -"),
    (rf"{_BASE} squared\b", r"\1^(2)"),
    (rf"{_BASE} cubed\b", r"\1^(3)"),
    (rf"{_BASE} (?:raised )?to the power of (\d+)(?= ?(?:$|[=<>]))", r"\1^(\2)"),
    (rf"{_BASE} (?:raised )?to the (\d+)(?:st|nd|rd|th) power\b", r"\1^(\2)"),
    (r"(?:the )?factorial of (\d+)$", r"\1!"),
    (rf"{_BASE} factorial$", r"\1!"),
    (r"(?:the )?(?:positive )?square root of (\d+|[a-z]\b)$", r"sqrt(\1)"),
    (r"(?:the )?cube root of (-?\d+|[a-z]\b)$", r"cbrt(\1)"),
    (r"(?:the )?absolute value of (-?\d+)$", r"|\1|"),
    (r"(?:the )?log base (\d+) of (\d+|[a-z]\b)$", r"log_\1(\2)"),
    (r"(?:the )?natural log(?:arithm)? of (\d+|[a-z]\b)$", r"ln(\1)"),
    (r"^(?:the )?square of (-?\d+)$", r"(\1)^(2)"),
    (r"^(?:the )?cube of (-?\d+)$", r"(\1)^(3)"),
    (r"^half of (\d+(?:/\d+)?)$", r"(1/2) * (\1)"),
    (r"^(\d+/\d+) of (\d+)$", r"(\1) * \2"),
    (r"加上?", " + "),
    (r"减去?", " - "),
    (r"乘以?", " * "),
    (r"除以", " ÷ "),
    (rf"{_BASE} ?的平方$", r"\1^(2)"),
    (rf"{_BASE} ?的立方$", r"\1^(3)"),
    (rf"{_BASE} ?的 ?(\d+) ?次方$", r"\1^(\2)"),
    (r"^(\d+)的算术平方根$", r"sqrt(\1)"),
    (r"^(-?\d+)的立方根$", r"cbrt(\1)"),
    (r"^(-?\d+(?:\.\d+)?)的绝对值$", r"|\1|"),
    (r"^根号 ?(\d+)$", r"sqrt(\1)"),
    (r"等于(?=.)", " = "),
)
SPOKEN = tuple((re.compile(pattern, re.IGNORECASE), new) for pattern, new in _SPOKEN)


def spoken(text: str) -> str:
    """Replace the words for operators in an expression by signs."""
    if re.search(r"[A-Za-z\u4e00-\u9fff]{2}|[加减乘]", text):
        for pattern, new in SPOKEN:
            text = pattern.sub(new, text)
    return text


def number(text: str) -> Number:
    """Parse a single number: -3, 2.5, 3/4, 1 1/2, 1,200. Raises UnclearError."""
    text = without_separators(text.strip())
    node = parse(text.removeprefix("-"))
    if isinstance(node, Operation) and node.sign == "/":
        over, under = node.left, node.right
        if isinstance(over, Number) and isinstance(under, Number) and under.value:
            node = Number(over.value / under.value)
    if not isinstance(node, Number):
        raise UnclearError("not a number")
    return Number(-node.value, node.decimal) if text[0] == "-" else node


def listed_numbers(text: str) -> tuple[Number, ...]:
    """Parse "3, 5 and 8". Raises UnclearError for "1,200", which may be one number or two."""
    if re.search(r"\d,\d{3}(?!\d)", text):
        raise UnclearError("a comma that separates numbers, or thousands")
    if re.search(r"\d,\d", text) and re.search(r", |[a-z和与及]", text, re.IGNORECASE):
        raise UnclearError("commas between numbers, and perhaps in them")  # 1,5 and 2,5
    pieces = re.split(r" ?, ?(?:and )?| and | ?[和与及] ?", text.strip(" .,"), flags=re.IGNORECASE)
    return tuple(number(piece) for piece in pieces)


def integers(text: str) -> tuple[int, ...]:
    """Parse whole numbers from 1 to 12 digits. Raises UnclearError."""
    values = [n.value for n in listed_numbers(text)]
    if any(value.denominator != 1 or not 0 < value < 10**12 for value in values):
        raise UnclearError("numbers that are not whole and above 0")
    return tuple(int(value) for value in values)


def relations(text: str) -> tuple[Relation, ...]:
    """Parse "x + y = 5, x - y = 1" or "2x = 3 and y = x + 1". Raises UnclearError."""
    text = re.sub(r"^[(\[{ ]*\b(?:where|both)\b", "", text)
    if re.search(r"=", text) and re.search(r"\bor\b", text):
        raise UnclearError("alternatives")
    pieces = re.split(r";|,(?!\d{3}(?!\d))|\band\b|[和与且]", text, flags=re.IGNORECASE)
    if any(piece.lstrip().startswith(("+", "*", "/")) for piece in pieces):
        raise UnclearError("half an equation")
    found = [parse_relation(without_separators(spoken(p))) for p in pieces if p.strip(" .")]
    if not 1 <= len(found) <= 5:
        raise UnclearError("no equation, or too many")
    return tuple(found)
