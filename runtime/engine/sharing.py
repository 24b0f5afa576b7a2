"""Prefixes that requests share: which ones are worth decoding once, and who gets them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runtime.engine.generation import Generation, common_prefix
from runtime.engine.prefixes import PrefixCache
from runtime.engine.runner import Prefix, Runner
from runtime.engine.sizing import cells_needed

# A prefix shorter than this is not worth a copy of its cache.
MIN_SHARED = 8

# An adapter, or None, and the tokens of a prefix for it.
Wanted = tuple[str | None, tuple[int, ...]]


class Sharing:
    """Decodes what requests have in common, and gives each what is saved of its prompt.

    Args:
        runner: not owned.

    Attributes:
        saved: the prefixes.
    """

    def __init__(self, runner: Runner) -> None:
        self.saved = PrefixCache()
        self._runner = runner

    def missing(self, wanted: Iterable[Wanted]) -> list[Wanted]:
        """Those that are not saved yet, by adapter: a change makes llama.cpp plan anew."""
        new = [(a, p) for a, p in dict.fromkeys(wanted) if self.saved.find(a, p)[0] < len(p)]
        return sorted(new, key=lambda each: each[0] or "")

    def save(self, wanted: Iterable[Wanted], slot: int, cells: int) -> None:
        """Decode prefixes in a free slot of `cells` and keep their caches, those that fit it.

        One after another: side by side they would be padded to the longest, and none could
        begin with what is the same in another, which costs more than the calls that it saves.

        Raises:
            EngineError: llama.cpp refused a call.
        """
        for adapter, tokens in wanted:
            if cells_needed(len(tokens), 0) <= cells:
                begun = Prefix(tokens, adapter, *self.saved.find(adapter, tokens))
                self.saved.put(adapter, tokens, self._runner.prefix(begun, slot))

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
        """Note for each what is saved of its prompt."""
        for generation in arrivals:
            request = generation.request
            sharable = request.prompt[: generation.n_shareable]
            n_saved, state = self.saved.find(request.adapter, sharable)
            if n_saved >= MIN_SHARED:
                generation.n_cached, generation.prefix = n_saved, state
