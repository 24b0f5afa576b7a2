"""From the parts of a form to what is to be computed: (kind, given ...).

Each raises UnclearError where its parts make no sense together.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from algebra import units
from algebra.parser import parse, parse_relation
from algebra.phrases import integers, listed_numbers, number, relations, spoken
from algebra.readings import UnclearError
from algebra.syntax import Node, Relation, names
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
    if any(sign in e for sign in "<>="):
        return solve(e, v)
    node = _with_variable(e)
    return "solve", (Relation((node, parse("0")), ("=",), f"{e.strip()} = 0"),), tuple(names(node))


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
        if not (relation.is_equation and len(names(left)) == 1 and not names(right)):
            raise UnclearError("not a variable's value")
        (name,) = names(left)
        if parse(name) != left:
            raise UnclearError("not a variable's value")
        pairs.append((name, right))
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
    """A form whose parts are numbers, in the order of their names."""

    def build(**parts: str) -> Built:
        unit = parts.pop("u", "").strip()
        values = tuple(number(parts[name]) for name in sorted(parts))
        return (kind, *fixed, *values, unit)

    return build


def change(w: str, a: str, b: str, u: str = "") -> Built:
    """What is the percent decrease from 80 to 60?"""
    return "change", number(a), number(b), w.lower()


def list_(kind: str) -> Callable[..., Built]:
    def build(ns: str) -> Built:
        return kind, listed_numbers(ns)

    return build


def whole_list(kind: str) -> Callable[..., Built]:
    def build(ns: str) -> Built:
        return kind, integers(ns)

    return build


def term(ns: str, n: str = "", family: str = "") -> Built:
    if n and not 0 < int(n) <= 10**6:
        raise UnclearError("no such term")
    return "term", listed_numbers(ns.strip(" .,")), int(n) if n else None, _family(family)


def general_term(ns: str, family: str = "") -> Built:
    return "general_term", listed_numbers(ns.strip(" .,")), _family(family)


def step(ns: str, what: str) -> Built:
    return "step", listed_numbers(ns.strip(" .,")), _family(what)


def described(family: str, a: str, d: str, n: str) -> Built:
    if not 0 < int(n) <= 10**6:
        raise UnclearError("no such term")
    return "described_term", _family(family), number(a), number(d), int(n)


def _family(text: str) -> str:
    if text in ("等差", "公差"):
        return "arithmetic"
    if text in ("等比", "公比"):
        return "geometric"
    text = text.lower()
    return {"difference": "arithmetic", "ratio": "geometric"}.get(text, text)


def convert(a: str, f: str, t: str) -> Built:
    return "convert", number(a), units.find(f), units.find(t)


def points(kind: str) -> Callable[..., Built]:
    def build(p: str, q: str) -> Built:
        found = []
        for point in (p, q):
            x, y = point.strip("() ").split(",")
            found.append((parse(x), parse(y)))
        if any(names(part) for point in found for part in point):
            raise UnclearError("points with variables")
        return kind, *found

    return build


def line(kind: str) -> Callable[..., Built]:
    def build(eq: str) -> Built:
        relation = parse_relation(eq)
        if not relation.is_equation or set().union(*map(names, relation.sides)) != {"x", "y"}:
            raise UnclearError("no line")
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
