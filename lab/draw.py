"""Random numbers and names for exercises, and expressions as school books write them."""

from __future__ import annotations

import random
from typing import Any

Exercise = tuple[str, str]  # question, answer


class Draw:
    """Draws numbers and names for exercises, and writes what sympy makes of them."""

    def __init__(self, sympy: Any, rng: random.Random) -> None:
        self.sympy = sympy
        self.rng = rng
        self.letter = rng.choice("aknxxxxy")
        self.symbol = sympy.Symbol(self.letter)

    def number(self, low: int, high: int) -> Any:
        return self.sympy.Integer(self.rng.randint(low, high))

    def other_than(self, taken: Any, low: int, high: int) -> Any:
        """A number that is not `taken`, and not 0."""
        return self.sympy.Integer(
            self.rng.choice([n for n in range(low, high + 1) if n not in (0, taken)])
        )

    def nonzero(self, low: int, high: int) -> Any:
        return self.other_than(0, low, high)

    def one_of(self, *choices: Any) -> Any:
        return self.rng.choice(choices)

    def text(self, expression: Any) -> str:
        """An expression in one symbol as a school book has it, highest power first: 2x^2 - x."""
        if not expression.free_symbols:
            return str(expression)
        poly = self.sympy.Poly(expression, self.symbol)
        parts: list[str] = []
        for (power,), factor in poly.terms():
            unit = self.letter + (f"^{power}" if power > 1 else "") if power else ""
            size = unit if unit and abs(factor) == 1 else f"{abs(factor)}{unit}"
            sign = ("-" if factor < 0 else "") if not parts else (" - " if factor < 0 else " + ")
            parts.append(sign + size)
        return "".join(parts)

    def root(self, left: Any, right: Any) -> Any:
        """The one solution of left = right."""
        (root,) = self.sympy.solve(left - right, self.symbol)
        return root
