"""Saved caches of prompt prefixes, so that each is decoded once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass
class _Saved:
    state: np.ndarray
    pinned: bool = False


class PrefixCache:
    """What a slot holds after a prefix, by adapter and tokens; bytes as llama.cpp saves them.

    Args:
        budget: bytes of all prefixes that are not pinned. Where one is put and they take more,
            the least recently used are dropped.
    """

    def __init__(self, budget: int = 256 * 2**20) -> None:
        self.budget = budget
        # Least recently used first.
        self._saved: OrderedDict[tuple[str | None, tuple[int, ...]], _Saved] = OrderedDict()

    def find(self, adapter: str | None, tokens: Sequence[int]) -> tuple[int, np.ndarray | None]:
        """The longest saved beginning of `tokens`: its length and state; (0, None) if none.

        The state may have more tokens than that: a restored slot can be cut.
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

    def put(self, adapter: str | None, tokens: Sequence[int], state: np.ndarray) -> None:
        """Keep a state for as long as there is room.

        The newest stays also where it takes more than all the room, until the next `trim`:
        those that it was made for have yet to find it.
        """
        key = adapter, tuple(tokens)
        self._saved[key] = _Saved(state)
        self._saved.move_to_end(key)
        self._trim(len(self._saved) - 1)

    def pin(self, adapter: str | None, tokens: Sequence[int]) -> None:
        """Keep the saved state of this prefix for good."""
        wanted = tuple(tokens)
        for (saved_for, saved), entry in self._saved.items():
            if saved_for == adapter and saved[: len(wanted)] == wanted:
                entry.pinned = True
                return

    def trim(self) -> None:
        """Drop the least recently used that are not pinned until the rest fits the budget."""
        self._trim(len(self._saved))

    @property
    def nbytes(self) -> int:
        """Bytes of all that are not pinned."""
        return sum(saved.state.nbytes for saved in self._saved.values() if not saved.pinned)

    def _trim(self, most: int) -> None:
        """Drop at most the first `most` of them."""
        total = self.nbytes
        for key, saved in list(self._saved.items())[:most]:
            if total <= self.budget:
                return
            if not saved.pinned:
                del self._saved[key]
                total -= saved.state.nbytes

    def forget(self, adapter: str | None) -> None:
        """Drop the states of an adapter."""
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
