"""Prefixes that requests share: which ones are worth decoding once, and who gets them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from runtime.engine.generation import Generation
from runtime.engine.llama import EngineError
from runtime.engine.prefixes import PrefixCache
from runtime.engine.runner import Runner

log = logging.getLogger(__name__)

# A prefix shorter than this is not worth a copy of its cache.
MIN_SHARED = 8
# A prompt with fewer new tokens is kept with its answer only, not before it, too.
MIN_NEW_PROMPT = 64

# Attention of a token over this many others costs twice as much as everything else for it, where a
# call has fewer tokens of the prompt than an attention tile (demo: over 130 others, as much).
_LIKE_TWO_TOKENS = 300

# An adapter, or None, and the tokens of a prefix for it.
Wanted = tuple[str | None, tuple[int, ...]]


class Sharing:
    """Knows what requests have in common, and gives each what is saved of its prompt.

    Args:
        budget: bytes of what is saved beside what is pinned; with 0 nothing is kept of a request
            that has ended.
        tile: tokens of a prompt in a call from which on attention is fast; 0: always.
    """

    def __init__(self, runner: Runner, budget: int, tile: int = 0) -> None:
        self.saved = PrefixCache(budget)
        self._tile = tile
        self._runner = runner

    def missing(self, wanted: Iterable[Wanted]) -> list[Wanted]:
        """Those that are not saved yet, by adapter: a change makes llama.cpp plan anew."""
        new = [(a, p) for a, p in dict.fromkeys(wanted) if self.saved.find(a, p)[0] < len(p)]
        return sorted(new, key=lambda each: each[0] or "")

    def save(self, generation: Generation) -> None:
        """Save a prefix that a generation has computed, as long as another waits for it."""
        try:
            state = self._runner.save(generation.slot)
        except (EngineError, MemoryError) as error:  # costs no answer
            log.warning("%d tokens are not shared: %s", generation.n_prompt, error)
        else:
            self.saved.put(generation.request.adapter, generation.request.prompt, state)

    def in_common(self, arrivals: Sequence[Generation]) -> list[Wanted]:
        """What at least two of a group have in common, and enough more than is saved already."""
        groups: dict[tuple[str | None, str], list[Generation]] = {}
        for generation in arrivals:
            request = generation.request
            groups.setdefault((request.adapter, request.group), []).append(generation)
        wanted = []
        for (adapter, _), members in groups.items():
            shared = common_prefix([g.request.prompt for g in members])
            shared = shared[: min(g.n_shareable for g in members)]
            n_new = len(shared) - self.saved.find(adapter, shared)[0]
            if len(members) > 1 and n_new >= MIN_SHARED:
                wanted.append((adapter, shared))
        return wanted

    def hand_out(self, arrivals: Sequence[Generation]) -> None:
        """Note for each how much of its prompt is saved.

        What several have in common is there for them until they have their slots. A state that
        is kept of an earlier request may be dropped before: `restore` looks again.
        """
        for generation in arrivals:
            request = generation.request
            sharable = request.prompt[: generation.n_shareable]
            n_saved, saved = self.saved.find(request.adapter, sharable)
            if saved is not None and n_saved >= MIN_SHARED:
                generation.n_cached = n_saved
                generation.prefix = None if saved.kept else saved.state

    def restore(self, generation: Generation, least: int = MIN_SHARED) -> None:
        """Put what is saved of a prompt, at least `least` tokens, into its generation's new slot.

        A state that llama.cpp refuses is dropped, and the prompt computed as a whole.
        """
        request, promised = generation.request, generation.prefix
        sharable = request.prompt[: generation.n_shareable]
        n_saved, saved = self.saved.find(request.adapter, sharable, self._runner.cells)
        state = None if saved is None else saved.state
        if promised is not None and generation.n_cached >= n_saved:
            n_saved, saved, state = generation.n_cached, None, promised
        generation.n_cached, generation.prefix = 0, None
        n_saved = self._worth_restoring(n_saved, generation.n_prompt)
        if state is None or n_saved < least:
            return
        try:
            self._runner.restore(generation.slot, state, n_saved)
        except EngineError as error:
            log.warning("a saved prefix of %d tokens is computed anew: %s", n_saved, error)
            if saved is not None:
                self.saved.drop(saved)
        else:
            generation.n_cached = generation.n_restored = n_saved

    def _worth_restoring(self, n_saved: int, n_prompt: int) -> int:
        """How many of a prompt's saved tokens to restore.

        After a long beginning it is faster to compute its last tokens again than to compute the
        few new ones without a tile of attention.
        """
        n_new = n_prompt - n_saved
        again = max(0, self._tile - n_new)
        is_long = n_saved >= 4 * self._tile  # else it gains nothing to speak of
        pays = is_long and n_new * n_saved > again * _LIKE_TWO_TOKENS
        return n_saved - again if pays else n_saved

    def keep(self, generation: Generation, least: int = MIN_SHARED) -> None:
        """Keep what the slot of a generation holds, if its request wants that.

        The slot is cut to the prompt and all generated tokens but the last ones, whose keys and
        values nothing has needed yet. Fewer than `least` tokens that are not saved already are
        not worth a copy.
        """
        request = generation.request
        if not request.keep or not self.saved.budget:
            return
        tokens = (*request.prompt, *generation.tokens)[: generation.n_held]
        n_saved, _ = self.saved.find(request.adapter, tokens, self._runner.cells)
        if len(tokens) - n_saved < least:
            return
        try:
            size = self._runner.cut(generation.slot, len(tokens))
            if self.saved.make_room(request.adapter, tokens, size):
                state = self._runner.save(generation.slot)
                self.saved.put(request.adapter, tokens, state, kept=True)
        except (EngineError, MemoryError) as error:  # costs no answer
            log.warning("%d tokens are not kept: %s", len(tokens), error)


def common_prefix(prompts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The longest common prefix of the prompts, leaving each at least one token of its own."""
    if not prompts:
        return ()
    # The smallest and the largest in lexicographic order differ first where any two do.
    first, last = list(min(prompts, key=tuple)), list(max(prompts, key=tuple))
    n = 0
    limit = min(map(len, prompts)) - 1
    while n < limit and first[n] == last[n]:
        n += 1
    return tuple(first[:n])
