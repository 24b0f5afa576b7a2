"""A stream shows what cleaning the whole answer gives, and takes nothing back."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.answers import clean
from tests.texts import RIGHT, fibonacci, questions, streamed, texts


@pytest.mark.parametrize(("question", "answer"), RIGHT)
def test_a_stream_of_a_right_answer_is_the_answer(question: str, answer: str) -> None:
    assert "".join(streamed(answer, question)) == answer
    assert "".join(streamed(answer, question, piece=1)) == answer


def test_a_stream_shows_a_usual_answer_at_once() -> None:
    text = "Answer: The capital of France is Paris. It lies on the Seine.\n\nIt is old."
    shown = streamed(text, "What is the capital of France?", piece=1)
    so_far, latest = 0, 0
    for at, piece in enumerate(shown[:-1], start=1):
        so_far += len(piece)
        if at > len("Answer: "):
            latest = max(latest, at - len("Answer: ") - so_far)
    assert latest <= 6  # a word that was written before is waited for


def test_a_stream_holds_back_what_may_be_a_loop() -> None:
    text = "It is Paris. " * 10
    shown = streamed(text, cut=True)
    assert "".join(shown) == "It is Paris."
    assert "".join(shown[:-1]) == "It is Paris."
    later = streamed(text + "No, it was Rome.")
    assert "".join(later) == (text + "No, it was Rome.").strip()
    assert len("".join(later[:-1])) > len(text)  # the loop was left: it is shown again


@settings(deadline=None, max_examples=200)
@given(texts, questions, st.booleans(), st.booleans(), st.integers(1, 50))
def test_a_stream_is_the_whole_answer_to_the_letter(
    text: str, question: str, cut: bool, opened: bool, piece: int
) -> None:
    shown = "".join(streamed(text, question, cut, opened, piece))
    assert shown == clean(text, question, cut, opened)


loops = st.lists(
    st.tuples(
        st.sampled_from(["la ", "No. ", "ab", "I do not know. ", "x\n", "- "]), st.integers(1, 60)
    ),
    max_size=6,
).map(lambda parts: "".join(word * count for word, count in parts))


@settings(deadline=None, max_examples=60)
@given(st.lists(loops | texts, max_size=4).map("".join), st.booleans(), st.integers(1, 50))
def test_a_stream_of_loops_within_loops_is_the_whole_answer(
    text: str, cut: bool, piece: int
) -> None:
    assert "".join(streamed(text, "a", cut, False, piece)) == clean(text, "a", cut)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "XYXYXY" + ("X" + "Y" * 450) * 24,  # what is left of each loop makes another
        "I do not know. no. I do not know. " + "no. " * 200 + "I do not know. no. I do not know.",
        "BAAA AAA AAA AAA AAA AAA AAA AAA AAA AAA AAA. " * 4,
        fibonacci(3000),
    ],
)
def test_what_a_stream_has_shown_is_never_taken_back(text: str, cut: bool) -> None:
    for piece in (1, len(text)):
        assert "".join(streamed(text, "", cut, False, piece)) == clean(text, "", cut)


def test_streaming_a_long_answer_takes_little_time() -> None:
    text = " ".join(f"word{n % 97} of {n}" for n in range(600))
    started = time.process_time()
    streamed(text)
    assert time.process_time() - started < 2  # 0.1 s is usual
