"""Prefixes that requests share: decoded once, found again by those that come later."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from runtime.engine.cache import Cache
from runtime.engine.generation import Generation, common_prefix
from runtime.engine.llama import EngineError
from runtime.engine.prefixes import PrefixCache
from runtime.engine.runner import Prefix, Runner
from runtime.engine.scheduler import Scheduler
from runtime.engine.sizing import Layout, cells_needed

log = logging.getLogger(__name__)

# A prefix shorter than this is not worth a copy of its cache.
MIN_SHARED = 8

# An adapter, or None, and the tokens of a prefix for it.
Wanted = tuple[str | None, tuple[int, ...]]


class Sharing:
    """Decodes what arrivals have in common, and gives each what is saved of its prompt.

    Args:
        saved: where prefixes are kept.
        cache, runner, scheduler: the engine's; not owned.
        resize: lays the cache out anew.
    """

    def __init__(
        self,
        saved: PrefixCache,
        cache: Cache,
        runner: Runner,
        scheduler: Scheduler,
        resize: Callable[[Layout], None],
    ) -> None:
        self._saved = saved
        self._cache = cache
        self._runner = runner
        self._scheduler = scheduler
        self._resize = resize

    def prepare(self, arrivals: Sequence[Generation]) -> None:
        """Decode the prefixes that arrivals share, and note for each what is saved of its prompt.

        Raises:
            EngineError: the cache could not be laid out anew, and what was in it is lost.
        """
        try:
            self.save(self._common(arrivals))
        except EngineError as error:
            if self._cache.context.closed:
                raise
            log.debug("prefixes are not shared: %s", error)
        for generation in arrivals:
            request = generation.request
            sharable = request.prompt[: generation.n_shareable]
            n_saved, state = self._saved.find(request.adapter, sharable)
            if n_saved >= MIN_SHARED:
                generation.n_cached, generation.prefix = n_saved, state

    def save(self, wanted: Sequence[Wanted]) -> None:
        """Decode prefixes and keep their caches; each goes on from what another has computed.

        One after another: side by side they would be padded to the longest, and none could
        begin with what is the same in another, which costs more than the calls that it saves.

        Raises:
            EngineError: llama.cpp refused a call.
        """
        new = [(a, p) for a, p in dict.fromkeys(wanted) if self._saved.find(a, p)[0] < len(p)]
        if not new:
            return
        needed = cells_needed(max(len(tokens) for _, tokens in new), 0)
        too_short = needed > self._cache.layout.cells and self._cache.can_resize
        if too_short and not self._scheduler.held:
            self._resize(self._cache.layout_for(needed, self._cache.layout.slots))
        free = self._scheduler.free_slots()
        # By adapter: to switch makes llama.cpp plan its calls anew.
        for adapter, tokens in sorted(new, key=lambda each: each[0] or ""):
            if free and cells_needed(len(tokens), 0) <= self._cache.layout.cells:
                self._runner.use({adapter})
                begun = Prefix(tokens, adapter, *self._saved.find(adapter, tokens))
                self._saved.put(adapter, tokens, self._runner.prefix(begun, free[0]), pinned=False)

    def _common(self, arrivals: Sequence[Generation]) -> list[Wanted]:
        """What at least two of a group have in common, and enough more than is saved already."""
        groups: dict[tuple[str | None, str], list[Generation]] = {}
        for generation in arrivals:
            request = generation.request
            groups.setdefault((request.adapter, request.group), []).append(generation)
        wanted = []
        for (adapter, _), members in groups.items():
            shared = common_prefix([g.request.prompt for g in members])
            shared = shared[: min(g.n_shareable for g in members)]
            n_new = len(shared) - self._saved.find(adapter, shared)[0]
            if len(members) > 1 and n_new >= MIN_SHARED:
                wanted.append((adapter, shared))
        return wanted
