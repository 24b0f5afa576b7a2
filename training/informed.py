"""Puts passages before questions of a corpus, so that an adapter learns to use or ignore them.

After RAFT (Zhang et al., "RAFT: Adapting Language Model to Domain Specific RAG", 2024): some
questions come with the right passage among others, some with wrong passages only. Passages are
searched, trimmed and shown as in serving.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runtime.retrieval import Index
from runtime.retrieval.search import LONG, SHORT, find
from runtime.retrieval.tokens import tokens
from training.corpus import Pair


def with_passages(pairs: Sequence[Pair], index: Index, top_k: int) -> list[Pair]:
    """Every pair, and again with passages if the knowledge base has some for it.

    The passages are those that serving would show, alternating between the lengths that a gate may
    choose. If they do not contain the answer, but those found for question and answer together do,
    the latter are used.

    Args:
        pairs: of one subject.
        index: that subject's knowledge base.
        top_k: sentences are taken from at most this many passages.
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
    """Whether a passage contains the answer, word for word."""
    wanted = tokens(answer)
    if not wanted:  # only words that a search ignores, as in "The Who"
        return False
    for passage in passages:
        found = tokens(passage)
        places = range(len(found) - len(wanted) + 1)
        if any(found[at : at + len(wanted)] == wanted for at in places):
            return True
    return False
