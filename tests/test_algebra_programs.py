"""For word problems the model writes the calculation and never its result."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.tools.programs import Calculation, answer, calculate, prompt, vote


def test_the_steps_are_computed_whatever_the_model_says_of_them() -> None:
    found = calculate("pens = 4 * 3 = 13\nbooks = 2 * 12\nanswer = 50 - pens - books = 99")
    assert found == Calculation(Fraction(14), ("4 * 3 = 12", "2 * 12 = 24", "50 - 12 - 24 = 14"))
    assert answer(found) == "4 * 3 = 12, 2 * 12 = 24, 50 - 12 - 24 = 14, so the answer is 14."


@pytest.mark.parametrize(
    ("draft", "value"),
    [
        ("answer = 7", Fraction(7)),
        ("Here it is:\ntotal = $1,200 * 15%\nanswer = total / 7", Fraction(180, 7)),
        ("3x + 5 = 20\nanswer = 2 * x", Fraction(10)),
        ("x = 4 + 1\nanswer = x^2", Fraction(25)),
        ("debt = 3 - 8\nanswer = 10 - debt", Fraction(15)),
        ("answer = 2 + 2\n\nProblem: another\nanswer = 9", Fraction(4)),
    ],
)
def test_drafts_are_read(draft: str, value: Fraction) -> None:
    found = calculate(draft)
    assert found is not None
    assert found.value == value


@pytest.mark.parametrize(
    "draft",
    [
        "",
        "I think it is 7.",
        "answer = apples * 3",
        "answer = 5 / 0",
        "answer = 9 ^ 9 ^ 9 ^ 9",
        "answer = 4 apples + 3",
        "x^2 = 4\nanswer = x",
        "answer = __import__('os')",
        "answer = " + "(" * 5000,
    ],
)
def test_drafts_that_make_no_sense_are_dropped(draft: str) -> None:
    assert calculate(draft) is None


def test_most_drafts_win_and_too_few_do_not() -> None:
    drafts = [calculate(f"answer = {n}") for n in (3, 5, 5)] + [None]
    assert vote(drafts) == calculate("answer = 5")
    assert vote(drafts, least=3) is None
    assert vote([None, None]) is None


def test_the_prompt_ends_with_the_question_on_one_line() -> None:
    assert prompt("How many\n\nare left?").endswith("Problem: How many are left?")


@given(st.text("0123456789xab+-*/^()=.,%$ \nanswer", max_size=200))
def test_no_draft_makes_it_raise(draft: str) -> None:
    found = calculate(draft)
    assert found is None or answer(found)
