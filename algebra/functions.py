"""Exercises on functions and polynomials: composition, inverse, domain, division, parabolas."""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp

from algebra import equations
from algebra.meaning import Expression, expanded, is_finite, is_zero, meaning, show, symbol
from algebra.readings import UnclearError
from algebra.rewriting import check_same, simplest, value_text
from algebra.sentences import Words
from algebra.solving import is_whole, ranges
from algebra.syntax import Call, Node, Operation, has_decimals, names, walk


def _compose(words: Words, call: str, x: str, outer: Node, inner: Node, at: Node) -> str:
    """f(x + 1), f(g(x)), or its value at a number."""
    value = meaning(outer, {x: meaning(inner, {x: meaning(at)})})
    decimal = any(map(has_decimals, (outer, inner, at)))
    if not value.free_symbols and not names(at):
        return words.sentence(f"{call} = {value_text(simplest(value), decimal)}")
    if any(isinstance(part, Call) for node in (outer, inner) for part in walk(node)):
        raise UnclearError("a function with a domain of its own: √x, squared")
    value = sp.cancel(sp.together(value))
    if not value.is_rational_function(*value.free_symbols):
        raise UnclearError("a composition without a plain form")
    if value.is_polynomial(*value.free_symbols):
        value = expanded(value)
    return words.sentence(f"{call} = {show(value, decimal)}")


def _inverse_function(words: Words, f: str, x: str, node: Node) -> str:
    """The inverse of (ax + b)/(cx + d)."""
    if has_decimals(node) or names(node) != {x}:
        raise UnclearError("decimals, or parameters")
    letter = symbol(x)
    over, under = sp.fraction(sp.cancel(sp.together(meaning(node))))
    top, bottom = sp.Poly(over, letter), sp.Poly(under, letter)
    if max(top.degree(), bottom.degree()) != 1:
        raise UnclearError("a function that may have no inverse")
    a, b, c, d = top.nth(1), top.nth(0), bottom.nth(1), bottom.nth(0)
    if a * d == b * c:
        raise UnclearError("a constant has no inverse")
    found = sp.cancel((d * letter - b) / (a - c * letter))
    return words.sentence(f"{f}^(-1)({x}) = {show(found)}")


def _domain(words: Words, node: Node) -> str:
    (x,) = names(node)
    parts: list[tuple[Expression, str]] = []
    holes: list[Expression] = []
    for part in walk(node):
        if isinstance(part, Call) and names(part):
            if part.function in ("ln", "log"):
                parts.append((meaning(part.argument), ">"))
            elif part.function == "sqrt":
                parts.append((meaning(part.argument), ">="))
            elif part.function != "abs":
                raise UnclearError("a function whose domain is not known")
        elif isinstance(part, Operation) and part.right is not None:
            under = part.right
            if part.sign == "/" and names(under):
                if isinstance(under, Call) and under.function == "sqrt":
                    parts.append((meaning(under.argument), ">"))
                elif any(isinstance(inner, Call) for inner in walk(under)):
                    raise UnclearError("a denominator with a root or logarithm")
                else:
                    holes.append(meaning(under))
            elif part.sign == "^" and names(part) and not is_whole(part.right):
                raise UnclearError("a power whose domain is not known")
    if not parts and not holes:
        return words.sentence(words.phrase("all reals"))
    found = equations.solve_inequalities(parts, holes, symbol(x))
    if not found:
        raise UnclearError("a function that is defined nowhere")
    return words.sentence(ranges(words, x, found, False) or words.phrase("all reals"))


def _divide(words: Words, asked: str, over: Node, under: Node) -> str:
    """The quotient and the remainder of polynomials in one variable."""
    variables = names(over) | names(under)
    if len(variables) != 1 or has_decimals(over) or has_decimals(under):
        raise UnclearError("polynomials in several variables, or with decimals")
    x = symbol(variables.pop())
    values = meaning(over), meaning(under)
    if not all(value.is_polynomial(x) for value in values):
        raise UnclearError("not polynomials")
    top, bottom = (sp.Poly(expanded(value), x, domain="QQ") for value in values)
    if bottom.is_zero or bottom.degree() < 1 or top.degree() < bottom.degree():
        raise UnclearError("nothing to divide")
    quotient, remainder = sp.div(top, bottom)
    if not (top - quotient * bottom - remainder).is_zero or remainder.degree() >= bottom.degree():
        raise UnclearError("the check failed")
    first, second = show(quotient.as_expr()), show(remainder.as_expr())
    step = f"{show(top.as_expr())} = ({show(bottom.as_expr())})({first})"
    if not remainder.is_zero:
        step += _added(second)
    if asked == "quotient":
        return words.so(step, words.phrase("quotient", first))
    if asked == "remainder":
        return words.so(step, words.phrase("remainder", second))
    return words.so(
        step, words.both([words.phrase("quotient", first), words.phrase("remainder", second)])
    )


def _added(term: str) -> str:
    if " " in term:
        return f" + ({term})"
    return f" - {term[1:]}" if term[0] == "-" else f" + {term}"


def _parabola(node: Node) -> tuple[Expression, Expression, Expression, Expression]:
    """The letter and the coefficients of ax^2 + bx + c."""
    x = symbol(*names(node))
    value = meaning(node)
    if not value.is_polynomial(x):
        raise UnclearError("not a polynomial")
    poly = sp.Poly(expanded(value), x)
    if poly.degree() != 2 or not all(c.is_Rational for c in poly.all_coeffs()):
        raise UnclearError("not a quadratic")
    return x, poly.nth(2), poly.nth(1), poly.nth(0)


def _vertex(words: Words, asked: str, node: Node) -> str:
    x, a, b, c = _parabola(node)
    h = -b / (2 * a)
    k = c - b**2 / (4 * a)
    decimal = has_decimals(node)
    if asked == "axis":
        return words.sentence(f"{x.name} = {show(h, decimal)}")
    if asked in ("minimum", "maximum"):
        if (asked == "minimum") != (a > 0):
            raise UnclearError("it has none")
        return words.so(f"{x.name} = {show(h, decimal)}", words.phrase(asked, show(k, decimal)))
    return words.sentence(f"({show(h, decimal)}, {show(k, decimal)})")


def _discriminant(words: Words, node: Node) -> str:
    _, a, b, c = _parabola(node)
    value = show(b**2 - 4 * a * c, has_decimals(node))
    step = f"({show(b)})^2 - 4 * ({show(a)}) * ({show(c)}) = {value}"
    return words.so(step, value)


def _square(words: Words, node: Node, text: str) -> str:
    """ax^2 + bx + c as a(x - h)^2 + k."""
    if has_decimals(node):
        raise UnclearError("decimals")
    x, a, b, c = _parabola(node)
    h, k = -b / (2 * a), c - b**2 / (4 * a)
    inside = show(x - h) if h else x.name
    square = f"({inside})^2" if h else f"{inside}^2"
    if a != 1:
        square = (
            f"-{square}" if a == -1 else f"{show(a) if a.is_Integer else f'({show(a)})'}{square}"
        )
    tail = "" if not k else f" {'-' if k < 0 else '+'} {show(abs(k))}"
    check_same(node, a * (x - h) ** 2 + k)
    return words.sentence(f"{text} = {square}{tail}")


def _slope_line(words: Words, slope: Node, point: tuple[Node, Node]) -> str:
    values = [meaning(part) for part in (slope, *point)]
    if not all(value.is_Rational and is_finite(value) for value in values):
        raise UnclearError("not numbers")
    m, x0, y0 = values
    right = show(m * symbol("x") + (y0 - m * x0), any(map(has_decimals, (slope, *point))))
    return words.sentence(f"y = {right}")


def _square_roots(words: Words, node: Node) -> str:
    value = meaning(node)
    if not value.is_Rational or value < 0:
        raise UnclearError("no real roots")
    root = sp.sqrt(value)
    if is_zero(root):
        return words.sentence("0")
    return words.sentence(words.both([show(root), show(-root)]))


KINDS: list[Callable[..., str]] = [
    *(_compose, _inverse_function, _domain, _divide, _vertex, _discriminant, _square),
    *(_slope_line, _square_roots),
]
