"""What can be computed exactly is, and needs no model.

    with Solver() as solver:
        solver.answers(["Solve for x: 2x + 6 = 14.", "Why is the sky blue?"])
        # ["2x = 8, so x = 4.", None]

The way of a question: `notation` (one plain spelling) → `exercises` (does the whole of it have one
of the known forms?), with `syntax` reading its expressions → `working` and `numbers` (compute, with
`meaning` and `equations`) → `sentences`. All of it happens in a process of its own, `worker`, which
`solver` keeps.
"""

from algebra.solver import Solver, available, may_be_exercise

__all__ = ["Solver", "available", "may_be_exercise"]
