"""Answers exercises exactly, without a model.

    with Solver() as solver:
        solver.answers(["Solve for x: 2x + 6 = 14.", "Why is the sky blue?"])
        # ["2x = 8, so x = 4.", None]

A question passes through `notation` (to one plain notation), `exercises` (which of the known
`forms` does it match?) with `parser` for its expressions, a function for its kind (`solving`,
`rewriting`, `numbers`, `functions`, `matrices`, `series`), and `sentences`. `readings` repeats this
for every reading of the text. All of it runs in a child process, `worker`, which `solver` starts.

The judges of `evaluation` use `notation`, `parser`, `meaning`, `units` and `words` too.
"""

from algebra.solver import Solver, available, may_be_exercise

__all__ = ["Solver", "available", "may_be_exercise"]
