"""Whose turn it is: the requests that wait, and which of them get the next free slots.

Two goals conflict with the order in which requests arrive: prompts of similar length are best
prefilled together, longest first, and requests with different adapters cannot share a call
where llama.cpp applies an adapter to the whole context. Both are pursued within one bound: **no
request is overtaken by more than `patience` requests that came after it.**
"""

from __future__ import annotations

from bisect import insort

from runtime.engine.generation import Generation


class WaitingRoom:
    """Requests in the order they came.

    Args:
        patience: how many later requests may overtake a waiting one.
        shared: requests with different adapters may run together.

    Attributes:
        n_streamed: how many of those that wait are read while they grow.
    """

    def __init__(self, patience: int, shared: bool = False) -> None:
        if patience < 0:
            raise ValueError("patience must not be negative")
        self.patience = patience
        self.shared = shared
        self.n_streamed = 0
        self._waiting: dict[int, Generation] = {}  # by index; dicts keep the order
        # By adapter, longest first: (-tokens to prefill, index).
        self._by_length: dict[str | None, list[tuple[int, int]]] = {}
        self._ranks: dict[int, int] = {}  # index → how many came before it
        self._arrived = 0
        self._left = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, generation: Generation) -> None:
        """Add a request. Its `n_cached` must not change while it waits."""
        self._waiting[generation.index] = generation
        self.n_streamed += generation.request.streamed
        self._ranks[generation.index] = self._arrived
        self._arrived += 1
        insort(self._by_length.setdefault(self._kind(generation), []), _key(generation))

    def remove(self, index: int) -> Generation | None:
        """Take one out; None if it does not wait."""
        generation = self._waiting.pop(index, None)
        if generation is not None:
            del self._ranks[index]
            self._left += 1
            self.n_streamed -= generation.request.streamed
            kind = self._kind(generation)
            self._by_length[kind].remove(_key(generation))
            if not self._by_length[kind]:
                del self._by_length[kind]
        return generation

    def take(self, running: list[Generation], cells: int) -> Generation | None:
        """The next to be served, taken out; None if it must wait for those that run.

        Args:
            running: what holds slots now.
            cells: of a slot. If the next one needs more, it waits, and so do those behind it.
        """
        chosen = self.next(running)
        if chosen is None or chosen.cells > cells:
            return None
        return self.remove(chosen.index)

    def next(self, running: list[Generation]) -> Generation | None:
        """What `take` would take."""
        if not self._waiting:
            return None
        oldest = next(iter(self._waiting.values()))
        # All that came before the oldest have left; the others that left have overtaken it.
        patience = self.patience - (self._left - self._ranks[oldest.index])
        kind = self._kind(running[0]) if running else self._kind(oldest)
        if patience <= 0:
            return oldest if self._kind(oldest) == kind else None
        # Among those that came within its patience, the longest of this adapter.
        for _, index in self._by_length.get(kind, ()):
            if self._ranks[index] <= self._ranks[oldest.index] + self.patience:
                return self._waiting[index]
        return None

    def _kind(self, generation: Generation) -> str | None:
        return None if self.shared else generation.request.adapter


def _key(generation: Generation) -> tuple[int, int]:
    return (-generation.n_to_prefill, generation.index)
