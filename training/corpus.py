"""Corpora of `{"question", "answer"}` records, in JSON or JSON Lines.

A record may have a `"solution"`: the steps that lead to the answer, as in GSM8K (Cobbe et al.,
arXiv:2110.14168). A small model that learns to answer at once finds few results; it has to write
the steps first.
"""

from __future__ import annotations

import logging
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.common.records import read_records
from runtime.questions import clean_text
from runtime.retrieval.tokens import has_han
from training.errors import TrainingError

log = logging.getLogger(__name__)

# Bad records that are listed one by one; the others are counted.
_NAMED = 20
# What GSM8K's solutions have for a calculator, "5 * 2 = <<5*2=10>>10", and their end, "#### 10".
_NOT_SAID = re.compile(r"<<[^<>\n]*>>|\n####[^\n]*$")


@dataclass(frozen=True)
class Pair:
    """A question and its answer, not empty.

    Attributes:
        question, answer: texts.
        where: their place in the file, such as "line 3".
        solution: the steps that lead to the answer, or "".
        passages: shown before the question (see `informed`).
    """

    question: str
    answer: str
    where: str
    solution: str = ""
    passages: tuple[str, ...] = ()

    @property
    def learned(self) -> str:
        """What the adapter learns to say: the answer, after its solution if there is one."""
        if not self.solution:
            return self.answer
        end = "答案是{}。" if has_han(self.solution) else "The answer is {}."
        return f"{self.solution}\n{end.format(self.answer)}"


def read_corpus(path: Path, skip_bad: bool) -> list[Pair]:
    """Read the pairs of a corpus.

    Args:
        path: a .json file with a list, or JSON Lines; keys other than "question", "answer" and
            "solution" are ignored.
        skip_bad: skip bad records and list them in the log.

    Raises:
        TrainingError: bad records that may not be skipped, or fewer than two good ones.
        SetupError: the file cannot be read.
    """
    pairs, problems = [], []
    for record in read_records(path):
        problem = record.problem or _problem(record.value)
        if problem:
            problems.append(f"{path}, {record.where} {problem}")
        else:
            question, answer, solution = (
                _text(record.value.get(key)) for key in ("question", "answer", "solution")
            )
            pairs.append(Pair(question, answer, record.where, _NOT_SAID.sub("", solution)))
    if problems and not skip_bad:
        raise TrainingError(
            "\n".join([*_first(problems), "correct them, or skip them with --bad-records skip"])
        )
    for line in _first(problems):
        log.warning("%s: skipped", line)
    if problems:
        log.warning("%s: %d of %d records skipped", path, len(problems), len(problems) + len(pairs))
    if len(pairs) < 2:
        raise TrainingError(
            f'{path}: {len(pairs)} records of {{"question", "answer"}} in it; at least 2 are needed'
        )
    return pairs


def _problem(record: Any) -> str:
    if not isinstance(record, dict):
        return f"is a {type(record).__name__}, not an object"
    for key in ("question", "answer", "solution"):
        value, needed = record.get(key), key != "solution"
        if value is None:
            if needed:
                return f'has no "{key}"'
        elif isinstance(value, bool) or not isinstance(value, (str, int, float)):
            return f'has a {type(value).__name__} as "{key}", not a text'
        elif needed and not _text(value):
            return f"has an empty {key}"
    return ""


def _text(value: str | float | None) -> str:
    return "" if value is None else clean_text(str(value))


def _first(problems: list[str]) -> list[str]:
    more = len(problems) - _NAMED
    return problems[:_NAMED] + ([f"... and {more} more"] if more > 0 else [])


def split(pairs: list[Pair], holdout: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Split pairs into those to train on and those held out.

    The share `holdout` of the distinct questions is held out: at least one if it is above 0, never
    all. All pairs with the same question are on the same side.
    """
    questions = list(dict.fromkeys(normalized(pair.question) for pair in pairs))
    random.Random(seed).shuffle(questions)
    n = min(max(1, round(holdout * len(questions))), len(questions) - 1) if holdout else 0
    held_out = set(questions[:n])
    kept: list[Pair] = []
    held: list[Pair] = []
    for pair in pairs:
        (held if normalized(pair.question) in held_out else kept).append(pair)
    return kept, held


def normalized(question: str) -> str:
    """A question without differences of case and white space."""
    return " ".join(question.split()).casefold()
