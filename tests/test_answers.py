"""What cleaning takes away, and that it never takes everything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.answers import MAX_CHARS, clean


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # think blocks
        ("<think>hm</think>Paris", "Paris"),
        ("<think>\n\n</think>\n\nParis", "Paris"),
        ("<think>a<think>b</think>c</think>Paris", "Paris"),
        ("Paris<think>but is it", "Paris"),
        ("so it is</think>Paris", "Paris"),
        ("<think>It must be Paris", "It must be Paris"),
        # template tokens
        ("Paris<|im_end|>", "Paris"),
        ("Paris<|im_end|>\n<|im_start|>user\nMore?", "Paris"),
        ("<|im_start|>assistant\nParis", "Paris"),
        ("Paris</s>", "Paris"),
        # labels
        ("Answer: Paris", "Paris"),
        ("答案：北京", "北京"),
        ("assistant\nParis", "Paris"),
        ("Answer:", "Answer:"),
        # repeated lines and sentences
        ("It is Paris.\nIt is Paris.\nIt is Paris.", "It is Paris."),
        ("It is Paris. It is Paris. It is Pa", "It is Paris. It is Pa"),
        ("巴黎是首都。巴黎是首都。", "巴黎是首都。"),
        (
            "Paris is the capital.\nOf France.\nParis is the capital.",
            "Paris is the capital.\nOf France.",
        ),
        (
            "The value is 12 - 11.\n\nThe value is 12 - 1",
            "The value is 12 - 11.\n\nThe value is 12 - 1",
        ),
        ("A: Paris", "A: Paris"),
        ("The Titanic: The Titanic: The Titanic: The Titanic: The", "The Titanic: The"),
        ("x = 2\ny = 3\nx = 2", "x = 2\ny = 3\nx = 2"),
        ("A googol is 1" + "0" * 100 + ".", "A googol is 1" + "0" * 100 + "."),
        ("1/3 = 0.333333333333333333333", "1/3 = 0.333333333333333333333"),
        # white space
        ("  Paris \n\n\n\n is\tbig  ", "Paris\n\nis big"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_clean(text: str, expected: str) -> None:
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the capital of France? Paris", "Paris"),
        ("what is  the capital\nof france?\nParis", "Paris"),
        ("Question: What is the capital of France?\nAnswer: Paris", "Paris"),
        ("What is the capital of France?", "What is the capital of France?"),
        ("The capital of France is Paris", "The capital of France is Paris"),
    ],
)
def test_an_echo_of_the_question_goes(text: str, expected: str) -> None:
    assert clean(text, "What is the capital of France?") == expected


def test_a_chinese_echo_goes() -> None:
    assert clean("中国的首都是哪里？北京", "中国的首都是哪里？") == "北京"


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("Paris", "Parisians speak French"),
        ("Paris", "Paris is the capital of France"),
        ("Name the largest planet", "Name the largest planetary system? The Sun's"),
    ],
)
def test_an_answer_that_begins_with_the_words_of_the_question_stays(
    question: str, text: str
) -> None:
    assert clean(text, question) == text


def test_a_text_that_was_stopped_in_a_repeat_loses_the_half_of_it() -> None:
    text = "Paris is the capital of France. Paris is the capital of"
    assert clean(text, cut=True) == "Paris is the capital of France."
    assert clean(text, cut=False) == text


def test_an_answer_has_at_most_5000_characters() -> None:
    text = " ".join(f"word{n}" for n in range(2000))
    assert MAX_CHARS - 10 < len(clean(text)) <= MAX_CHARS


pieces = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<|im_end|>",
        "<|im_start|>",
        "Answer:",
        "Q",
        "\n",
        " ",
        "。",
        ". ",
        "a",
    ]
)


@given(st.lists(pieces | st.text(max_size=5), max_size=12).map("".join), st.text(max_size=5))
def test_it_is_never_empty_when_the_model_said_something(text: str, question: str) -> None:
    answer = clean(text, question)
    assert bool(answer) == bool(text.strip())
    assert len(answer) <= MAX_CHARS


@given(st.text(st.sampled_from("ab. \n"), max_size=40))
def test_cleaning_does_not_invent(text: str) -> None:
    assert set(clean(text)) <= set(text)
