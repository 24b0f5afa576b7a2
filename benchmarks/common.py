"""Shared by the benchmarks: questions, settings, the environment and tables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from runtime.common.errors import SetupError
from runtime.common.records import read_records
from runtime.settings import PROJECT_DIR, Settings, all_settings, declared_subjects

SAMPLE_QUESTIONS = PROJECT_DIR / "data" / "sample_questions.jsonl"
_KEYS = ("questionID", "subject", "question")


def read_questions(
    files: Sequence[Path], count: int | None, usual: int | None = None
) -> list[dict[str, Any]]:
    """The first questions of each file in turn, without repeats and without their answers.

    Args:
        files: files with questions; the sample questions if empty.
        count: how many; None takes `usual`, or as many as there are.
        usual: see `count`; None takes all.

    Raises:
        SetupError: a file cannot be read, or there are fewer than `count` questions.
    """
    by_file = [[record.value for record in read_records(p)] for p in files or [SAMPLE_QUESTIONS]]
    mixed = [q for q in chain.from_iterable(zip_longest(*by_file)) if q and q["question"].strip()]
    found = {q["question"].strip(): q for q in mixed}  # a repeated question would be cheap for some
    if count and len(found) < count:
        raise SetupError(f"{count} questions are wanted, but there are {len(found)}: --count")
    return [{key: q.get(key, "") for key in _KEYS} for q in list(found.values())[: count or usual]]


def of_one_length(settings: Settings) -> Settings:
    """Settings in which every subject's longest answer is MAX_NEW_TOKENS."""
    subjects = settings.subjects
    declared = tuple(replace(subject, length=1.0) for subject in subjects.declared)
    return settings.model_copy(update={"subjects": replace(subjects, declared=declared)})


def plain_environment() -> dict[str, str]:
    """This process's environment without the project's settings."""
    ours = {setting.name for setting in all_settings(declared_subjects())}
    return {name: value for name, value in os.environ.items() if name not in ours}


def table(head: str, rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; `head` has the names of the columns, separated by "|"."""
    columns = head.split("|")
    lines = [[name.strip() for name in columns], ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
