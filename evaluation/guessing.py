"""How much of an accuracy is guessing: answers that would do for other questions as well.

A list of forty candidates is right for most questions of a file, and knows nothing. So each answer
is also judged against the references of other questions of its subject and kind, and what it
satisfies there is taken off:

    known = own - others

`own` is how often answers satisfy the questions that they were given to, `others` how often they
satisfy another. If a share k of the answers comes from knowledge and satisfies its own question
alone, and the rest satisfies any question with probability g, then own = k + (1 - k) g and
others = (1 - k) g, so that the difference is k, whatever g is: hit rate less rate of false alarms
(Peirce 1884; Youden's J, 1950). One answer to all questions has own = others and knows nothing.
Dividing by 1 - others, as Cohen's kappa does, would be wrong here: `others` is a mean over all
answers, and half a file of lists beside half of right answers would count in full.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evaluation.judges import judge
from evaluation.judges.choice import shows_letters
from evaluation.judges.text import has_han, is_number, tokens
from evaluation.judges.yes_no import decides
from evaluation.records import Item

# With how many other questions each answer is judged; even, since questions are compared in pairs.
OTHERS = 12
# A kind with fewer questions is compared with all others of the subject.
_FEW = 5
_SEED = 0

Pair = tuple[Item, str]


@dataclass(frozen=True)
class Guessing:
    """What answers to the questions of a subject satisfy beside their own questions.

    Attributes:
        others: the share of other questions of the same kind that an answer satisfies, 0.0 to 1.0.
        known: the share of the right answers that is left without guessing, 0.0 to 1.0.
    """

    others: float
    known: float


def measure(pairs: Sequence[Pair]) -> dict[str, Guessing]:
    """By subject, how much is guessed. Subjects without questions to compare are left out."""
    subjects: dict[str, list[tuple[Pair, Pair]]] = {}
    for group in _groups(pairs):
        subjects.setdefault(group[0][0].subject, []).extend(_couples(group))
    return {subject: _guessing(couples) for subject, couples in subjects.items() if couples}


def is_open(item: Item) -> bool:
    """Whether a question has more than a few possible answers, so that guessing can be measured.

    Those for yes or no and those that show lettered choices have not: right answers to them are
    right for others by necessity.
    """
    if item.choices and shows_letters(item):
        return False
    return all(decides(reference) is None for reference in item.references)


def _guessing(couples: Sequence[tuple[Pair, Pair]]) -> Guessing:
    right: dict[int, bool] = {}
    found: list[tuple[frozenset[int], bool, bool]] = []  # couple, own and other question satisfied
    same = set()
    for (item, answer), (other, _) in couples:
        satisfies = bool(answer) and judge(other, answer).correct
        if id(item) not in right:
            right[id(item)] = judge(item, answer).correct
        couple = frozenset([id(item), id(other)])
        if satisfies and couple not in same and _same(item, other):
            same.add(couple)
        found.append((couple, right[id(item)], satisfies))
    # Without both directions of a couple, or one answer to all questions would not come out as 0.
    counted = [each for each in found if each[0] not in same]
    if not counted:
        return Guessing(0.0, 1.0)
    own, others = sum(each[1] for each in counted), sum(each[2] for each in counted)
    return Guessing(others / len(counted), max(0.0, 1 - others / own) if own else 1.0)


def _same(item: Item, other: Item) -> bool:
    """Whether two questions have the same right answer."""
    pairs = [(item, r) for r in other.references] + [(other, r) for r in item.references]
    return any(judge(one, reference).correct for one, reference in pairs)


def _groups(pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    """Open questions of the same subject and kind; kinds of a few questions together."""
    kinds: dict[str, dict[str, list[Pair]]] = {}
    for item, answer in pairs:
        if is_open(item):
            kinds.setdefault(item.subject, {}).setdefault(_kind(item), []).append((item, answer))
    for groups in kinds.values():
        small = [kind for kind, group in groups.items() if len(group) < _FEW]
        rest = [pair for kind in small for pair in groups.pop(kind)]
        if len(rest) < _FEW and groups:
            max(groups.values(), key=len).extend(rest)
            rest = []
        yield from [group for group in [*groups.values(), rest] if group]


def _kind(item: Item) -> str:
    """What sort of thing a question asks for, by the form of its first reference."""
    found = tokens(item.references[0])
    numbers = [token for token in found if is_number(token)]
    if any(len(number) in (3, 4) and number.isdecimal() for number in numbers):
        return "year"
    return "number" if numbers else "Chinese" if has_han(item.references[0]) else "words"


def _couples(group: Sequence[Pair]) -> Iterator[tuple[Pair, Pair]]:
    """Each question of a group with some others; with another where that is with it, too.

    So each question is asked as often as it is compared with, which makes one answer to all of
    them come out as knowing nothing, whatever the choice.
    """
    shuffled = random.Random(_SEED).sample(group, len(group))
    n = len(shuffled)
    half = min(OTHERS // 2, n // 2)
    offsets = sorted({sign * step % n for step in range(1, half + 1) for sign in (1, -1)} - {0})
    for offset in offsets:
        for at, pair in enumerate(shuffled):
            yield pair, shuffled[(at + offset) % n]
