"""Answers questions without passages, with passages always, and with passages behind the gate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from evaluation.judges import judge
from evaluation.records import Item
from runtime import Pipeline
from runtime.retrieval import Gate, Index, Retrieval


@dataclass(frozen=True)
class Part:
    """Some questions answered in one way.

    Attributes:
        right: whether the answer is right, by number of the question.
        answers: the answers, by number of the question.
        wall, processor: elapsed seconds, and CPU seconds of this process.
    """

    right: dict[int, bool]
    answers: dict[int, str]
    wall: float
    processor: float

    def __add__(self, other: Part) -> Part:
        return Part(
            self.right | other.right,
            self.answers | other.answers,
            self.wall + other.wall,
            self.processor + other.processor,
        )

    def record(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    @classmethod
    def of(cls, record: dict[str, Any]) -> Self:
        """The part of a `record`, whose keys JSON made texts."""
        right, answers = (
            {int(n): value for n, value in record[name].items()} for name in ("right", "answers")
        )
        return cls(right, answers, record["wall"], record["processor"])

    def against(self, before: Part) -> tuple[list[int], list[int]]:
        """The questions that are right only here, and those right only before."""
        gained = [n for n in sorted(self.right) if self.right[n] and not before.right[n]]
        lost = [n for n in sorted(self.right) if before.right[n] and not self.right[n]]
        return gained, lost


Keep = Callable[[str, Callable[[], Part]], Part]
"""Returns a part, given its name and a function that answers it; may reuse an earlier result."""


def answered(
    pipeline: Pipeline,
    items: Sequence[Item],
    numbers: Sequence[int],
    knowledge: Retrieval | None = None,
) -> Part:
    """Answer some of the items, with passages if there is knowledge; includes the search time."""
    records = [
        {"questionID": n, "subject": items[n].subject, "question": items[n].question}
        for n in numbers
    ]
    wall, processor = time.perf_counter(), time.process_time()
    passages = [
        knowledge.passages(items[n].subject, items[n].question) if knowledge else []
        for n in numbers
    ]
    said = {numbers[each.index]: each.answer for each in pipeline.stream(records, passages)}
    seconds = (time.perf_counter() - wall, time.process_time() - processor)
    right = {n: judge(items[n], said[n]).correct for n in numbers}
    return Part(right, said, *seconds)


def retrievals(folder: Path, subject: str, top_k: int) -> tuple[Retrieval, Retrieval]:
    """A retrieval that shows passages for every question of a subject, and one behind its gate.

    Both show as many words as the gate was calibrated for. Without a gate the second shows none.

    Raises:
        KnowledgeError: the base or the gate cannot be used.
    """
    index = Index.load(folder, subject)
    shut = Gate(subject=subject, base_sha256=index.base_sha256, mode="off")
    gate = Gate.load(folder, subject, index.base_sha256) or shut
    open_ = gate.model_copy(update={"mode": "always"})
    always, gated = (Retrieval({subject: (index, each)}, top_k) for each in (open_, gate))
    return always, gated


def ways(
    pipeline: Pipeline,
    subject: str,
    items: Sequence[Item],
    always: Retrieval,
    gated: Retrieval,
    keep: Keep = lambda name, work: work(),
) -> tuple[dict[str, Part], int]:
    """A subject's questions answered in three ways, and how many the gate lets through.

    Answers are greedy, so they do not depend on which other questions are asked. Four parts give
    the three ways: the questions that the gate lets through and the others, each without and with
    passages.

    Args:
        always, gated: see `retrievals`.
        keep: answers each part, or returns it from an earlier run.
    """
    wall, processor = time.perf_counter(), time.process_time()
    through = [n for n, item in enumerate(items) if gated.passages(subject, item.question)]
    search = Part({}, {}, time.perf_counter() - wall, time.process_time() - processor)
    others = sorted(set(range(len(items))) - set(through))
    parts = {
        name: keep(name, lambda: answered(pipeline, items, numbers, knowledge))  # noqa: B023
        for name, numbers, knowledge in (
            ("let through, without passages", through, None),
            ("others, without passages", others, None),
            ("let through, with passages", through, always),
            ("others, with passages", others, always),
        )
    }
    off_open, off_shut, on_open, on_shut = parts.values()
    found = {
        "off": off_open + off_shut,
        "always": on_open + on_shut,
        "gated": search + on_open + off_shut,
    }
    return found, len(through)
