"""What of an output the contest would take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation import score
from evaluation.check import check
from evaluation.worker import as_plain
from tests.evaluating import GOOD, IDS, run_of, score_of


@pytest.mark.parametrize(
    ("output", "violation", "missing"),
    [
        (None, "the output is None, not a list", 10),
        (tuple(GOOD), "the output is a tuple, not a list", 10),
        (GOOD[:7], "too few answers: 7 came, 10 questions were asked", 3),
        ([*GOOD, GOOD[0]], "too many answers: 11 came, 10 questions were asked", 0),
        (
            [GOOD[1], GOOD[0], *GOOD[2:]],
            "the answers are in another order than the questions: 2 of 10 are not in their place",
            2,
        ),
        (
            [{"questionID": "other", "answer": ""}, *GOOD[1:]],
            "answer 1 (questionID 'q0') has another questionID: 'other'",
            1,
        ),
        (
            [{"questionID": 0, "answer": ""}, *GOOD[1:]],
            "answer 1 (questionID 'q0') has another questionID: 0",
            1,
        ),
        (
            [{"answer": ""}, {"questionID": "q0", "answer": ""}, *GOOD[2:]],
            [
                "answer 1 (questionID 'q0') has no 'questionID'",
                "answer 2 (questionID 'q1') has another questionID: 'q0'",
            ],
            2,
        ),
        ([GOOD[0], None, *GOOD[2:]], "answer 2 (questionID 'q1') is None, not a dict", 1),
        ([{"questionID": "q0"}, *GOOD[1:]], "answer 1 (questionID 'q0') has no 'answer'", 1),
        (
            [{**GOOD[0], "score": 1}, *GOOD[1:]],
            "answer 1 (questionID 'q0') has an extra key: 'score'",
            1,
        ),
        (
            [*GOOD[:6], {"questionID": "q6", "answer": 42}, *GOOD[7:]],
            "answer 7 (questionID 'q6') is an int, not a string",
            1,
        ),
        (
            [{"questionID": "q0", "answer": "x" * 5001}, *GOOD[1:]],
            "answer 1 (questionID 'q0') is 5,001 characters long, 5,000 are allowed",
            1,
        ),
        (
            [{"questionID": id_, "answer": None} for id_ in IDS],
            "answer 1 (questionID 'q0') is None, not a string; 9 more like it, the last is"
            " answer 10 (questionID 'q9')",
            10,
        ),
        (
            [{"questionID": "q0", "answer": "\ud800"}, *GOOD[1:]],
            "answer 1 (questionID 'q0') has half of a surrogate pair, which is not a character",
            1,
        ),
    ],
)
def test_every_violation_is_named_and_costs_only_the_answers_it_is_in(
    output: Any, violation: str | list[str], missing: int
) -> None:
    answers, violations = check(json.loads(json.dumps(as_plain(output))), IDS)
    assert violations == ([violation] if isinstance(violation, str) else violation)
    assert len(answers) == 10
    assert answers.count(None) == missing


def test_an_output_as_it_should_be_has_no_violations() -> None:
    assert check(GOOD, IDS) == ([record["answer"] for record in GOOD], [])
    longest = [{**GOOD[0], "answer": "x" * 5000}, *GOOD[1:]]
    assert check(longest, IDS)[1] == []


def test_a_run_with_a_violation_keeps_its_accuracy_but_scores_nothing(tmp_path: Path) -> None:
    summary = score_of(tmp_path, f"return {GOOD[:7]!r}")
    assert summary.accuracy.mean == 0.7
    assert score.barred(summary).startswith("too few answers")
    assert summary.by_judge == {"contains": 7, "none": 3}


def test_an_output_that_fights_back_is_not_listened_to(tmp_path: Path) -> None:
    call = """
        class Odd(dict):
            def keys(self):
                raise RuntimeError("no keys for you")
        return [Odd() for q in questions]
    """
    run = run_of(tmp_path, call)
    assert set(run.answers) == {None}
    (violation,) = run.violations
    assert violation.startswith("answer 1 (questionID 'q0') is a subclass of dict, not a dict")
