"""Exercises whose right answers are known by construction, not by the tool or by sympy."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from math import comb

# A question, and whether an answer to it is right.
Checked = tuple[str, Callable[[str], bool]]

EACH = 9


def all_exercises(seed: int = 1) -> list[Checked]:
    """`EACH` exercises of every kind, always the same for a seed."""
    rng = random.Random(seed)
    return [exercise for make in KINDS for exercise in islice(make(rng), EACH)]


def result(answer: str) -> str:
    """What follows the last "so" or equals sign, without the full stop."""
    return answer.rstrip("。.").rpartition(", so ")[2].rpartition("，所以 ")[2]


def value(text: str) -> Fraction:
    """The number at the end of a text: 3, -2.5, 19/12."""
    return Fraction(text.rstrip("。.").split()[-1].lstrip("$"))


def ends(wanted: Fraction | int) -> Callable[[str], bool]:
    return lambda answer: value(result(answer)) == wanted


def _roots(wanted: set[Fraction], name: str = "x") -> Callable[[str], bool]:
    def right(answer: str) -> bool:
        parts = result(answer).replace(" 或 ", " or ").split(" or ")
        pairs = [part.split()[-3:] for part in parts]
        return (
            all(p[:2] == [name, "="] for p in pairs) and {Fraction(p[2]) for p in pairs} == wanted
        )

    return right


def n_(rng: random.Random, low: int = -9, high: int = 9, but: tuple[int, ...] = (0,)) -> int:
    return rng.choice([n for n in range(low, high + 1) if n not in but])


def s_(n: int | Fraction) -> str:
    """A number as a further term: + 3, - 3."""
    return f"+ {n}" if n >= 0 else f"- {-n}"


def _linear(rng: random.Random) -> Iterator[Checked]:
    for form in (
        "Solve for x: {}.",
        "Solve {}.",
        "Find x if {}.",
        "If {}, what is x?",
        "解方程：{}",
        "若 {}，求 x",
        "What is the value of x if {}?",
        "{}",
    ):
        a, b, c, root = n_(rng), n_(rng), n_(rng), Fraction(n_(rng), rng.randint(1, 4))
        a = a if a != c else a + 10
        d = a * root + b - c * root
        yield form.format(f"{a}x {s_(b)} = {c}x {s_(d)}"), _roots({root})


def _quadratic(rng: random.Random) -> Iterator[Checked]:
    for form in (
        "Solve {}.",
        "Find the roots of {}",
        "解方程 {}",
        "Solve the quadratic equation {}",
        "Solve for x: ${}$",
        "What are the solutions of {}?",
        "Solve {} for x",
        "求解方程：{}",
    ):
        p, q, a = n_(rng), n_(rng), n_(rng, 1, 4)
        b, c = -a * (p + q), a * p * q
        yield form.format(f"{a}x^2 {s_(b)}x {s_(c)} = 0"), _roots({Fraction(p), Fraction(q)})


def _cubic(rng: random.Random) -> Iterator[Checked]:
    while True:
        p, q, r = n_(rng), n_(rng), n_(rng)
        b, c, d = -(p + q + r), p * q + q * r + p * r, -p * q * r
        yield f"Solve x³ {s_(b)}x² {s_(c)}x {s_(d)} = 0", _roots(set(map(Fraction, (p, q, r))))


def _irrational(rng: random.Random) -> Iterator[Checked]:
    while True:
        b, c = n_(rng, -9, 9), n_(rng, -9, -1)  # c < 0: two real roots

        def right(answer: str, b: int = b, c: int = c) -> bool:
            roots = [
                _number(part.split(" = ")[1].rstrip(".")) for part in result(answer).split(" or ")
            ]
            total, product = sum(roots), roots[0] * roots[-1]
            if len(roots) != 2:
                return False
            return abs(total + b) < 1e-9 and abs(product - c) < 1e-9

        yield f"Solve x^2 {s_(b)}x {s_(c)} = 0", right


def _number(text: str) -> float:
    """The value of a number with roots: (3 + √17)/2."""
    text = re.sub(r"√(\d+)", r"(\1)**0.5", re.sub(r"(?<=\d)√", "*√", text))
    assert re.fullmatch(r"[-+*/().\d ]+", text)
    return float(eval(text))


def _rational(rng: random.Random) -> Iterator[Checked]:
    while True:
        a, b, root = n_(rng), n_(rng), n_(rng)
        if a in (b, root) or b == root:
            continue
        k = n_(rng)
        # k/(x - a) = m/(x - b) at root; cross-multiplied it is linear.
        m = Fraction(k * (root - b), root - a)
        if m == k or m == 0:
            continue
        yield f"Solve {k}/(x {s_(-a)}) = ({m})/(x {s_(-b)})", _roots({Fraction(root)})


def _absolute(rng: random.Random) -> Iterator[Checked]:
    while True:
        a, b, c = n_(rng, 1, 5), n_(rng), n_(rng, 1, 9)
        yield f"Solve |{a}x {s_(b)}| = {c}", _roots({Fraction(c - b, a), Fraction(-c - b, a)})


def _radical(rng: random.Random) -> Iterator[Checked]:
    while True:
        root, right = n_(rng), n_(rng, 1, 9)
        a = n_(rng, 1, 5)
        yield f"Solve √({a}x {s_(right**2 - a * root)}) = {right}", _roots({Fraction(root)})


def _exponential(rng: random.Random) -> Iterator[Checked]:
    while True:
        base, power, a = n_(rng, 2, 6), n_(rng, -3, 5), n_(rng, 1, 3)
        shift = n_(rng, -3, 3)
        right = Fraction(base) ** (a * power + shift)
        yield f"Solve {base}^({a}x {s_(shift)}) = {right}", _roots({Fraction(power)})


def _logarithm(rng: random.Random) -> Iterator[Checked]:
    while True:
        base, power, a, b = n_(rng, 2, 5), n_(rng, 1, 3), n_(rng, 1, 4), n_(rng)
        yield f"Solve log_{base}({a}x {s_(b)}) = {power}", _roots({Fraction(base**power - b, a)})


def _system(rng: random.Random) -> Iterator[Checked]:
    forms = (
        "Solve the system {} and {}.",
        "Solve {}, {}",
        "解方程组：{}，{}",
        "Solve for x and y: {}, {}",
        "Solve the system of equations: {}; {}",
        r"Solve \begin{{cases}} {} \\ {} \end{{cases}}",
        "Find x and y if {} and {}.",
        "Solve the simultaneous equations {} and {}",
    )
    for form in forms:
        x, y = Fraction(n_(rng), rng.randint(1, 3)), n_(rng)
        a, b, c, d = (n_(rng) for _ in range(4))
        d = d if a * d != b * c else d + 10
        first, second = f"{a}x {s_(b)}y = {a * x + b * y}", f"{c}x {s_(d)}y = {c * x + d * y}"

        def right(answer: str, x: Fraction = x, y: int = y) -> bool:
            return result(answer).replace("，", " and ") == f"x = {x} and y = {y}"

        yield form.format(first, second), right


def _inequality(rng: random.Random) -> Iterator[Checked]:
    signs = {"<": "<", ">": ">", "<=": "≤", "≥": "≥"}
    flipped = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}
    while True:
        a, b, end = n_(rng), n_(rng), Fraction(n_(rng), rng.randint(1, 3))
        sign = rng.choice(list(signs))
        wanted = signs[sign] if a > 0 else flipped[signs[sign]]
        yield (
            f"Solve the inequality {a}x {s_(b)} {sign} {a * end + b}",
            lambda answer, w=wanted, e=end: result(answer) == f"x {w} {e}",
        )


def _quadratic_inequality(rng: random.Random) -> Iterator[Checked]:
    while True:
        p = n_(rng)
        q = p + n_(rng, 1, 9)
        left = f"x^2 {s_(-p - q)}x {s_(p * q)}"
        yield f"Solve {left} < 0", lambda a, p=p, q=q: result(a) == f"{p} < x < {q}"
        yield f"Solve {left} >= 0", lambda a, p=p, q=q: result(a) == f"x ≤ {p} or x ≥ {q}"


def _expand(rng: random.Random) -> Iterator[Checked]:
    for form in ("Expand {}.", "Multiply out {}.", "展开 {}", "Expand and simplify: {}") * 2:
        a, b, c, d = (n_(rng) for _ in range(4))
        text = f"({a}x {s_(b)})({c}x {s_(d)})"
        yield (
            form.format(text),
            lambda t, v=(a, b, c, d): (
                _coefficients(t) == [v[0] * v[2], v[0] * v[3] + v[1] * v[2], v[1] * v[3]]
            ),
        )


def _power(rng: random.Random) -> Iterator[Checked]:
    while True:
        n, a = rng.randint(2, 5), n_(rng, -4, 4)
        yield (
            f"Expand (x {s_(a)})^{n}",
            lambda t, n=n, a=a: _coefficients(t) == [comb(n, k) * a**k for k in range(n + 1)],
        )


def _coefficients(answer: str) -> list[Fraction]:
    """Of the polynomial in x after the equals sign, the highest power first, no zeros left out."""
    text = answer.rstrip(".。").rpartition(" = ")[2].replace(" - ", " + -")
    found: dict[int, Fraction] = {}
    for term in text.split(" + "):
        number, x, power = term.partition("x")
        factor = {"": 1, "-": -1}.get(number) or Fraction(number)
        found[(int(power[1:]) if power else 1) if x else 0] = Fraction(factor)
    return [found.get(n, Fraction(0)) for n in range(max(found), -1, -1)]


def _factor(rng: random.Random) -> Iterator[Checked]:
    for form in ("Factor {}.", "Factorise {}", "因式分解：{}", "Factor completely: {}") * 2:
        p, q = n_(rng), n_(rng)
        text = f"x^2 {s_(p + q)}x {s_(p * q)}"
        brackets = {f"(x {s_(p)})(x {s_(q)})", f"(x {s_(q)})(x {s_(p)})", f"(x {s_(p)})^2"}
        wanted = brackets if p == q else {b for b in brackets if "^" not in b}
        yield form.format(text), lambda a, w=wanted: a.rstrip(".。").rpartition(" = ")[2] in w


def _simplify(rng: random.Random) -> Iterator[Checked]:
    while True:
        a, b, c, d = (n_(rng, 1, 9) for _ in range(4))
        yield (
            f"Simplify {a}x + {b} + {c}x - {d}",
            lambda t, v=(a + c, b - d): _coefficients(t) == list(map(Fraction, v)),
        )
        p, q = rng.sample(range(1, 10), 2)
        yield (
            f"Simplify (x^2 {s_(-p - q)}x {s_(p * q)})/(x - {p})",
            lambda t, q=q: t.endswith(f" = x - {q}."),
        )
        yield f"Simplify y^{a} * y^{b + 1}", lambda t, n=a + b + 1: t.endswith(f" = y^{n}.")
        yield (
            f"Simplify sqrt({a * a * 7})",
            lambda t, a=a: t.endswith(f" = {a if a > 1 else ''}√7.") or a == 1,
        )


def _fractions(rng: random.Random) -> Iterator[Checked]:
    for form in (
        "What is {}?",
        "Calculate {}",
        "计算：{}",
        "{} = ?",
        "Work out {}.",
        "Compute ${}$",
        "Evaluate: {}",
        "{} 等于多少？",
    ):
        a, b = Fraction(n_(rng), rng.randint(2, 9)), Fraction(n_(rng, 1, 9), rng.randint(2, 9))
        sign, wanted = rng.choice([("+", a + b), ("-", a - b), ("×", a * b), ("÷", a / b)])
        yield form.format(f"({a}) {sign} ({b})"), ends(wanted)


def _decimals(rng: random.Random) -> Iterator[Checked]:
    while True:
        a, b = Fraction(rng.randint(1, 999), 100), Fraction(rng.randint(1, 99), 10)
        yield f"What is {float(a)} × {float(b)} - 1,234.5?", ends(a * b - Fraction("1234.5"))
        n = rng.randint(1, 5)
        yield f"What is {n} 1/2 + 2 1/3?", ends(n + Fraction(1, 2) + Fraction(7, 3))
        yield f"What is {n} squared?", ends(n**2)
        yield rf"What is \frac{{{n}}}{{7}} \cdot 3?", ends(Fraction(3 * n, 7))


def _substitute(rng: random.Random) -> Iterator[Checked]:
    for form in (
        "Evaluate {} for x = {}.",
        "Find the value of {} when x = {}.",
        "What is {} if x = {}?",
        "Calculate {} where x = {}",
    ):
        a, b, x = n_(rng), n_(rng), n_(rng)
        yield form.format(f"{a}x^2 {s_(b)}", x), ends(a * x * x + b)
    for form in ("If f(x) = {}, what is f({})?", "Given f(x) = {}, find f({})."):
        a, b, x = n_(rng), n_(rng), n_(rng)
        yield form.format(f"{a}x {s_(b)}", x), ends(a * x + b)
    a, x = n_(rng), n_(rng)
    yield f"当x={x}时，求{a}x+1的值", ends(a * x + 1)
    yield f"If y = {a}x - 2 and x = {x}, what is y?", ends(a * x - 2)


def _percent(rng: random.Random) -> Iterator[Checked]:
    a, b = rng.randint(1, 99), rng.randint(1, 900)
    yield f"What is {a}% of {b}?", ends(Fraction(a * b, 100))
    yield f"{b}的{a}%是多少？", ends(Fraction(a * b, 100))
    yield f"Increase {b} by {a}%", ends(b + Fraction(a * b, 100))
    yield f"What is ${b} decreased by {a}%?", ends(b - Fraction(a * b, 100))
    yield f"{a} is what percent of 80?", lambda t: value(t.rstrip(".%")) == Fraction(a * 100, 80)
    yield f"{a} is 20% of what number?", ends(5 * a)
    yield "What is the percent increase from 40 to 50?", lambda t: t.endswith(" 25%.")
    yield f"Find {a} percent of 1,000.", ends(10 * a)


def _sequence(rng: random.Random) -> Iterator[Checked]:
    a, d, r = n_(rng), n_(rng, 1, 9), n_(rng, 2, 4)
    up = [a + n * d for n in range(40)]
    times = [a * r**n for n in range(12)]
    first = ", ".join(map(str, up[:4]))
    yield f"What is the next term in the sequence {first}, ...?", ends(up[4])
    yield f"What comes next: {', '.join(map(str, times[:4]))}?", ends(times[4])
    yield f"Find the 30th term of the arithmetic sequence {first}, ...", ends(up[29])
    yield f"等差数列 {first} 的第 20 项是多少？", lambda t: t.endswith(f"是 {up[19]}。")
    yield (
        f"Find the 10th term of the geometric sequence {', '.join(map(str, times[:3]))}, ...",
        ends(times[9]),
    )
    yield f"What is the common difference of the sequence {first}, ...?", ends(d)
    squares = [(n + d) ** 2 for n in range(9)]
    yield f"What comes next: {', '.join(map(str, squares[:5]))}, ...", ends(squares[5])
    yield (
        f"Find the 9th term of an arithmetic sequence with first term {a} and common difference"
        f" {d}.",
        ends(up[8]),
    )


def _units(rng: random.Random) -> Iterator[Checked]:
    n = rng.randint(1, 90)
    for question, wanted in [
        (f"Convert {n} km to m", 1000 * n),
        (f"How many minutes are in {n} hours?", 60 * n),
        (f"Convert {36 * n} km/h to m/s.", 10 * n),
        (f"Convert {n} kg to grams", 1000 * n),
        (f"{n}千米等于多少米？", 1000 * n),
        (f"How many inches are in {n} feet?", 12 * n),
        (f"Convert {5 * n} degrees Celsius to Fahrenheit", 9 * n + 32),
        (f"Convert {n} square meters to square centimeters", 10000 * n),
    ]:
        yield question, lambda t, w=wanted: t.partition(" = ")[2].split()[0] == str(w)


def _whole(rng: random.Random) -> Iterator[Checked]:
    k, p, q = rng.randint(2, 30), 7, 11
    for form in (
        "What is the gcd of {} and {}?",
        "Find the greatest common factor of {} and {}.",
        "{}和{}的最大公约数是多少？",
        "gcd({}, {})",
    ):
        yield form.format(k * p, k * q), lambda t: t.rstrip(".。").endswith(f" {k}")
    for form in (
        "What is the LCM of {} and {}?",
        "Find the least common multiple of {} and {}.",
        "求{}和{}的最小公倍数",
        "lcm({}, {})",
    ):
        yield form.format(k * p, k * q), lambda t: t.rstrip(".。").endswith(f" {k * p * q}")


def _points(rng: random.Random) -> Iterator[Checked]:
    for form in (
        "What is the slope of the line through ({}, {}) and ({}, {})?",
        "Find the slope of the line that joins ({}, {}) and ({}, {}).",
        "求过点({}，{})和({}，{})的直线的斜率",
    ):
        a, b, d = n_(rng), n_(rng), n_(rng)
        yield form.format(a, b, a + 3, d), ends(Fraction(d - b, 3))
    a, b = n_(rng), n_(rng)
    yield f"What is the distance between (1, 2) and ({1 + 3 * 4}, {2 + 4 * 4})?", ends(20)
    yield f"What is the midpoint of ({a}, 1) and ({a + 4}, 3)?", lambda t: t == f"({a + 2}, 2)."
    yield (
        f"Find the equation of the line through (0, {b}) and (1, {b + 5}).",
        lambda t: result(t) == f"y = 5x {s_(b)}",
    )
    yield f"What is the slope of y = {a}x + 1?", ends(a)
    yield f"What is the mean of {a}, 4 and {b}?", ends(Fraction(a + b + 4, 3))


KINDS = [
    _linear, _quadratic, _cubic, _irrational, _rational, _absolute, _radical, _exponential,
    _logarithm, _system, _inequality, _quadratic_inequality, _expand, _power, _factor, _simplify,
    _fractions, _decimals, _substitute, _percent, _sequence, _units, _whole, _points,
]  # fmt: skip
