"""Answers equations, inequalities and systems, with one step of the working."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import sympy as sp

from algebra import equations
from algebra.meaning import (
    Expression,
    UndefinedError,
    approximate,
    expanded,
    is_finite,
    is_zero,
    meaning,
    show,
    symbol,
)
from algebra.readings import UnclearError
from algebra.sentences import Words
from algebra.syntax import Call, Node, Operation, Relation, has_decimals, names, walk


def _solve(words: Words, relations: tuple[Relation, ...], asked: tuple[str, ...]) -> str:
    if all(relation.is_equation for relation in relations):
        if len(relations) == 1 and len(asked) == 1:
            return _equation(words, relations[0], asked[0])
        return _system(words, relations, asked)
    if any(relation.is_equation for relation in relations) or len(asked) != 1:
        raise UnclearError("inequalities with equations, or in several unknowns")
    return _inequality(words, relations, asked[0])


def _difference(relation: Relation) -> Expression:
    return meaning(relation.sides[0]) - meaning(relation.sides[1])


def _equation(words: Words, relation: Relation, name: str) -> str:
    x = symbol(name)
    difference = _difference(relation)
    if x not in difference.free_symbols and len(difference.free_symbols) > 0:
        raise UnclearError("the unknown has gone")
    roots = equations.solve(difference, x)
    special = _special(relation)
    if roots.everywhere:
        if special:
            raise UnclearError("an equation that is true where it has a meaning")
        return words.sentence(words.phrase("always", relation.text))
    real = [root for root in roots.real if _solves(relation, name, root)]
    decimal = _decimal([relation])
    shown = [_is(name, root, decimal) for root in real]
    if not real:
        if roots.complex and not special:
            found = [_is(name, root, decimal) for root in roots.complex]
            return words.sentence(words.phrase("complex", relation.text, words.both(found)))
        key = "no real solution" if special else "no solution"
        return words.sentence(words.phrase(key, relation.text))
    if len(difference.free_symbols) > 1:
        return _literal(words, difference, x, shown)
    if special:
        key = "one solution" if len(real) == 1 else "solutions"
        return words.sentence(words.phrase(key, words.either(shown)))
    step = _step(words, difference, x, decimal)
    result = words.either(shown)
    if roots.complex:
        result = words.phrase("real only" if len(real) == 1 else "real", result)
    return words.so(step if step not in shown else "", result)


def _special(relation: Relation) -> bool:
    """Whether an equation is not polynomial, so that some numbers may be excluded."""
    for node in (n for side in relation.sides for n in walk(side)):
        if isinstance(node, Call) and names(node.argument):
            return True
        if isinstance(node, Operation) and node.right is not None:
            if node.sign == "/" and names(node.right):
                return True
            if node.sign == "^" and names(node.left) and not is_whole(node.right):
                return True
            if node.sign == "^" and names(node.right):
                return True
    return False


def is_whole(node: Node) -> bool:
    """Whether an exponent is a whole number above 0; x^0 has no value at 0."""
    value = meaning(node)
    return bool(value.is_Integer and value > 0)


def _solves(relation: Relation, name: str, root: Expression) -> bool:
    """Whether a number solves the original equation."""
    try:
        left, right = (meaning(side, {name: root}) for side in relation.sides)
    except UndefinedError:
        return False
    value = left - right
    if value.free_symbols:
        return bool(sp.cancel(sp.together(value)) == 0)
    return is_finite(value) and is_zero(value)


def _decimal(relations: list[Relation]) -> bool:
    return any(has_decimals(side) for relation in relations for side in relation.sides)


def _is(name: str, value: Expression, decimal: bool = False) -> str:
    text = f"{name} = {show(value, decimal)}"
    return f"{text} ≈ {approximate(value)}" if value.has(sp.log) else text


def _literal(words: Words, difference: Expression, x: Expression, shown: list[str]) -> str:
    factor = sp.Poly(difference, x).nth(1)
    _, condition = sp.fraction(sp.factor(factor))[0].as_coeff_Mul()  # 2a is zero where a is
    if condition.is_number:
        return words.sentence(shown[0])
    if condition.could_extract_minus_sign():
        condition = -condition
    return words.sentence(words.phrase("parameters", show(condition), shown[0]))


def _step(words: Words, difference: Expression, x: Expression, decimal: bool) -> str:
    """The step before the roots of a polynomial: 2x = 8, or (x - 2)(x - 3) = 0."""
    poly = sp.Poly(expanded(difference), x)
    if poly.degree() == 1:
        sign = -1 if poly.nth(1).could_extract_minus_sign() else 1
        a, b = sign * poly.nth(1), -sign * poly.nth(0)
        return f"{show(a * x, decimal)} = {show(b, decimal)}"
    poly = poly.clear_denoms(convert=True)[1] if poly.domain.is_QQ else poly
    factors = poly.factor_list()[1] if poly.domain.is_ZZ else []
    if factors and not (len(factors) == 1 and factors[0][0].degree() > 1):
        return f"{show(sp.Mul(*(f.as_expr() ** n for f, n in factors)))} = 0"
    if poly.degree() == 2:
        a, b, c = poly.all_coeffs()
        return words.phrase("discriminant", show(sp.expand(b**2 - 4 * a * c), decimal))
    return ""


def _system(words: Words, relations: tuple[Relation, ...], asked: tuple[str, ...]) -> str:
    differences = [_difference(relation) for relation in relations]
    unknowns = equations.unknowns_of(differences)
    if any(map(_special, relations)) or not {symbol(name) for name in asked} <= set(unknowns):
        raise UnclearError(
            "a system with equations that are not polynomial, or without the requested unknown"
        )
    found = equations.solve_system(differences, unknowns)
    if found is None:
        if len(relations) < len(unknowns) or len(asked) < len(unknowns):
            raise UnclearError("more unknowns than equations")
        return words.sentence(words.phrase("dependent"))
    if not found:
        return words.sentence(words.phrase("contradiction"))
    for solution in found:
        for difference in differences:
            if not is_zero(difference.subs(solution)):
                raise UnclearError("the check failed")
    decimal = _decimal(list(relations))
    pairs = [
        words.both([_is(name, solution[symbol(name)], decimal) for name in asked])
        for solution in found
    ]
    step = _elimination(words, differences, unknowns, decimal)
    if len(pairs) > 1:
        pairs = [f"({pair})" if len(asked) > 1 else pair for pair in dict.fromkeys(pairs)]
    return words.so(step, words.either(pairs))


def _elimination(
    words: Words, differences: list[Expression], unknowns: list[Expression], decimal: bool
) -> str:
    """For two linear equations in two unknowns: the equation after eliminating one."""
    if len(differences) != 2 or len(unknowns) != 2:
        return ""
    x, y = unknowns
    polys = [sp.Poly(sp.expand(difference), x, y) for difference in differences]
    if any(poly.total_degree() > 1 for poly in polys):
        return ""
    (a, b, c), (d, e, f) = (
        (poly.coeff_monomial(x), poly.coeff_monomial(y), poly.coeff_monomial(1)) for poly in polys
    )
    factor, value = a * e - b * d, b * f - c * e
    if not b or not e or not factor:
        return ""
    common = sp.gcd(sp.gcd(b, e), 0)
    factor, value = factor / common, value / common
    if factor < 0:
        factor, value = -factor, -value
    left = f"{show(factor * x, decimal)} = {show(value, decimal)}"
    return words.phrase("eliminate", y.name, left)


def _inequality(words: Words, relations: tuple[Relation, ...], name: str) -> str:
    x = symbol(name)
    parts: list[tuple[Expression, str]] = []
    holes: list[Expression] = []
    for relation in relations:
        for node in (n for side in relation.sides for n in walk(side)):
            if isinstance(node, Call) and node.function != "abs" and names(node):
                raise UnclearError("an inequality with roots or logarithms")
            if isinstance(node, Operation) and node.right is not None:
                if node.sign == "/" and names(node.right):
                    holes.append(meaning(node.right))
                if node.sign == "^" and (names(node.right) or not is_whole(node.right)):
                    raise UnclearError("an inequality with such powers")
        values = [meaning(side) for side in relation.sides]
        for left, sign, right in zip(values, relation.signs, values[1:], strict=False):
            parts.append((left - right, sign))
    found = equations.solve_inequalities(parts, holes, x)
    text = words.both([relation.text for relation in relations])
    if not found and len(relations) > 1:
        raise UnclearError("a system without a solution, or several exercises")
    if not found:
        return words.sentence(words.phrase("no solution", text))
    decimal = _decimal(list(relations))
    result = ranges(words, name, found, decimal)
    if not result:
        return words.sentence(words.phrase("always", text))
    return words.so(_inequality_step(parts, x, decimal), result)


_SIGNS = {"<": "<", "<=": "≤", ">": ">", ">=": "≥", "!=": "≠"}
_FLIPPED = {"<": ">", "<=": "≥", ">": "<", ">=": "≤", "!=": "≠"}


def _inequality_step(parts: list[tuple[Expression, str]], x: Expression, decimal: bool) -> str:
    if len(parts) != 1:
        return ""
    difference, sign = parts[0]
    if not difference.is_polynomial(x):
        return ""
    poly = sp.Poly(difference, x)
    if poly.degree() != 1 or poly.nth(1) in (1, -1):
        return ""
    a, b = poly.nth(1), -poly.nth(0)
    if a < 0:
        return f"{show(-a * x, decimal)} {_FLIPPED[sign]} {show(-b, decimal)}"
    return f"{show(a * x, decimal)} {_SIGNS[sign]} {show(b, decimal)}"


def ranges(words: Words, name: str, found: list[equations.Interval], decimal: bool) -> str:
    """Intervals as text: x < 2 or x > 5; "" for all numbers."""
    gaps = [(one.high, next_.low) for one, next_ in pairwise(found) if one.high == next_.low]
    if found[0].low is None and found[-1].high is None and len(gaps) == len(found) - 1:
        return words.both([f"{name} ≠ {show(gap, decimal)}" for gap, _ in gaps])
    return words.either([_range(name, one, decimal) for one in found])


def _range(name: str, one: equations.Interval, decimal: bool) -> str:
    low = None if one.low is None else show(one.low, decimal)
    high = None if one.high is None else show(one.high, decimal)
    if low is not None and low == high:
        return f"{name} = {low}"
    below, above = ("≤" if one.with_low else "<"), ("≤" if one.with_high else "<")
    if low is not None and high is not None:
        return f"{low} {below} {name} {above} {high}"
    if low is None:
        return f"{name} {above} {high}"
    return f"{name} {'≥' if one.with_low else '>'} {low}"


def _wanted(words: Words, relations: tuple[Relation, ...], target: Node, text: str) -> str:
    """The value of an expression, if it is the same in all solutions of the equations."""
    if any(map(_special, relations)):
        raise UnclearError("equations that are not polynomial")
    differences = [_difference(relation) for relation in relations]
    unknowns = equations.unknowns_of(differences)
    found = equations.solve_system(differences, unknowns) if len(unknowns) > 1 else None
    if len(unknowns) == 1:
        roots = [equations.solve(difference, unknowns[0]).real for difference in differences]
        if len(roots) != 1:
            raise UnclearError("several equations in one unknown")
        found = [{unknowns[0]: root} for root in roots[0]]
    if not found:
        raise UnclearError("no solution, or too many")
    values = {
        sp.radsimp(sp.expand(meaning(target, {x.name: value for x, value in solution.items()})))
        for solution in found
    }
    if len(values) != 1:
        raise UnclearError("several values")
    (value,) = values
    if not is_finite(value) or value.free_symbols:
        raise UnclearError("no value")
    steps = words.both([_is(x.name, v) for x, v in found[0].items()]) if len(found) == 1 else ""
    return words.so(steps, f"{text} = {show(value, _decimal(list(relations)))}")


def _line_value(words: Words, asked: str, relation: Relation) -> str:
    """The slope of a line, or its intercept with the y-axis."""
    x, y = symbol("x"), symbol("y")
    poly = sp.Poly(expanded(_difference(relation)), x, y)
    if poly.total_degree() != 1 or not poly.coeff_monomial(y) or _special(relation):
        raise UnclearError("not a line with a slope")
    a, b, c = (poly.coeff_monomial(part) for part in (x, y, 1))
    step = f"y = {show(-a / b * x - c / b)}"
    result = show(-a / b if asked == "slope" else -c / b)
    return words.so("" if relation.text.replace(" ", "") == step.replace(" ", "") else step, result)


KINDS: list[Callable[..., str]] = [_solve, _wanted, _line_value]
