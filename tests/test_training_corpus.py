"""What is read of a corpus, and what of it is held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.finetuning import RECORDS, write
from training.corpus import Pair, read_corpus, split
from training.errors import TrainingError


def test_a_corpus_is_json_lines_or_a_json_list(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.jsonl", *RECORDS)
    (tmp_path / "a.json").write_text(json.dumps(RECORDS))
    read = [
        [(p.question, p.answer) for p in read_corpus(f, False)]
        for f in (lines, tmp_path / "a.json")
    ]
    assert read[0] == read[1] == [(r["question"], r["answer"]) for r in RECORDS]


BAD: list[tuple[Any, str]] = [
    ("{not json", "is not JSON"),
    ("[1, 2]", "is a list, not an object"),
    ({"question": "Why?"}, 'has no "answer"'),
    ({"question": None, "answer": "x"}, 'has no "question"'),
    ({"question": " \n", "answer": "x"}, "has an empty question"),
    ({"question": "Why?", "answer": ["x"]}, 'has a list as "answer", not a text'),
    ({"question": "Why?", "answer": True}, 'has a bool as "answer", not a text'),
    ({"question": "Why?", "answer": "x", "solution": []}, 'has a list as "solution", not a text'),
]


def test_bad_records_are_named_by_file_and_line_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "c.jsonl", *RECORDS, *(record for record, _ in BAD))
    assert len(read_corpus(path, skip_bad=True)) == len(RECORDS)
    for n, (_, problem) in enumerate(BAD, start=len(RECORDS) + 1):
        assert f"{path}, line {n} {problem}" in caplog.text
    assert f"{len(BAD)} of {len(RECORDS) + len(BAD)} records skipped" in caplog.text


def test_bad_records_are_refused_if_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", *RECORDS, BAD[0][0])
    with pytest.raises(TrainingError, match=rf"line {len(RECORDS) + 1} is not JSON"):
        read_corpus(path, skip_bad=False)


def test_numbers_are_answers_too(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", {"question": "1+1?", "answer": 2}, RECORDS[0])
    assert read_corpus(path, skip_bad=False)[0].answer == "2"


def test_a_solution_is_learned_before_its_answer(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c.jsonl",
        {"question": "2 * 5?", "answer": 10, "solution": "It is 2 * 5 = <<2*5=10>>10.\n#### 10"},
        {"question": "2 * 0?", "answer": 0, "solution": None},
        {"question": "二乘五？", "answer": "10", "solution": "2 × 5 = 10"},
        {"question": "二乘五？", "answer": "10", "solution": "二乘五是10"},
    )
    assert [pair.learned for pair in read_corpus(path, skip_bad=False)] == [
        "It is 2 * 5 = 10.\nThe answer is 10.",
        "0",
        "2 × 5 = 10\nThe answer is 10.",
        "二乘五是10\n答案是10。",
    ]


def test_what_is_held_out_is_not_learned() -> None:
    pairs = [Pair(f"question {n // 2}" + " " * (n % 2), "a", "") for n in range(40)]
    train, held_out = split(pairs, 0.2, seed=3)
    asked = [{" ".join(p.question.split()) for p in part} for part in (train, held_out)]
    assert not asked[0] & asked[1]
    assert (len(train), len(held_out)) == (32, 8)
    assert split(pairs, 0.2, seed=3) == (train, held_out)
    assert split(pairs, 0.2, seed=4) != (train, held_out)
    assert split(pairs, 0, seed=3)[1] == []
