"""Turn the parts of a matched form into an exercise: (kind, arguments ...).

Each builder raises UnclearError if the parts make no sense together.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from algebra import units
from algebra.parser import parse, parse_relation
from algebra.phrases import integers, listed_numbers, number, relations, spoken
from algebra.readings import UnclearError
from algebra.syntax import Name, Node, Operation, Relation, names
from algebra.words import without_separators

Built = tuple[Any, ...]
Builder = Callable[..., Built]


def _expression(text: str) -> Node:
    return parse(without_separators(spoken(text)))


def _with_variable(text: str) -> Node:
    node = _expression(text)
    if not names(node):
        raise UnclearError("no variable")
    return node


def solve(eqs: str, v: str = "", v2: str = "") -> Built:
    found = relations(eqs)
    asked = tuple(re.findall(r"[A-Za-z]", re.sub(r"\band\b", ",", v or v2)))
    variables = set().union(*(names(side) for rel in found for side in rel.sides))
    asked = tuple(a if a in variables else a.swapcase() for a in asked)  # "Solve for X: 2x = 4"
    if not variables or not variables.issuperset(asked) or "e" in asked:
        raise UnclearError("nothing to solve for")
    if len(found) > 1 and not asked:
        asked = tuple(sorted(variables))
    if not asked:
        if len(variables) > 1:
            raise UnclearError("which variable is asked for?")
        asked = tuple(variables)
    return "solve", found, asked


def roots(e: str, v: str = "") -> Built:
    e = body(e)
    if any(sign in e for sign in "<>="):
        return solve(e, v)
    node = _with_variable(e)
    return "solve", (Relation((node, parse("0")), ("=",), f"{e.strip()} = 0"),), tuple(names(node))


def body(text: str) -> str:
    """The right side of a function or curve: "x^2 - 4" of "f(x) = x^2 - 4" or "y = x^2 - 4"."""
    return re.sub(r"^(?:[A-Za-z] ?\([a-z]\)|y) ?= ?", "", text.strip())


def wanted(eqs: str, e: str) -> Built:
    """If 2x + 3 = 11, what is 3x - 1?"""
    found = relations(eqs)
    if not all(relation.is_equation for relation in found):
        raise UnclearError("a value under an inequality")
    target = _with_variable(e)
    variables = set().union(*(names(side) for rel in found for side in rel.sides))
    if not names(target) <= variables:
        raise UnclearError("a variable that nothing is said about")
    return "wanted", found, target, spoken(e).strip()


def substitute(e: str, eqs: str) -> Built:
    """Evaluate 3x^2 - 1 for x = 3."""
    found = relations(eqs)
    node = _with_variable(e)
    pairs = []
    for relation in found:
        left, right = relation.sides[0], relation.sides[-1]
        if not relation.is_equation or not isinstance(left, Name) or names(right):
            raise UnclearError("not a variable's value")
        pairs.append((left.name, right))
    if {name for name, _ in pairs} != names(node) or len(pairs) != len(names(node)):
        raise UnclearError("values of other variables")
    return "substitute", node, tuple(pairs), spoken(e).strip()


def function(f: str, x: str, body: str, at: str, f2: str) -> Built:
    """If f(x) = 2x - 1, what is f(3)?"""
    node = _expression(body)
    value = _expression(at)
    if f != f2 or names(node) - {x} or names(value):
        raise UnclearError("another function")
    return "function", f, x, node, value, at.strip()


def evaluate(e: str) -> Built:
    text = without_separators(spoken(e))
    if text.endswith("!") and not re.fullmatch(r"\d+!", text):
        raise UnclearError("a factorial, or the end of the sentence")
    node = parse(text)
    if names(node):
        raise UnclearError("a variable")
    if re.fullmatch(r"[\d.]+|\d+(?:-\d+)+", text.strip()):
        raise UnclearError("a number alone, a date, a phone number")
    return "evaluate", node, " ".join(text.split())


def rewrite(kind: str) -> Callable[..., Built]:
    def build(e: str) -> Built:
        text = without_separators(spoken(e))
        node = parse(text)
        if not names(node):
            if kind == "simplify":
                return evaluate(e)
            raise UnclearError("a number")
        return kind, node, " ".join(text.split())

    return build


def numbers(kind: str, *fixed: Any) -> Callable[..., Built]:
    """For a form whose parts are numbers; they are passed on sorted by name."""

    def build(**parts: str) -> Built:
        unit = parts.pop("u", "").strip()
        values = tuple(number(parts[name]) for name in sorted(parts))
        return (kind, *fixed, *values, unit)

    return build


def change(w: str, a: str, b: str, u: str = "") -> Built:
    """What is the percent decrease from 80 to 60?"""
    return "change", number(a), number(b), w.lower()


def listed(kind: str) -> Callable[[str], Built]:
    return lambda ns: (kind, listed_numbers(ns))


def whole_list(kind: str) -> Callable[[str], Built]:
    return lambda ns: (kind, integers(ns))


def term(ns: str, n: str = "", family: str = "") -> Built:
    if n and not 0 < int(n) <= 10**6:
        raise UnclearError("no such term")
    return "term", listed_numbers(ns), int(n) if n else None, _family(family)


def general_term(ns: str, family: str = "") -> Built:
    return "general_term", listed_numbers(ns), _family(family)


def step(ns: str, what: str) -> Built:
    return "step", listed_numbers(ns), _family(what)


def described(family: str, a: str, d: str, n: str) -> Built:
    if not 0 < int(n) <= 10**6:
        raise UnclearError("no such term")
    return "described_term", _family(family), number(a), number(d), int(n)


def _family(text: str) -> str:
    text = text.lower()
    if text in ("difference", "等差", "公差"):
        return "arithmetic"
    return "geometric" if text in ("ratio", "等比", "公比") else text


def convert(a: str, f: str, t: str) -> Built:
    return "convert", number(a), units.find(f), units.find(t)


def points(kind: str) -> Callable[..., Built]:
    def build(p: str, q: str) -> Built:
        found = _point(p), _point(q)
        if any(names(part) for point in found for part in point):
            raise UnclearError("points with variables")
        return kind, *found

    return build


def _point(text: str) -> tuple[Node, Node]:
    x, y = text.strip("() ").split(",")
    return parse(x), parse(y)


def line(kind: str) -> Callable[..., Built]:
    def build(eq: str) -> Built:
        relation = parse_relation(eq)
        if not relation.is_equation or set().union(*map(names, relation.sides)) != {"x", "y"}:
            raise UnclearError("not a line")
        return kind, relation

    return build


def ratio(a: str, b: str) -> Built:
    return "ratio", *integers(f"{a}, {b}")


def form_of_number(kind: str) -> Callable[..., Built]:
    def build(e: str) -> Built:
        text = without_separators(spoken(e)).strip()
        percent = text.endswith("%")
        node = parse(text.rstrip("% "))
        if names(node):
            raise UnclearError("a variable")
        return kind, node, percent, text

    return build


def of_function(kind: str, *fixed: Any) -> Callable[..., Built]:
    """For an exercise on an expression in one variable, which may be written as a function."""

    def build(e: str) -> Built:
        text = re.sub(r" ?= ?0$", "", body(e))
        node = _with_variable(text)
        if kind == "square":
            return kind, node, " ".join(text.split())
        if kind == "domain":
            if len(names(node)) != 1:
                raise UnclearError("a function of several variables")
            return kind, *names(node), node
        return kind, *fixed, node

    return build


def inverse_function(e: str) -> Built:
    match = re.match(r"([A-Za-z]) ?\(([a-z])\) ?= ?", e)
    if match is None:
        raise UnclearError("no function")
    return "inverse_function", match[1], match[2], _with_variable(e[match.end() :])


def compose(f: str, x: str, fb: str, g: str, gb: str, o: str, i: str, at: str) -> Built:
    """If f(x) = 2x and g(x) = x + 1, what is f(g(3))?"""
    bodies = {f: _expression(fb), g: _expression(gb)}
    value = _expression(at)
    if f == g or not {o, i} <= bodies.keys() or any(names(b) - {x} for b in bodies.values()):
        raise UnclearError("other functions")
    if names(value) - {x}:
        raise UnclearError("another variable")
    return "compose", f"{o}({i}({at.strip()}))", x, bodies[o], bodies[i], value


def divide(asked: str) -> Callable[..., Built]:
    def build(a: str, b: str) -> Built:
        over, under = _expression(a), _expression(b)
        if names(over) | names(under):
            return "divide", asked, over, under
        if not (a.strip().isdigit() and b.strip().isdigit()) or not int(b):
            raise UnclearError("a remainder of numbers that are not whole")
        if asked == "both" and int(a) % int(b) == 0:
            return evaluate(f"{a} ÷ {b}")
        if asked == "both" or max(len(a), len(b)) > 20:
            raise UnclearError("a quotient, or a remainder")
        return "integer_remainder", asked, int(a), int(b)

    return build


def slope_line(m: str, p: str) -> Built:
    return "slope_line", parse(m), _point(p)


def matrix(kind: str) -> Callable[..., Built]:
    def build(m: str) -> Built:
        rows = [row.split(",") for row in re.findall(r"\[([^\[\]]+)\]", m[1:-1])]
        if len({len(row) for row in rows}) != 1 or not 2 <= len(rows) <= 4 or len(rows[0]) > 5:
            raise UnclearError("not a small matrix")
        entries = tuple(tuple(parse(entry) for entry in row) for row in rows)
        if any(names(entry) for row in entries for entry in row):
            raise UnclearError("a matrix with variables")
        return kind, entries

    return build


def sum_of_terms(family: str, a: str, d: str, n: str) -> Built:
    return "sum_of_terms", _family(family), number(a), number(d), int(n)


def sum_of_sequence(ns: str, n: str, family: str = "") -> Built:
    return "sum_of_sequence", listed_numbers(ns), _family(family), int(n)


def sigma(k: str, lo: str, hi: str, e: str) -> Built:
    node = _expression(e)
    inside = e.strip()
    bracketed = inside[0] == "(" and inside[-1] == ")" and inside.count("(") == 1
    if isinstance(node, Operation) and node.sign in "+-" and not bracketed:
        raise UnclearError("a sum whose end is not clear")
    return "sigma", k, int(lo), int(hi), node


def recurrence(s: str, at: str, first: str, later: str, body: str, w: str) -> Built:
    """If a_1 = 2 and a_n = 3a_(n-1) + 1, what is a_5?"""
    shift = 0 if later == "n" else 1
    before = rf"{s}_[({{]n ?- ?1[)}}]" if not shift else rf"{s}_\(?n\)?(?!\w)"
    text, count = re.subn(before, "P", body)
    if not count or "_" in text or "P" in body:
        raise UnclearError("a recurrence of another kind")
    return "recurrence", number(first), int(at), "n", _expression(text), shift, int(w)


def as_mixed(e: str) -> Built:
    return "as_mixed", number(e), e.strip()


def square_roots(e: str) -> Built:
    return "square_roots", parse(without_separators(e)), e
