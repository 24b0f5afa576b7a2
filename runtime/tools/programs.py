"""Word problems: the model writes the calculation, this computes it.

A draft is a few lines "name = expression". Its figures after a further equals sign are the model's
own sums and are not believed. A line with one unknown x that is linear in it is solved for x.
Nothing here needs a model or sympy: from a question to a prompt, from drafts to an answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from runtime.tools.arithmetic import evaluate, text_of
from runtime.tools.syntax import UnclearError, names, parse

_PROMPT = """\
Write the calculation for the problem, one step a line, as "name = expression". \
The last line is "answer = ...". Write no words.

Problem: A shop sells pens at $3 and books at $12. Tom buys 4 pens and 2 books and pays with $50. \
How much change does he get?
pens = 4 * 3
books = 2 * 12
answer = 50 - pens - books

Problem: Mia has twice as many stamps as Leo. Leo gives her 5 and now has 15. How many did Mia have?
leo = 15 + 5
answer = 2 * leo

Problem: {}"""
_MAX_LINES = 30
_MAX_CHARS = 3000
_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_NOISE = str.maketrans({"$": " ", "€": " ", "£": " ", "×": "*", "÷": "/", "−": "-", "`": " "})


@dataclass(frozen=True)
class Calculation:
    """What a draft comes to.

    Attributes:
        value: its last line's.
        steps: the calculations on the way there, as "4 * 3 = 12".
    """

    value: Fraction
    steps: tuple[str, ...]


def prompt(question: str) -> str:
    """What the model is asked for a draft."""
    return _PROMPT.format(" ".join(question.split()))


def calculate(draft: str) -> Calculation | None:
    """The calculation in a model's draft; None if a line before its answer makes no sense.

    It ends with the line "answer = ...", or with the last line if there is none.
    """
    values: dict[str, Fraction] = {}
    steps: list[str] = []
    value = None
    for line in draft[:_MAX_CHARS].splitlines()[:_MAX_LINES]:
        if "problem:" in line.casefold():  # it goes on with another example
            break
        line = line.translate(_NOISE).strip().rstrip(".;,")
        if "=" not in line:
            continue
        try:
            name, value, step = _line(line, values)
        except (UnclearError, ArithmeticError):
            return None
        values[name] = value
        if step:
            steps.append(step)
        if name == "answer":
            break
    return None if value is None else Calculation(value, tuple(steps))


def vote(calculations: Sequence[Calculation | None], least: int = 1) -> Calculation | None:
    """The calculation whose value most drafts have, the first such; None if fewer than `least`."""
    found = [calculation for calculation in calculations if calculation is not None]
    if not found:
        return None
    counts = Counter(calculation.value for calculation in found)
    best = max(found, key=lambda calculation: counts[calculation.value])
    return best if counts[best.value] >= least else None


def answer(calculation: Calculation) -> str:
    """The answer in a sentence with its steps."""
    steps = ", ".join(calculation.steps[-6:])
    result = text_of(calculation.value)
    return f"{steps}, so the answer is {result}." if steps else f"The answer is {result}."


def _line(line: str, values: dict[str, Fraction]) -> tuple[str, Fraction, str]:
    """A line's name, value and step. Raises UnclearError or ArithmeticError."""
    left, right = (part.strip() for part in line.split("=")[:2])
    name = left.casefold().replace(" ", "_")
    if _NAME.fullmatch(name) and name != "x":
        text = _inserted(right, values)
        if re.search(r"\bx\b", text):
            raise UnclearError("an unknown that nothing is said about")
        value = evaluate(parse(text), {})
        return name, value, "" if text_of(value) == text else f"{text} = {text_of(value)}"
    texts = [_inserted(part, values) for part in (left, right)]
    root = _linear_root(*texts)
    if texts[0] == "x" and "x" not in texts[1]:
        return "x", root, f"{texts[1]} = {text_of(root)}" if text_of(root) != texts[1] else ""
    return "x", root, f"{texts[0]} = {texts[1]} gives x = {text_of(root)}"


def _inserted(text: str, values: dict[str, Fraction]) -> str:
    """An expression with the values of names; x stays where it has none."""

    def value(match: re.Match[str]) -> str:
        name = match[0].casefold()
        if name not in values:
            if name == "x":
                return "x"
            raise UnclearError(f"nothing is said about {name}")
        shown = text_of(values[name])
        return shown if shown.replace(".", "").isdigit() else f"({shown})"

    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"(\d+(?:\.\d+)?) ?%", r"(\1/100)", text)
    return " ".join(re.sub(r"(?<![\d.])" + _NAME.pattern, value, text).split())


def _linear_root(left: str, right: str) -> Fraction:
    sides = [parse(left), parse(right)]
    if names(sides[0]) | names(sides[1]) != {"x"}:
        raise UnclearError("no equation in x")
    at = [
        evaluate(sides[0], {"x": Fraction(n)}) - evaluate(sides[1], {"x": Fraction(n)})
        for n in (1, 2, 3)
    ]
    slope = at[1] - at[0]
    if not slope or at[2] - at[1] != slope:
        raise UnclearError("not linear")
    return 1 - at[0] / slope
