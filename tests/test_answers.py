"""Cleaning takes away what is known to be no answer, and leaves everything else to the letter."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.answers import MAX_CHARS, clean
from tests.texts import REPEATING, RIGHT, fibonacci, questions, streamed, texts

LONG = "The river is very long, and it flows through a land that nobody has ever seen before. "


@pytest.mark.parametrize(("question", "answer"), RIGHT)
def test_a_right_answer_stays_to_the_letter(question: str, answer: str) -> None:
    assert clean(answer, question) == answer
    assert clean(f"\n {answer}\n \n" if "\n" not in answer else answer, question) == answer


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (question, answer)
        for question, answer in RIGHT
        # Cut off in the middle of these, nobody could tell that they were to end at all.
        if not answer.startswith(("<think>", "I must"))
    ]
    + [("Repeat.", text) for text in REPEATING],
)
def test_a_right_answer_that_was_cut_off_stays_too(question: str, answer: str) -> None:
    assert clean(answer, question, cut=True) == answer
    assert "".join(streamed(answer, question, cut=True, piece=1)) == answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>hm</think>Paris", "Paris"),
        ("<think>\n\n</think>\n\nParis", "Paris"),
        (" \n<think>\nhm\n</think>\n\nParis", "Paris"),
        ("<think>a<think>b</think>c</think>Paris", "Paris"),
        ("<think>it writes <think> here\n</think>Paris", "Paris"),
        ("<think>a</think><think>b</think>Paris", "Paris"),
        ("<think>a</think>Answer: Paris", "Paris"),
        ("<think>a</think>The tag </think> ends it.", "The tag </think> ends it."),
        ("<think>a</think>\n    x = 1\n    y = 2", "    x = 1\n    y = 2"),
        ("<think>never closed", "<think>never closed"),
        ("<think>nothing else</think>", "<think>nothing else</think>"),
        # Not opened by the prompt, so it closes nothing.
        ("so it is</think>Paris", "so it is</think>Paris"),
    ],
)
def test_thinking_that_the_model_began_with_goes(text: str, expected: str) -> None:
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so it is</think>Paris", "Paris"),
        ("so it is\n</think>\n\nParis </think>", "Paris </think>"),
        ("<think>so</think> it is</think>Paris", "Paris"),
        ("a</think><think>b</think>Paris", "Paris"),
        ("it never came to an answer", "it never came to an answer"),
        ("all of it</think>", "all of it</think>"),
    ],
)
def test_thinking_that_the_prompt_opened_goes(text: str, expected: str) -> None:
    assert clean(text, opened_thinking=True) == expected


def test_thinking_that_was_cut_off_loses_its_tag() -> None:
    assert clean("<think>\nIt must be Paris", cut=True) == "It must be Paris"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the capital of France?\nParis", "Paris"),
        ("  What is the capital of France?  \n\nParis", "Paris"),
        ("Question: What is the capital of France?\nAnswer: Paris", "Paris"),
        ("What is the capital of France?\nWhat is the capital of France?\nParis", "Paris"),
        ("Answer: What is the capital of France?\nParis", "Paris"),
        ("What is the capital of France?", "What is the capital of France?"),
        ("What is the capital?\nParis", "What is the capital?\nParis"),
    ],
)
def test_an_echo_of_the_whole_question_on_its_own_line_goes(text: str, expected: str) -> None:
    assert clean(text, "What is the capital of France?") == expected


def test_an_echo_of_several_lines_and_a_chinese_one_go() -> None:
    assert clean("Which?\nA. x\nB. y\nA", "Which?\nA. x\nB. y") == "A"
    assert clean("问题：中国的首都是哪里？\n答案：北京", "中国的首都是哪里？") == "北京"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Answer: Paris", "Paris"),
        ("Final answer:\nParis", "Paris"),
        ("答案：北京", "北京"),
        ("Answer:\n    x = 1\n    y = 2", "    x = 1\n    y = 2"),
        ("It is so. Answer: Paris", "It is so. Answer: Paris"),
    ],
)
def test_a_label_in_front_of_everything_goes(text: str, expected: str) -> None:
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is Paris. " * 6 + "It is Pa", "It is Paris."),
        ("It is Paris.\n" * 6 + "It is Pa", "It is Paris."),
        ("Yes.\n\n" + "No way at all\n" * 6 + "No", "Yes.\n\nNo way at all"),
        ("The Titanic: " * 6 + "The", "The Titanic:"),
        ("We get x = 2." + " So x = 2." * 7 + " So", "We get x = 2. So x = 2."),
        ("巴黎是法国的首都。" * 8 + "巴黎", "巴黎是法国的首都。"),
        ("na " * 60, "na"),
        ("Paris is the capital of France. " * 6 + "Paris is the capital", None),
        (LONG * 4 + LONG[:20], LONG.strip()),
        # A number of unknown length, and what may yet go on in another way, stay.
        ("1/3 = 0." + "3" * 200, "1/3 = 0." + "3" * 200),
        ("Paris is the capital of France. Paris is the capital of", ...),
        ("The value is 12 - 11.\n\nThe value is 12 - 1", ...),
    ],
)
def test_a_loop_in_which_an_answer_was_cut_off_goes(text: str, expected: object) -> None:
    first = "Paris is the capital of France."
    assert clean(text, cut=True) == {None: first, ...: text}.get(expected, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is Paris. " * 60, "It is Paris."),
        ("It is Paris. " * 60 + "It was Rome.", "It is Paris. It was Rome."),
        ("Well: " + "It is Paris.\n" * 60 + "\nIt was.", "Well: It is Paris.\n\nIt was."),
        ("x = " * 200 + "2", "x = 2"),
        ("巴黎。" * 200, "巴黎。"),
        ("-" * 2000 + "\nParis", "-\nParis"),
        (("a b " * 100 + "and so on. ") * 2, "a b and so on. a b and so on."),
    ],
)
def test_a_loop_far_beyond_what_a_person_would_write_goes(text: str, expected: str) -> None:
    assert clean(text) == expected


def test_a_loop_up_to_the_longest_answer_counts_as_cut_off() -> None:
    paragraph = "".join(f"Sentence {n} of many. " for n in range(20))
    assert clean(paragraph * 50) == paragraph.rstrip()


def test_half_a_character_at_the_end_goes_where_the_answer_was_cut_off() -> None:
    assert clean("北京\ufffd", cut=True) == "北京"
    assert clean("北京\ufffd") == "北京\ufffd"
    assert clean(" \ufffd", cut=True) == "\ufffd"


def test_an_answer_has_at_most_5000_characters() -> None:
    text = " ".join(f"word{n}" for n in range(2000))
    assert MAX_CHARS - 10 < len(clean(text)) <= MAX_CHARS
    assert text.startswith(clean(text))


def test_blanks_around_an_answer_go() -> None:
    assert clean("  Paris \n\n\nis\tbig \n ") == "Paris \n\n\nis\tbig"
    assert clean(" \n Paris\n") == "Paris"
    assert clean("  Paris\nis big") == "Paris\nis big"
    assert clean(" \n ") == clean("") == ""
    assert clean("\n" + " " * 10_000 + "Paris\n is") == "Paris\n is"


QUESTION = "What is the capital of France?"
SHAPES = {
    "dashes": "-",
    "letters": "ab",
    "spaces": " ",
    "newlines": "\n",
    "opening tags": "<think>",
    "closing tags": "</think>",
    "blocks": "<think></think>",
    "labelled tags": "<think>Answer:",
    "labels": "Answer: ",
    "echoes": QUESTION + "\n",
    "labelled echoes": f"Question: {QUESTION}\n \n",
    "half characters": "\ufffd",
    "sentences": "It is Paris. ",
    "Chinese": "巴黎是首都。",
    "digits": "0123456789",
    "lines": "x = 1\n  ",
}


@pytest.mark.parametrize("unit", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("ending", ["", "</think>Paris"])
def test_time_grows_no_faster_than_the_text(unit: str, ending: str) -> None:
    """A million characters of anything; whatever looked at all of them for each took hours."""
    long_question = unit * (200_000 // len(unit)) if unit != " " else QUESTION
    text = unit * (1_000_000 // len(unit)) + ending
    for question, cut, opened in ((QUESTION, False, False), (long_question, True, True)):
        started = time.process_time()
        clean(text, question, cut, opened)
        assert time.process_time() - started < 2  # 0.01 to 0.2 s is usual


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        fibonacci(6000),
        "".join("ab"[n.bit_count() % 2] for n in range(6000)),
        (("a " * 30 + "b ") * 30 + "c ") * 5,
        "".join("a" * n + "b" for n in range(100)),
        "".join("a" * 24 + chr(0x4E00 + n) for n in range(200)),
    ],
    ids=["Fibonacci", "Thue-Morse", "nested", "growing", "broken"],
)
def test_loops_within_loops_end_soon(text: str, cut: bool) -> None:
    started = time.process_time()
    once = clean(text, cut=cut)
    assert time.process_time() - started < 2
    assert clean(once, cut=cut) == once


@settings(deadline=None)
@given(texts, questions, st.booleans(), st.booleans())
def test_it_is_never_empty_when_the_model_said_something(
    text: str, question: str, cut: bool, opened: bool
) -> None:
    answer = clean(text, question, cut, opened)
    assert bool(answer) == bool(text.strip())
    assert len(answer) <= MAX_CHARS


@settings(deadline=None)
@given(texts, questions, st.booleans())
def test_cleaning_twice_is_cleaning_once(text: str, question: str, cut: bool) -> None:
    once = clean(text, question, cut)
    assert clean(once, question, cut) == once
    assert clean(once, question) == once


@settings(deadline=None)
@given(texts, st.booleans(), st.booleans())
def test_cleaning_does_not_invent(text: str, cut: bool, opened: bool) -> None:
    letters = iter(text)
    assert all(letter in letters for letter in clean(text, "a", cut, opened))


@settings(deadline=None)
@given(st.text(max_size=399), questions)
def test_a_text_without_loop_echo_thinking_or_label_only_loses_the_blanks_around_it(
    text: str, question: str
) -> None:
    text = "It is " + text
    if not text.startswith(question):
        assert clean(text, question) == text.rstrip()


@settings(deadline=None)
@given(st.text(st.characters(), max_size=33))
def test_a_short_text_that_was_cut_off_stays(text: str) -> None:
    text = "It is" + text.rstrip("\ufffd").rstrip()
    assert clean(text, cut=True) == text.rstrip("\ufffd").rstrip()
