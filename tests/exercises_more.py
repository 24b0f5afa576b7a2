"""More kinds of exercises, each in every notation, their answers known by construction.

Like `exercises` this shares no code with the tool: a question is written from its answer.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice

from tests import exercises
from tests.exercises import Checked, ends, n_, s_

# Fractions that are one character.
_ONE = {"½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅝": (5, 8)}


def many(count: int, seed: int = 1) -> list[Checked]:
    """Exercises of all kinds in turn, in all notations, always the same for a seed."""
    rng = random.Random(seed)
    found: list[Checked] = []
    while len(found) < count:
        for make in [*exercises.KINDS, *KINDS]:
            found += [(dressed(rng, question), right) for question, right in islice(make(rng), 9)]
    return found[:count]


def dressed(rng: random.Random, question: str) -> str:
    """The same exercise in another notation."""
    power = rng.choice(["^{}", "^{{{}}}", "superscript", "^{}"])
    if power == "superscript":
        question = re.sub(
            r"(?<=[x)\d])\^([2-5])(?![\d/.])", lambda m: "⁰¹²³⁴⁵"[int(m[1])], question
        )
    else:
        question = re.sub(r"(?<=[x)])\^([2-5])(?![\d/.])", lambda m: power.format(m[1]), question)
    question = question.replace(" - ", rng.choice([" - ", " − ", " - "]))
    question = question.replace(" × ", rng.choice([" × ", " * ", r" \times ", r" \cdot ", " ⋅ "]))
    question = question.replace(" ÷ ", rng.choice([" ÷ ", r" \div ", " ÷ "]))
    for plain, others in (("<=", ["<=", "≤", r"\leq"]), (">=", [">=", "≥", r"\ge"])):
        question = question.replace(f" {plain} ", f" {rng.choice(others)} ")
    if rng.random() < 0.05 and "\\" not in question:  # full width
        question = re.sub(r"[0-9]", lambda m: chr(0xFF10 + int(m[0])), question)
    return question


def _fraction(rng: random.Random, value: Fraction) -> str:
    """A fraction above 0 that has a bar, or brackets."""
    over, under = value.numerator, value.denominator
    whole, rest = divmod(over, under)
    ways = [rf"\frac{{{over}}}{{{under}}}", rf"\dfrac{{{over}}}{{{under}}}", f"({over}/{under})"]
    ways += [f"{over}⁄{under}"]
    if rest and whole:
        ways += [f"({whole} {rest}/{under})", rf"{whole}\frac{{{rest}}}{{{under}}}"]
    ways += [
        (str(whole) if whole else "") + sign
        for sign, (a, b) in _ONE.items()
        if Fraction(a, b) == Fraction(rest, under)
    ]
    return rng.choice(ways)


def _small(rng: random.Random) -> Fraction:
    return rng.choice([Fraction(a, b) for b in (2, 3, 4, 5, 8) for a in range(1, 12) if a % b])


def _fractions(rng: random.Random) -> Iterator[Checked]:
    while True:
        a, b = _small(rng), _small(rng)
        for sign, wanted in (("+", a + b), ("-", a - b), ("×", a * b), ("÷", a / b)):
            form = rng.choice(["What is {}?", "Calculate {}.", "{} = ?", "计算：{}", "Simplify {}"])
            yield form.format(f"{_fraction(rng, a)} {sign} {_fraction(rng, b)}"), ends(wanted)
        # a slash beside a division sign is a fraction's
        yield f"What is {a} ÷ {b}?", ends(a / b)
        yield f"What is {a} divided by {b}?", ends(a / b)
        yield f"{a}除以{b}是多少？", ends(a / b)
        n = rng.randint(2, 30)
        yield f"Calculate {n} ÷ {b}", ends(n / b)
        yield f"Solve x ÷ {b} = {n}", lambda t, w=n * b: exercises.result(t) == f"x = {w}"


def _differences(rng: random.Random) -> Iterator[Checked]:
    while True:
        a, b = rng.randint(1, 500), rng.randint(1, 500)
        yield f"What is {a} - {b}?", ends(a - b)
        yield f"{a} 减 {b} 等于多少？", ends(a - b)
        yield f"What is {a} minus {b}?", ends(a - b)
        yield f"What is {a} x {b}?", ends(a * b)
        yield f"What is |{a} - {b}|?", ends(abs(a - b))
        yield f"What is {b % 6}! + {a}?", ends([1, 1, 2, 6, 24, 120][b % 6] + a)


def _polynomial(values: list[int]) -> str:
    """Coefficients, the highest power first, as an expression in x."""
    text = ""
    for power, value in zip(range(len(values) - 1, -1, -1), values, strict=True):
        if value:
            size = str(abs(value)) if abs(value) > 1 or not power else ""
            letter = ["", "x"][power] if power < 2 else f"x^{power}"
            sign = (" - " if value < 0 else " + ") if text else ("-" if value < 0 else "")
            text += sign + size + letter
    return text or "0"


def _times(one: list[int], other: list[int]) -> list[int]:
    found = [0] * (len(one) + len(other) - 1)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            found[i + j] += a * b
    return found


def _read(text: str) -> list[Fraction]:
    """The coefficients of a polynomial in x, the highest power first; written in any order."""
    found: dict[int, Fraction] = {}
    for term in text.replace(" - ", " + -").split(" + "):
        number, x, power = term.partition("x")
        number = number.strip()
        factor = {"": 1, "-": -1}.get(number) if x else None
        found[(int(power[1:]) if power else 1) if x else 0] = Fraction(
            factor if factor is not None else number
        )
    return [found.get(n, Fraction(0)) for n in range(max(found), -1, -1)]


def _division(rng: random.Random) -> Iterator[Checked]:
    while True:
        a, q = n_(rng, -6, 6), [n_(rng, -5, 5) for _ in range(rng.randint(2, 3))]
        rest = rng.randint(-9, 9)
        whole = _times([1, -a], q)
        whole[-1] += rest
        over, under = _polynomial(whole), _polynomial([1, -a])

        def right(answer: str, q: list[int] = q, rest: int = rest) -> bool:
            said = answer.rstrip(".").partition("the quotient is ")[2]
            quotient, _, remainder = said.partition(" and the remainder is ")
            return _read(quotient) == q and Fraction(remainder) == rest

        yield f"Divide {over} by {under}", right
        yield f"Find the quotient and remainder when {over} is divided by {under}.", right
        yield f"What is the remainder when {over} is divided by {under}?", ends(rest)
        yield f"求 {over} 除以 {under} 的余式", lambda t, r=rest: t.endswith(f"余数为 {r}。")
        b, c = rng.randint(2, 40), rng.randint(0, 900)
        yield f"What is the remainder when {c} is divided by {b}?", ends(c % b)


def _composition(rng: random.Random) -> Iterator[Checked]:
    while True:
        a, b, c, d, x = (n_(rng) for _ in range(5))
        f, g = _polynomial([a, b]), _polynomial([c, 0, d])
        inner = c * x * x + d
        yield f"If f(x) = {f} and g(x) = {g}, what is f(g({x}))?", ends(a * inner + b)
        yield f"Let f(x) = {f} and g(x) = {g}. Find (f ∘ g)({x}).", ends(a * inner + b)
        yield (
            f"If f(x) = {f} and g(x) = {g}, find f(g(x)).",
            lambda t, w=[a * c, 0, a * d + b]: _read(t.rstrip(".").rpartition(" = ")[2]) == w,
        )


def _inverse(rng: random.Random) -> Iterator[Checked]:
    while True:
        a, b = n_(rng, 2, 9), n_(rng)

        def right(answer: str, a: int = a, b: int = b) -> bool:
            text = answer.rstrip(".。").rpartition(" = ")[2]
            at = {
                n: eval(re.sub(r"(\d)(?=x)", r"\1*", text).replace("x", f"({n})")) for n in (3, 7)
            }
            return all(abs(a * y + b - n) < 1e-9 for n, y in at.items())

        yield f"Find the inverse of f(x) = {a}x {s_(b)}", right
        yield f"What is the inverse function of f(x) = {a}x {s_(b)}?", right
        yield f"求函数 f(x) = {a}x {s_(b)} 的反函数", right


def _domains(rng: random.Random) -> Iterator[Checked]:
    while True:
        a = n_(rng)
        b = a + rng.randint(1, 9)
        yield f"Find the domain of f(x) = sqrt(x {s_(-a)})", lambda t, a=a: t == f"x ≥ {a}."
        yield f"What is the domain of ln(x {s_(-a)})?", lambda t, a=a: t == f"x > {a}."
        yield f"Find the domain of f(x) = 1/(x {s_(-a)})", lambda t, a=a: t == f"x ≠ {a}."
        yield (
            f"What is the domain of f(x) = 5/(x^2 {s_(-a - b)}x {s_(a * b)})?",
            lambda t, a=a, b=b: t == f"x ≠ {a} and x ≠ {b}.",
        )
        yield f"求函数 y = √({a} - x) 的定义域", lambda t, a=a: t == f"x ≤ {a}。"


def _parabolas(rng: random.Random) -> Iterator[Checked]:
    while True:
        a, h, k = n_(rng, -3, 3), n_(rng), n_(rng)
        text = _polynomial([a, -2 * a * h, a * h * h + k])
        yield f"Find the vertex of y = {text}", lambda t, h=h, k=k: t == f"({h}, {k})."
        yield (
            f"What is the vertex of the parabola y = {text}?",
            lambda t, h=h, k=k: t == f"({h}, {k}).",
        )
        least = "minimum" if a > 0 else "maximum"
        yield f"What is the {least} value of {text}?", ends(k)
        yield f"What is the discriminant of {text} = 0?", ends(-4 * a * k)
        before = {1: "", -1: "-"}.get(a, str(a))
        square = f"{before}(x {s_(-h)})^2 {s_(k)}."
        yield f"Complete the square: {text}", lambda t, w=square: t.endswith(f" = {w}")


def _lines(rng: random.Random) -> Iterator[Checked]:
    while True:
        m, x, y = n_(rng, -9, 9, (0, 1, -1)), n_(rng), n_(rng)
        b = y - m * x
        wanted = f"y = {m}x" + (f" {s_(b)}" if b else "") + "."
        # A sum may begin with its positive term: y = 3 - 2x.
        other = f"y = {b} {s_(m)}x."
        for form in (
            "Find the equation of the line with slope {} passing through ({}, {})",
            "What is the equation of the line with a slope of {} that passes through ({}, {})?",
        ):
            yield form.format(m, x, y), lambda t, w=(wanted, other): t in w


def _matrices(rng: random.Random) -> Iterator[Checked]:
    while True:
        a, b, c, d = (rng.randint(-9, 9) for _ in range(4))
        plain = f"[[{a}, {b}], [{c}, {d}]]"
        latex = rf"\begin{{pmatrix}} {a} & {b} \\ {c} & {d} \end{{pmatrix}}"
        for text in (plain, latex, latex.replace("pmatrix", "bmatrix")):
            yield f"Find the determinant of {text}", ends(a * d - b * c)
        yield f"求矩阵 {plain} 的行列式", ends(a * d - b * c)
        p, q, u = n_(rng), n_(rng), n_(rng)
        low, high = sorted((p, q))
        if p != q:
            yield (
                f"Find the eigenvalues of [[{p}, {u}], [0, {q}]]",
                lambda t, w=(low, high): t.endswith(f", so λ = {w[0]} and λ = {w[1]}."),
            )
        r = rng.choice([1, -1])  # of determinant 1: whole numbers in the inverse
        e, f = n_(rng), n_(rng)
        one, two, three, four = 1, e, f, e * f + r
        inverse = [[four * r, -two * r], [-three * r, one * r]]
        yield (
            f"What is the inverse of the matrix [[{one}, {two}], [{three}, {four}]]?",
            lambda t, w=inverse: t.endswith(f"{w}."),
        )


def _sums(rng: random.Random) -> Iterator[Checked]:
    while True:
        a, d, n, r = n_(rng), n_(rng), rng.randint(3, 30), n_(rng, 2, 4)
        arithmetic = sum(a + k * d for k in range(n))
        geometric = sum(a * r**k for k in range(n))
        terms = ", ".join(str(a + k * d) for k in range(3))
        yield (
            f"Find the sum of the first {n} terms of the arithmetic sequence {terms}, ...",
            ends(arithmetic),
        )
        yield (
            f"What is the sum of the first {n} terms of a geometric sequence with first term {a}"
            f" and common ratio {r}?",
            ends(geometric),
        )
        yield rf"Evaluate \sum_{{k=1}}^{{{n}}} k^2", ends(sum(k * k for k in range(1, n + 1)))
        yield (
            f"What is the sum of the infinite geometric series with first term {a} and common"
            f" ratio 1/{r}?",
            ends(Fraction(a) / (1 - Fraction(1, r))),
        )
        term = a
        for _ in range(4):
            term = r * term + d
        yield f"If a_1 = {a} and a_n = {r}a_{{n-1}} {s_(d)}, what is a_5?", ends(term)
        yield rf"If a_1 = {a} and a_{{n+1}} = {r}a_n {s_(d)}, find a_5.", ends(term)


def _named_methods(rng: random.Random) -> Iterator[Checked]:
    while True:
        x, y = n_(rng), n_(rng)
        first, second = f"x + y = {x + y}", f"2x - 3y = {2 * x - 3 * y}"
        for form in (
            "Solve the system by substitution: {}, {}",
            "Solve by elimination: {} and {}.",
            "用代入法解方程组 {}, {}",
        ):
            yield (
                form.format(first, second),
                lambda t, x=x, y=y: (
                    exercises.result(t).replace("，", " and ") == f"x = {x} and y = {y}"
                ),
            )


def _written(rng: random.Random) -> Iterator[Checked]:
    """Ordinary equations in LaTeX's ways to write them."""
    while True:
        a, b, root = n_(rng, 2, 9), n_(rng), n_(rng)
        equation = f"{a}x {s_(b)} = {a * root + b}"
        for form in (
            "Solve for $x$: ${}$",
            r"Solve \({}\).",
            r"Solve for x: \[{}\]",
            "Solve for X: {}",
            "What is the value of x in the equation {}?",
            "What is $x$ if ${}$?",
        ):
            yield form.format(equation), lambda t, r=root: exercises.result(t) == f"x = {r}"


def _roots(rng: random.Random) -> Iterator[Checked]:
    while True:
        n = rng.randint(1, 30)
        yield f"What is the square root of {n * n}?", ends(n)
        yield f"{n * n}的算术平方根是多少", lambda t, n=n: t.endswith(f" = {n}。")
        yield f"{n * n}的平方根是多少", lambda t, n=n: t == f"{n}，-{n}。"
        yield f"What are the square roots of {n * n}?", lambda t, n=n: t == f"{n} and -{n}."
        yield f"What is {n * n}^(1/2)?", ends(n)
        yield f"What is ∛{n**3}?", ends(n)
        yield rf"What is \sqrt[3]{{{n**3}}}?", ends(n)
        whole, under = rng.randint(1, 9), rng.randint(2, 9)
        over = rng.choice([k for k in range(1, under) if Fraction(k, under).denominator == under])
        improper = f"{whole * under + over}/{under}"
        yield (
            f"Convert {improper} to a mixed number",
            lambda t, w=f"{whole} {over}/{under}": t.endswith(f" = {w}."),
        )
        yield f"Convert {whole} {over}/{under} to an improper fraction", ends(Fraction(improper))


KINDS: list[Callable[[random.Random], Iterator[Checked]]] = [
    _fractions, _differences, _division, _composition, _inverse, _domains, _parabolas, _lines,
    _matrices, _sums, _named_methods, _written, _roots,
]  # fmt: skip
