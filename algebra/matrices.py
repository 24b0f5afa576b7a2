"""Exercises on small matrices of numbers: determinant, inverse, rank, eigenvalues."""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp

from algebra.equations import polynomial_roots
from algebra.meaning import Expression, is_zero, meaning, show
from algebra.readings import UnclearError
from algebra.sentences import Words
from algebra.syntax import Node

Rows = tuple[tuple[Node, ...], ...]


def _matrix(rows: Rows, square: bool = True) -> Expression:
    values = [[meaning(entry) for entry in row] for row in rows]
    if any(not value.is_Rational for row in values for value in row):
        raise UnclearError("entries that are not fractions")
    if square and len(values) != len(values[0]):
        raise UnclearError("not a square matrix")
    return sp.Matrix(values)


def _shown(matrix: Expression) -> str:
    rows = (", ".join(map(show, row)) for row in matrix.tolist())
    return "[" + ", ".join(f"[{row}]" for row in rows) + "]"


def _determinant(words: Words, rows: Rows) -> str:
    matrix = _matrix(rows)
    value = show(matrix.det())
    if matrix.rows == 2:
        a, b, c, d = (f"({show(entry)})" if entry < 0 else show(entry) for entry in matrix)
        return words.so(f"{a} * {d} - {b} * {c} = {value}", value)
    return words.sentence(words.phrase("determinant", value))


def _inverse(words: Words, rows: Rows) -> str:
    matrix = _matrix(rows)
    value = matrix.det()
    if value == 0:
        return words.sentence(words.phrase("singular"))
    found = matrix.inv()
    if matrix * found != sp.eye(matrix.rows):
        raise UnclearError("the check failed")
    return words.so(words.phrase("determinant", show(value)), _shown(found))


def _rank(words: Words, rows: Rows) -> str:
    return words.sentence(words.phrase("rank", _matrix(rows, square=False).rank()))


def _trace(words: Words, rows: Rows) -> str:
    return words.sentence(words.phrase("trace", show(_matrix(rows).trace())))


def _transpose(words: Words, rows: Rows) -> str:
    return words.sentence(_shown(_matrix(rows, square=False).T))


def _eigenvalues(words: Words, rows: Rows) -> str:
    matrix = _matrix(rows)
    letter = sp.Symbol("λ", real=True)
    polynomial = sp.expand((letter * sp.eye(matrix.rows) - matrix).det())
    roots = polynomial_roots(polynomial, letter)
    if any(root.has(sp.I) or not root.is_real for root in roots):
        raise UnclearError("eigenvalues that are not real")
    if not all(is_zero(polynomial.subs(letter, root)) for root in roots):
        raise UnclearError("the check failed")
    roots.sort(key=lambda root: root.evalf(50))
    step = f"{show(polynomial)} = 0"
    return words.so(step, words.both([f"λ = {show(root)}" for root in roots]))


KINDS: list[Callable[..., str]] = [_determinant, _inverse, _rank, _trace, _transpose, _eigenvalues]
