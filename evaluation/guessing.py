"""Whether answers would do for other questions as well as for their own.

A list of forty candidates is right for most questions that it is given to, and knows nothing. So
each answer is also judged against the references of a few other questions of its subject. How
often it satisfies these is taken off the accuracy (`score.without_guessing`).
"""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.judges import judge
from evaluation.judges.yes_no import decides
from evaluation.records import Item

# With how many other questions each answer is judged.
OTHERS = 6


def rate(pairs: Sequence[tuple[Item, str]]) -> float:
    """The share of other questions that answers satisfy; 0.0 if there is nothing to compare.

    Questions with choices and those for yes or no are left out: their answers are few. So are other
    questions whose right answer is right here too.

    Args:
        pairs: questions with the answers to them.
    """
    satisfied = compared = 0
    by_subject: dict[str, list[tuple[Item, str]]] = {}
    for item, answer in pairs:
        if answer and not item.choices and all(decides(r) is None for r in item.references):
            by_subject.setdefault(item.subject, []).append((item, answer))
    for some in by_subject.values():
        step = max(1, len(some) // (OTHERS + 1))
        for at, (item, answer) in enumerate(some):
            for n in range(1, min(OTHERS, len(some) - 1) + 1):
                other = some[(at + n * step) % len(some)][0]
                if other is item or any(judge(other, r).correct for r in item.references):
                    continue
                compared += 1
                satisfied += judge(other, answer).correct
    return satisfied / compared if compared else 0.0
