"""What a contender gets and gives back, as JSON files, and how it is timed."""

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
    """One question in the forms that contenders take.

    Attributes:
        question: as the files have it, with `questionID`, `subject` and `question`.
        text: the whole prompt, the chat template rendered.
        tokens: the same as token ids.
    """

    question: dict[str, Any]
    text: str
    tokens: list[int]


@dataclass(frozen=True)
class Work:
    """What every contender has to do.

    Attributes:
        model: the GGUF file.
        prompts: all of them.
        new_tokens: of each answer, neither more nor fewer; greedy.
        slots: how many questions may be decoded at once.
        threads: of the CPU.
        cells: positions that the longest prompt with its answer may take.
        options: what tells the contenders of one page from each other.
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
    """What came of it.

    Attributes:
        load_seconds: from importing the library to being ready.
        answer_seconds: from the first prompt in to the last text out.
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


# Gives the answers' texts and the number of their tokens.
Answer = Callable[[], tuple[list[str], int]]


def serve(load: Callable[[Work], tuple[Answer, dict[str, str]]]) -> None:
    """Do the work that `sys.argv[1]` has, and write what came of it to `sys.argv[2]`.

    Args:
        load: makes everything ready; returns what answers, and the build's versions. No
            contender gets a question to warm up.
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
    """The largest resident memory that this process has had, mapped files included."""
    # ru_maxrss begins with what the parent had, Linux's own figure does not.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
