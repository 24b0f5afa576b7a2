"""`python -m benchmarks.reranking`: whether another order of the found passages shows more answers.

What BM25 finds is put in order in several ways: as it is, as in serving (with boosts for tags,
titles and years), by a static embedding model (WordLlama, `pip install wordllama`), by that and
serving's together (reciprocal ranks: Cormack et al., 2009), and by the served model itself: how
likely it finds the question after the passage (Sachan et al., "Improving Passage Retrieval with
Zero-Shot Question Generation", 2022). What counts is whether the first passages tell the right
answer, and what the order costs: seconds that this process had a core.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from evaluation.questions import read
from evaluation.records import Item
from runtime import Pipeline, Settings, loadPipeline
from runtime.common.command import run
from runtime.retrieval import Index, Passage
from runtime.retrieval.search import candidates
from runtime.retrieval.tokens import tokens
from training.informed import tells

Order = Callable[[Item, Sequence[Passage]], Sequence[int]]
"""Places of a question's passages, best first; they are given in serving's order."""

_TOGETHER = 60  # of reciprocal ranks, as in the paper


def text(passage: Passage) -> str:
    return f"{passage.heading}: {passage.text}" if passage.heading else passage.text


def as_in_serving(item: Item, passages: Sequence[Passage]) -> Sequence[int]:
    return range(len(passages))


def by_score(index: Index) -> Order:
    """By BM25 alone."""

    def order(item: Item, passages: Sequence[Passage]) -> Sequence[int]:
        found = [number for number, _ in index.search(tokens(item.question), len(passages))]
        places = {passage.id: place for place, passage in enumerate(passages)}
        return [places[number] for number in found if number in places]

    return order


def by_embedding() -> Order:
    """By the cosine of question and passage in WordLlama's 256 dimensions."""
    import wordllama  # type: ignore[import-not-found]

    # Its tokenizer is in the package, where its own search looks for a cache alone.
    package = Path(wordllama.__file__).parent
    model = wordllama.WordLlama.load(cache_dir=package, disable_download=True)

    def order(item: Item, passages: Sequence[Passage]) -> Sequence[int]:
        vectors = model.embed([item.question, *map(text, passages)], norm=True)
        return [int(n) for n in np.argsort(-(vectors[1:] @ vectors[0]), kind="stable")]

    return order


def together(other: Order) -> Order:
    """By the sum of the reciprocal ranks in serving's order and in another."""

    def order(item: Item, passages: Sequence[Passage]) -> Sequence[int]:
        value = [1 / (_TOGETHER + place) for place in range(len(passages))]
        for rank, place in enumerate(other(item, passages)):
            value[place] += 1 / (_TOGETHER + rank)
        return [int(n) for n in np.argsort(-np.array(value), kind="stable")]

    return order


def by_model(pipeline: Pipeline) -> Order:
    """By the likelihood of the question after the passage."""

    def likelihood(item: Item, passage: Passage) -> float:
        request = f"{text(passage)}\n\nPlease write a question based on this passage."
        asked = {"questionID": item.id, "subject": item.subject, "question": request}
        return pipeline.log_likelihoods(asked, [item.question])[0]

    def order(item: Item, passages: Sequence[Passage]) -> Sequence[int]:
        likely = [likelihood(item, passage) for passage in passages]
        return [int(n) for n in np.argsort(-np.array(likely), kind="stable")]

    return order


def row(name: str, order: Order, items: Sequence[Item], found: Sequence[list[Passage]]) -> str:
    """How many answers are told in the first passage and in the first three, and the time."""
    first = three = 0
    seconds = 0.0
    pairs = list(zip(items, found, strict=True))
    for item, passages in tqdm(pairs, desc=name, unit=" questions", disable=None):
        started = time.process_time()
        best = [text(passages[place]) for place in order(item, passages)[:3]]
        seconds += time.process_time() - started
        first += any(tells(best[:1], answer) for answer in item.references)
        three += any(tells(best, answer) for answer in item.references)
    return f"| {name} | {first} | {three} | {1000 * seconds / len(items):.1f} |"


def _compare(arguments: argparse.Namespace) -> int:
    settings = Settings.load(model_name=arguments.model, algebra_tool="off")
    index = Index.load(arguments.kb, arguments.subject)
    asked = read(*arguments.questions).items
    items = [item for item in asked if item and item.subject == arguments.subject]
    items = items[: arguments.limit]
    found = []
    for item in items:
        words = list(dict.fromkeys(tokens(item.question)))
        best = candidates(index, item.question, words, arguments.candidates)
        found.append([passage for passage, _ in best])
    told = sum(
        any(tells(list(map(text, passages)), answer) for answer in item.references)
        for item, passages in zip(items, found, strict=True)
    )
    print(f"{len(items)} questions; the answer is in {told} of the {arguments.candidates} found")
    print("| order | told by the first | by the first three | ms a question |")
    print("| --- | --- | --- | --- |")
    embedding = by_embedding()
    print(row("BM25", by_score(index), items, found))
    print(row("as in serving", as_in_serving, items, found))
    print(row("static embedding", embedding, items, found))
    print(row("both", together(embedding), items, found), flush=True)
    with loadPipeline(settings) as pipeline:
        model = by_model(pipeline)
        print(row("the served model", model, items, found))
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reranking", description=__doc__.partition(": ")[2].split("\n")[0]
    )
    parser.add_argument("--model", default="demo", help="MODEL_NAME (default: demo)")
    parser.add_argument("--kb", type=Path, default=Path("kb"), help="folder of the base")
    parser.add_argument("--subject", default="geography")
    parser.add_argument("--questions", type=Path, nargs="+", required=True)
    parser.add_argument("--limit", type=int, default=100, help="questions (default: 100)")
    parser.add_argument("--candidates", type=int, default=8, help="of a question (default: 8)")
    return run(_compare, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
