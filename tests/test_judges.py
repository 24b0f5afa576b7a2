"""What the judges by rules take for right and for wrong, whatever the question."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.judges import judge
from evaluation.judges.text import tokens
from evaluation.records import Item, Verdict
from tests.verdicts import CITIES, verdict

# --- whatever the question ------------------------------------------------------------


ITEMS = [
    Item("1", "algebra", "?", ("x = 3, y = 2", "4")),
    Item("2", "algebra", "?", ("1/2",), ("1/2", "2", "3/4")),
    Item("3", "geography", "?", ("Paris",), CITIES),
    Item("4", "history", "?", ("the Battle of Hastings in 1066", "1066")),
    Item("5", "chinese", "?", ("四个季节：春、夏、秋、冬",)),
    Item("6", "general", "?", ("no",)),
]


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: f"{item.subject}{item.id}")
@pytest.mark.parametrize(
    ("answer", "judged_by"),
    [
        ("", "empty"),
        (" \n\u3000", "empty"),
        ("ERROR: not answered: the question is empty", "error"),
        ("I don't know.", "refusal"),
        ("I don’t know the answer to that", "refusal"),
        ("Sorry, I do not have access to Paris, 1066 or 4.", "refusal"),
        ("I cannot answer this question.", "refusal"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("As an AI language model, I am not able to say that it is Paris.", "refusal"),
        ("No idea.", "refusal"),
        ("我不知道", "refusal"),
        ("我不知道。", "refusal"),
        ("抱歉，我无法回答这个问题。", "refusal"),
        ("對不起，我不清楚。", "refusal"),
        ("作为一个人工智能，我无法提供答案。", "refusal"),
    ],
)
def test_no_answer_is_wrong_and_the_reason_is_named(
    item: Item, answer: str, judged_by: str
) -> None:
    found = judge(item, answer)
    assert (found.correct, found.score, found.judge) == (False, 0.0, judged_by)
    assert found.reason


def test_what_begins_like_a_refusal_may_be_the_reference() -> None:
    assert verdict("chinese", "我不知道", "我不知道。").correct


def test_an_answer_after_an_apology_is_an_answer() -> None:
    assert verdict("geography", "Paris", "Sorry, it is Paris.").correct


@settings(deadline=None)  # sympy is imported meanwhile
@given(st.sampled_from(ITEMS), st.text())
def test_every_text_gets_a_verdict(item: Item, answer: str) -> None:
    found = judge(item, answer)
    assert 0.0 <= found.score <= 1.0
    assert found.judge
    assert found.reason
    assert found == judge(item, answer)


mathematical = st.lists(
    st.sampled_from(
        ["x", "y", "=", "4", "3.5", "+", "-", "**", "(", ")", "/", "\\frac{", "}", "±", "<", ","]
        + [" and ", " or ", " is ", "%", "^", "sqrt", "\\boxed{", "####", "10 km/h", "$", "²", "½"]
    ),
    max_size=20,
).map("".join)


@given(mathematical, mathematical.filter(str.strip))
def test_every_heap_of_signs_gets_a_verdict(answer: str, reference: str) -> None:
    assert verdict("algebra", reference, answer).judge


@given(
    st.sampled_from(["algebra", "geography", "chinese"]),
    st.text(min_size=1).filter(str.strip),
    st.lists(st.text(min_size=1), max_size=3),
)
def test_an_answer_equal_to_a_reference_is_right(
    subject: str, reference: str, others: list[str]
) -> None:
    assert verdict(subject, reference, reference).correct
    assert verdict(subject, reference, reference, (*others, reference)).correct


# --- texts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spellings",
    [
        ("6,961 m", "6961 m", "６，９６１ｍ", "6 961 m".replace(" ", "\u00a0", 1)),
        ("twenty", "20", "20.0"),
        ("forty-two", "42"),
        ("5 million", "5,000,000", "five million"),
        ("World War II", "World War 2"),
        ("Elizabeth I", "Elizabeth 1"),
        ("Louis XIV’s palace", "louis 14 palace"),
        ("20th century", "20 century"),
        ("H₂O", "H2O"),
        ("Huascarán", "HUASCARAN"),
        ("紅樓夢", "《红楼梦》"),
        ("歷史", "历史"),
    ],
)
def test_one_thing_in_several_spellings(spellings: tuple[str, ...]) -> None:
    # "m" with nothing before it is no other token than "m" after a blank.
    assert {tuple(tokens(text)) for text in spellings} == {tuple(tokens(spellings[0]))}


# --- algebra --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        # numbers, however they are written
        ("42", "The answer is 42."),
        ("1234.5", "$1,234.50"),
        ("1234.5", "It costs $1,234.50."),
        ("0.75", "3/4"),
        ("3/4", "0.75"),
        ("75", "75%"),
        ("75%", "75"),
        ("75%", "0.75"),
        ("0.5", "½"),
        ("2 1/2", "2.5"),
        ("1/3", "0.333"),
        ("3.14", "\\pi"),
        ("3:4", "3/4"),
        ("-3", "x = −3"),
        ("4", "答案是４。"),
        ("4", "x equals four"),
        ("13", "Thirteen"),
        ("1000000", "1,000,000"),
        ("5000000", "5 million"),
        # the result, not what comes before it
        ("4", "2x = 8, so x = 4."),
        ("4", "2x + 6 = 14\n2x = 8\nx = 4"),
        ("4", "4 is the answer."),
        ("9", "x = 9 is the solution to the equation x - 4 = 5."),
        ("-2", "The slope is negative two."),
        ("4", "**Answer:** 4"),
        ("4", "所以 x = 4。"),
        ("4", "The answer is 4 because 2*4 + 6 = 14."),
        ("4", "x = 4. Check: 2(4) + 6 = 14."),
        ("4", "x = 4. We get this by taking 6 from both sides and then dividing by 2."),
        ("12", "15% of 80 is 12."),
        ("12", "15% of 80 = 0.15 × 80 = 12"),
        ("10", "y = 3(4) - 2 = 12 - 2 = 10"),
        ("10", "y = 10 when x = 4"),
        ("3", "The slope is (7-1)/(2-0) = 6/2 = 3."),
        ("56", "7 x 8 = 56"),
        ("18", "She sells 16 - 3 - 4 = 9 eggs. 9 * 2 = $18.\n#### 18"),
        ("7", "\\boxed{7}"),
        ("7", "The final answer is: $\\boxed{7}$. I hope it is correct."),
        ("1/2", "Thus \\[x = \\boxed{\\frac{1}{2}}.\\]"),
        ("22", "4 notebooks cost $12 and 5 pens cost $10, for a total of $22."),
        ("$22", "The total cost is $22 for 4 notebooks and 5 pens."),
        # units
        ("60", "60 km/h"),
        ("60 km/h", "60"),
        ("60 km/h", "The speed is 60 km per hour."),
        ("60", "The average speed is 180 km / 3 h = 60 km/h."),
        ("5", "5 m/s"),
        ("25 cm²", "25 cm^2"),
        # expressions
        ("x^2 - 9", "(x+3)(x-3)"),
        ("x^2 - 9", "The expansion is x² − 9."),
        ("x**2 - 9", "**x^2 - 9**"),
        ("2x + 3", "y = 2x + 3"),
        ("2x + 3", "2(x + 1) + 1"),
        ("sqrt(8)", "2\\sqrt{2}"),
        ("(1 + sqrt(5))/2", "x = \\frac{1+\\sqrt{5}}{2}"),
        ("x > 3", "3 < x"),
        ("x > 3", "x is greater than 3"),
        # several
        ("y = 2 and x = 3", "x=3, y=2"),
        ("x = 3, y = 2", "The solution is x = 3 and y = 2."),
        ("x = 3, y = 2", "Adding gives 2x = 6, so x = 3. Then y = 5 - x = 2."),
        ("x = 3, y = 2", "(x, y) = (3, 2)"),
        ("(2, 3)", "(2,3)"),
        ("x = 2 or x = -3", "x = -3 or x = 2"),
        ("x = 2 or x = -3", "The solutions are -3 and 2."),
        ("x = 2 or x = -3", "x₁ = 2, x₂ = −3"),
        ("x = 3 or x = -3", "\\(x = \\pm 3\\)"),
        ("x < -2 or x > 2", "x > 2 or x < -2"),
        # words
        ("no solution", "There is no solution."),
    ],
)
def test_the_right_result(reference: str, answer: str) -> None:
    assert verdict("algebra", reference, answer).correct


@pytest.mark.parametrize(
    ("answer", "correct"),
    [
        ("y = 10", True),
        ("x = 4, y = 10", True),
        ("When x = 4, y = 3(4) - 2 = 10.", True),
        ("y = 4, x = 10", False),
        ("y = 10 or y = 4", False),
    ],
)
def test_what_the_question_asks_for_is_the_result(answer: str, correct: bool) -> None:
    item = Item("1", "algebra", "If y = 3x - 2 and x = 4, what is y?", ("10",))
    assert judge(item, answer).correct == correct


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("8", "2x = 8, so x = 4."),
        ("14", "x = 4. Check: 2(4) + 6 = 14."),
        ("4", "x = 5"),
        ("9", "-9"),
        ("0.75", "0.7"),
        ("0.333", "0.334"),
        ("42", "421"),
        ("x^2 + 9", "x^2 - 9"),
        ("x^2 - 9", "(x-3)(x-3)"),
        ("x = 3, y = 2", "x = 2, y = 3"),
        ("x = 3, y = 2", "x = 7 and y = 2"),
        ("x = 3, y = 2", "x = 3"),
        ("x = 3, y = 2", "2, 3"),
        ("(2, 3)", "(3, 2)"),
        ("x = 2", "The solutions are 2 and 3."),
        ("x = 2 or x = 3", "x = 2"),
        ("x < 3", "x > 3"),
        ("x > 3", "3"),
        ("4", "1, 2, 3, 4, 5, 6"),
        ("4", "The answer cannot be found"),
        ("10^2", "102"),
        ("1", "1 million"),
        ("no solution", "x = 4"),
    ],
)
def test_not_the_right_result(reference: str, answer: str) -> None:
    assert not verdict("algebra", reference, answer).correct


@pytest.mark.parametrize(
    "answer",
    [
        *("9**9**9**9", "(" * 5000, "9" * 5000, "x is " * 1000, "\\frac{" * 800, "1/" * 2500),
        *("exp(exp(exp(99)))", "((((x^60)^60)^60)^60)", "1/0", "√" * 5000, "{" * 5000, "1 " * 2500),
        *("\n" * 4000 + "x", "一亿" * 2500, "a or " * 1200, "not " * 1200, "x = ±" * 1000),
    ],
    ids=lambda answer: answer[:10].strip(),
)
def test_evil_answers_are_wrong_at_once(answer: str) -> None:
    verdicts: list[Verdict] = []
    seconds: list[float] = []

    def judge_all() -> None:
        verdicts.extend(verdict(item.subject, "7", answer) for item in ITEMS)
        seconds.append(time.thread_time())

    # Not in the main thread, where a signal could not have stopped it.
    thread = threading.Thread(target=judge_all, daemon=True)
    thread.start()
    thread.join(60)
    assert [found.correct for found in verdicts] == [False] * len(ITEMS)
    assert seconds[0] < 3
