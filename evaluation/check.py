"""Checks whether the contest would accept a pipeline's output.

The output must be a list with one {"questionID", "answer"} for each question in order, and nothing
else. In a broken output, an answer counts if it is in the place of its question and correct in
itself. All others count as missing, and so as wrong: a shuffled output gets no credit for answers
in other places, and a short one keeps its answers.

The pipeline's process converts the output to plain data (`evaluation.worker.as_plain`) and sends it
as JSON; it is checked here, in the evaluation's own process. Only exact lists, dicts and strings
count: a subclass could do its work later, when it is read.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from evaluation.worker import described

LONGEST_ANSWER = 5000  # characters
_KEYS = {"questionID", "answer"}


def check(output: Any, ids: list[Any]) -> tuple[list[str | None], list[str]]:
    """(answers, violations): one answer for each id, None where there is none that counts.

    Args:
        output: what `as_plain` made of the output, read from JSON; anything else is a violation.
        ids: the questionIDs that were sent, strings and whole numbers, all different.
    """
    if not isinstance(output, list):
        return [None] * len(ids), [f"the output is {_told(output)}, not a list"]
    violations = []
    if len(output) != len(ids):
        many = "few" if len(output) < len(ids) else "many"
        violations.append(
            f"too {many} answers: {len(output)} came, {len(ids)} questions were asked"
        )
    answers: list[str | None] = []
    faults: dict[str, list[tuple[str, str]]] = {}
    for number, (id_, record) in enumerate(zip(ids, output, strict=False), start=1):
        kind, fault = _fault(record, id_)
        if fault:
            faults.setdefault(kind, []).append((f"answer {number} (questionID {id_!r})", fault))
        answers.append(None if fault else record["answer"])
    answers += [None] * (len(ids) - len(answers))
    misplaced = faults.get("id", [])
    if misplaced and _same_ids(output, ids):
        del faults["id"]
        violations.append(
            "the answers are in another order than the questions:"
            f" {len(misplaced)} of {len(ids)} are not in their place"
        )
    return answers, violations + [_summed_up(cases) for cases in faults.values()]


def _told(value: Any) -> str:
    """The worker's description of a value, or the type of what it sent instead."""
    if isinstance(value, dict) and set(value) == {"is"}:
        value = value["is"]
    elif not isinstance(value, str):
        return described(value)
    return "".join(c if c.isprintable() else "?" for c in str(value)[:60])


def _fault(record: Any, id_: Any) -> tuple[str, str]:
    """(kind of fault, description) of one answer, or ("", "")."""
    if not isinstance(record, dict):
        return "record", f"is {_told(record)}, not a dict"
    missing = sorted(_KEYS - record.keys())
    if missing:
        return "missing", f"has no {' and no '.join(map(repr, missing))}"
    if not _same(record["questionID"], id_):
        return "id", f"has another questionID: {_shown(record['questionID'])}"
    if len(record) > len(_KEYS):
        other = next(key for key in record if key not in _KEYS)
        return "extra", f"has an extra key: {_shown(other)}"
    answer = record["answer"]
    if not isinstance(answer, str):
        kind = _told(answer) if isinstance(answer, dict) else described(answer)
        return "type", f"is {kind}, not a string"
    if len(answer) > LONGEST_ANSWER:
        return "length", f"is {len(answer):,} characters long, {LONGEST_ANSWER:,} are allowed"
    try:
        answer.encode("utf-8")
    except UnicodeEncodeError:
        return "unicode", "has half of a surrogate pair, which is not a character"
    return "", ""


def _summed_up(cases: list[tuple[str, str]]) -> str:
    """The first case in full, and the number of others."""
    (name, fault), *others = cases
    if not others:
        return f"{name} {fault}"
    return f"{name} {fault}; {len(others)} more like it, the last is {others[-1][0]}"


def _same_ids(output: list[Any], ids: list[Any]) -> bool:
    """Whether the output has exactly the ids of the questions, in any order."""
    came = [record.get("questionID") for record in output if isinstance(record, dict)]
    if not all(type(id_) in (str, int) for id_ in came):
        return False
    return Counter((type(id_), id_) for id_ in came) == Counter((type(id_), id_) for id_ in ids)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _shown(value: Any) -> str:
    text = _told(value) if isinstance(value, dict) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
