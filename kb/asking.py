"""Asks a pipeline questions with given passages, and keeps the answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from evaluation.records import Item
from runtime import Pipeline, Settings
from runtime.common.errors import UserError
from runtime.common.journal import Journal
from runtime.files.manifest import ModelFiles

# The first tokens of an answer show how sure the model is.
_FIRST = 4
_ANSWERING = {
    "max_new_tokens",
    "max_tokens_multiplier",
    "min_new_tokens",
    "max_input_tokens",
    "stop",
    "temperature",
    "repetition_penalty",
    "kv_cache_type",
    "algebra_tool",
}


@dataclass(frozen=True)
class Said:
    """An answer and the log-probability of each of its tokens, in nats."""

    answer: str
    logprobs: tuple[float, ...]

    @property
    def doubt(self) -> float:
        """Minus the mean log-probability of the first tokens, in nats."""
        first = self.logprobs[:_FIRST]
        return -sum(first) / len(first) if first else 0.0

    @property
    def sureness(self) -> float:
        """The mean log-probability of all tokens, in nats."""
        return sum(self.logprobs) / len(self.logprobs) if self.logprobs else 0.0


class Asker:
    """Asks a pipeline; earlier answers of the same files and settings come from a journal.

    Args:
        pipeline: its own knowledge is not used.
        journal: JSON Lines, one line for each answer, created if missing; None keeps nothing.

    Raises:
        UserError: the journal is another kind of file.
        OSError: it cannot be read or created.
    """

    def __init__(self, pipeline: Pipeline, journal: Path | None) -> None:
        self._pipeline = pipeline
        self._files = ModelFiles()
        self._known: dict[str, Said] = {}
        self._journal = Journal(journal) if journal is not None else None
        for _, entry in self._journal.entries() if self._journal else ():
            try:
                key, answer, logprobs = entry
                self._known[str(key)] = Said(str(answer), tuple(map(float, logprobs)))
            except (ValueError, TypeError):
                raise UserError(
                    f"{journal} has records of another kind; give the name of a new file"
                ) from None

    def ask(self, items: Sequence[Item], passages: Sequence[Sequence[str]]) -> list[Said]:
        """Answers to questions, each with its passages, in order.

        Raises:
            UserError: a question that cannot be answered.
            OSError: the journal cannot be written.
        """
        keys = [self._key(item, shown) for item, shown in zip(items, passages, strict=True)]
        fresh = {key: n for n, key in enumerate(keys) if key not in self._known}
        todo = list(fresh.values())
        records = [
            {"questionID": items[n].id, "subject": items[n].subject, "question": items[n].question}
            for n in todo
        ]
        answers = self._pipeline.stream(records, [passages[n] for n in todo], logprobs=True)
        for answer in tqdm(answers, total=len(todo), unit=" answers", disable=None):
            if answer.problem:
                raise UserError(f"question {answer.question_id!r}: {answer.problem}")
            key = keys[todo[answer.index]]
            said = Said(answer.answer, tuple(round(x, 4) for x in answer.logprobs))
            self._known[key] = said
            if self._journal is not None:
                self._journal.append([key, said.answer, list(said.logprobs)])
        return [self._known[key] for key in keys]

    def _key(self, item: Item, passages: Sequence[str]) -> str:
        route = self._pipeline.routes[item.subject]
        asked = [
            *(self._files.identity(path) for path in (route.model, route.adapter) if path),
            answering(self._pipeline.settings, item.subject),
            item.question,
            list(passages),
        ]
        return hashlib.blake2b(json.dumps(asked).encode(), digest_size=16).hexdigest()


def answering(settings: Settings, subject: str) -> dict[str, Any]:
    """What greedy answers to a subject's questions depend on beside files: JSON values by name."""
    values = settings.model_dump(mode="json", include=_ANSWERING)
    declared = repr(settings.subjects[subject])
    return {"SUBJECTS_FILE": declared, **{name.upper(): each for name, each in values.items()}}
