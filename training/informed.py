"""Passages before the questions of a corpus, so that an adapter learns to copy or to ignore them.

After RAFT (Zhang et al., "RAFT: Adapting Language Model to Domain Specific RAG", 2024): some
questions stand behind the passage that answers them among others, some behind the others alone.
Passages are searched, trimmed and shown as in serving.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runtime.retrieval import Index
from runtime.retrieval.search import LONG, SHORT, find
from runtime.retrieval.tokens import tokens
from training.corpus import Pair


def with_passages(pairs: Sequence[Pair], index: Index, top_k: int) -> list[Pair]:
    """Every pair as it is and, where the base has something for it, once more behind passages.

    Those are what serving would show, in the lengths that a gate may choose, by turns. Where the
    answer is not in them but is in what is found for question and answer together, the latter
    are shown: a right passage among others. Else they are wrong ones alone.

    Args:
        pairs: of one subject.
        index: that subject's base.
        top_k: from at most this many passages are sentences shown.
    """
    both = []
    for number, pair in enumerate(pairs):
        both.append(pair)
        words = (SHORT, LONG)[number % 2]
        shown = find(index, pair.question, top_k, words).passages
        if not tells(shown, pair.answer):
            helped = find(index, f"{pair.question} {pair.answer}", top_k, words).passages
            shown = helped if tells(helped, pair.answer) else shown
        if shown:
            both.append(replace(pair, passages=tuple(shown)))
    return both


def tells(passages: Sequence[str], answer: str) -> bool:
    """Whether an answer stands in one of some passages, word for word."""
    wanted = tokens(answer)
    if not wanted:  # words that a search does not see, as in "The Who"
        return False
    for passage in passages:
        found = tokens(passage)
        places = range(len(found) - len(wanted) + 1)
        if any(found[at : at + len(wanted)] == wanted for at in places):
            return True
    return False
