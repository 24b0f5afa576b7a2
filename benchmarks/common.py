"""Shared by the benchmarks: questions, settings, commands and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from runtime.common.child import command_of
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


def command(
    module: str, *arguments: str | Path, python: Path | None = None
) -> tuple[list[str], dict[str, str]]:
    """A command line that runs a module of this project, and an environment without its settings.

    Args:
        python: of another environment; by default this one.
    """
    line, environment = command_of(module, *map(str, arguments))
    ours = {setting.name for setting in all_settings(declared_subjects())}
    plain = {name: value for name, value in environment.items() if name not in ours}
    return [str(python), *line[1:]] if python else line, plain


def table(head: str, rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; `head` has the names of the columns, separated by "|"."""
    columns = head.split("|")
    lines = [[name.strip() for name in columns], ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
