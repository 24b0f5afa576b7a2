"""Files of questions with their right answers.

JSON Lines, or a JSON list if the file's name ends in .json, of

    {"questionID": "1", "subject": "algebra", "question": "What is 7 times 8?", "answer": "56"}

with "answers": [...] instead of "answer" if there are several right answers, and optionally
"choices": [...] (all answers on offer) and "difficulty".
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.errors import EvaluationError
from evaluation.records import Item
from runtime.common.files import read_bytes
from runtime.common.records import read_records
from runtime.settings import declared_subjects
from runtime.subjects import Subjects

# The keys of a record that a pipeline gets; the others are for the judges.
GIVEN = ("questionID", "subject", "question")


@dataclass(frozen=True)
class Questions:
    """The questions of some files.

    A blank question is sent to the pipeline, as in the contest, and the form of its answer is
    checked. It is not scored, because it has no right answer.

    Attributes:
        name: names of the files; `sha256` is the fingerprint of their bytes.
        records: what the pipeline gets, in order: "questionID", "question" and "subject"
            (which may be missing), unchanged.
        items: for each record, what is needed to judge its answer; None for a blank question.
        paths: the files.
    """

    name: str
    sha256: str
    records: list[dict[str, Any]]
    items: list[Item | None]
    paths: tuple[Path, ...] = ()


def read(*paths: Path) -> Questions:
    """Read files of questions, one after the other.

    Raises:
        SetupError: a file cannot be read, or the file of subjects (`SUBJECTS_FILE`) is wrong.
        EvaluationError: a record cannot be used; the message names the file, the line (in a
            .json file the place in the list) and what to do.
        OSError: a file is a pipe, which cannot be hidden from a pipeline.
    """
    records: list[dict[str, Any]] = []
    items: list[Item | None] = []
    seen: dict[str, str] = {}
    subjects = declared_subjects()
    for path in paths:
        for record in read_records(path):
            where = f"{path}, {record.where}"
            try:
                if record.problem:
                    raise _UnfitError(record.problem)
                items.append(_item(record.value, subjects))
                first = seen.setdefault(repr(record.value["questionID"]), where)
                if first is not where:
                    raise _UnfitError(
                        f"its questionID is already used by {first}: give it another one"
                    )
            except _UnfitError as problem:
                raise EvaluationError(f"{where}: {problem}") from None
            records.append({key: record.value[key] for key in GIVEN if key in record.value})
    names = ", ".join(path.name for path in paths)
    if not any(items):
        raise EvaluationError(f"{names}: no question in it can be scored")
    sha256 = hashlib.sha256(b"".join(map(read_bytes, paths))).hexdigest()
    return Questions(names, sha256, records, items, paths)


class _UnfitError(Exception):
    """A record cannot be used; the message says why."""


def _item(record: Any, subjects: Subjects) -> Item | None:
    """The data for the judges, or None for a blank question. Raises _UnfitError."""
    if not isinstance(record, dict):
        raise _UnfitError(f"expected an object, got a {type(record).__name__}")
    id_ = record.get("questionID")
    if type(id_) not in (str, int):
        raise _UnfitError('its "questionID" must be a string or a whole number')
    subject = record.get("subject", "")
    question = record.get("question")
    if not isinstance(subject, str) or not isinstance(question, str):
        raise _UnfitError('its "subject" and "question" must be strings')
    try:
        json.dumps(record, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise _UnfitError("it has half of a surrogate pair, which is not a character") from None
    if not question.strip():
        return None
    # Tables that were exported have null where a column is empty.
    record = {key: value for key, value in record.items() if value is not None}
    references = _references(record)
    choices = _texts(record, "choices")
    difficulty = record.get("difficulty")
    if not isinstance(difficulty, str | None):
        raise _UnfitError('its "difficulty" must be a string, such as "easy"')
    solution = record.get("solution", "")
    if not isinstance(solution, str):
        raise _UnfitError('its "solution" must be a string')
    meant = subjects.of(subject)
    return Item(id_, meant.name, question, references, choices, difficulty, meant.judge, solution)


def _references(record: dict[str, Any]) -> tuple[str, ...]:
    if "answer" in record and "answers" in record:
        raise _UnfitError('it has "answer" and "answers": keep one of them')
    if "answers" in record:
        references = _texts(record, "answers")
    elif "answer" in record:
        references = _texts({"answer": [record["answer"]]}, "answer")
    else:
        references = ()
    if not references:
        raise _UnfitError(
            'it has no right answer to compare with: add "answer": "..." or "answers": ["...", ...]'
        )
    return references


def _texts(record: dict[str, Any], key: str) -> tuple[str, ...]:
    """A list of non-blank strings, or () if there is no such key. Raises _UnfitError."""
    texts = record.get(key, [])
    if not isinstance(texts, list) or not all(isinstance(t, str) and t.strip() for t in texts):
        kind = "a string" if key == "answer" else "a list of strings"
        raise _UnfitError(f'its "{key}" must be {kind}, and not blank')
    return tuple(texts)
