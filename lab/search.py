"""`python -m lab.search`: what it takes to find passages, in a base of any size.

The base is taken several times over, so that every token is in so many times more passages, and
asked each question; times are those of this process on a core.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from evaluation.questions import read
from runtime import Settings
from runtime.common.command import parser_for, run
from runtime.retrieval import Index
from runtime.retrieval.search import find
from runtime.retrieval.tokens import tokens


def multiplied(folder: Path, subject: str, copies: int) -> Index:
    """A base that has each passage of another so many times.

    Raises:
        KnowledgeError: a base that cannot be used.
    """
    index = Index.load(folder, subject)
    n = len(index)
    token = np.repeat(np.arange(len(index.indptr) - 1), np.diff(index.indptr))
    order = np.argsort(np.tile(token, copies), kind="stable")
    indices = np.concatenate([index.indices + copy * n for copy in range(copies)])
    index.indices, index.data = indices[order], np.tile(index.data, copies)[order]
    index.indptr = index.indptr * copies
    starts, ends = index.offsets[:-1], index.offsets[1:]
    index.offsets = np.append(np.tile(starts, copies), ends[-1])
    index.passage = lambda number: Index.passage(index, number % n)  # type: ignore[method-assign]
    return index


def milliseconds(work: Callable[[str], object], questions: Sequence[str]) -> float:
    """The mean time of some work on a question, once it is warm."""
    work(questions[0])
    started = time.process_time()
    for question in questions:
        work(question)
    return 1000 * (time.process_time() - started) / len(questions)


def main(argv: list[str] | None = None) -> int:
    parser = parser_for(__doc__)
    parser.add_argument("--kb", type=Path, default=Path("kb"), help="folder of the base")
    parser.add_argument("--subject", default="geography")
    parser.add_argument("--questions", type=Path, nargs="+", required=True)
    parser.add_argument("--copies", type=int, nargs="+", default=[1], help="of each passage")
    return run(_measure, parser.parse_args(argv))


def _measure(arguments: argparse.Namespace) -> int:
    questions = [item.question for item in read(*arguments.questions).items if item is not None]
    top_k = Settings.load().rag_top_k
    print("| passages | search, ms | with sentences, ms |\n| --- | --- | --- |")
    for copies in arguments.copies:
        index = multiplied(arguments.kb, arguments.subject, copies)
        search = milliseconds(lambda text: index.search(tokens(text), 8), questions)  # noqa: B023
        whole = milliseconds(lambda text: find(index, text, top_k), questions)  # noqa: B023
        print(f"| {len(index):,} | {search:.2f} | {whole:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
