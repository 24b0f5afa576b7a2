"""Questions from records of any kind.

Every record becomes a `Question`. One that cannot be answered has a `problem`, and costs no
other its answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runtime.common.records import read_records

# C0 and C1 controls but tab and newline.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Question:
    """One question, checked."""

    id: Any  # the caller's questionID as it came, of any type; None if missing
    subject: str = ""  # as it came, or "" if it is missing or not a string
    text: str = ""  # without control characters and lone surrogates
    problem: str = ""  # why it cannot be answered
    warning: str = ""  # what is odd about it though it can be answered
    draws: str = ""  # what its random draws depend on; "" is the setting `SEED` and its id

    @property
    def key(self) -> str:
        """A text that is different for different ids of any type."""
        return shown(self.id)


def shown(value: Any) -> str:
    """A value as Python writes it."""
    try:
        return repr(value)
    except Exception:  # a number of 5,000 digits, a list nested 1,000 deep, ...
        return f"<{type(value).__name__} that cannot be shown>"


def parse(items: Any) -> list[Question]:
    """Questions from a list of dicts, as the contest's harness sends it; in order.

    Raises:
        TypeError: `items` is not a list (or other iterable) of records.
    """
    if isinstance(items, (str, bytes, dict)) or not isinstance(items, Iterable):
        raise TypeError(
            'expected a list of {"questionID", "subject", "question"} dicts,'
            f" got {type(items).__name__}"
        )
    questions = [item if isinstance(item, Question) else parse_one(item) for item in items]
    return _note_duplicates(questions)


def parse_one(item: Any) -> Question:
    """One question from one record of any kind."""
    if not isinstance(item, dict):
        return Question(None, problem=f"expected a dict, got {type(item).__name__}")
    id_ = item.get("questionID")
    warnings = []
    if id_ is None:
        warnings.append("it has no questionID")
    subject = item.get("subject", "")
    if not isinstance(subject, str):
        if subject is not None:
            warnings.append(f"its subject is a {type(subject).__name__}: taken as none")
        subject = ""
    text = item.get("question")
    if text is None:
        return Question(id_, subject, problem='it has no "question"')
    if not isinstance(text, str):
        return Question(
            id_, subject, problem=f"its question is a {type(text).__name__}, not a string"
        )
    text = clean_text(text)
    if not text:
        return Question(id_, subject, problem="the question is empty")
    return Question(id_, subject, text, warning="; ".join(warnings))


def clean_text(text: str) -> str:
    """The text without control characters and lone surrogates, which tokenizers refuse."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return _CONTROL.sub(" ", text.replace("\r\n", "\n")).strip()


def read_file(path: Path) -> list[Question]:
    """Questions from JSON Lines, or from a JSON list if the file's name ends in .json.

    A broken line becomes a question with a problem that names the line.

    Raises:
        SetupError: the file cannot be read, or a .json file is not a JSON list.
    """
    questions = [
        Question(None, problem=f"{record.where} {record.problem}")
        if record.problem
        else parse_one(record.value)
        for record in read_records(path)
    ]
    return _note_duplicates(questions)


def _note_duplicates(questions: list[Question]) -> list[Question]:
    seen: set[str] = set()
    noted = []
    for question in questions:
        key = question.key
        if question.id is not None and key in seen:
            warning = "; ".join(filter(None, [question.warning, "its questionID is not unique"]))
            question = replace(question, warning=warning)
        seen.add(key)
        noted.append(question)
    return noted
