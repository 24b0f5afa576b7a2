"""Answers exercises exactly, without a model.

    with Solver() as solver:
        solver.answers(["Solve for x: 2x + 6 = 14.", "Why is the sky blue?"])
        # ["2x = 8, so x = 4.", None]

A question passes through `notation` (one plain spelling), `exercises` (does all of it match one of
the known `forms`?) with `parser` for its expressions, `working` with a module for each kind of
exercise (computed with `meaning` and `equations`), and `sentences`. `readings` repeats this for
every reading of the text. All of it happens in a child process, `worker`, which `solver` owns.

The judges of `evaluation` share `notation`, `parser`, `meaning`, `units` and `words`.
"""

from algebra.solver import Solver, available, may_be_exercise

__all__ = ["Solver", "available", "may_be_exercise"]
