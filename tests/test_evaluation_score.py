"""What a run scores, alone and among others, and the gate for CI."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from evaluation import compare, evaluate, gate, questions, score
from evaluation.errors import EvaluationError
from evaluation.records import Run
from tests.evaluating import (
    GOOD,
    RECORDS,
    RIGHT,
    contains,
    judging_by,
    plan,
    score_of,
    stored,
    write_questions,
)


def test_answers_from_the_references_are_100_percent_right(tmp_path: Path) -> None:
    summary = score_of(tmp_path, RIGHT)
    assert summary.accuracy.mean == 1
    assert (summary.failure, summary.violations, summary.gated) == ("", [], False)
    assert set(summary.by_subject) == {"history", "geography"}
    assert {name: each.n for name, each in summary.by_difficulty.items()} == {"easy": 5, "hard": 5}
    assert summary.by_judge == {"contains": 10}


def test_nonsense_is_under_the_gate_and_scores_nothing(tmp_path: Path) -> None:
    nonsense = 'return [dict(questionID=q["questionID"], answer="?") for q in questions]'
    summary = score_of(tmp_path, nonsense)
    assert summary.gated
    assert score.barred(summary) == "accuracy is under 10%"


def test_a_blank_question_is_asked_but_not_scored(tmp_path: Path) -> None:
    blank = {"questionID": "blank", "subject": "history", "question": " \n"}
    asked = questions.read(write_questions(tmp_path, [*RECORDS, blank], "more.jsonl"))
    call = """
        assert len(questions) == 11
        return [dict(questionID=q["questionID"], answer="apple") for q in questions]
    """
    assert score_of(tmp_path, call, questions=asked).accuracy.n == 10


def test_the_same_answers_judged_twice_give_the_same_score(tmp_path: Path) -> None:
    asked = plan(tmp_path, "").questions
    answers: list[str | None] = [
        record["answer"] if n % 3 else "?" for n, record in enumerate(GOOD)
    ]
    run = Run(answers=answers, call_seconds=1.0)
    judging = judging_by(contains)
    first, second = (evaluate.judge_all(asked, run, judging) for _ in range(2))
    assert first == second
    intervals = [score.interval([result.correct for result in each]) for each in (first, second)]
    assert intervals[0] == intervals[1]
    assert intervals[0].low < intervals[0].mean == 0.6 < intervals[0].high


def test_the_leaderboard_follows_the_contests_arithmetic(tmp_path: Path) -> None:
    folders = [
        stored(tmp_path, "slow", 8, 4.0)[0],
        stored(tmp_path, "fast", 4, 1.0)[0],
        stored(tmp_path, "middle", 6, 2.0)[0],
        stored(tmp_path, "gated", 0, 0.1)[0],
        stored(tmp_path, "broken", 10, 0.1, violations=["too few answers"])[0],
        stored(tmp_path, "crashed", 0, None, failure="crashed: SIGSEGV")[0],
    ]
    standings = {row.summary.name: row for row in compare.read(folders)}
    assert standings["slow"].score == pytest.approx(0.6 * 1 + 0.4 * 1 / 4)  # 0.700
    assert standings["fast"].score == pytest.approx(0.6 * 4 / 8 + 0.4 * 1)  # 0.700
    assert standings["middle"].score == pytest.approx(0.6 * 6 / 8 + 0.4 * 1 / 2)  # 0.650
    for name in ("slow", "fast", "middle"):
        row = standings[name]
        assert row.low <= row.score <= row.high
    for name, reason in [
        ("gated", "accuracy is under 10%"),
        ("broken", "too few answers"),
        ("crashed", "crashed: SIGSEGV"),
    ]:
        row = standings[name]
        assert (row.score, row.low, row.high, row.barred) == (0, 0, 0, reason)


def test_a_run_alone_has_the_full_score(tmp_path: Path) -> None:
    (row,) = compare.read([stored(tmp_path, "one", 5, 3.0)[0]])
    assert row.score == 1


def test_where_all_are_barred_nobody_scores(tmp_path: Path) -> None:
    folders = [stored(tmp_path, name, 0, None, failure="hung")[0] for name in "ab"]
    assert [row.score for row in compare.read(folders)] == [0, 0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"machine": "another"}, "they ran on different machines (this one; another)"),
        ({"questions_sha256": "1" * 64}, "they answered different questions"),
        ({"judge": "model x"}, "they were judged by contains and model x"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, fields: dict[str, str], message: str
) -> None:
    folders = [
        stored(tmp_path, "a", 5, 1.0)[0],
        stored(tmp_path, "b", 5, 1.0, **fields)[0],
    ]
    with pytest.raises(EvaluationError, match=re.escape(f"a and b cannot be compared: {message}")):
        compare.read(folders)


def test_the_gate_says_by_how_much_a_run_falls_short(tmp_path: Path) -> None:
    _, baseline = stored(tmp_path, "main", 8, 2.0)
    _, slower = stored(tmp_path, "slower", 5, 3.0)
    assert gate.shortfalls(slower, 0.5, 1.5, baseline) == []
    assert gate.shortfalls(slower, 0.6, 1.2, baseline) == [
        "accuracy 50.0% is 10.0 points below the required 60.0%",
        "the call took 3.00 s, 1.50 times the 2.00 s of main; 1.2 times (2.40 s) are allowed",
    ]
    _, broken = stored(tmp_path, "broken", 10, 1.0, violations=["too few answers"])
    assert gate.shortfalls(broken, 0.5, None, None) == ["too few answers"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"machine": "another"}, "ran on another machine"),
        ({"questions_sha256": "1" * 64}, "answered other questions"),
    ],
)
def test_the_gate_refuses_a_baseline_from_elsewhere(
    tmp_path: Path, fields: dict[str, str], message: str
) -> None:
    _, baseline = stored(tmp_path, "main", 8, 2.0, **fields)
    _, run = stored(tmp_path, "run", 8, 2.0)
    with pytest.raises(EvaluationError, match=message):
        gate.shortfalls(run, None, 1.2, baseline)


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("accuracy", {"mean": 0.9, "low": 0.1, "high": 0.5, "n": 10}, "mean is outside"),
        ("accuracy", {"mean": 0.9, "low": 0.1, "high": 1.5, "n": 10}, "less than or equal to 1"),
        ("latency", {"total": 0.0, "per_question": 1.0}, "greater than 0"),
        ("setup_seconds", "long", "valid number"),
    ],
)
def test_a_summary_that_makes_no_sense_is_refused_and_told(
    tmp_path: Path, field: str, value: Any, fault: str
) -> None:
    folder, summary = stored(tmp_path, "odd", 5, 1.0)
    told = summary.model_dump(mode="json") | {field: value}
    (folder / "summary.json").write_text(json.dumps(told))
    with pytest.raises(EvaluationError, match=rf"summary.json: not the summary .*{field}.*{fault}"):
        compare.read([folder])


def test_results_of_another_run_are_refused_and_told(tmp_path: Path) -> None:
    folder, _ = stored(tmp_path, "one", 5, 1.0)
    other, _ = stored(tmp_path, "other", 7, 1.0)
    (folder / "results.jsonl").write_bytes((other / "results.jsonl").read_bytes())
    with pytest.raises(EvaluationError, match="come from different runs; evaluate again"):
        compare.read([folder, other])


def test_runs_with_other_numbers_of_questions_are_not_compared(tmp_path: Path) -> None:
    folder, _ = stored(tmp_path, "one", 5, 1.0)
    other, summary = stored(tmp_path, "other", 5, 1.0)
    lines = (other / "results.jsonl").read_text().splitlines()[1:-1]  # one right, one wrong
    (other / "results.jsonl").write_text("\n".join(lines))
    fewer = summary.model_copy(update={"accuracy": score.interval([True] * 4 + [False] * 4)})
    (other / "summary.json").write_text(fewer.model_dump_json())
    with pytest.raises(EvaluationError, match="they answered different questions"):
        compare.read([folder, other])


@pytest.mark.parametrize("name", ["summary.json", "results.jsonl"])
def test_a_report_that_is_a_pipe_does_not_hang(tmp_path: Path, name: str) -> None:
    folder, _ = stored(tmp_path, "piped", 5, 1.0)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(EvaluationError, match=rf"{name}: cannot be read \(not a regular file\)"):
        compare.read([folder])
