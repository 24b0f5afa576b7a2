"""What changes a row of logits before a token is drawn from it. All functions work in place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def bias(row: np.ndarray, biases: Sequence[tuple[int, float]]) -> None:
    """Add to the logits of some tokens, as OpenAI's `logit_bias`; -inf forbids a token."""
    tokens, values = zip(*biases, strict=True)
    np.add.at(row, np.array(tokens, np.int64), np.array(values, np.float32))


def penalize(row: np.ndarray, seen: np.ndarray, penalty: float) -> None:
    """Apply a repetition penalty in place to `row` [vocab] for the token ids `seen`."""
    seen = np.unique(seen)
    values = row[seen]
    row[seen] = np.where(values > 0, values / penalty, values * penalty)


def lower(row: np.ndarray, written: np.ndarray, presence: float, frequency: float) -> None:
    """Subtract for each token `written`, once and for each time, as OpenAI's penalties."""
    tokens, counts = np.unique(written, return_counts=True)
    row[tokens] -= (frequency * counts + presence).astype(np.float32)


def allow_only(row: np.ndarray, tokens: Sequence[int]) -> None:
    """Forbid all tokens but these."""
    kept = row[list(tokens)]
    row[:] = -np.inf
    row[list(tokens)] = kept


def forbid(row: np.ndarray, tokens: Iterable[int]) -> None:
    """Forbid tokens."""
    row[list(tokens)] = -np.inf


def word_ends(words: Sequence[Sequence[int]], written: Sequence[int]) -> list[int]:
    """The last token of each word, where what was `written` ends with the tokens before it."""
    return [
        word[-1]
        for word in words
        if len(word) == 1 or list(written[1 - len(word) :]) == list(word[:-1])
    ]
