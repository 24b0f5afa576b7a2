"""`python -m benchmarks.knowledge`: answers without passages, with passages always, and gated.

For each subject with a knowledge base four calls are made: questions that pass the gate and those
that do not, each without and with passages. Together they give the results of the three ways, as
answers are greedy and so do not depend on the other questions of a call. The judges of `evaluation`
decide. The time includes the search. Without a gate file, or with a gate that is "off", gated
means without passages.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.common.command import parser_for, run
from runtime.common.intervals import sign_test

if TYPE_CHECKING:
    from evaluation.records import Item
    from runtime import Pipeline
    from runtime.retrieval import Retrieval


@dataclass(frozen=True)
class Part:
    """Some questions answered in one way.

    Attributes:
        right: whether each question's answer is right, by the question's index.
        wall, processor: seconds of wall time, and of this process's CPU time.
    """

    right: dict[int, bool]
    wall: float
    processor: float

    def __add__(self, other: Part) -> Part:
        seconds = (self.wall + other.wall, self.processor + other.processor)
        return Part(self.right | other.right, *seconds)


def ways(
    pipeline: Pipeline, subject: str, items: Sequence[Item], always: Retrieval, gated: Retrieval
) -> tuple[dict[str, Part], int]:
    """The three ways for a subject's questions, and how many questions pass the gate."""
    wall, processor = time.perf_counter(), time.process_time()
    through = [n for n, item in enumerate(items) if gated.passages(subject, item.question)]
    search = Part({}, time.perf_counter() - wall, time.process_time() - processor)
    others = [n for n in range(len(items)) if n not in set(through)]
    off_open, off_shut = (_answered(pipeline, items, part, None) for part in (through, others))
    on_open, on_shut = (_answered(pipeline, items, part, always) for part in (through, others))
    found = {
        "off": off_open + off_shut,
        "always": on_open + on_shut,
        "gated": search + on_open + off_shut,
    }
    return found, len(through)


def _answered(
    pipeline: Pipeline, items: Sequence[Item], part: Sequence[int], knowledge: Retrieval | None
) -> Part:
    from evaluation.judges import judge

    records = [
        {"questionID": n, "subject": items[n].subject, "question": items[n].question} for n in part
    ]
    wall, processor = time.perf_counter(), time.process_time()
    passages = [
        knowledge.passages(items[n].subject, items[n].question) if knowledge else [] for n in part
    ]
    answers = {answer.index: answer.answer for answer in pipeline.stream(records, passages)}
    seconds = (time.perf_counter() - wall, time.process_time() - processor)
    right = {n: judge(items[n], answers[place]).correct for place, n in enumerate(part)}
    return Part(right, *seconds)


def rows(subject: str, found: dict[str, Part], let_through: int) -> list[str]:
    """A row of the table for each way; the contest's score counts "off" as the best run."""
    from evaluation.score import ACCURACY_WEIGHT, LATENCY_WEIGHT, interval

    off = found["off"]
    lines = []
    for way, part in found.items():
        right = [part.right[n] for n in sorted(part.right)]
        share = interval(right)
        gained = sum(part.right[n] and not off.right[n] for n in off.right)
        lost = sum(off.right[n] and not part.right[n] for n in off.right)
        before = sum(off.right.values())
        score = LATENCY_WEIGHT * off.processor / max(1e-9, part.processor)
        score += ACCURACY_WEIGHT * (sum(right) / before if before else 1.0)
        shown = {"off": 0, "always": len(right), "gated": let_through}[way]
        lines.append(
            f"| {subject} | {way} | {shown} of {len(right)} | {sum(right)} ({share.mean:.1%}) |"
            f" {share.low:.0%} to {share.high:.0%} | +{gained} −{lost} |"
            f" {sign_test(gained, lost):.3f} | {part.processor:.1f} | {score:.2f} |"
        )
    return lines


HEAD = (
    "| subject | passages | shown with | right | 95 % interval | against off | p | seconds"
    " | score |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    parser.add_argument("--model", default="demo", help="MODEL_NAME (default: demo)")
    parser.add_argument("--adapters", type=Path, help="ADAPTERS_BASE_DIR")
    parser.add_argument("--kb", type=Path, default=Path("kb"), help="folder of bases and gates")
    parser.add_argument("--subjects", nargs="+", default=["geography", "history"])
    parser.add_argument(
        "--questions", type=Path, nargs="+", required=True, help="files with right answers"
    )
    parser.add_argument("--limit", type=int, help="at most this many questions of each subject")
    parser.add_argument("--new-tokens", type=int, default=32, help="longest answer (default: 32)")
    parser.add_argument("--slots", type=int, default=16, help="BATCH_SIZE (default: 16)")
    return run(_compare, parser.parse_args(argv), "stopped")


def _compare(arguments: argparse.Namespace) -> int:
    from evaluation.questions import read
    from runtime import Settings, loadPipeline
    from runtime.retrieval import Retrieval

    settings = Settings.load(
        model_name=arguments.model,
        adapters_base_dir=arguments.adapters,
        max_new_tokens=arguments.new_tokens,
        min_new_tokens=1,
        temperature=0.0,
        batch_size=arguments.slots,
    )
    items = [item for item in read(*arguments.questions).items if item is not None]
    print(HEAD, flush=True)
    with loadPipeline(settings) as pipeline:
        for subject in arguments.subjects:
            always = Retrieval.load(arguments.kb, {subject: "always"}, settings.rag_top_k)
            gated = Retrieval.load(arguments.kb, {subject: True}, settings.rag_top_k)
            asked = [item for item in items if item.subject == subject][: arguments.limit]
            print("\n".join(rows(subject, *ways(pipeline, subject, asked, always, gated))))
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
