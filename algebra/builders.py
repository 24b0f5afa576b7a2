"""Turn the parts of a matched form into an exercise: (kind, arguments ...).

Each builder raises UnclearError if the parts make no sense together.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from algebra import units
from algebra.parser import parse, parse_relation
from algebra.phrases import integers, listed_numbers, number, relations, spoken
from algebra.readings import UnclearError
from algebra.syntax import Name, Node, Operation, Relation, names
from algebra.words import without_separators

Built = tuple[Any, ...]
Builder = Callable[..., Built]

# Kinds by the words that ask for them.
_ASKED = {
    **{"gradient": "slope", "axis of symmetry": "axis", "quotient and": "both"},
    **dict.fromkeys(("difference", "等差", "公差"), "arithmetic"),
    **dict.fromkeys(("ratio", "等比", "公比"), "geometric"),
    **{"顶点": "vertex", "对称轴": "axis", "最大值": "maximum", "最小值": "minimum"},
    **{"行列式": "determinant", "逆矩阵": "inverse", "秩": "rank", "特征值": "eigenvalues"},
}


def _asked(words: str) -> str:
    words = words.lower().removesuffix(" remainder").removesuffix(" the")
    return _ASKED.get(words, words)


def _expression(text: str) -> Node:
    return parse(without_separators(spoken(text)))


def _with_variable(text: str) -> Node:
    node = _expression(text)
    if not names(node):
        raise UnclearError("no variable")
    return node


def _echo(text: str) -> str:
    """An expression as the answer repeats it."""
    for written, shown in (("sqrt", "√"), ("cbrt", "∛"), ("pi", "π"), ("<=", "≤"), (">=", "≥")):
        text = text.replace(written, shown)
    text = re.sub(r"(?<=[√∛]) |(?<=[a-z]) (?=π)|(?<=π) (?=[a-z])", "", text)
    text = re.sub(r"\(\((\w+)\)/\((\w+)\)\)", r"(\1/\2)", text)
    text = re.sub(r"\((\d+)\+\((\d+)\)/\((\d+)\)\)", r"(\1 \2/\3)", text)
    return " ".join(re.sub(r"(?<=[√∛^])\((\d+|[a-z])\)(?![\w(^!])", r"\1", text).split())


# --- equations --------------------------------------------------------------------------


def solve(eqs: str, v: str = "", v2: str = "", system: str = "") -> Built:
    found = relations(eqs)
    asked = tuple(re.findall(r"[A-Za-z]", re.sub(r"\band\b", ",", v or v2)))
    variables = _variables(found)
    asked = tuple(a if a in variables else a.swapcase() for a in asked)  # "Solve for X: 2x = 4"
    if not variables or not variables.issuperset(asked) or "e" in asked:
        raise UnclearError("nothing to solve for")
    if len({name.lower() for name in variables}) < len(variables):
        raise UnclearError("variables that may be mistaken")
    equations = any(relation.is_equation for relation in found)
    together = not equations and (system or re.search(r"\band\b|[和与且]", eqs))
    if len(variables) == 1 < len(found) and not together:
        raise UnclearError("a system, or several exercises")
    if len(found) == 1 and len(variables) > 1 and not asked:
        raise UnclearError("which variable is asked for?")
    found = tuple(replace(relation, text=_echo(relation.text)) for relation in found)
    return "solve", found, asked or tuple(sorted(variables))


def _variables(found: tuple[Relation, ...]) -> set[str]:
    return set().union(*(names(side) for relation in found for side in relation.sides))


def value_in(eqs: str, v: str) -> Built:
    """What is x in 2x = 6? But of "what is m in y = mx + b?" the answer may be the slope."""
    kind, found, asked = solve(eqs, v)
    if len(_variables(found)) > len(found):
        raise UnclearError("the solution, or what a letter of a formula stands for")
    return kind, found, asked


def roots(e: str) -> Built:
    e = _body(e)
    if any(sign in e for sign in "<>="):
        return solve(e)
    node = _with_variable(e)
    return "solve", (Relation((node, parse("0")), ("=",), f"{e.strip()} = 0"),), tuple(names(node))


def _body(text: str) -> str:
    """The right side of a function or curve: "x^2 - 4" of "f(x) = x^2 - 4" or "y = x^2 - 4"."""
    return re.sub(r"^(?:[A-Za-z] ?\([a-z]\)|y) ?= ?", "", text.strip())


def wanted(eqs: str, e: str) -> Built:
    """If 2x + 3 = 11, what is 3x - 1?"""
    found = relations(eqs)
    if not all(relation.is_equation for relation in found):
        raise UnclearError("a value under an inequality")
    target = _with_variable(e)
    if not names(target) <= _variables(found):
        raise UnclearError("a variable that nothing is said about")
    return "wanted", found, target, _echo(spoken(e))


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
    return "substitute", node, tuple(pairs), _echo(spoken(e))


# --- functions and curves ---------------------------------------------------------------


def function(f: str, x: str, body: str, at: str, f2: str) -> Built:
    """If f(x) = 2x - 1, what is f(3)?"""
    node = _expression(body)
    if f != f2 or names(node) - {x}:
        raise UnclearError("another function")
    return "compose", f"{f}({at.strip()})", x, node, Name(x), _expression(at)


def compose(f: str, x: str, fb: str, g: str, gb: str, o: str, i: str, at: str) -> Built:
    """If f(x) = 2x and g(x) = x + 1, what is f(g(3))?"""
    bodies = {f: _expression(fb), g: _expression(gb)}
    value = _expression(at)
    if f == g or not {o, i} <= bodies.keys() or any(names(b) - {x} for b in bodies.values()):
        raise UnclearError("other functions")
    if names(value) - {x}:
        raise UnclearError("another variable")
    return "compose", f"{o}({i}({at.strip()}))", x, bodies[o], bodies[i], value


def inverse_function(f: str, x: str, body: str) -> Built:
    return "inverse_function", f, x, _with_variable(body)


def of_function(e: str, kind: str, asked: str = "") -> Built:
    """For an exercise on an expression in one variable, which may be written as a function."""
    text = re.sub(r" ?= ?0$", "", _body(e))
    node = _with_variable(text)
    if len(names(node)) != 1:
        raise UnclearError("a function of several variables")
    if kind == "square":
        return kind, node, _echo(text)
    return (kind, _asked(asked), node) if asked else (kind, node)


def divide(asked: str, a: str, b: str) -> Built:
    over, under = _expression(a), _expression(b)
    asked = _asked(asked)
    if names(over) | names(under):
        return "divide", asked, over, under
    whole = a.strip().isdigit() and b.strip().isdigit()
    if asked == "result":
        if whole and int(b) and int(a) % int(b):
            raise UnclearError("a quotient, or a fraction")
        return evaluate(f"{a} ÷ {b}" if whole else f"({_one(a)}) ÷ ({_one(b)})")
    if not whole or not int(b) or max(len(a), len(b)) > 20:
        raise UnclearError("a remainder of numbers that are not whole")
    return "integer_remainder", asked, int(a), int(b)


def _one(text: str) -> str:
    """The text of a single number."""
    number(text)
    return text


def points(kind: str, p: str, q: str) -> Built:
    return _asked(kind), _point(p), _point(q)


def slope_line(m: str, p: str) -> Built:
    return "slope_line", parse(m), _point(p)


def _point(text: str) -> tuple[Node, Node]:
    x, y = (parse(part) for part in text.strip("() ").split(","))
    if names(x) | names(y):
        raise UnclearError("points with variables")
    return x, y


def line(asked: str, eq: str) -> Built:
    relation = parse_relation(eq)
    if not relation.is_equation or _variables((relation,)) != {"x", "y"}:
        raise UnclearError("not a line")
    return "line_value", _asked(asked), relation


def matrix(kind: str, m: str) -> Built:
    rows = [row.split(",") for row in re.findall(r"\[([^\[\]]+)\]", m[1:-1])]
    if len({len(row) for row in rows}) != 1 or not 2 <= len(rows) <= 4 or len(rows[0]) > 5:
        raise UnclearError("not a small matrix")
    return _asked(kind), tuple(tuple(parse(entry) for entry in row) for row in rows)


# --- expressions ------------------------------------------------------------------------


def evaluate(e: str) -> Built:
    text = without_separators(spoken(e))
    node = parse(text)
    if names(node):
        raise UnclearError("a variable")
    if re.fullmatch(r"[\d.]+|\d+(?:-\d+)+", text.strip()):
        raise UnclearError("a number alone, a date, a phone number")
    return "evaluate", node, _echo(text)


def rewrite(kind: str, e: str) -> Built:
    text = without_separators(spoken(e))
    node = parse(text)
    if not names(node):
        if kind == "simplify":
            return evaluate(e)
        raise UnclearError("a number")
    return kind, node, _echo(text)


def combine(sign: str, b: str, a: str = "", c: str = "") -> Built:
    """Subtract 2x + 3 from 5x - 1; but not: multiply 3 by 4 + 2."""
    parts = [a or c, b]
    nodes = [parse(without_separators(part)) for part in parts]
    text = f" {sign} ".join(
        part if part.isdigit() or _is_bracketed(part) else f"({part})" for part in parts
    )
    if not any(map(names, nodes)):
        for part in parts:
            number(part)  # and no sum or product
        return evaluate(text)
    if not any(isinstance(node, Operation) for node in nodes):
        raise UnclearError("nothing to compute")
    return rewrite("expand", text)


def _is_bracketed(text: str) -> bool:
    return text[0] == "(" and text[-1] == ")" and text.count("(") == 1


def difference(a: str, b: str) -> Built:
    if number(a).value < number(b).value:
        raise UnclearError("a difference that may be negative")
    return evaluate(f"{a} - {b}")


def form_of_number(kind: str, e: str) -> Built:
    text = without_separators(spoken(e)).strip()
    node = parse(text.rstrip("% "))
    if names(node):
        raise UnclearError("a variable")
    plain = text.isdigit() if kind == "as_fraction" else text.replace(".", "").isdigit()
    if plain and kind != "as_percent":
        raise UnclearError("nothing to convert, or a number to another base")  # 1010 to decimal
    return kind, node, text.endswith("%"), text


# --- numbers ----------------------------------------------------------------------------


def numbers(kind: str, **parts: str) -> Built:
    """For a form whose parts are numbers; they are passed on sorted by name."""
    return kind, *(number(parts[name]) for name in sorted(parts))


def percent_of(a: str, b: str, u: str = "") -> Built:
    return "percent_of", number(a), number(b), u


def percent_change(way: str, a: str, b: str, u: str = "") -> Built:
    sign = 1 if way.lower().startswith(("inc", "增")) else -1
    return "percent_change", sign, number(a), number(b), u


def change(asked: str, a: str, b: str, u: str = "") -> Built:
    """What is the percent decrease from 80 to 60?"""
    return "change", number(a), number(b), asked.lower()


def as_mixed(e: str) -> Built:
    return "as_mixed", number(e), e.strip()


def square_roots(e: str) -> Built:
    return "square_roots", parse(without_separators(e))


def ratio(a: str, b: str) -> Built:
    return "ratio", *integers(f"{a}, {b}")


def listed(kind: str, ns: str) -> Built:
    return kind, listed_numbers(ns.replace("+", ","))


def whole_list(kind: str, ns: str) -> Built:
    return kind, integers(ns)


def convert(a: str, f: str, t: str) -> Built:
    return "convert", number(a), units.find(f), units.find(t)


# --- sequences --------------------------------------------------------------------------


def term(ns: str, n: str = "", family: str = "") -> Built:
    return "term", listed_numbers(ns), _index(n) if n else None, _asked(family)


def general_term(ns: str, family: str = "") -> Built:
    return "general_term", listed_numbers(ns), _asked(family)


def step(ns: str, what: str, family: str = "") -> Built:
    if family and _asked(family) != _asked(what):
        raise UnclearError("the ratio of an arithmetic sequence, or the reverse")
    return "step", listed_numbers(ns), _asked(what)


def described(family: str, what: str, a: str, d: str, n: str) -> Built:
    return "described_term", *_described(family, what, a, d), _index(n)


def _described(family: str, what: str, a: str, d: str) -> Built:
    if _asked(family) != _asked(what):
        raise UnclearError("an arithmetic sequence with a ratio, or a geometric one without")
    return _asked(family), number(a), number(d)


def _index(text: str) -> int:
    if not 0 < int(text) <= 10**6:
        raise UnclearError("no such term")
    return int(text)


def sum_of_terms(a: str, d: str, n: str, family: str, what: str) -> Built:
    return "sum_of_terms", *_described(family, what, a, d), int(n)


def infinite_sum(family: str, what: str, a: str, d: str) -> Built:
    return "infinite_sum", *_described(family, what, a, d)[1:]


def sum_of_sequence(ns: str, n: str, family: str = "") -> Built:
    return "sum_of_sequence", listed_numbers(ns), _asked(family), int(n)


def sigma(k: str, lo: str, e: str, **hi: str) -> Built:
    if k == "i":  # which is no variable elsewhere
        k, e = "k", re.sub(r"(?<![A-Za-z])i(?![A-Za-z])", "k", e)
    node = _expression(e)
    if isinstance(node, Operation) and node.sign in "+-" and not _is_bracketed(e.strip()):
        raise UnclearError("a sum whose end is not clear")
    return "sigma", k, int(lo), int(*hi.values()), node


def recurrence(s: str, at: str, first: str, later: str, body: str, w: str) -> Built:
    """If a_1 = 2 and a_n = 3a_(n-1) + 1, what is a_5?"""
    shift = 0 if later == "n" else 1
    before = rf"{s}_[({{]n ?- ?1[)}}]" if not shift else rf"{s}_\(?n\)?(?!\w)"
    text, count = re.subn(before, "P", body)
    if not count or "_" in text or "P" in body:
        raise UnclearError("a recurrence of another kind")
    return "recurrence", number(first), int(at), _expression(text), shift, int(w)
