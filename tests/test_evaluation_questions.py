"""Files of questions with right answers."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path

import pytest

from evaluation import questions
from evaluation.errors import EvaluationError
from runtime.common.errors import UserError
from runtime.questions import read_file
from tests.conftest import SAMPLES
from tests.evaluating import IDS, RECORDS, write_questions


def test_references_may_be_one_or_several_in_lines_or_in_a_list(tmp_path: Path) -> None:
    records = [
        {"questionID": 1, "question": "?", "answers": ["x", "y"], "choices": ["x", "y", "z"]},
        {"questionID": 2, "subject": "Maths", "question": "?", "answer": "z"},
        {"questionID": 3, "question": "?", "answer": "z", "answers": None, "choices": None},
    ]
    (tmp_path / "q.json").write_text(json.dumps(records))
    lines = questions.read(write_questions(tmp_path, records))
    listed = questions.read(tmp_path / "q.json")
    assert lines.items == listed.items
    first, second, third = lines.items
    assert first
    assert second
    assert third
    assert (third.references, third.choices) == (("z",), ())
    assert (first.references, first.choices, first.subject) == (
        ("x", "y"),
        ("x", "y", "z"),
        "general",
    )
    assert second.subject == "algebra"
    assert lines.records[0] == {"questionID": 1, "question": "?"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: is not JSON"),
        ("[]", "line 2: expected an object, got a list"),
        ('{"question": "?", "answer": "x"}', '"questionID" must be a string or a whole number'),
        ('{"questionID": 1, "answer": "x"}', '"subject" and "question" must be strings'),
        ('{"questionID": 1, "question": "?"}', 'no right answer to compare with: add "answer"'),
        ('{"questionID": 1, "question": "?", "answers": []}', "no right answer to compare with"),
        ('{"questionID": 1, "question": "?", "answer": null}', "no right answer to compare with"),
        ('{"questionID": 1, "question": "?", "answer": 5}', '"answer" must be a string'),
        ('{"questionID": 1, "question": "?", "answer": "x", "answers": []}', "keep one of them"),
        ('{"questionID": "q0", "question": "?", "answer": "x"}', "questionID is already used by "),
        ('{"questionID": "\\ud800", "question": "?", "answer": "x"}', "half of a surrogate pair"),
        ('{"questionID": 1, "question": "?", "answer": "x", "choices": "x"}', '"choices" must be'),
        ('{"questionID": 1, "question": "?", "answer": "x", "difficulty": 3}', '"difficulty" must'),
    ],
)
def test_a_bad_record_is_named_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(RECORDS[0]) + "\n" + line)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        questions.read(path)
    assert f"{path}, line 2: " in str(error.value)


def test_several_files_are_read_as_one(tmp_path: Path) -> None:
    first = write_questions(tmp_path, RECORDS[:4], "a.jsonl")
    second = write_questions(tmp_path, RECORDS[4:], "b.jsonl")
    asked = questions.read(first, second)
    assert [record["questionID"] for record in asked.records] == IDS
    assert asked.name == "a.jsonl, b.jsonl"
    assert (
        len({asked.sha256, questions.read(first).sha256, questions.read(second, first).sha256}) == 3
    )
    again = write_questions(tmp_path, RECORDS[3:4], "c.jsonl")
    message = f"{again}, line 1: its questionID is already used by {first}, line 4"
    with pytest.raises(EvaluationError, match=re.escape(message)):
        questions.read(first, again)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """It has no bytes left for its fingerprint, and cannot be hidden."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    lines = write_questions(tmp_path).read_bytes()
    threading.Thread(target=path.write_bytes, args=[lines], daemon=True).start()
    with pytest.raises(OSError, match="not a regular file"):
        questions.read(path)


def test_a_file_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no question in it can be scored"):
        questions.read(write_questions(tmp_path, []))
    with pytest.raises(UserError, match="cannot be read"):
        questions.read(tmp_path / "none.jsonl")


def test_the_sample_questions_have_references_and_serve_the_runtime_as_well() -> None:
    asked = questions.read(SAMPLES)
    assert sum(item is None for item in asked.items) == 1  # the one that is blank on purpose
    assert [q.id for q in read_file(SAMPLES)] == [r["questionID"] for r in asked.records]
