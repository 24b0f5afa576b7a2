"""Judging takes milliseconds, whatever an answer is made of."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evaluation.check import LONGEST_ANSWER
from evaluation.judges import judge
from evaluation.records import Item

ITEMS = [
    Item("1", "algebra", "Solve x < 7.", ("x = 7",)),
    Item("2", "history", "Who wrote the play Romeo?", ("William Shakespeare",)),
    Item("3", "history", "When was it signed?", ("July 4, 1776",)),
    Item("4", "geography", "How high is it?", ("8,849 m",)),
    Item("5", "geography", "Is it far?", ("yes",)),
    Item("6", "history", "Which? A) one B) two", ("one",)),
    Item("8", "algebra", "Factor x^2 - 4.", ("(x-2)(x+2)",)),
    Item("7", "chinese", "谁写了《史记》？", ("司马迁",)),
]
# What the judges look for, one after the other, is what makes them slow.
FRAGMENTS = [
    *(" ", "x", "5 ", "9", "a or ", "not ", "(1,", "- ", "x!", "hundred and ", "one "),
    *("Paris, ", "William ", "Shakespeare's ", "is ", "it is ", "A b ", "Ab ", "1/", "1,"),
    *("三", "负", "1月", "年", "不是", "\\frac{", "\\sqrt[", "$", "{", "}", "x^"),
    *("greater than or equal to ", ". ", "? ", ";", "'s ", "the ", "of ", "July 4, ", "bc "),
    *("b.", "pm ", "5:30 ", "half past ", "$5 ", "million ", "A) ", "because ", "<", "="),
    *("±", "%", "_1", "log ", "1e", "é", "ﬃ", "\t", "Mt. ", "New ", "Gulf of ", "son of "),
    *("[", "(x+1)", "+", "(", "5!"),
]
PLAIN = "The play was written by an author whose name is known, and many people read it. " * 63
# Against a plain answer of the same length, in CPU time; the second is for what both need.
TIMES, SECONDS = 15, 0.03


def seconds(item: Item, answer: str) -> float:
    started = time.thread_time()
    judge(item, answer)
    return time.thread_time() - started


@pytest.fixture(scope="module")
def plain() -> dict[str, float]:
    """What a plain answer takes, by question; sympy and math-verify are imported before."""
    for item in ITEMS:
        for answer in ("7 + x", "x = 8", "x = 7.0", "x > 2", "July 4"):
            judge(item, answer)
    return {item.id: seconds(item, PLAIN[:LONGEST_ANSWER]) for item in ITEMS}


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(FRAGMENTS) | st.text(min_size=1, max_size=2), min_size=1, max_size=4),
    st.sampled_from(["", "x", "1", "。"]),
)
@example([" "], "x")
@example(["5", " " * 2500], "x")
@example(["2020-01-"], "")
@example(["((((x^60)^60)^60)^60)"], "")
@example(["(x + 1)^60*(y + 2)^60*(z + 3)^60"], "")
def test_hostile_answers_take_no_longer_than_plain_ones(
    plain: dict[str, float], parts: list[str], end: str
) -> None:
    unit = "".join(parts)
    answer = unit * (LONGEST_ANSWER // len(unit)) + end
    for item in ITEMS:
        allowed = TIMES * plain[item.id] + SECONDS
        for begin in range(3):  # beside other programs a CPU second does less; no text is cached
            if (taken := seconds(item, answer[begin:])) < allowed:
                break
        assert taken < allowed, f"{item.question} {unit!r}: {taken:.2f} s, {allowed:.2f} allowed"
