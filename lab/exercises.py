"""Exercises in algebra, with answers that sympy works out."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from lab import word_problems
from lab.draw import Draw, Exercise
from training.corpus import normalized

_SEED = "algebra, first edition"


def exercises(sympy: Any, asked: set[str]) -> list[Exercise]:
    """Each kind of exercise as often as `_EXERCISES` says, mixed.

    Args:
        sympy: the library.
        asked: questions, normalized, that are not to be asked; those made are added.
    """
    rng = random.Random(_SEED)
    pairs = []
    for exercise, times in _EXERCISES.items():
        made = 0
        while made < times:
            question, answer = exercise(Draw(sympy, rng))
            if normalized(question) not in asked:
                asked.add(normalized(question))
                pairs.append((question, answer))
                made += 1
    rng.shuffle(pairs)
    return pairs


def _asking(draw: Draw, equation: str) -> str:
    x = draw.letter
    forms = (
        f"Solve for {x}: {equation}.",
        f"Solve {equation}.",
        f"Find {x} if {equation}.",
        f"If {equation}, what is {x}?",
    )
    return str(draw.one_of(*forms))


def _linear(draw: Draw) -> Exercise:
    x, a, b = draw.symbol, draw.number(2, 12), draw.nonzero(-20, 20)
    # Two times in three the solution is whole.
    c = a * draw.number(-9, 12) + b if draw.rng.random() < 2 / 3 else draw.number(-20, 40)
    root = draw.root(a * x + b, c)
    question = _asking(draw, f"{draw.text(a * x + b)} = {c}")
    return question, f"{draw.text(a * x)} = {c - b}, so {x} = {root}."


def _both_sides(draw: Draw) -> Exercise:
    x, c = draw.symbol, draw.number(2, 9)
    a, d = c + draw.number(2, 8), draw.nonzero(-20, 20)
    b = (c - a) * draw.number(-6, 9) + d
    left, right = a * x + b, c * x + d
    question = _asking(draw, f"{draw.text(left)} = {draw.text(right)}")
    return question, f"{draw.text((a - c) * x)} = {d - b}, so {x} = {draw.root(left, right)}."


def _bracket(draw: Draw) -> Exercise:
    x, a, b, k = draw.symbol, draw.number(2, 9), draw.nonzero(-9, 9), draw.number(-9, 15)
    question = _asking(draw, f"{a}({draw.text(x + b)}) = {a * k}")
    return question, f"{draw.text(x + b)} = {k}, so {x} = {draw.root(a * (x + b), a * k)}."


def _quotient(draw: Draw) -> Exercise:
    x, a, b, k = draw.symbol, draw.number(2, 9), draw.nonzero(-9, 9), draw.nonzero(-9, 12)
    question = _asking(draw, f"{x}/{a} {_plus(b, '')} = {k + b}")
    return question, f"{x}/{a} = {k}, so {x} = {draw.root(x / a + b, k + b)}."


def _inequality(draw: Draw) -> Exercise:
    x, a, b, k = draw.symbol, draw.number(2, 9), draw.nonzero(-15, 15), draw.number(-6, 9)
    sign = draw.one_of("<", ">", "<=", ">=")
    root = draw.root(a * x + b, a * k + b)
    question = f"Solve the inequality {draw.text(a * x + b)} {sign} {a * k + b}."
    return question, f"{draw.text(a * x)} {sign} {a * k}, so {x} {sign} {root}."


def _sum_and_difference(draw: Draw) -> Exercise:
    x, y = draw.sympy.symbols("x y")
    u, v = draw.number(-6, 15), draw.number(-6, 12)
    found = draw.sympy.solve([x + y - (u + v), x - y - (u - v)], [x, y])
    question = f"Solve the system x + y = {u + v} and x - y = {u - v}."
    return question, f"Adding gives 2x = {2 * u}, so x = {found[x]} and y = {found[y]}."


def _system(draw: Draw) -> Exercise:
    x, y = draw.sympy.symbols("x y")
    u, v = draw.number(-5, 9), draw.number(-5, 9)
    a, c, d = draw.number(2, 5), draw.number(1, 4), draw.nonzero(-4, 4)
    d = d if c != a * d else -d  # else the lines would not cross
    e, f = a * u + v, c * u + d * v
    found = draw.sympy.solve([a * x + y - e, c * x + d * y - f], [x, y])
    first, second = f"{a}x + y = {e}", f"{_times(c, 'x')} {_plus(d, 'y')} = {f}"
    question = f"Solve the system {first} and {second}."
    return question, f"y = {e} - {a}x, so x = {found[x]} and y = {found[y]}."


def _times(factor: Any, name: str) -> str:
    unit = name and abs(factor) == 1
    return f"{'-' if factor < 0 else ''}{'' if unit else abs(factor)}{name}"


def _plus(factor: Any, name: str) -> str:
    return f"{'-' if factor < 0 else '+'} {_times(abs(factor), name)}"


def _percent_of(draw: Draw) -> Exercise:
    rate, whole = draw.number(1, 24) * 5, draw.number(1, 40) * 10
    question = draw.one_of("What is {}% of {}?", "Find {}% of {}.", "Work out {}% of {}.")
    part = draw.sympy.Rational(rate, 100) * whole
    return question.format(rate, whole), f"{rate}/100 * {whole} = {part}, so {part}."


def _what_percent(draw: Draw) -> Exercise:
    whole, rate = draw.number(1, 20) * 20, draw.number(1, 19) * 5
    part = draw.sympy.Rational(rate, 100) * whole
    question = draw.one_of("What percent of {1} is {0}?", "{0} is what percent of {1}?")
    return question.format(part, whole), f"{part}/{whole} * 100 = {rate}, so {rate}%."


def _evaluate(draw: Draw) -> Exercise:
    x, value, b = draw.symbol, draw.number(-5, 9), draw.nonzero(-12, 12)
    a = draw.number(2, 9)
    second = draw.one_of(True, False)
    linear = a * x + b
    expression = x**2 + linear if second else linear
    inserted = f"({value})" if value < 0 else f"{value}"
    steps = f"{a}*{inserted} {_plus(b, '')}"
    steps = f"{inserted}^2 + {steps}" if second else steps
    result = expression.subs(x, value)
    if second:
        question = f"Evaluate {draw.text(expression)} for {x} = {value}."
    else:
        y = "z" if draw.letter == "y" else "y"
        question = f"If {y} = {draw.text(expression)} and {x} = {value}, what is {y}?"
    return question, f"{steps} = {result}, so {result}."


def _expand(draw: Draw) -> Exercise:
    x, a, b = draw.symbol, draw.nonzero(-9, 9), draw.nonzero(-9, 9)
    kind = draw.rng.randrange(3)
    if kind == 0:
        k, m = draw.number(2, 9), draw.number(1, 5)
        product = f"{k}({draw.text(m * x + a)})"
        expanded = draw.sympy.expand(k * (m * x + a))
    elif kind == 1:
        product = f"({draw.text(x + a)})({draw.text(x + b)})"
        expanded = draw.sympy.expand((x + a) * (x + b))
    else:
        m = draw.number(1, 4)
        product = f"({draw.text(m * x + a)})^2"
        expanded = draw.sympy.expand((m * x + a) ** 2)
    question = draw.one_of("Expand {}.", "Multiply out {}.").format(product)
    return question, f"{product} = {draw.text(expanded)}."


def _factor(draw: Draw) -> Exercise:
    x, kind = draw.symbol, draw.rng.randrange(3)
    if kind == 0:
        a = draw.nonzero(-9, 9)
        b = draw.other_than(a, -9, 9)
        b = b if b + a else b + draw.sympy.sign(b)  # squares' difference is the next kind
        expanded = draw.sympy.expand((x + a) * (x + b))
        pair = f"{a} + {_braced(b)} = {a + b} and {a}*{_braced(b)} = {a * b}"
        answer = f"{pair}, so ({draw.text(x + a)})({draw.text(x + b)})."
    elif kind == 1:
        m, a = draw.number(1, 5), draw.number(1, 12)
        a = a if draw.sympy.gcd(m, a) == 1 else a * m + 1
        expanded = draw.sympy.expand((m * x + a) * (m * x - a))
        answer = f"{m**2}{x}^2 is the square of {draw.text(m * x)} and {a**2} of {a}, so "
        answer = answer.replace(f"1{x}^2", f"{x}^2") if m == 1 else answer
        answer += f"({draw.text(m * x + a)})({draw.text(m * x - a)})."
    else:
        k, m, a = draw.number(2, 9), draw.number(1, 7), draw.nonzero(-9, 9)
        a = a if draw.sympy.gcd(m, a) == 1 else a * m + 1
        expanded = draw.sympy.expand(k * (m * x + a))
        answer = f"{k} divides both terms, so {k}({draw.text(m * x + a)})."
    return f"{draw.one_of('Factor', 'Factorise')} {draw.text(expanded)}.", answer


def _braced(number: Any) -> str:
    return f"({number})" if number < 0 else f"{number}"


def _quadratic(draw: Draw) -> Exercise:
    x, kind = draw.symbol, draw.rng.randrange(4)
    if kind == 0:
        n = draw.number(2, 15)
        question, steps = _asking(draw, f"{x}^2 = {n**2}"), f"{n}^2 = {n**2}"
        roots = draw.sympy.solve(x**2 - n**2, x)
    else:
        m = draw.number(2, 3) if kind == 1 else draw.sympy.Integer(1)
        p = draw.nonzero(-8, 8)
        q = draw.other_than(draw.sympy.Integer(-p) * m, -8, 8)
        q = q if q != p * m and draw.sympy.gcd(m, q) == 1 else -(abs(p) * m + 1)
        left = draw.sympy.expand((m * x + q) * (x + p))
        question = _asking(draw, f"{draw.text(left)} = 0")
        steps = f"({draw.text(m * x + q)})({draw.text(x + p)}) = 0"
        roots = draw.sympy.solve(left, x)
    first, second = sorted(roots, reverse=True)
    return question, f"{steps}, so {x} = {first} or {x} = {second}."


def _slope(draw: Draw) -> Exercise:
    a, b = draw.number(-4, 5), draw.number(-6, 9)
    c, d = a + draw.number(1, 6), draw.number(-6, 12)
    slope = draw.sympy.Rational(d - b, c - a)
    question = draw.one_of(
        "What is the slope of the line through ({}, {}) and ({}, {})?",
        "Find the slope of the line that joins ({}, {}) and ({}, {}).",
    )
    steps = f"({d} - {_braced(b)})/({c} - {_braced(a)}) = {d - b}/{c - a}"
    # A fraction in its lowest terms is the result as it stands.
    steps += "" if f"{d - b}/{c - a}" == str(slope) else f" = {slope}"
    return question.format(a, b, c, d), f"{steps}, so {slope}."


def _fractions(draw: Draw) -> Exercise:
    rational = draw.sympy.Rational
    b, d = draw.number(2, 9), draw.number(2, 9)
    p, q = rational(draw.number(1, 9), b), rational(draw.number(1, 9), d)
    sign = draw.one_of("+", "-", "*")
    if p.q == 1 or q.q == 1:
        return _fractions(draw)
    if sign == "*":
        result, steps = p * q, f"{p.p * q.p}/{p.q * q.q}"
    else:
        common = draw.sympy.lcm(p.q, q.q)
        result = p + q if sign == "+" else p - q
        steps = f"{p * common}/{common} {sign} {q * common}/{common}"
    question = draw.one_of("What is {} {} {}?", "Work out {} {} {}.").format(p, sign, q)
    steps += "" if steps == str(result) else f" = {result}"
    return question, f"{steps}, so {result}."


def _like_terms(draw: Draw) -> Exercise:
    x, a, c = draw.symbol, draw.number(2, 12), draw.nonzero(-9, 9)
    b, d = draw.nonzero(-12, 12), draw.nonzero(-12, 12)
    c = c if a + c else c + 10
    spelt = f"{draw.text(a * x + b)} {_plus(c, draw.letter)} {_plus(d, '')}"
    return f"Simplify {spelt}.", f"{spelt} = {draw.text((a + c) * x + b + d)}."


def _powers(draw: Draw) -> Exercise:
    x, m, n = draw.symbol, draw.number(2, 9), draw.number(2, 6)
    kind = draw.rng.randrange(3)
    if kind == 0:
        return f"Simplify {x}^{m} * {x}^{n}.", f"{m} + {n} = {m + n}, so {x}^{m + n}."
    if kind == 1:
        more = m + n
        return f"Simplify {x}^{more} / {x}^{n}.", f"{more} - {n} = {m}, so {x}^{m}."
    return f"Simplify ({x}^{m})^{n}.", f"{m}*{n} = {m * n}, so {x}^{m * n}."


def _sequence(draw: Draw) -> Exercise:
    first, step, n = draw.number(-5, 12), draw.nonzero(-6, 9), draw.number(5, 20)
    begin = ", ".join(str(first + k * step) for k in range(4))
    result = first + (n - 1) * step
    question = f"A sequence goes on by equal steps: {begin}, ... What is its term number {n}?"
    return question, f"{first} + {n - 1}*{_braced(step)} = {result}, so {result}."


def _line_equation(draw: Draw) -> Exercise:
    slope, x, y = draw.nonzero(-6, 6), draw.nonzero(-5, 6), draw.number(-9, 12)
    b = y - slope * x
    line = f"y = {_times(slope, 'x')}" + (f" {_plus(b, '')}" if b else "")
    question = f"What is the equation of the line with slope {slope} through ({x}, {y})?"
    return question, f"{y} - {_braced(slope)}*{_braced(x)} = {b}, so {line}."


# How many of each kind.
_EXERCISES: Mapping[Callable[[Draw], Exercise], int] = {
    _linear: 110,
    _both_sides: 60,
    _bracket: 50,
    _quotient: 35,
    _inequality: 30,
    _sum_and_difference: 40,
    _system: 50,
    _percent_of: 60,
    _what_percent: 35,
    word_problems.price_change: 40,
    _evaluate: 90,
    _expand: 70,
    _factor: 60,
    _quadratic: 70,
    _slope: 50,
    word_problems.average: 50,
    word_problems.speed: 60,
    word_problems.unit_price: 40,
    word_problems.ratio: 40,
    word_problems.shop: 50,
    word_problems.change: 30,
    word_problems.saving: 25,
    word_problems.think_of_a_number: 35,
    word_problems.ages: 25,
    word_problems.rectangle: 20,
    word_problems.consecutive: 20,
    _fractions: 40,
    _like_terms: 30,
    _powers: 25,
    _sequence: 25,
    _line_equation: 25,
}
