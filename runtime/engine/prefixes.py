"""Saved caches of prompt prefixes, so that each is decoded once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass
class _Saved:
    state: np.ndarray
    pinned: bool


class PrefixCache:
    """What a slot holds after a prefix, by adapter and tokens; bytes as llama.cpp saves them.

    Args:
        budget: bytes that prefixes which are not pinned may take after `trim`.
    """

    def __init__(self, budget: int = 256 * 2**20) -> None:
        self.budget = budget
        # Least recently used first.
        self._saved: OrderedDict[tuple[str | None, tuple[int, ...]], _Saved] = OrderedDict()

    def longest(self, adapter: str | None, tokens: Sequence[int]) -> int:
        """Length of the longest saved prefix of `tokens`, 0 if there is none."""
        tokens = tuple(tokens)
        return max(
            (len(p) for a, p in self._saved if a == adapter and tokens[: len(p)] == p), default=0
        )

    def get(self, adapter: str | None, tokens: Sequence[int]) -> np.ndarray:
        """The saved state of exactly this prefix. Raises KeyError."""
        key = (adapter, tuple(tokens))
        self._saved.move_to_end(key)
        return self._saved[key].state

    def put(
        self, adapter: str | None, tokens: Sequence[int], state: np.ndarray, pinned: bool
    ) -> None:
        """Keep a state; a pinned one for good, any other until `trim` needs its room."""
        self._saved[adapter, tuple(tokens)] = _Saved(state, pinned)

    def pin(self, adapter: str | None, tokens: Sequence[int]) -> None:
        """Keep what is saved already for good. Raises KeyError."""
        self._saved[adapter, tuple(tokens)].pinned = True

    def trim(self) -> None:
        """Drop the least recently used that are not pinned until the rest fits the budget."""
        loose = {key: s.state.nbytes for key, s in self._saved.items() if not s.pinned}
        total = sum(loose.values())
        for key, size in loose.items():
            if total <= self.budget:
                break
            del self._saved[key]
            total -= size

    def clear(self) -> None:
        self._saved.clear()

    def __len__(self) -> int:
        return len(self._saved)
