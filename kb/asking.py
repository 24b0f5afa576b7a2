"""Asks a pipeline the same questions with and without passages, and remembers what it said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from evaluation.records import Item
from runtime import Pipeline
from runtime.common.errors import UserError

# Of an answer's tokens those that tell how sure the model is.
_FIRST = 4


@dataclass(frozen=True)
class Said:
    """An answer and the log-probability of each of its tokens, in nats."""

    answer: str
    logprobs: tuple[float, ...]

    @property
    def doubt(self) -> float:
        """How unlikely the model found its own first tokens: minus their mean, in nats."""
        first = self.logprobs[:_FIRST]
        return -sum(first) / len(first) if first else 0.0

    @property
    def sureness(self) -> float:
        """The mean log-probability of all tokens, in nats."""
        return sum(self.logprobs) / len(self.logprobs) if self.logprobs else 0.0


class Asker:
    """Asks a pipeline, and what has been asked before it answers out of a file.

    Args:
        pipeline: its own knowledge is not used.
        journal: JSON Lines, a line for each answer; made if it is not there. None forgets.

    Raises:
        UserError: the journal has a line that is none of its own.
        OSError: it cannot be read.
    """

    def __init__(self, pipeline: Pipeline, journal: Path | None = None) -> None:
        self._pipeline = pipeline
        self._journal = journal
        self._known: dict[str, Said] = {}
        if journal is not None and journal.exists():
            lines = journal.read_text("utf-8").splitlines(keepends=True)
            for number, line in enumerate(lines, start=1):
                try:
                    key, answer, logprobs = json.loads(line)
                    self._known[key] = Said(answer, tuple(logprobs))
                except (ValueError, TypeError):
                    if number == len(lines) and not line.endswith("\n"):
                        continue  # cut off when a run was stopped
                    raise UserError(
                        f"{journal}, line {number}: not an answer that was kept; give another file"
                    ) from None

    def ask(self, items: Sequence[Item], passages: Sequence[Sequence[str]]) -> list[Said]:
        """Answers to questions with passages shown, in their order.

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
                with self._journal.open("a", encoding="utf-8") as file:
                    line = [key, said.answer, said.logprobs]
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return [self._known[key] for key in keys]

    def _key(self, item: Item, passages: Sequence[str]) -> str:
        settings = self._pipeline.settings
        route = self._pipeline.routes[item.subject]
        asked = [
            route.model.name,
            route.adapter.name if route.adapter else None,
            settings.longest_answer_of(item.subject),
            settings.min_new_tokens,
            settings.max_input_tokens,
            settings.temperature,
            item.subject,
            item.question,
            list(passages),
        ]
        return hashlib.blake2b(json.dumps(asked).encode(), digest_size=16).hexdigest()
