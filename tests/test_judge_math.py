"""What the judge of algebra takes for equal; what it does not understand is never equal."""

from __future__ import annotations

import pytest

from evaluation.judges import judge, values
from evaluation.records import Item


def right(reference: str, answer: str, question: str = "What is it?") -> bool:
    return judge(Item(1, "algebra", question, (reference,)), answer).correct


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        (r"2\frac12", "2.5"),
        (r"2\frac{1}{2}", "5/2"),
        (r"\sqrt[3]{2}", "2^(1/3)"),
        (r"\sqrt[4]{2}", "$2^{1/4}$"),
        (r"\log_2 5", r"$\frac{\ln 5}{\ln 2}$"),
        (r"\log_2 5", "log base 2 of 5"),
        ("52_8", "$52_{8}$"),
        ("52_8", "52 (base 8)"),
        ("52_8", "52"),
        ("120", "5! = 120"),
        ("5!", "120"),
        ("120", "The answer is 120!"),
        ("3", "|-3|"),
        ("3", "|−3|"),
        ("(1, 2, 3)", "x = 1, y = 2, z = 3"),
        ("(1, 2, 3)", "$(1,2,3)$"),
        ("(1, 2), (3, 4)", "(3, 4) and (1, 2)"),
        ("2:3", "2 : 3"),
        ("2:3", "2/3"),
        ("2:3", "The ratio is 2 to 3."),
        (r"\frac{\sqrt{3}}{3}", "√3/3"),
        ("x/2", "1/2x"),  # it may be
        (r"x > -2", r"(-2, \infty)"),
        (r"\sin x", "sin(x)"),
        (r"5.2 \times 10^{-4}", "5.2e-4"),
        (r"±i", "x = i or x = -i"),
        (r"f^{-1}(x) = \frac{x - 2}{3}", "y = x/3 - 2/3"),
        ("y = 2x + 1", "f(x) = 1 + 2x"),
        ("x = 2 or x = 3", "x_1 = 2, x_2 = 3"),
        ("x = 2 or x = 3", "x1 = 2 and x2 = 3"),
        ("2 and 3", "λ = 2 and λ = 3"),
        ("20", "68 °F = 20 °C"),
        ("4", "**x = 4**"),
        ("6√2", "6*sqrt(2)"),
        ("x ≥ 3", "x is greater than or equal to 3"),
        ("x ≤ 3", "x is less than or equal to 3"),
        ("x ≤ 3", "x is at most 3"),
        ("x < 3", "x is less than 3"),
        ("x ≥ 3", "x 大于或等于 3"),
        ("x < 3", "x 小于 3"),
        ("390", "她一年花390分钟洗枕套。"),
        ("4", r"\begin{aligned} 2x &= 8 \\ x &= 4 \end{aligned}"),
        ("4", r"\begin{align*} 2x &= 8 \\ x &= 4 \end{align*}"),
        ("x = 3, y = 2", r"\begin{cases} x = 3 \\ y = 2 \end{cases}"),
        ("2^3·3^2·5", "360 = 2^3 * 3^2 * 5."),
        ("1", "With logarithms to base 10, log 2 + log 5 = 1."),
        ("2.268 kg", "5 lb = 2.26796185 kg."),
        ("(-1, 1), (2, 4)", "(x = -1 and y = 1) or (x = 2 and y = 4)."),
    ],
)
def test_equal(reference: str, answer: str) -> None:
    assert right(reference, answer)


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        (r"\sqrt[3]{2}", "2"),
        (r"\sqrt[3]{2}", r"\sqrt{2}"),
        ("52_8", "52_9"),
        (r"\log_2 5", r"\log_3 5"),
        ("2:30", "1:15"),
        ("2:3", "4:6"),
        ("(1, 2, 3)", "(3, 2, 1)"),
        ("(1, 2), (3, 4)", "(1, 4) and (3, 2)"),
        ("3", "-3"),
        ("6√2", "36√2"),
        ("x = 3", "y = 3"),
        # not understood
        ("2", r"\foo{2}"),
        ("2", r"x = 2. So \bar{2} + 1"),
        ("1", "1 1/2 1/3"),
        ("x > 2", "x ≥ 2"),
        ("[2, 3]", "(2, 3]"),
        ("2.267", "5 lb = 2.26796185 kg."),
        ("2.35", "2.345"),
        ("(-1, 1), (2, 4)", "(x = -1 and y = 4) or (x = 2 and y = 1)."),
    ],
)
def test_not_equal(reference: str, answer: str) -> None:
    assert not right(reference, answer)


def test_an_expression_is_read_whole_or_not_at_all() -> None:
    for text in ("2 3", "1 1/2 1/3", "2 +", "(2", "2 metres", "x y 2", "9^9^9^9", ""):
        assert values.read(text) == ()
    assert len(values.read("1/2x")) == 2
    assert len(values.read("2x/3")) == 1


LINE = "Find the equation of the line with slope 3 through (2, -1)"


@pytest.mark.parametrize(
    ("question", "reference", "answer", "right"),
    [
        (LINE, "y = 3x - 7", "y + 1 = 3(x - 2)", True),
        (LINE, "y = 3x - 7", "The line is 6x - 2y = 14.", True),
        (LINE, "y = 3x - 7", "6x - 2y = 15", False),
        (LINE + " in slope-intercept form.", "y = 3x - 7", "6x - 2y = 14", False),
        ("Find the equation of the circle.", "x^2 + y^2 = 4", "x^2 + y^2 - 4 = 0", True),
        ("Factor completely: 3x^3 - 12x", "3x(x - 2)(x + 2)", "3x(x^2 - 4)", False),
        ("Factor x^2 - 2x + 1", "(x - 1)^2", "(x - 1)(x - 1)", True),
        ("How many pages must he read?", "20", "He must read 20 a day.", True),
    ],
)
def test_the_form_that_a_question_asks_for(
    question: str, reference: str, answer: str, right: bool
) -> None:
    assert judge(Item("1", "algebra", question, (reference,)), answer).correct is right
