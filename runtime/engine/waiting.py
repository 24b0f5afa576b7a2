"""Whose turn it is: the requests that wait, and which of them get the next free slots.

Two goals conflict with the order in which requests arrive: prompts of similar length are best
prefilled together, longest first, and requests with different adapters cannot share a call
where llama.cpp applies an adapter to the whole context. Both are pursued within one bound: **no
request is overtaken by more than `patience` requests that came after it.** Background requests
are another matter: all others go before them.
"""

from __future__ import annotations

from bisect import insort
from collections import deque

from runtime.engine.generation import Generation


class WaitingRoom:
    """Requests in the order they came, those in the background after the others.

    `patience` later requests may overtake a waiting one; where adapters are `shared`, requests
    with different ones may run together. `n_streamed` of those that wait are streamed.
    """

    def __init__(self, patience: int, shared: bool = False) -> None:
        if patience < 0:
            raise ValueError("patience must not be negative")
        self.patience = patience
        self.shared = shared
        self.n_streamed = 0
        self._first, self._background = _Queue(), _Queue()
        self._suspended: deque[Generation] = deque()  # in the background
        self._outgrown: deque[Generation] = deque()

    def __len__(self) -> int:
        return self.n_first + len(self._suspended) + len(self._background)

    @property
    def n_first(self) -> int:
        """How many wait that are not in the background."""
        return len(self._first) + len(self._outgrown)

    def add(self, generation: Generation) -> None:
        """Add a request. Its `n_cached` must not change while it waits."""
        self.n_streamed += generation.request.streamed
        queue = self._background if generation.request.background else self._first
        queue.add(generation, self._kind(generation))

    def put_back(self, generation: Generation) -> None:
        """Add a request that had a slot: it goes before those of its kind that had none."""
        self.n_streamed += generation.request.streamed
        if generation.request.background:
            self._suspended.appendleft(generation)
        else:
            self._outgrown.append(generation)

    def remove(self, generation: Generation) -> None:
        """Take one out that waits."""
        self.n_streamed -= generation.request.streamed
        for suspended in (self._suspended, self._outgrown):
            if generation in suspended:
                suspended.remove(generation)
                return
        queue = self._background if generation.request.background else self._first
        queue.remove(generation, self._kind(generation))

    def take(self, running: list[Generation], cells: int) -> Generation | None:
        """The next to be served, taken out; None if it must wait for those that run.

        If it needs more than the `cells` of a slot, it waits, and so do those behind it.
        """
        chosen = self.next(running)
        if chosen is None or chosen.cells > cells:
            return None
        self.remove(chosen)
        return chosen

    def next(self, running: list[Generation]) -> Generation | None:
        """What `take` would take."""
        if suspended := self._outgrown or (not self._first and self._suspended):
            queue, oldest = None, suspended[0]
        elif queue := self._first or self._background:
            oldest = queue.oldest
        else:
            return None
        kind = self._kind(running[0] if running else oldest)
        if queue is not None:
            return queue.next(kind, self.patience)
        return oldest if self._kind(oldest) == kind else None

    def _kind(self, generation: Generation) -> str | None:
        """Requests of one kind may run together."""
        return None if self.shared else generation.request.adapter


class _Queue:
    """Requests of which the longest go first, within their patience."""

    def __init__(self) -> None:
        self._waiting: dict[int, Generation] = {}  # by index; dicts keep the order
        # By kind, longest first: (-tokens to prefill, index).
        self._by_length: dict[str | None, list[tuple[int, int]]] = {}
        self._ranks: dict[int, int] = {}  # index → how many came before it
        self._arrived = 0
        self._left = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def oldest(self) -> Generation:
        return next(iter(self._waiting.values()))

    def add(self, generation: Generation, kind: str | None) -> None:
        self._waiting[generation.index] = generation
        self._ranks[generation.index] = self._arrived
        self._arrived += 1
        insort(self._by_length.setdefault(kind, []), _key(generation))

    def remove(self, generation: Generation, kind: str | None) -> None:
        del self._waiting[generation.index], self._ranks[generation.index]
        self._left += 1
        self._by_length[kind].remove(_key(generation))
        if not self._by_length[kind]:
            del self._by_length[kind]

    def next(self, kind: str | None, patience: int) -> Generation | None:
        """The next of a kind; None if one of another kind has been overtaken often enough."""
        oldest = self.oldest
        # All that came before the oldest have left; the others that left have overtaken it.
        if patience <= self._left - self._ranks[oldest.index]:
            return oldest if _key(oldest) in self._by_length.get(kind, ()) else None
        # Among those that came within its patience, the longest of this kind.
        for _, index in self._by_length.get(kind, ()):
            if self._ranks[index] <= self._ranks[oldest.index] + patience:
                return self._waiting[index]
        return None


def _key(generation: Generation) -> tuple[int, int]:
    return (-generation.n_to_prefill, generation.index)
