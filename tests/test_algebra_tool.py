"""Exercises in algebra are answered exactly, in short sentences; all else is left to the model."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from algebra import Solver, may_be_exercise, solver
from tests.exercises import all_exercises


@pytest.fixture(scope="module")
def exact() -> Iterator[Solver]:
    with Solver() as found:
        yield found


def test_generated_exercises_of_every_kind_are_all_answered_right(exact: Solver) -> None:
    exercises = all_exercises()
    answers = exact.answers([question for question, _ in exercises])
    wrong = [
        (question, answer)
        for (question, right), answer in zip(exercises, answers, strict=True)
        if answer is None or not right(answer)
    ]
    assert len(exercises) > 200
    assert wrong == []


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Solve for x: 2x + 6 = 14.", "2x = 8, so x = 4."),
        ("解方程：x² - 5x + 6 = 0", "(x - 3)(x - 2) = 0，所以 x = 2 或 x = 3。"),
        ("What is 3/4 + 5/6?", "3/4 + 5/6 = 19/12."),
        ("Simplify $\\frac{x^2 - 9}{x - 3}$.", "((x^2 - 9)/(x - 3)) = x + 3."),
        ("If x + y = 10 and xy = 21, what is x^2 + y^2?", "x^2 + y^2 = 58."),
        ("Solve |2x − 1| < 7", "-3 < x < 4."),
        ("Solve 3^(2x) = 5", "The solution is x = ln(5)/ln(9) ≈ 0.7325."),
        ("Factor x^2 + 1", "x^2 + 1 cannot be factored over the rational numbers."),
        ("Please solve 3(x - 2) = 9. Show your work.", "3x = 15, so x = 5."),
        ("What is 15% of $80?", "15/100 * 80 = 12, so $12."),
    ],
)
def test_answers_are_sentences_with_their_steps(exact: Solver, question: str, answer: str) -> None:
    assert exact.answer(question) == answer


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Solve 2x + 3 = 2x + 5", "2x + 3 = 2x + 5 has no solution."),
        ("Solve x + y = 3, x + y = 4", "The equations contradict each other: no solution."),
        (
            "Solve x + y = 3, 2x + 2y = 6",
            "The equations depend on each other: there are infinitely many solutions.",
        ),
        (
            "Solve 2(x + 1) = 2x + 2",
            "2(x + 1) = 2x + 2 is true for all real numbers: it has infinitely many solutions.",
        ),
        (
            "Solve x^2 = -4",
            "x^2 = -4 has no real solution; the complex ones are x = 2i and x = -2i.",
        ),
        ("Solve (x-2)^2/(x-2) = 0", "(x-2)^2/(x-2) = 0 has no real solution."),
        ("Solve sqrt(x) = -2", "√x = -2 has no real solution."),
        ("Solve (x-3)/(x-3) > 0", "x ≠ 3."),
        ("Solve x^3 = 5", "The only real solution is x = 5^(1/3)."),
        ("What is 5/0?", "5/0 is undefined, because one cannot divide by zero."),
        (
            "What is the slope of the line through (2, 1) and (2, 7)?",
            "The line is vertical, so its slope is undefined.",
        ),
    ],
)
def test_what_has_no_ordinary_solution_is_said(exact: Solver, question: str, answer: str) -> None:
    assert exact.answer(question) == answer


@pytest.mark.parametrize(
    "question",
    [
        "A train travels 180 km in 3 hours. What is its average speed in km per hour?",
        "Explain why 2x + 6 = 14 has one solution.",
        "Solve 2x + 6 = 14 and explain each step",
        "Ana has 3 apples and buys 5 more. How many apples does she have?",
        "What is 1/2x + 3 if x = 4?",  # x/2, or 1/(2x)?
        "What is 8/2(2 + 2)?",
        "Solve 2^2x = 16",
        "What is the square root of 16 plus 9?",
        "What is -3 squared?",
        "Calculate 2 + 3!",
        "What comes next: 2, 3, 5, 8",  # 12, or 13?
        "What is 10 + 20%?",
        "What is the gcd of 1,200 and 16?",
        "How many gallons are in 5 liters?",
        "What is x?",
        "What is 9-11?",
        "y = 2x + 3",
        "Solve x^5 - x - 1 = 0",
        "Solve x/x = 1",
        "Solve |x| = x",
        "Solve sin(x) = 1/2",
        "When was the Battle of Hastings, in 1066 or 1067?",
        "《春晓》第 2 句是什么？",
        "2x + 3",
        "",
    ],
)
def test_what_is_not_surely_understood_is_the_models(exact: Solver, question: str) -> None:
    assert exact.answer(question) is None


HOSTILE = [
    "What is 9**9**9**9?",
    "What is 9^9^9^9?",
    "What is (9^9)^(9^9)?",
    "What is 2^(-10^10)?",
    "What is 3^(1/1000000007)?",
    "What is 99999999999999999999^99999?",
    "What is 100000!?",
    "What is ((60!)!)!?",
    "What is 5!!!!!?",
    "Expand (x + y + z + a + b + c)^50",
    "Expand " + "(x + 1)" * 50,
    "Factor x^100000000 - 1",
    "Solve x^60 + x^59 - 3 = 0",
    "Simplify 1/(x^60 - 1) + 1/(x^59 - 2) + 1/(x^58 - 3)",
    "What is " + "(" * 190 + "1" + ")" * 190 + "?",
    "What is " + "-" * 300 + "1?",
    "What is " + "2^" * 100 + "2?",
    "Solve " + "sqrt(" * 60 + "x" + ")" * 60 + " = 2",
    "What is __import__('os').system('true')?",
    "What is 1; import os?",
    "Solve x = lambda: 0",
    "What is {x: 1}?",
    "What is 1e999999999?",
    "What is \\frac{\\frac{\\frac{1}{2}}{3}{4}?",
    "What is ²³⁴⁵?",
    "What is ١ + ٢?",
    "Solve х + 1 = 2",  # a Cyrillic letter
    "What is 1 + \u202e2\u202c?",
    "What is \ud800 + 1?",
    "What is 1\x00+ 2?",
    "Find the 1000000th term of the sequence 2, 4, 8, ...",
    "What is the prime factorization of 999999937?",
    "Solve x + y + z + a + b + c = 1, x - y = 2, x^2 = y, a = b^2, c = a^3",
    "Simplify sqrt(sqrt(sqrt(x + sqrt(2)) + sqrt(3)) + sqrt(5))",
    "What is sqrt(99999999999999999999999999999999999977)?",
]


def test_hostile_questions_are_refused_in_no_time(exact: Solver) -> None:
    started = time.monotonic()
    answers = exact.answers(HOSTILE)
    assert time.monotonic() - started < 20
    told = [q for q, answer in zip(HOSTILE, answers, strict=True) if answer is not None]
    # The one is a prime; the other may stay as the root that it is.
    assert all("prime" in question or "sqrt(9999" in question for question in told)
    assert exact.answer("What is 1 + 1?") == "1 + 1 = 2."


@pytest.mark.parametrize(
    "text", ["(" * 10_000, "x^" * 500_000, "1+" * 500_000, "\\frac{" * 100_000]
)
def test_long_texts_do_not_reach_the_process(text: str) -> None:
    started = time.process_time()
    assert not may_be_exercise(f"What is {text}1?")
    assert time.process_time() - started < 1


_MATH = st.text("0123456789xyzabe+-*/^()=<>≤.,!|√²½%$ \\{}解求计算fracsqrtlog_ln", max_size=60)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(["Solve {}", "What is {}?", "Simplify {}", "Factor {}", "计算：{}", "{}"]),
    _MATH,
)
def test_no_text_makes_it_raise_or_hang(exact: Solver, form: str, text: str) -> None:
    started = time.monotonic()
    answer = exact.answer(form.format(text) if text.count("{") == 0 else text)
    assert answer is None or (0 < len(answer) <= 500)
    assert time.monotonic() - started < 10


def _process(one: Solver) -> subprocess.Popen[bytes]:
    process = one._child._process
    assert process is not None
    return process._popen


def test_a_process_that_dies_is_started_again() -> None:
    with Solver() as one:
        assert one.answer("What is 1 + 1?") == "1 + 1 = 2."
        _process(one).kill()
        # The question on which it died is the model's, the next are answered.
        assert one.answers(["What is 1 + 2?", "What is 1 + 3?"]) == [None, "1 + 3 = 4."]


def test_a_process_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with Solver() as one:
        assert one.answer("What is 1 + 1?") == "1 + 1 = 2."
        process = _process(one)
        process.send_signal(19)  # SIGSTOP
        monkeypatch.setattr(solver, "_LONGEST", 0.2)
        assert one.answer("What is 1 + 2?") is None
        assert process.poll() is not None


def test_a_forked_process_computes_in_one_of_its_own() -> None:
    questions = [f"What is {n} + 1?" for n in range(40)]
    right = [f"{n} + 1 = {n + 1}." for n in range(40)]
    with Solver() as one:
        assert one.answer("What is 1 + 1?") == "1 + 1 = 2."
        forked = os.fork()
        if not forked:
            same = one.answers(questions) == right
            one.close()
            os._exit(0 if same else 1)
        assert one.answers(questions) == right
        assert os.waitpid(forked, 0)[1] == 0
        assert one.answer("What is 1 + 1?") == "1 + 1 = 2."  # it closed its own


def test_closing_ends_the_process_once() -> None:
    one = Solver()
    process = _process(one)
    one.close()
    one.close()
    assert process.poll() is not None
    with pytest.raises(ValueError, match="closed"):
        one.answer("What is 1 + 1?")


def test_without_sympy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "find_spec", lambda _: None)
    assert not solver.available()
    with pytest.raises(ModuleNotFoundError, match=r"\[algebra\]"):
        Solver()
