"""Solves equations, inequalities and systems completely, or refuses them.

Candidates come from polynomials that are factored exactly. Each is substituted into the original
equation before it counts as a solution.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import gcd
from typing import Any

import sympy as sp

from algebra.meaning import Expression, expanded, is_finite, is_zero, symbol
from algebra.readings import UnclearError

_MAX_DEGREE = 12
_TRUE_DIGITS = 50


@dataclass(frozen=True)
class Roots:
    """Solutions of an equation in one unknown.

    Attributes:
        real: real solutions in ascending order, without repeats.
        complex: the other solutions of a polynomial equation; () for other equations.
        everywhere: whether the equation holds for every number for which it is defined.
    """

    real: tuple[Expression, ...] = ()
    complex: tuple[Expression, ...] = ()
    everywhere: bool = False


def solve(difference: Expression, x: Expression) -> Roots:
    """All x for which an expression is 0. Raises UnclearError if there is no exact solution."""
    if x not in difference.free_symbols:
        return Roots(everywhere=is_zero(difference))
    if difference.has(sp.log) and any(x in a.free_symbols for a in difference.atoms(sp.log)):
        return _checked(difference, x, _logarithmic(difference, x))
    if any(x in power.exp.free_symbols for power in difference.atoms(sp.Pow, sp.exp)):
        return _checked(difference, x, _exponential(difference, x))
    if any(x in modulus.free_symbols for modulus in difference.atoms(sp.Abs)):
        return _checked(difference, x, _absolute(difference, x))
    if _roots_with(difference, x):
        return _checked(difference, x, _radical(difference, x))
    over, under = sp.fraction(sp.together(difference))
    if expanded(over) == 0:
        return Roots(everywhere=True)
    found = polynomial_roots(over, x)
    return _sorted([root for root in found if not is_zero(under.subs(x, root))])


def polynomial_roots(polynomial: Expression, x: Expression) -> list[Expression]:
    """All real and complex roots, without repeats. Raises UnclearError if no formula applies."""
    poly = sp.Poly(expanded(polynomial), x)
    if poly.degree() > _MAX_DEGREE:
        raise UnclearError("a polynomial of a high degree")
    if poly.free_symbols_in_domain:  # letters other than x are parameters
        if poly.degree() != 1:
            raise UnclearError("an equation with parameters that is not linear")
        return [sp.cancel(-poly.nth(0) / poly.nth(1))]
    found: list[Expression] = []
    for factor, _ in poly.factor_list()[1]:
        found += _factor_roots(factor)
    return list(dict.fromkeys(found))


def _factor_roots(factor: Any) -> list[Expression]:
    degree = factor.degree()
    coefficients = factor.all_coeffs()
    if degree == 1:
        return [sp.radsimp(-coefficients[1] / coefficients[0])]
    step = gcd(*(n for (n,), _ in factor.terms()))
    if degree == 2:
        a, b, c = coefficients
        root = sp.sqrt(b**2 - 4 * a * c)
        return [sp.expand(sp.radsimp((-b + sign * root) / (2 * a))) for sign in (1, -1)]
    if degree == step and degree in (3, 5):  # x^3 = 5
        value = -coefficients[-1] / coefficients[0]
        root = sp.root(value, degree) if value > 0 else -sp.root(-value, degree)
        angles = [2 * sp.pi * n / degree for n in range(degree)]
        return [root * (sp.cos(angle) + sp.I * sp.sin(angle)) for angle in angles]
    if degree == 4 and step == 2:
        a, b, c = coefficients[0], coefficients[2], coefficients[4]
        squares = [(-b + sign * sp.sqrt(b**2 - 4 * a * c)) / (2 * a) for sign in (1, -1)]
        if all(square.is_real and square.is_positive for square in squares):
            found = [sp.sqrtdenest(sp.sqrt(sp.radsimp(square))) for square in squares]
            return [sign * root for root in found for sign in (1, -1)]
    raise UnclearError("a polynomial that has no simple roots")


def _sorted(found: list[Expression]) -> Roots:
    real = [root for root in found if root.is_real is not False and not root.has(sp.I)]
    if any(root.free_symbols for root in real):
        return Roots(tuple(real))
    real.sort(key=lambda root: root.evalf(_TRUE_DIGITS))
    return Roots(tuple(real), tuple(root for root in found if root not in real))


def _checked(difference: Expression, x: Expression, candidates: list[Expression]) -> Roots:
    """The candidates that are real and solve the original equation.

    Raises:
        UnclearError: the equation has other letters; whether a candidate is a solution depends on
            them: sqrt(x) = a.
    """
    if difference.free_symbols != {x}:
        raise UnclearError("an equation that holds under conditions on other letters")
    true = [root for root in dict.fromkeys(candidates) if holds(difference, x, root)]
    return Roots(_sorted(true).real)


def holds(difference: Expression, x: Expression, root: Expression) -> bool:
    """Whether an expression has the value 0 at a real number."""
    if root.has(sp.I) or not is_finite(root):
        return False
    value = difference.subs(x, root)
    return is_finite(value) and is_zero(value)


def _roots_with(difference: Expression, x: Expression) -> list[Expression]:
    return sorted(
        (p for p in difference.atoms(sp.Pow) if not p.exp.is_Integer and x in p.free_symbols),
        key=str,
    )


def _radical(difference: Expression, x: Expression) -> list[Expression]:
    """Candidates for an equation with square roots: the roots of a polynomial."""
    roots = _roots_with(difference, x)
    if len(roots) > 2 or any(abs(root.exp) != sp.Rational(1, 2) for root in roots):
        raise UnclearError("more than two roots, or other than square roots")
    bases = list(dict.fromkeys(root.base for root in roots))
    if any(_roots_with(base, x) for base in bases):
        raise UnclearError("a root in a root")
    letters = [sp.Dummy() for _ in bases]
    swaps = {}
    for base, letter in zip(bases, letters, strict=True):
        swaps[sp.sqrt(base)] = letter
        swaps[1 / sp.sqrt(base)] = 1 / letter
    over = sp.fraction(sp.together(difference.subs(swaps)))[0]
    for base, letter in zip(bases, letters, strict=True):
        over = sp.resultant(expanded(over), expanded(letter**2 - base), letter)
    if expanded(over) == 0:
        raise UnclearError("an equation that holds in a whole range")
    return polynomial_roots(over, x)


def _absolute(difference: Expression, x: Expression) -> list[Expression]:
    moduli = sorted((m for m in difference.atoms(sp.Abs) if x in m.free_symbols), key=str)
    if len(moduli) > 3 or any(modulus.args[0].has(sp.Abs) for modulus in moduli):
        raise UnclearError("too many absolute values")
    found: list[Expression] = []
    for signs in product((1, -1), repeat=len(moduli)):
        swaps = {m: sign * m.args[0] for m, sign in zip(moduli, signs, strict=True)}
        over = sp.fraction(sp.together(difference.subs(swaps)))[0]
        if expanded(over) == 0:
            raise UnclearError("an equation that holds in a whole range")
        if x in over.free_symbols:
            found += polynomial_roots(over, x)
    return found


def _exponential(difference: Expression, x: Expression) -> list[Expression]:
    """Candidates for c * b^u(x) = d, or c * a^u(x) = d * b^v(x)."""
    terms = sp.powsimp(difference, force=False).as_ordered_terms()
    if len(terms) != 2:
        raise UnclearError("an exponential equation of more than two terms")
    left, right = (_logarithm(term, x) for term in (terms[0], -terms[1]))
    if left[1] != right[1]:  # one side is positive, the other negative
        return []
    equation = sp.expand(left[0] - right[0])
    poly = sp.Poly(equation, x)
    if poly.degree() == 1:
        return [_quotient_of_logs(-poly.nth(0), poly.nth(1))]
    primes = sorted(equation.atoms(sp.log), key=str)
    if len(primes) != 1:
        raise UnclearError("an exponential equation of a high degree")
    return polynomial_roots(sp.expand(equation / primes[0]), x)


def _logarithm(term: Expression, x: Expression) -> tuple[Expression, int]:
    """The logarithm of a term's absolute value, as a sum of logarithms of primes, and its sign."""
    total, sign = sp.Integer(0), 1
    for factor in sp.Mul.make_args(term):
        base, exponent = factor.as_base_exp()
        if isinstance(factor, sp.exp):
            base, exponent = sp.E, factor.args[0]
        if x in base.free_symbols:
            raise UnclearError("an unknown both in a base and in an exponent")
        if base.is_negative and exponent == 1:
            base, sign = -base, -sign
        if base == sp.E:
            total += exponent
        elif base.is_Rational and base > 0:
            total += exponent * sp.expand_log(sp.log(base), force=True, factor=True)
        else:
            raise UnclearError("a base that is not a fraction")
    return sp.expand(total), sign


def _quotient_of_logs(over: Expression, under: Expression) -> Expression:
    """A quotient of sums of logarithms, as a fraction if it equals one."""
    over, under = sp.expand(over), sp.expand(under)
    for term in sp.Add.make_args(under):
        ratio = over.coeff(term.as_coeff_Mul()[1]) / term.as_coeff_Mul()[0]
        if ratio.is_Rational and sp.expand(over - ratio * under) == 0:
            return ratio
    if over == 0:
        return sp.Integer(0)
    return sp.logcombine(over, force=True) / sp.logcombine(under, force=True)


def _logarithmic(difference: Expression, x: Expression) -> list[Expression]:
    """Candidates for: logarithms to one base with integer factors add up to a number."""
    total, base, constant = sp.Integer(1), None, sp.Integer(0)
    for term in sp.Add.make_args(sp.expand(difference)):
        if x not in term.free_symbols:
            constant += term
            continue
        logs = [a for a in sp.Mul.make_args(term) if isinstance(a, sp.log) and x in a.free_symbols]
        if len(logs) != 1 or logs[0].args[0].has(sp.log):
            raise UnclearError("a product of logarithms")
        factor = term / logs[0]
        unit = factor if base is None else base
        times = factor / unit
        base = unit
        if x in factor.free_symbols or not times.is_Integer or abs(times) > 4:
            raise UnclearError("logarithms with factors that are not whole")
        total *= logs[0].args[0] ** times
    power = sp.exp(sp.expand(-constant / base)) if base is not None else sp.Integer(1)
    over = sp.fraction(sp.together(total - power))[0]
    return polynomial_roots(over, x)


# --- inequalities -----------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """An interval; None stands for an infinite end. Equal ends are a single number."""

    low: Expression | None
    high: Expression | None
    with_low: bool = False
    with_high: bool = False


def solve_inequalities(
    parts: list[tuple[Expression, str]], holes: list[Expression], x: Expression
) -> list[Interval]:
    """The intervals on which all conditions "expression sign 0" hold, from left to right.

    Args:
        parts: the conditions.
        holes: expressions that must not be 0.
        x: the unknown.

    Raises:
        UnclearError: roots or logarithms of x, or ends without an exact value.
    """
    ends: list[Expression] = []
    for difference, _ in parts:
        if difference.has(sp.log) or _roots_with(difference, x):
            raise UnclearError("an inequality with roots or logarithms")
        if any(x in power.exp.free_symbols for power in difference.atoms(sp.Pow, sp.exp)):
            raise UnclearError("an inequality with exponents")
        roots = solve(difference, x)
        ends += roots.real
        under = sp.fraction(sp.together(difference))[1]
        ends += _sorted(polynomial_roots(under, x)).real if x in under.free_symbols else ()
    for hole in holes:
        ends += _sorted(polynomial_roots(sp.fraction(sp.together(hole))[0], x)).real
    parts = [*parts, *((hole, "!=") for hole in holes)]
    ends = sorted(dict.fromkeys(ends), key=lambda end: end.evalf(_TRUE_DIGITS))
    pieces: list[tuple[Interval, bool]] = []
    for number, low in enumerate([None, *ends]):
        if low is not None:
            pieces.append((Interval(low, low, True, True), _all_hold(parts, x, low)))
        high = ends[number] if number < len(ends) else None
        middle = _between(low, high)
        pieces.append((Interval(low, high), _all_hold(parts, x, middle)))
    found: list[Interval] = []
    joined = False
    for piece, true in pieces:
        if true and joined:
            last = found.pop()
            piece = Interval(last.low, piece.high, last.with_low, piece.with_high)
        if true:
            found.append(piece)
        joined = true
    return found


def _between(low: Expression | None, high: Expression | None) -> Expression:
    if low is None:
        return sp.floor(high) - 1 if high is not None else sp.Integer(0)
    if high is None:
        return sp.ceiling(low) + 1
    middle = sp.Rational(str(((low + high) / 2).evalf(30)))
    if not low < middle < high:
        raise UnclearError("ends that are too close")
    return middle


def _all_hold(parts: list[tuple[Expression, str]], x: Expression, at: Expression) -> bool:
    for difference, sign in parts:
        value = difference.subs(x, at)
        if not is_finite(value):
            return False
        zero = is_zero(value)
        positive = not zero and bool(value.evalf(_TRUE_DIGITS) > 0)
        if not {
            "<": not zero and not positive,
            "<=": not positive,
            ">": positive,
            ">=": positive or zero,
            "!=": not zero,
        }[sign]:
            return False
    return True


# --- systems ----------------------------------------------------------------------

Solution = dict[Any, Expression]


def solve_system(
    differences: list[Expression], unknowns: list[Expression]
) -> list[Solution] | None:
    """The real solutions of several equations; None if there are infinitely many.

    Raises:
        UnclearError: neither linear equations, nor two equations in two unknowns of which one is
            linear in one unknown.
    """
    rows = [sp.expand(difference) for difference in differences]
    polynomials = [sp.Poly(row, *unknowns) for row in rows]
    if any(poly.free_symbols_in_domain for poly in polynomials):
        raise UnclearError("a system with parameters")
    if all(poly.total_degree() <= 1 for poly in polynomials):
        found = sp.linsolve(rows, *unknowns)
        if not found:
            return []
        (values,) = found
        if any(value.free_symbols for value in values):
            return None
        return [dict(zip(unknowns, values, strict=True))]
    if len(rows) != 2 or len(unknowns) != 2:
        raise UnclearError("a system that is neither linear nor of two equations")
    for first, second in ((0, 1), (1, 0)):
        for x, y in (unknowns, unknowns[::-1]):
            factor = rows[first].coeff(y, 1)
            if factor.is_number and factor != 0 and sp.degree(rows[first], y) == 1:
                return _substituted(rows, first, second, x, y)
    raise UnclearError("a system without a linear unknown")


def _substituted(
    rows: list[Expression], first: int, second: int, x: Expression, y: Expression
) -> list[Solution] | None:
    (inserted,) = polynomial_roots(rows[first], y)
    roots = solve(sp.expand(rows[second].subs(y, inserted)), x)
    if roots.everywhere:
        return None
    if roots.complex and not roots.real:
        raise UnclearError("a system with complex solutions only")
    return [{x: root, y: sp.expand(inserted.subs(x, root))} for root in roots.real]


def unknowns_of(expressions: list[Expression]) -> list[Expression]:
    """Variables in alphabetical order."""
    found = set().union(*(expression.free_symbols for expression in expressions))
    return [symbol(name) for name in sorted(variable.name for variable in found)]
