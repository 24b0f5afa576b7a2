"""Thousands of exercises in every notation without a wrong answer, and texts to leave alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from algebra import Solver
from evaluation.judges import judge
from evaluation.records import Item
from tests.exercises import Checked
from tests.exercises_more import many

COUNT = 20_000
# One text a line; none is an exercise with a single reading.
LEAVE_ALONE = Path(__file__).with_name("leave_alone.txt")
# One exercise a line, of the kinds that docs/algebra.md lists, with its result after "|". They were
# written without reading the forms: do not look at which get no answer when you change the tool.
KEPT_BACK = Path(__file__).with_name("kept_exercises.txt")


def _wrong(exercises: list[Checked]) -> tuple[list[tuple[str, str]], int]:
    """Questions with the wrong answers to them, and how many got none."""
    with Solver() as exact:
        answers = exact.answers([question for question, _ in exercises])
    wrong = [
        (question, answer)
        for (question, right), answer in zip(exercises, answers, strict=True)
        if answer is not None and not _holds(right, answer)
    ]
    return wrong, answers.count(None)


def _holds(right: object, answer: str) -> bool:
    try:
        return bool(right(answer))  # type: ignore[operator]
    except (ValueError, IndexError, AssertionError):  # of another form
        return False


@pytest.mark.slow
def test_many_exercises_in_every_notation_and_none_wrong() -> None:
    exercises = many(COUNT)
    with ThreadPoolExecutor(2) as pool:  # a process each
        found = list(pool.map(_wrong, (exercises[::2], exercises[1::2])))
    wrong = [pair for pairs, _ in found for pair in pairs]
    silent = sum(count for _, count in found)
    assert wrong == []
    assert silent < 0.02 * COUNT


def test_some_exercises_of_each_kind_are_answered() -> None:
    wrong, silent = _wrong(many(700, seed=2))
    assert wrong == []
    assert silent < 14


def test_exercises_that_were_kept_back() -> None:
    lines = KEPT_BACK.read_text(encoding="utf-8").splitlines()
    exercises = [(question, right) for question, _, right in (x.rpartition("|") for x in lines)]
    with Solver() as exact:
        answers = exact.answers([question for question, _ in exercises])
    wrong = [
        (question, answer)
        for (question, right), answer in zip(exercises, answers, strict=True)
        if answer and not judge(Item("1", "algebra", question, (right,)), answer).correct
    ]
    assert wrong == []
    assert answers.count(None) <= 0.15 * len(answers)


def test_what_is_no_exercise_is_left_alone() -> None:
    texts = LEAVE_ALONE.read_text(encoding="utf-8").splitlines()
    with Solver() as exact:
        answers = exact.answers(texts)
    told = [pair for pair in zip(texts, answers, strict=True) if pair[1] is not None]
    assert told == []
    assert len(texts) > 100
