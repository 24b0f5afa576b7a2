"""Requests that have just come: what they have in common is computed before they wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from runtime.engine.cache import Cache
from runtime.engine.generation import Generation, Request
from runtime.engine.sampling import SamplingParams
from runtime.engine.scheduler import Scheduler
from runtime.engine.sharing import Sharing, Wanted
from runtime.engine.sizing import cells_needed

_NOTHING_NEW = SamplingParams(max_new_tokens=0)


class Arrivals:
    """Requests between `Engine.add` and the waiting room.

    What several of those that came together have in common is prefilled first, in steps like any
    prompt's, by a generation of its own. Nothing is lost by that: none of them would get a slot
    before the prompts that are being prefilled are complete.
    """

    def __init__(self, scheduler: Scheduler, sharing: Sharing, cache: Cache) -> None:
        self._scheduler = scheduler
        self._sharing = sharing
        self._cache = cache
        self._new: list[Generation] = []
        # Those that come next, and what they have in common that is still to be computed.
        self._next: list[Generation] = []
        self._missing: deque[Wanted] = deque()
        self._building: Generation | None = None

    def __len__(self) -> int:
        return len(self._new) + len(self._next)

    def add(self, generation: Generation) -> None:
        self._new.append(generation)

    def remove(self, generation: Generation) -> None:
        (self._next if generation in self._next else self._new).remove(generation)

    def next_prefix(self) -> Wanted | None:
        """What those that come next have in common and is still to be computed, one by one."""
        if not self._next:
            first = [generation for generation in self._new if not generation.request.background]
            rest = [generation for generation in self._new if generation.request.background]
            self._next, self._new = (first, rest) if first else (rest, [])
            in_common = self._sharing.in_common(self._next)
            self._missing = deque(self._sharing.missing(in_common))
        return self._missing.popleft() if self._missing else None

    def let_in(self) -> None:
        """Let those that come next wait for slots. No prompt may be half prefilled."""
        self._let_in(self._next)
        self._next = []

    def let_in_first(self) -> None:
        """Let those wait for slots that go before the background's, whose prompts are prefilled."""
        self._let_in([each for each in self._new if not each.request.background])
        self._new = [each for each in self._new if each.request.background]

    def _let_in(self, generations: Sequence[Generation]) -> None:
        self._sharing.hand_out(generations)
        self._sharing.saved.trim()
        for generation in generations:
            self._scheduler.add(generation)

    def begin(self, wanted: Wanted) -> bool:
        """Begin to compute a prefix; False if there is no room for it."""
        adapter, tokens = wanted
        free = self._scheduler.free_slots()
        if not free or cells_needed(len(tokens), 0) > self._cache.layout.cells:
            return False
        background = all(generation.request.background for generation in self._next)
        request = Request(tokens, _NOTHING_NEW, adapter=adapter, background=background)
        self._building = Generation(-1, request)
        self._scheduler.begin(self._building, free[-1])
        self._sharing.restore(self._building, least=1)
        return True

    def is_building(self, generation: Generation) -> bool:
        """Whether a generation computes what several have in common."""
        return generation is self._building

    def update(self) -> None:
        """Save the prefix that is being computed, if it is complete."""
        if self._building is not None and not self._building.n_to_prefill:
            self._sharing.save(self._building)
            self.stop()

    def stop(self) -> None:
        """Stop computing a prefix, and free its slot."""
        building, self._building = self._building, None
        if building is not None:
            self._scheduler.finish(building)
            if not self._cache.context.closed:
                self._cache.context.clear(building.slot)
