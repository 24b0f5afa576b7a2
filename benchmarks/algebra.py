"""`python -m benchmarks.algebra`: the ways of ALGEBRA_TOOL against the plain answer.

Asks the same questions with room for answers of several lengths, and counts the exercises that the
exact tool answers. For each way it gives the right answers by the judges of `evaluation`, with a
95 % interval, the seconds that it took and the contest's score, in which the best accuracy and the
shortest time here are 1. Needs the extra `algebra`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

from algebra import Solver
from benchmarks.lengths import of_one_length
from evaluation.judges import judge
from evaluation.questions import read
from evaluation.records import Item
from evaluation.score import ACCURACY_WEIGHT, LATENCY_WEIGHT
from runtime import Pipeline, Settings, loadPipeline
from runtime.common.command import run


@dataclass(frozen=True)
class Outcome:
    """How one way did: which answers are right, how many it gave itself, and in what time."""

    way: str
    right: list[bool]
    given: int
    seconds: float


def plain(pipeline: Pipeline, items: Sequence[Item], longest: int) -> tuple[Outcome, list[str]]:
    """The model's own answers."""
    records = [
        {"questionID": item.id, "subject": "algebra", "question": item.question} for item in items
    ]
    started = time.perf_counter()
    answers = [record["answer"] for record in pipeline(records)]
    seconds = time.perf_counter() - started
    name = f"plain, {longest} tokens"
    return Outcome(name, _judged(items, answers), len(items), seconds), answers


def exact(items: Sequence[Item], model: Outcome, otherwise: Sequence[str]) -> Outcome:
    """The exact tool's answers, and the model's for the rest, all of which are in the time."""
    with Solver() as solver:
        solver.answer("What is 1 + 1?")  # sympy is imported when a pipeline is loaded
        started = time.perf_counter()
        found = solver.answers([item.question for item in items])
        seconds = time.perf_counter() - started
    answers = [mine or theirs for mine, theirs in zip(found, otherwise, strict=True)]
    seconds += model.seconds
    return Outcome("exact", _judged(items, answers), sum(map(bool, found)), seconds)


def table(outcomes: Sequence[Outcome]) -> str:
    """A row for each way."""
    rows = [
        "| way | answered by it | right | 95 % interval | seconds | score |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    most = max(1, *(sum(outcome.right) for outcome in outcomes))
    shortest = min(outcome.seconds for outcome in outcomes)
    for outcome in outcomes:
        n, right = len(outcome.right), sum(outcome.right)
        low, high = _interval(right, n)
        score = ACCURACY_WEIGHT * right / most + LATENCY_WEIGHT * shortest / outcome.seconds
        rows.append(
            f"| {outcome.way} | {outcome.given} of {n} | {right} ({right / n:.1%}) |"
            f" {low:.0%} to {high:.0%} | {outcome.seconds:.1f} | {score:.2f} |"
        )
    return "\n".join(rows)


def _judged(items: Sequence[Item], answers: Sequence[str]) -> list[bool]:
    return [judge(item, text).correct for item, text in zip(items, answers, strict=True)]


def _interval(right: int, n: int) -> tuple[float, float]:
    """Wilson's."""
    z, share = 1.96, right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - half, middle + half


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.algebra", description=__doc__.partition(": ")[2].split("\n")[0]
    )
    parser.add_argument("--model", default="demo", help="MODEL_NAME (default: demo)")
    parser.add_argument("--adapters", type=Path, help="ADAPTERS_BASE_DIR")
    parser.add_argument("--questions", type=Path, required=True, help="file with right answers")
    parser.add_argument("--skip", type=int, default=0, help="leave out so many at the beginning")
    parser.add_argument("--limit", type=int, help="only so many of them")
    parser.add_argument(
        "--new-tokens", type=int, nargs="+", default=[128, 384], help="longest (default: 128 384)"
    )
    parser.add_argument("--slots", type=int, default=16, help="BATCH_SIZE (default: 16)")
    return run(_compare, parser.parse_args(argv))


def _compare(arguments: argparse.Namespace) -> int:
    items = [item for item in read(arguments.questions).items if item is not None]
    items = items[arguments.skip :][: arguments.limit]
    found: list[Outcome] = []
    for longest in arguments.new_tokens:
        with _pipeline(arguments, longest) as pipeline:
            bare, answers = plain(pipeline, items, longest)
            found.append(bare)
    found.append(exact(items, bare, answers))
    print(table(found))
    return 0


def _pipeline(arguments: argparse.Namespace, longest: int) -> Pipeline:
    """A pipeline whose greedy answers have at most `longest` tokens."""
    settings = Settings.load(
        model_name=arguments.model,
        adapters_base_dir=arguments.adapters,
        max_new_tokens=longest,
        min_new_tokens=1,
        temperature=0.0,
        batch_size=arguments.slots,
        algebra_tool="off",
    )
    return loadPipeline(of_one_length(settings))


if __name__ == "__main__":
    sys.exit(main())
