"""Texts that may be read in several ways: answered where all readings agree, else left alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from algebra import Solver
from algebra.notation import plain
from algebra.parser import parse
from algebra.readings import UnclearError, every

_HALVES = "Each term is 1/2 times the one before, so the next term is 1/32."


@pytest.fixture(scope="module")
def exact() -> Iterator[Solver]:
    with Solver() as found:
        yield found


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        # ÷ beside a fraction: the slash is the fraction's bar, and the answer says so
        ("What is 1/2 ÷ 1/4?", "With slashes as fraction bars, 1/2 ÷ 1/4 = 2."),
        ("What is 10 divided by 1/2?", "With slashes as fraction bars, 10 ÷ 1/2 = 20."),
        ("Calculate 6 ÷ 2/3", "With slashes as fraction bars, 6 ÷ 2/3 = 9."),
        ("Solve x ÷ 3/4 = 8", "With slashes as fraction bars, 4x/3 = 8, so x = 6."),
        ("3/4除以1/2是多少？", "斜线表示分数线，3/4 ÷ 1/2 = 3/2。"),
        ("Simplify a/b ÷ c/d", "With slashes as fraction bars, a/b ÷ c/d = ad/(bc)."),
        # fractions that are written as one
        ("What is ½ ÷ ¼?", "½ ÷ ¼ = 2."),
        ("What is 1⁄2 ÷ 1⁄4?", "(1/2) ÷ (1/4) = 2."),
        (r"What is \frac{1}{2} \div \frac{1}{4}?", "(1/2) ÷ (1/4) = 2."),
        ("What is 9^½?", "9^½ = 3."),
        ("What is 2½ + 1?", "2½ + 1 = 7/2."),
        (r"What is 2\frac12 + 1?", "(2 1/2) + 1 = 7/2."),
        # one reading, though it looks like more
        ("What is 12 x 7?", "12 x 7 = 84."),
        ("What is 15 - 7?", "15 - 7 = 8."),
        ("What is 8 ÷ 4 ÷ 2?", "8 ÷ 4 ÷ 2 = 1."),
        ("What is 3 + 4 ÷ 2 × 5?", "3 + 4 ÷ 2 * 5 = 13."),
        ("Simplify x^2/4 + x^2/4", "x^2/4 + x^2/4 = x^2/2."),
        ("Solve x²/3 = 3", "(x - 3)(x + 3) = 0, so x = -3 or x = 3."),
        ("Solve 1/2 x = 4", "x/2 = 4, so x = 8."),
        ("Solve |x - 1| = |x + 3|", "The solution is x = -1."),
        ("Expand (x - 1)^2(x + 2)", "(x - 1)^2(x + 2) = x^3 - 3x + 2."),
        (r"Evaluate \sum_{n=1}^{4} (2n - 1)", "The sum is 16."),
        ("Simplify x^-2y^3", "x^-2y^3 = y^3/x^2."),
        (r"Solve $2\pi r = 8$ for $r$", "2πr = 8, so r = 4/π."),
        ("What is ³√27?", "∛27 = 3."),
        (r"What is 3\sqrt{8}?", "3√8 = 6√2."),
        ("What is 3 squared?", "3^2 = 9."),
        ("What is (2)(3)?", "(2)(3) = 6."),
        ("What is the value of m in 3m + 1 = 7?", "3m = 6, so m = 2."),
        ("Find the nth term of the sequence 5, 8, 11, 14", "3n + 2."),
        ("What is the nth term of the geometric sequence 2, 6, 18?", "2 * 3^(n - 1)."),
        ("Multiply x + 2 by x - 3", "(x + 2) * (x - 3) = x^2 - x - 6."),
        ("Subtract 2x + 3 from (5x - 1)", "(5x - 1) - (2x + 3) = 3x - 4."),
        ("What is 17 mod 5?", "17 = 5 * 3 + 2, so the remainder is 2."),
        ("2+2?", "2+2 = 4."),
        ("若x+y=5，xy=6，则x²+y²=？", "x^2+y^2 = 13。"),
        ("60的15%是", "15/100 * 60 = 9，所以 9。"),
        (r"Solve $\sqrt{x+1} = 3$", "The solution is x = 8."),
        (r"Solve $\frac{a}{b} = c$ for $a$", "a = bc."),
        # readings that lead to one answer
        ("What is 6/3(1)?", "6/3(1) = 2."),
        # a logarithm's base
        ("Solve log(x) = 3", "With logarithms to base 10, the solution is x = 1000."),
        ("What is the percent decrease from 80 to 60?", "(60 - 80)/80 * 100 = -25, so 25%."),
        (
            "What is the percent change from 80 to 60?",
            "(60 - 80)/80 * 100 = -25, so a decrease of 25%.",
        ),
        ("Convert 5 KM to m", "5 km = 5000 m."),
        # the base of a logarithm ends where the notation ends it
        ("log₂8 = ?", "log_2 8 = 3."),
        (r"Evaluate $\log_{3}27$", "log_3 27 = 3."),
        (r"Evaluate $\log_28$", "log_2 8 = 3."),
        (r"Evaluate $\log_10 100$", "log_10 100 = 2."),
        ("Solve lg x = 2", "The solution is x = 100."),
        ("lg100等于多少？", "log_10 100 = 2。"),
        # brackets that group, and a factorial at the end
        ("What is [3 + 4] * 2?", "[3 + 4] * 2 = 14."),
        ("What is 5!", "5! = 120."),
        # the simplest form
        ("Simplify √(x^2 + 2x + 1)", "√(x^2 + 2x + 1) = |x + 1|."),
        ("Simplify √(4x + 4)", "√(4x + 4) = 2√(x + 1)."),
        ("Simplify (√x + 1)(√x - 1)", "(√x + 1)(√x - 1) = x - 1."),
        ("What is ln 1?", "ln 1 = 0."),
        ("Solve S = (n/2)(a + l) for n", "For a + l ≠ 0, n = 2S/(a + l)."),
        # the numbers and marks of exercises
        ("3. Solve for x: 5x - 7 = 18.", "5x = 25, so x = 5."),
        ("(b) Find the value of x if 3x/4 = 9.", "3x/4 = 9, so x = 12."),
        ("Solve 3x + 2 = 14. [2 marks]", "3x = 12, so x = 4."),
        ("(5) minus 3 = ?", "(5) - 3 = 2."),
        ("（1）解方程 2x=4", "2x = 4，所以 x = 2。"),
        # signs
        ("What is 2 - -3?", "2 - -3 = 5."),
        ("What is (+3) + (-5)?", "(+3) + (-5) = -2."),
        (r"Solve $x\neq 3$", "x ≠ 3."),
        # other wordings
        ("Write 1/3 as a percent", "1/3 = 33 1/3%."),
        ("Simplify x+1/x", "x+1/x = (x^2 + 1)/x."),
        ("Simplify 1/x+1/y+1/z", "1/x+1/y+1/z = (xy + xz + yz)/(xyz)."),
        ("Determine the value of x: 2x = 8", "2x = 8, so x = 4."),
        ("Solve the equation for x: 2x = 8", "2x = 8, so x = 4."),
        ("Solve this equation: 2x = 8. Thanks!", "2x = 8, so x = 4."),
        (r"Compute $\sqrt{2}\cdot\sqrt{8}$", "√2* √8 = 4."),
        ("3＋4＝（ ）", "3+4 = 7."),
        ("方程2x=4的解为", "2x = 4，所以 x = 2。"),
        ("Find x. 4x - 1 = 2x + 9", "2x = 10, so x = 5."),
        ("If x + 5 = 12, then x - 5 =", "x = 7, so x - 5 = 2."),
        ("Solve 2𝑥 + 3 = 7", "2x = 4, so x = 2."),
        ("Solve ½x = 4", "x/2 = 4, so x = 8."),
        ("Solve PV = nRT for T", "For Rn ≠ 0, T = PV/(Rn)."),
        ("What is the square of -5?", "(-5)^2 = 25."),
        ("Find the sum of 12, 15 and 18.", "12 + 15 + 18 = 45."),
        ("Find the product of 1/2, 2/3 and 3/4", "(1/2) * (2/3) * (3/4) = 1/4."),
        ("Divide 6 by 2/3", "(6) ÷ (2/3) = 9."),
        (
            "Find the quotient and remainder when 17 is divided by 5",
            "17 = 5 * 3 + 2, so the quotient is 3 and the remainder is 2.",
        ),
        (r"Evaluate \sum_{i=1}^{5} (2i + 1)", "The sum is 35."),
        (r"Evaluate \sum_{k=1}^52k", "The sum is 30."),  # as LaTeX shows it
        ("If f(x) = 2x - 1, find f(x + 1)", "f(x + 1) = 2x + 1."),
        ("What is the next term: 1/2, 1/4, 1/8, 1/16", _HALVES),
        ("How many feet are in a mile?", "1 mile = 5280 feet."),
        ("Convert 3 m² to cm²", "3 m^2 = 30000 cm^2."),
        ("Solve the system of inequalities 2x > 4, x - 1 < 6", "2 < x < 7."),
        ("已知 f(x)=2x+1，求 f(3)", "f(3) = 7。"),
        ("2的10次方是多少？", "2^10 = 1024。"),
        ("100除以7的余数是多少？", "100 = 7 * 14 + 2，所以 余数为 2。"),
        ("求二次函数 y=-x²+2x 的最大值", "x = 1，所以 最大值为 1。"),
        ("求过点(1,2)和(3,6)的直线方程", "(6 - 2)/(3 - 1) = 2，所以 y = 2x。"),
        ("把0.125化成分数", "0.125 = 1/8。"),
        ("化简比 12:18", "12:18 = 2:3。"),
        ("解关于x的方程 ax=b", "当 a ≠ 0 时，x = b/a。"),
    ],
)
def test_what_has_one_reading_is_answered(exact: Solver, question: str, answer: str) -> None:
    assert exact.answer(question) == answer


@pytest.mark.parametrize(
    "question",
    [
        # slashes
        "What is 1/2 / 1/4?",
        "What is 1 / 2 ÷ 1 / 4?",
        "What is 8/4/2?",
        "What is 6/2(1 + 2)?",
        "What is 6 ÷ 2(1 + 2)?",
        "Solve 1/2x = 4",
        r"Solve $1/2 x = 4$",  # spaces mean nothing in LaTeX
        "What is 12 / 2*3?",
        "Simplify x+1 / x-2",
        "Solve x+1/x-2 = 3",
        # exponents
        "What is 8^2/3?",
        "What is 9^1/2?",
        "Solve x^2/3 = 4",
        "Solve 2^x/3 = 4",
        "What is 2^3^2?",
        "Solve 2^-2x = 16",
        "Solve e^-2x = 5",
        "Simplify 2^-3(x + 1)",
        "What is 1/2π?",
        r"Evaluate $1/2\pi$",
        # mixed numbers, or products
        r"What is 2\frac{5}{3} + 1?",
        "What is 2 5⁄3 + 1?",
        # roots: a factor, or an index
        "What is 3√8?",
        "Simplify 4√(81)",
        "What is 5³√8?",
        # functions without brackets
        "Simplify (x + 1)^2x",
        "Solve √x+1 = 3",
        "What is √16+9?",
        "What is ln 1+2?",
        "What is √16/25?",
        "What is log 100/10?",
        "Simplify sqrt 2x",
        # signs
        "What is 2e-3 * 5?",
        "What is 2E3 + 1?",
        "What is 2·5?",
        "What is 5--3?",
        "Solve x = 5 +-3",
        "What is 5 x (3 + 2)?",
        "Solve 2 x (x + 1) = 4",
        "Solve for x - 2x + 1 = 9",
        "Solve for x – 2x + 1 = 9",
        "Solve for x –2x + 1 = 9",
        "What is 2|3|4|5|?",
        "What is 15-7?",  # a date, a score
        "What is the mean of 1,5 and 2,5?",
        "Find the median of 1,5, 2,5, 3,5",
        # units whose abbreviation in another case is another
        "Convert 5 Mg to kg",
        "Convert 2 ML to L",
        "Convert 3 MM to m",
        "Convert 3 M to km",
        # letters before brackets
        "If p(2) = 10, what is p(3)?",
        "If P(x) = 3x, what is P(2)?",
        "Solve a(3) = 12",
        "Solve q(x + 1) = 12 for x",
        # letters
        "Simplify 2e + 3e",
        "Solve 3i + 2 = 8",
        "Solve for x: X = 2x - 4",
        "What is m in y = mx + b?",
        "Find the value of c in h = c + 2g",
        # numbers of exercises, of equations, of marks
        "Solve (2) x + 3 = 7",
        "Solve for x: (a) x + 3 = 7",
        # a system, or several exercises
        "Solve 2x + 1 = 5; 3x - 2 = 7",
        "Solve: 2x = 4, 3x = 9",
        "Solve 2x + 1 > 5; 3x - 2 < 7",
        "Solve 2x > 4, 3x < 3",
        "解方程：（2）x + 3 = 7",
        "(3) -5 + 2 = ?",
        "Solve 2x + 3 = 7 [3]",
        "Solve 2x + 3 = 7 (3)",
        "Solve x + y = 3 (1), x - y = 1 (2)",
        # words
        "Multiply 3 by 4 + 2",
        "What is the difference between 5 and 8?",
        "What is the sum of x and y?",
        "What is 2/3 squared?",
        "-3的平方是多少？",
        "3加4的平方是多少？",
        "What is 2 to the power of 3 plus 1?",
        "What is 3 plus 4 factorial?",
        "Find the sum of 3 and 5 squared",
        "Convert 1010 to decimal",
        "What is the percent decrease from 50 to 60?",
        "What is the percent increase from 80 to 60?",
        "What is 0^0?",
        "What comes next: 1, 2, 4?",
        "What is the next number: 3, 6, 9?",
        "Find the nth term of the sequence 1, 2, 4",
        "Find the sum of 1 to 100",
        # "times", a letter, or an exponent that was lost
        "Solve x x 3 = 12",
        "Solve 3 x 2 + x = 10",
        "If f(x) = 3 x 2, find f(2)",
        # a base that may go on
        "Solve log₂2x = 3",
        r"Solve $\log_{2}4x = 5$",
        r"Solve $\log_28x = 5$",
        "Solve log_28x = 5",
        "Solve lg2x = 1",
        # powers of logarithms
        "What is log(10)^3?",
        "Solve ln(x)^2 = 4",
        # Gauss's brackets
        "What is [2.5] + [3.7]?",
        "Solve [x/2] = 3",
        "计算［2.5］×2",
        # mixed numbers with a hyphen
        "What is 3-1/2 + 2-1/4?",
        "Solve x + 2-1/2 = 5",
        # Markdown
        "Solve 2*x* + 3 = 7",
        "Solve 3*x* −2 = 4",
        # the end of a sentence
        "Solve 2x = 10!",
        "解方程 2x=10！",
        "Simplify 2x + 3!",
        # an exponent that goes on
        "What is 2³! + 1?",
        "What is 2²^3?",
        "What is √(4)! + 1?",
        # signs of which one is too many
        "What is 13 ×· 7?",
        "Solve 4x* + 9 = 1",
        "Simplify 4(2x /- 1)",
        "Expand (x - +4)^2",
        # not equal, or a factorial
        "Find n if n!=24",
        # a mark
        "Expand (2x - 5)([3]x + 3)",
        # not over the rational numbers
        "Factor x^2 + 9πx + 20",
        # an inverse function
        "Solve g⁻¹(x) = 5 for x",
        # a system, or two exercises
        "Solve the inequalities 2x + 1 > 5, 3x < 30",
        "解不等式：2x>4，x-1<6",
        # a domain that is lost
        "If f(x) = √x and g(x) = x^2, find g(f(x))",
        # not simpler
        "Simplify |2x - 4|",
        # the difference of a geometric sequence
        "Find the common difference of the geometric sequence 2, 4, 6",
        # conditions on other letters
        "Solve |x| = a for x",
        "Solve y = √x for x",
        "Solve T = 2π√(L/g) for L",
        # more unknowns than are asked for, or than equations
        "If x = 3 and y + z = 5, what is x?",
        "Solve x + y + z = 6, x - y = 0",
        # of no value at 0
        "Solve x^0 = 1",
        "Find the domain of f(x) = x^0",
        # nothing to do, or in another sense
        "Factor 12x^2",
        "Convert 101.1 to decimal",
        # an arithmetic sequence with a ratio
        "Find the 5th term of an arithmetic sequence with first term 2 and common ratio 3",
        "Find the sum of an infinite geometric series with first term 4 and common difference 1/2",
    ],
)
def test_what_has_several_readings_is_left_alone(exact: Solver, question: str) -> None:
    assert exact.answer(question) is None


def test_every_reading_is_taken_once() -> None:
    trees = every(lambda: parse("1/2x + 3/4y"))
    assert len(trees) == len(set(trees)) == 4
    assert len(every(lambda: parse("x^2 + 3/4"))) == 1


def test_a_text_that_is_read_twice_is_read_in_one_way() -> None:
    pairs = every(lambda: (parse("1/2x"), parse("1/2x")))
    assert len(pairs) == 2
    assert all(one == other for one, other in pairs)


def test_where_nobody_enumerates_readings_there_must_be_one() -> None:
    with pytest.raises(UnclearError):
        parse("1/2x")
    with pytest.raises(UnclearError):
        every(lambda: parse("+".join(["1/2x"] * 9)))


def test_notation_keeps_what_tells_readings_apart() -> None:
    assert plain("½ ÷ 1/2") == "½ ÷ 1/2"
    assert plain(r"\frac{1}{2} \div 3") == "((1)/(2)) ÷ 3"
