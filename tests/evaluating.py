"""Questions, pipelines and runs for the tests of `evaluation`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest

from evaluation import evaluate, protocol, questions, score
from evaluation.judging import Judge, Judging, Pair
from evaluation.records import Result, Run, Summary, Verdict
from runtime.settings import PROJECT_DIR

WORDS = ["apple", "banana", "cherry", "damson", "elder", "fig", "grape", "hazel", "iris", "kiwi"]


RECORDS: list[dict[str, Any]] = [
    {
        "questionID": f"q{n}",
        "subject": ["history", "geography"][n % 2],
        "question": f"Which fruit is number {n}?",
        "answer": word,
        "difficulty": "easy" if n < 5 else "hard",
    }
    for n, word in enumerate(WORDS)
]


IDS = [record["questionID"] for record in RECORDS]


GOOD = [{"questionID": f"q{n}", "answer": f"It is {word}."} for n, word in enumerate(WORDS)]


# The body of a call that knows all answers.
RIGHT = f"return {GOOD!r}"


ALL_RIGHT = [record["answer"] for record in GOOD]


def right_after(statements: str) -> str:
    """The body of a call that does something else first."""
    return f"{textwrap.dedent(statements).strip()}\n{RIGHT}"


def contains(pairs: Sequence[Pair]) -> list[Verdict]:
    """A judge that looks for a reference in the answer."""
    right = [any(r in answer for r in item.references) for item, answer in pairs]
    return [Verdict(each, float(each), "contains", "looked for it") for each in right]


def judging_by(judge: Judge, name: str = "contains") -> Judging:
    return Judging(name, lambda: nullcontext(judge))


def write_questions(folder: Path, records: Sequence[Any] = RECORDS, name: str = "q.jsonl") -> Path:
    path = folder / "questions" / name  # a folder of their own, as files saved there may be lost
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return path


def write_pipeline(folder: Path, call: str, load: str = "", name: str = "entry.py") -> str:
    """A file with a pipeline whose call has this body; returns what --pipeline takes for it."""
    body = textwrap.indent(textwrap.dedent(call).strip(), " " * 8)
    setup = textwrap.indent(textwrap.dedent(load).strip() or "pass", " " * 4)
    path = folder / name
    path.write_text(
        "import ctypes, os, subprocess, sys, time\n\n"
        f"class Pipeline:\n    def __call__(self, questions):\n{body}\n\n"
        f"def loadPipeline():\n{setup}\n    return Pipeline()\n",
        encoding="utf-8",
    )
    return f"{path}:loadPipeline"


def plan(path: Path, call: str, load: str = "", **options: Any) -> evaluate.Plan:
    values: dict[str, Any] = {
        "questions": questions.read(write_questions(path)),
        "pipeline": write_pipeline(path, call, load),
        "folder": path / "report" / "run",
        "judging": judging_by(contains),
        "setup_timeout": 30.0,
        "timeout": 30.0,
    }
    return evaluate.Plan(**(values | options))


def score_of(path: Path, call: str, load: str = "", **options: Any) -> Summary:
    return evaluate.evaluate(plan(path, call, load, **options))


def run_of(
    path: Path,
    call: str,
    load: str = "",
    timeout: float = 30.0,
    hide: Sequence[Path] | None = (),
) -> Run:
    """A call without judging and report, which take longer than it."""
    pipeline = write_pipeline(path, call, load)
    return protocol.call(pipeline, RECORDS, path / "log", timeout, timeout, hide=hide)


# Whether a pipeline runs in namespaces of its own, which not all systems allow.
both_ways = pytest.mark.parametrize("hide", [(), None], ids=["namespaces", "none"])


def command_line(
    *arguments: str | Path, status: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-m", "evaluation", *map(str, arguments)],
        cwd=PROJECT_DIR,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == status, result.stderr
    return result


def stored(
    folder: Path,
    name: str,
    right: int,
    seconds: float | None,
    credit: float | None = None,
    **fields: Any,
) -> tuple[Path, Summary]:
    """The files of a run that has `right` of 10 questions right, but for its page.

    Args:
        credit: what a right answer counts after guessing is taken off, or None for a report
            that does not tell.
    """
    correct = [n < right for n in range(10)]
    results = [
        Result(
            questionID=n,
            subject="history",
            question="?",
            references=["x"],
            answer="",
            correct=each,
            credit=None if credit is None else credit * each,
            score=float(each),
            judge="contains",
            reason="",
        )
        for n, each in enumerate(correct)
    ]
    values: dict[str, Any] = {
        "name": name,
        "pipeline": "a:loadPipeline",
        "questions": "q.jsonl",
        "questions_sha256": "0" * 64,
        "machine": "this one",
        "judge": "contains",
        "created": "2026-01-01T00:00:00+00:00",
        "accuracy": score.interval(correct),
        "by_subject": {"history": score.interval(correct)},
        "latency": score.latency(Run(answers=["x"] * 10, call_seconds=seconds)),
        "setup_seconds": 1.0,
        "peak_memory": 1,
        "gated": right < 1,
    }
    if credit is not None:
        values["without_guessing"] = score.credited([credit * each for each in correct])
    summary = Summary(**(values | fields))
    (folder / name).mkdir()
    # What a page takes, its plots above all, takes longer than all else.
    lines = [result.model_dump_json() for result in results]
    (folder / name / "results.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / name / "summary.json").write_text(summary.model_dump_json(), encoding="utf-8")
    return folder / name, summary


def sleeping(seconds: str) -> list[int]:
    """Processes `sleep SECONDS`."""
    running = psutil.process_iter(["cmdline"])
    return [each.pid for each in running if (each.info["cmdline"] or [])[-1:] == [seconds]]
