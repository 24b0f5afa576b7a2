"""The demo's algebra, worked out again from the text alone, with fractions and without sympy."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from math import gcd

import pytest

from tests.demo_corpora import records

POINTS = [Fraction(-3), Fraction(2), Fraction(5), Fraction(7, 2), Fraction(11)]
F = Fraction


def value(text: str, **letters: Fraction) -> Fraction:
    """What an expression is worth: 2x^2 - 3(x + 1) and the like."""
    assert re.fullmatch(r"[\da-z+\-*/^() ]+", text), text
    python = re.sub(r"(?<=[\da-z)])(?=[a-z(])", "*", text).replace("^", "**")
    python = re.sub(r"\d+", r"Fraction(\g<0>)", python)
    return Fraction(eval(python, {"Fraction": Fraction}, dict(letters)))


def holds(equation: str, **letters: Fraction) -> bool:
    return len({value(side, **letters) for side in equation.split(" = ")}) == 1


def letter_of(text: str) -> str:
    letters = set(re.findall(r"[a-z]", text))
    assert len(letters) == 1, text
    return str(letters.pop())


def steps_and_result(answer: str) -> tuple[str, str]:
    steps, _, result = answer.removesuffix(".").rpartition(", so ")
    return steps, result


def steps_hold(steps: str, **letters: Fraction) -> bool:
    """Every "a = b" on the way; other words of the working say nothing that can be wrong."""
    clauses = re.split(r", | and ", steps.removeprefix("Adding gives "))
    return all(holds(clause, **letters) for clause in clauses if " = " in clause)


def solves(equation: str, answer: str) -> bool:
    """The roots put back in; as many as the degree, so that there are no others."""
    x, (steps, result) = letter_of(equation), steps_and_result(answer)
    assert re.fullmatch(rf"{x} = -?[\d/]+( or {x} = -?[\d/]+)?", result), result
    roots = {Fraction(part.removeprefix(f"{x} = ")) for part in result.split(" or ")}
    return (
        len(roots) == (2 if "^2" in equation else 1)
        and all(holds(equation, **{x: root}) for root in roots)
        and all(steps_hold(steps, **{x: root}) for root in roots)
        and not all(holds(equation, **{x: point}) for point in POINTS)
    )


def solves_system(first: str, second: str, answer: str) -> bool:
    steps, result = steps_and_result(answer)
    found = re.fullmatch(r"x = (-?[\d/]+) and y = (-?[\d/]+)", result)
    assert found, result
    at = {"x": Fraction(found[1]), "y": Fraction(found[2])}

    def factors(equation: str) -> list[Fraction]:
        left = equation.split(" = ")[0]
        return [value(left, x=F(1), y=F(0)), value(left, x=F(0), y=F(1))]

    (a, b), (c, d) = factors(first), factors(second)
    return (
        a * d != b * c  # the lines cross in one point
        and holds(first, **at)
        and holds(second, **at)
        and steps_hold(steps, **at)
    )


def solves_inequality(left: str, sign: str, right: str, answer: str) -> bool:
    x, (steps, result) = letter_of(left), steps_and_result(answer)
    bound = Fraction(result.removeprefix(f"{x} {sign} "))
    means = {
        "<": Fraction.__lt__,
        ">": Fraction.__gt__,
        "<=": Fraction.__le__,
        ">=": Fraction.__ge__,
    }

    def true(a: str, b: str, at: Fraction) -> bool:
        return bool(means[sign](value(a, **{x: at}), value(b, **{x: at})))

    around = [bound + Fraction(step, 7) for step in range(-3, 4)]
    middle = steps.split(f" {sign} ")
    return all(
        true(left, right, at) == means[sign](at, bound) == true(middle[0], middle[1], at)
        for at in around
    )


def equal(left: str, right: str) -> bool:
    """Two expressions of low degree in one letter are the same."""
    x = letter_of(left)
    return all(value(left, **{x: at}) == value(right, **{x: at}) for at in POINTS)


def is_expanded(product: str, answer: str) -> bool:
    left, right = answer.removesuffix(".").split(" = ")
    # Each power once, so that nothing is left to be put together.
    powers = re.findall(r"[a-z](?:\^\d)?", right)
    return (
        left == product
        and equal(product, right)
        and "(" not in right
        and len(powers) == len(set(powers))
        and len(re.findall(r" [+-] ", " " + right)) <= len(powers)
    )


def is_factored(expanded: str, answer: str) -> bool:
    steps, result = steps_and_result(answer)
    (x, inner) = letter_of(expanded), re.findall(r"\(([^()]+)\)", result)
    for factor in inner:  # linear, without a common divisor
        at_0, slope = value(factor, **{x: F(0)}), value(factor, **{x: F(1)})
        slope -= at_0
        if value(factor, **{x: F(2)}) != 2 * slope + at_0 or gcd(int(slope), int(at_0)) != 1:
            return False
    in_words = "divides" in steps or "square" in steps
    return equal(expanded, result) and bool(inner) and (in_words or steps_hold(steps))


def is_power(expression: str, answer: str) -> bool:
    steps, result = steps_and_result(answer)
    return (
        equal(expression, result)
        and steps_hold(steps)
        and bool(re.fullmatch(r"[a-z]\^\d+", result))
    )


def is_line(slope: str, x: str, y: str, answer: str) -> bool:
    steps, result = steps_and_result(answer)
    right = result.removeprefix("y = ")
    rises = value(right, x=F(1)) - value(right, x=F(0))
    return rises == F(slope) and value(right, x=F(x)) == F(y) and steps_hold(steps)


N = r"(-?[\d/]+)"  # a number; with no sign before it where none can be, the text says which
W = r"(\w+)"
# What a question looks like, and how its answer is judged: the groups, then the answer.
JUDGED: dict[str, Callable[..., bool]] = {
    r"Solve the system (.+ = .+) and (.+ = .+)\.": solves_system,
    r"Solve the inequality (.+) (<|>|<=|>=) (.+)\.": solves_inequality,
    r"(?:Expand|Multiply out) (.+)\.": is_expanded,
    r"Simplify (\d*\w [\w +\-]+)\.": is_expanded,
    r"Factor(?:ise)? (.+)\.": is_factored,
    r"Simplify (\w\^\d+ [*/] \w\^\d+|\(\w\^\d+\)\^\d+)\.": is_power,
    rf"What is the equation of the line with slope {N} through \({N}, {N}\)\?": is_line,
    r"(?:Solve for \w: |Solve |Find \w if )([^=]+ = [^=]+)\.": solves,
    r"If ([^=]+ = [^=]+), what is \w\?": solves,
}


def ratio(a: str, b: str) -> str:
    lowest = Fraction(int(a), int(b))
    return f"{lowest.numerator}:{lowest.denominator}"


def shares(first: str, second: str, whole: str, a: str, b: str) -> str:
    part = F(int(whole), int(a) + int(b))
    return f"{first} ${part * int(a)} and {second} ${part * int(b)}"


def term(numbers: str, n: str) -> Fraction:
    first, second, third, fourth = map(F, numbers.split(", "))
    assert second - first == third - second == fourth - third
    return first + (second - first) * (int(n) - 1)


def mean(numbers: str) -> Fraction:
    each = [F(number) for number in re.findall(r"\d+", numbers)]
    return sum(each, F(0)) / len(each)


# What a question looks like, and the result that it must have.
WORKED: dict[str, Callable[..., Fraction | str]] = {
    r"(?:What is|Find|Work out) (\d+)% of (\d+)[?.]": lambda p, n: F(n) * F(p) / 100,
    r"What percent of (\d+) is (\d+)\?": lambda whole, part: f"{100 * F(part) / F(whole)}%",
    r"(\d+) is what percent of (\d+)\?": lambda part, whole: f"{100 * F(part) / F(whole)}%",
    r"A \w+ costs \$(\d+) and its price goes up by (\d+)%\. What is the new price\?": (
        lambda price, rate: f"${F(price) * (100 + int(rate)) / 100}"
    ),
    r"A \w+ costs \$(\d+) and its price is reduced by (\d+)%\. What is the new price\?": (
        lambda price, rate: f"${F(price) * (100 - int(rate)) / 100}"
    ),
    rf"Evaluate (.+) for (\w) = {N}\.": lambda text, x, at: value(text, **{x: F(at)}),
    rf"If (\w) = (.+) and (\w) = {N}, what is \1\?": (
        lambda _, text, x, at: value(text, **{x: F(at)})
    ),
    rf"What is the slope of the line through \({N}, {N}\) and \({N}, {N}\)\?": (
        lambda a, b, c, d: (F(b) - F(d)) / (F(a) - F(c))
    ),
    rf"Find the slope of the line that joins \({N}, {N}\) and \({N}, {N}\)\.": (
        lambda a, b, c, d: (F(b) - F(d)) / (F(a) - F(c))
    ),
    r"(?:What is the average|Find the mean) of ([\d, and]+)[?.]": mean,
    r"\w+ \w+ travels (\d+) km in (\d+) hours\. What is its average speed\?": (
        lambda way, hours: f"{F(way) / F(hours)} km/h"
    ),
    r"\w+ \w+ travels at (\d+) km/h for (\d+) hours\. How far does it go\?": (
        lambda speed, hours: f"{F(speed) * F(hours)} km"
    ),
    r"\w+ \w+ travels (\d+) km at (\d+) km/h\. How many hours does it take\?": (
        lambda way, speed: f"{F(way) / F(speed)} hours"
    ),
    r"(\d+) (\w+) cost \$(\d+)\. How much do (\d+) \2 cost\?": (
        lambda n, _, cost, m: f"${F(cost) / F(n) * F(m)}"
    ),
    r"Simplify the ratio (\d+):(\d+)\.": ratio,
    r"(\w+) and (\w+) share \$(\d+) in the ratio (\d+):(\d+)\. How much does each get\?": shares,
    (
        r"An? \w+ costs \$(\d+) and an? \w+ costs \$(\d+)\."
        r" How much do (\d+) \w+ and (\d+) \w+ cost\?"
    ): lambda p, q, n, m: f"${F(p) * F(n) + F(q) * F(m)}",
    r"\w+ has \$(\d+) and buys (\d+) \w+ at \$(\d+) each\. How much money is left\?": (
        lambda money, n, price: f"${F(money) - F(n) * F(price)}"
    ),
    (
        r"(\w+) has \$(\d+) and saves \$(\d+) a week\. A \w+ costs \$(\d+)\."
        r" After how many weeks can \1 buy it\?"
    ): lambda _, has, week, price: f"{(F(price) - F(has)) / F(week)} weeks",
    (
        rf"\w+ thinks of a number, multiplies it by {N} and (adds|subtracts) {N}\."
        rf" The result is {N}\. What is the number\?"
    ): lambda a, does, b, c: (F(c) - F(b) * (1 if does == "adds" else -1)) / F(a),
    (
        r"(\w+) is (\d+) years older than (\w+)\. Together they are (\d+)\."
        r" How old is \3\?"
    ): lambda _, years, __, total: (F(total) - F(years)) / 2,
    (
        r"A rectangle is (\d+) cm longer than it is wide\. Its perimeter is (\d+) cm\."
        r" How wide is it\?"
    ): lambda more, around: f"{(F(around) / 2 - F(more)) / 2} cm",
    r"The sum of two consecutive numbers is (\d+)\. What is the smallest of them\?": (
        lambda total: (F(total) - 1) / 2
    ),
    r"The sum of three consecutive numbers is (\d+)\. What is the smallest of them\?": (
        lambda total: F(total) / 3 - 1
    ),
    rf"(?:What is|Work out) ({N} [+*-] {N})[?.]": lambda text, *_: value(text),
    rf"A sequence goes on by equal steps: (.+), \.\.\. What is its term number {N}\?": term,
}


def is_right(question: str, answer: str) -> bool:
    """Whether an answer is right, working and result; fails on a question of no known kind."""
    for looks, expected in WORKED.items():
        if match := re.fullmatch(looks, question):
            steps, result = steps_and_result(answer)
            found = result.rpartition(" = ")[2] if re.search(r"[a-z] = ", result) else result
            at = {}
            if letters := set(re.findall(r"(?<!\w)\d*([a-z])(?!\w)", steps)):
                at = {letters.pop(): Fraction(found)}
            return found == str(expected(*match.groups())) and steps_hold(steps, **at)
    for looks, judge in JUDGED.items():
        if match := re.fullmatch(looks, question):
            return judge(*match.groups(), answer)
    raise AssertionError(f"no rule for: {question}")


def test_every_algebra_answer_is_right() -> None:
    wrong = [r for r in records("algebra") if not is_right(r["question"], r["answer"])]
    assert wrong == []


@pytest.mark.parametrize(
    ("question", "right", "wrong"),
    [
        ("Solve 3x + 5 = 20.", "3x = 15, so x = 5.", "3x = 15, so x = 4."),
        ("Solve 3x + 5 = 20.", "3x = 15, so x = 5.", "3x = 25, so x = 5."),
        ("Solve x^2 = 49.", "7^2 = 49, so x = 7 or x = -7.", "7^2 = 49, so x = 7."),
        ("Expand 3(x + 4).", "3(x + 4) = 3x + 12.", "3(x + 4) = 3x + 4."),
        (
            "Factor 6x + 12.",
            "6 divides both terms, so 6(x + 2).",
            "2 divides both terms, so 2(3x + 6).",
        ),
        ("What is 10% of 70?", "10/100 * 70 = 7, so 7.", "10/100 * 70 = 7, so 70."),
        (
            "Simplify the ratio 6:9.",
            "3 divides both 6 and 9, so 2:3.",
            "1 divides both 6 and 9, so 6:9.",
        ),
        ("Solve the inequality 2x + 1 < 7.", "2x < 6, so x < 3.", "2x < 6, so x < 4."),
        (
            "Solve the system x + y = 6 and x - y = 2.",
            "Adding gives 2x = 8, so x = 4 and y = 2.",
            "Adding gives 2x = 8, so x = 4 and y = 1.",
        ),
    ],
)
def test_a_wrong_answer_would_be_noticed(question: str, right: str, wrong: str) -> None:
    assert is_right(question, right)
    assert not is_right(question, wrong)
