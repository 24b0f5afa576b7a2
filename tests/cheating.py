"""Pipelines written by tests, and what `evaluation` makes of them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation import protocol
from evaluation.evaluate import judge_all
from evaluation.judging import rules
from evaluation.questions import Questions, read
from evaluation.records import Run

WORDS = ["apple", "banana", "cherry", "damson", "elder", "fig"]
QUESTIONS = [
    {
        "questionID": f"q{n}",
        "subject": "general",
        "question": f"Which fruit is number {n}?",
        "answer": word,
    }
    for n, word in enumerate(WORDS)
]
CHOOSING = [
    {
        "questionID": f"c{n}",
        "subject": "geography",
        "question": f"Which city has number {n}?",
        "answer": ["London", "Paris", "Rome"][n % 3],
        "choices": ["London", "Paris", "Rome"],
    }
    for n in range(6)
]
ANSWERS = f"[dict(questionID=f'q{{n}}', answer=w) for n, w in enumerate({WORDS!r})]"


def run(
    folder: Path, source: str, records: Sequence[dict[str, Any]] = QUESTIONS, timeout: float = 20
) -> tuple[Run, float]:
    """What comes of a module with a `loadPipeline`, and the accuracy of it."""
    asked = asked_in(folder, records)
    (folder / "cheat.py").write_text(textwrap.dedent(source), encoding="utf-8")
    found = protocol.call(
        f"{folder / 'cheat.py'}:loadPipeline",
        asked.records,
        folder / "log",
        timeout,
        timeout,
        hide=asked.paths,
    )
    results = judge_all(asked, found, rules())
    return found, sum(result.correct for result in results) / len(results)


def asked_in(folder: Path, records: Sequence[dict[str, Any]]) -> Questions:
    path = folder / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return read(path)
