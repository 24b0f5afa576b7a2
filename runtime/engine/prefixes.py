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

    def find(self, adapter: str | None, tokens: Sequence[int]) -> tuple[int, np.ndarray | None]:
        """How many of the first tokens some saved prefix has, and its state; (0, None) if none.

        The state may go on beyond them: what a slot holds can be cut.
        """
        best, key = 0, None
        for saved in self._saved:
            if saved[0] == adapter:
                n = _n_common(saved[1], tokens)
                if n > best:
                    best, key = n, saved
        if key is None:
            return 0, None
        self._saved.move_to_end(key)
        return best, self._saved[key].state

    def put(
        self, adapter: str | None, tokens: Sequence[int], state: np.ndarray, pinned: bool
    ) -> None:
        """Keep a state; a pinned one for good, any other until `trim` needs its room."""
        self._saved[adapter, tuple(tokens)] = _Saved(state, pinned)

    def pin(self, adapter: str | None, tokens: Sequence[int]) -> None:
        """Keep for good what is saved of this prefix."""
        wanted = tuple(tokens)
        for (saved_for, saved), entry in self._saved.items():
            if saved_for == adapter and saved[: len(wanted)] == wanted:
                entry.pinned = True
                return

    def trim(self) -> None:
        """Drop the least recently used that are not pinned until the rest fits the budget."""
        loose = {key: s.state.nbytes for key, s in self._saved.items() if not s.pinned}
        total = sum(loose.values())
        for key, size in loose.items():
            if total <= self.budget:
                break
            del self._saved[key]
            total -= size

    def forget(self, adapter: str | None) -> None:
        """Drop what is saved for an adapter."""
        for key in [key for key in self._saved if key[0] == adapter]:
            del self._saved[key]

    def clear(self) -> None:
        self._saved.clear()

    def __len__(self) -> int:
        return len(self._saved)


def _n_common(a: Sequence[int], b: Sequence[int]) -> int:
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n
