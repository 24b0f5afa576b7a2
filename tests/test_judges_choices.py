"""What counts as naming one of a question's choices."""

from __future__ import annotations

import pytest

from evaluation.judges import judge
from evaluation.records import Item
from tests.verdicts import CITIES, verdict

GUINEAS = ("Papua New Guinea", "Guinea", "Guinea-Bissau", "Equatorial Guinea")
ENDS = (
    "The bridge fell into the river during a heavy storm in winter.",
    "Engineers took it apart to sell its iron to a shipyard.",
    "A freight train derailed on it and destroyed two pillars.",
)
RIVERS = ("黄河", "长江", "珠江")


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "Paris",
            "paris.",
            "PARIS",
            "Ｐａｒｉｓ",
            "It's Paris.",
            "The capital of France is Paris.",
        ),
        *("B", "b", "B.", "(B)", "B)", "Ｂ", "选B", "我选B。", "答案是B", "Option B"),
        *("The answer is B.", "The correct answer is (B).", "B. Paris", "B because it is."),
        *("I would choose B here", "B is right.", "It has to be (B), I think."),
        *("not London but Paris", "Paris, not London", "It isn't Rome, it is Paris."),
        "Between London, Rome and Paris, the right answer is Paris.",
    ],
)
def test_the_right_choice(answer: str) -> None:
    assert verdict("geography", "Paris", answer, CITIES).correct


@pytest.mark.parametrize(
    "answer",
    [
        *("Rome", "C", "(C)", "C. Rome", "Parisian", "Madrid", "A city in France", "E", "42"),
        *("Paris or Rome", "A and B", "B. Rome", "It is not Paris.", "不是Paris"),
        "London, Paris, Rome, Berlin",
        "A. London\nB. Paris\nC. Rome\nD. Berlin",
        "The answer is London, or Paris, or Rome, or Berlin.",
    ],
)
def test_not_the_right_choice(answer: str) -> None:
    assert not verdict("geography", "Paris", answer, CITIES).correct


@pytest.mark.parametrize("right", GUINEAS)
@pytest.mark.parametrize("said", GUINEAS)
def test_choices_within_each_other(right: str, said: str) -> None:
    assert verdict("geography", right, f"It is {said}.", GUINEAS).correct == (right == said)


def test_a_choice_and_the_one_within_it_are_two() -> None:
    assert not verdict("geography", "Guinea", "Guinea and Papua New Guinea", GUINEAS).correct


@pytest.mark.parametrize(
    ("right", "choices", "answer", "correct"),
    [
        (ENDS[0], ENDS, "It collapsed in a storm one winter and fell in the river.", True),
        (ENDS[0], ENDS, "Its iron was sold to a shipyard after engineers took it apart.", False),
        (ENDS[0], ENDS, "It was in a storm or a freight train derailed, two pillars fell.", False),
        ("长江", RIVERS, "中国最长的河流是長江。", True),
        ("长江", RIVERS, "不是黄河，是长江", True),
        ("长江", RIVERS, "选择B", True),
        ("长江", RIVERS, "黄河", False),
        ("长江", RIVERS, "黄河、长江、珠江", False),
        ("All of these", ("red", "blue", "All of these"), "All of these.", True),
        ("All of these", ("red", "blue", "All of these"), "red and blue", False),
        ("Both", ("the Nile", "the Amazon", "Both"), "both", True),
        ("Both", ("the Nile", "the Amazon", "Both"), "the Nile", False),
        ("No", ("Yes", "No"), "No, yes-men would differ.", True),
        ("No", ("Yes", "No"), "Yes, no doubt.", False),
        ("4", ("2", "4", "40"), "four", True),
        ("4", ("2", "4", "40"), "40", False),
        ("<", ("<", ">"), "The sign is <", True),
        ("<", ("<", ">"), ">", False),
        ("B", CITIES, "Paris", True),
        ("B", CITIES, "B", True),
        ("B", CITIES, "Rome", False),
        ("Oslo", CITIES, "Oslo", True),
        ("Oslo", CITIES, "Oslo or Paris", False),
    ],
)
def test_choices(right: str, choices: tuple[str, ...], answer: str, correct: bool) -> None:
    assert verdict("geography", right, answer, choices).correct == correct


@pytest.mark.parametrize(
    ("right", "choices", "answer", "correct"),
    [
        ("4", ("2", "4", "6", "8"), "2x + 6 = 14, so 2x = 8 and x = 4.", True),
        ("8", ("2", "4", "6", "8"), "2x + 6 = 14, so 2x = 8 and x = 4.", False),
        ("4", ("2", "4", "6", "8"), "2, 4, 6, 8", False),
        ("1/2", ("1/2", "1/3"), "0.5", True),
        ("x - 1", ("x + 1", "x - 1"), "x-1", True),
        ("x - 1", ("x + 1", "x - 1"), "x+1", False),
    ],
)
def test_choices_in_algebra(
    right: str, choices: tuple[str, ...], answer: str, correct: bool
) -> None:
    assert verdict("algebra", right, answer, choices).correct == correct


def test_a_few_characters_of_a_choice_do_not_say_it() -> None:
    choices = ("“市”突破空间限制", "井田制瓦解", "均田制受到破坏", "分封制恢复")
    item = Item("1", "chinese", "这表明当时", ("均田制受到破坏",), choices)
    assert not judge(item, "农民的经济基础受到国家的制约").correct
    assert judge(item, "均田制度已经受到严重破坏").correct
