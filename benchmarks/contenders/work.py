"""The input and output of a contender, as JSON files, and its timing."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Prompt:
    """One question in the forms that contenders need.

    Attributes:
        question: a record with `questionID`, `subject` and `question`.
        text: the whole prompt with the chat template applied.
        tokens: the same as token ids.
    """

    question: dict[str, Any]
    text: str
    tokens: list[int]


@dataclass(frozen=True)
class Work:
    """The task of a contender.

    Attributes:
        model: the GGUF file.
        prompts: all prompts.
        new_tokens: exact number of tokens of each answer; greedy.
        slots: how many questions may be decoded at once.
        threads: CPU threads.
        cells: positions for the longest prompt and its answer.
        options: options of the contender's module.
    """

    model: str
    prompts: list[Prompt]
    new_tokens: int
    slots: int
    threads: int
    cells: int
    options: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["prompts"] = [Prompt(**prompt) for prompt in values["prompts"]]
        return cls(**values)


@dataclass(frozen=True)
class Outcome:
    """A contender's result.

    Attributes:
        load_seconds: from importing the library until it is ready.
        answer_seconds: from the first prompt to the last text.
        new_tokens: of all answers together.
        peak_bytes: the largest resident memory of the process, mapped files included.
        texts: the answers, in the order of the prompts.
        build: versions and builds, by name.
    """

    load_seconds: float
    answer_seconds: float
    new_tokens: int
    peak_bytes: int
    texts: list[str]
    build: dict[str, str]


# Returns the answers' texts and their number of tokens.
Answer = Callable[[], tuple[list[str], int]]


def serve(load: Callable[[Work], tuple[Answer, dict[str, str]]]) -> None:
    """Read the work from `sys.argv[1]`, do it, and write the outcome to `sys.argv[2]`.

    `load` prepares everything and returns the function that answers, and versions.
    """
    work, target = Work.read(Path(sys.argv[1])), Path(sys.argv[2])
    started = time.perf_counter()
    answer, build = load(work)
    loaded = time.perf_counter()
    texts, new_tokens = answer()
    done = time.perf_counter()
    outcome = Outcome(loaded - started, done - loaded, new_tokens, peak_bytes(), texts, build)
    target.write_text(json.dumps(asdict(outcome)), encoding="utf-8")


def peak_bytes() -> int:
    """The largest resident memory of this process so far, mapped files included."""
    # ru_maxrss starts at the parent's value, VmHWM does not.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
