"""Saved KV states: what a slot holds after a prefix, so that no prefix is computed twice."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(eq=False)
class Saved:
    """What a slot holds after some tokens, computed with an adapter or none."""

    adapter: str | None
    tokens: tuple[int, ...]
    state: np.ndarray  # as `Context.save` returns it
    kept: bool = False  # of one request that has ended or runs, not what several have in common
    pinned: bool = False  # never dropped to make room


class PrefixCache:
    """Saved states by adapter and tokens.

    The tokens of each adapter's states are kept sorted. What has most in common with a prompt is
    then beside the place where the prompt would be, so that finding it takes a binary search.
    States that are not pinned may have `budget` bytes; the least recently used are dropped.
    """

    def __init__(self, budget: int = 256 * 2**20) -> None:
        self.budget = budget
        # Least recently used first.
        self._saved: OrderedDict[tuple[str | None, tuple[int, ...]], Saved] = OrderedDict()
        self._sorted: dict[str | None, list[tuple[int, ...]]] = {}

    def find(
        self, adapter: str | None, tokens: Sequence[int], longest: int | None = None
    ) -> tuple[int, Saved | None]:
        """The state, of at most `longest` tokens, with the longest beginning in common.

        Returns:
            how many tokens it has in common, and the state, which may have more tokens than
            that: a restored slot can be cut. (0, None) if there is none.
        """
        wanted = tuple(tokens)
        keys = self._sorted.get(adapter, [])
        place = bisect_left(keys, wanted)
        best, found = 0, None
        # Going away from the place to either side, ever less is in common.
        for side in (range(place, len(keys)), range(place - 1, -1, -1)):
            for at in side:
                n = _n_common(keys[at], wanted)
                if n <= best:
                    break
                if longest is None or len(keys[at]) <= longest:
                    best, found = n, keys[at]
                    break
        if found is None:
            return 0, None
        self._saved.move_to_end((adapter, found))
        return best, self._saved[adapter, found]

    def put(
        self, adapter: str | None, tokens: Sequence[int], state: np.ndarray, kept: bool = False
    ) -> None:
        """Save a state for as long as there is room.

        The newest stays until the next `trim` even if it alone takes more than the budget: those
        that it was made for have yet to find it. `make_room` first avoids that.
        """
        key = adapter, tuple(tokens)
        if key not in self._saved:
            insort(self._sorted.setdefault(adapter, []), key[1])
        self._saved[key] = Saved(adapter, key[1], state, kept)
        self._saved.move_to_end(key)
        self._trim(self.budget, len(self._saved) - 1)

    def make_room(self, adapter: str | None, tokens: Sequence[int], n_bytes: int) -> bool:
        """Drop what must go before a kept state of `n_bytes` is made for `tokens`.

        It takes the place of the kept state of a beginning of the tokens. Returns whether there
        is room now; if not, nothing was dropped.
        """
        if n_bytes > self.budget:
            return False
        wanted = tuple(tokens)
        keys = self._sorted.get(adapter, [])
        place = bisect_left(keys, wanted)
        if place:
            before = self._saved[adapter, keys[place - 1]]
            goes_on = wanted[: len(before.tokens)] == before.tokens
            if goes_on and before.kept and not before.pinned:
                self.drop(before)
        self._trim(self.budget - n_bytes, len(self._saved))
        return True

    def pin(self, adapter: str | None, tokens: Sequence[int]) -> None:
        """Keep the saved state of this prefix for good."""
        n, saved = self.find(adapter, tokens)
        if saved is not None and n == len(tokens):
            saved.pinned = True

    def trim(self) -> None:
        """Drop the least recently used that are not pinned until the rest fits the budget."""
        self._trim(self.budget, len(self._saved))

    @property
    def nbytes(self) -> int:
        """Bytes of all that are not pinned."""
        return sum(saved.state.nbytes for saved in self._saved.values() if not saved.pinned)

    def _trim(self, budget: int, most: int) -> None:
        """Drop at most the first `most` of them."""
        total = self.nbytes
        for saved in list(self._saved.values())[:most]:
            if total <= budget:
                return
            if not saved.pinned:
                self.drop(saved)
                total -= saved.state.nbytes

    def drop(self, saved: Saved) -> None:
        del self._saved[saved.adapter, saved.tokens]
        keys = self._sorted[saved.adapter]
        del keys[bisect_left(keys, saved.tokens)]

    def forget(self, adapter: str | None) -> None:
        for tokens in self._sorted.pop(adapter, []):
            del self._saved[adapter, tokens]

    def clear(self) -> None:
        self._saved.clear()
        self._sorted.clear()

    def __len__(self) -> int:
        return len(self._saved)


def _n_common(a: Sequence[int], b: Sequence[int]) -> int:
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n
