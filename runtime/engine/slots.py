"""The slots of an engine: the cache that holds them, who has them, what is saved of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime.engine.adapters import set_adapters
from runtime.engine.cache import Cache
from runtime.engine.context import Context
from runtime.engine.generation import Generation, Status
from runtime.engine.llama import EngineError
from runtime.engine.model import Model
from runtime.engine.options import EngineOptions
from runtime.engine.runner import LEAST_MIXED, Runner
from runtime.engine.scheduler import Scheduler
from runtime.engine.sharing import MIN_NEW_PROMPT, Sharing, Wanted
from runtime.engine.sizing import Layout, cells_needed
from runtime.engine.stats import Stats
from runtime.engine.step import Prefill, Step
from runtime.engine.waiting import WaitingRoom

log = logging.getLogger(__name__)

# Where a prompt has been prefilled.
_COMPLETE = (Status.STAGED, Status.RUNNING)


class Slots:
    """Keeps cache, scheduler and saved prefixes in agreement.

    Args:
        model: not owned.
        options: how the engine runs.
        adapters: GGUF adapters, by name, for the model to have.
        stats: what is done is counted here.

    Raises:
        EngineError: an adapter cannot be loaded, no context could be made, or what the files
            compute is not numbers.

    Attributes:
        cache: with the context.
        runner: runs steps on it.
        waiting: who waits for a slot.
        scheduler: who has one, and what is next.
        sharing: saved prefixes.
    """

    def __init__(
        self, model: Model, options: EngineOptions, adapters: Mapping[str, Path], stats: Stats
    ) -> None:
        self._model = model
        self._stats = stats
        profile, patience, call_cost = model.profile, options.patience, options.call_cost
        self._may_mix = options.mix_adapters and profile.mixes_adapters
        set_adapters(model, adapters, self._may_mix)
        self.cache = Cache(model, options)
        self.runner = Runner(model, self.cache, stats)
        try:
            self.runner.check_numbers()
        except BaseException:
            self.context.close()
            raise
        self.waiting = WaitingRoom(8 * options.slots if patience is None else patience)
        self.scheduler = Scheduler(
            self.cache.layout,
            self.context.max_tokens,
            self.waiting,
            call_cost=profile.call_cost if call_cost is None else call_cost,
            rows_at_once=profile.rows_at_once,
        )
        self.sharing = Sharing(self.runner, options.prefix_bytes)
        self._share_calls()

    @property
    def context(self) -> Context:
        """The current llama.cpp context."""
        return self.cache.context

    def let_in(self, arrivals: Sequence[Generation]) -> None:
        """Decode what requests have in common, and let them wait for their slots.

        Nothing is lost by calling it when no prompt is half prefilled, as none of them gets a
        slot before; and what such a prompt is the first to have need not be decoded twice.

        Raises:
            EngineError: the cache could not be divided anew, and what was in it is lost.
        """
        try:
            self.share(self.sharing.in_common(arrivals))
        except EngineError as error:
            if self.context.closed:
                raise
            log.debug("prefixes are not shared: %s", error)
        self.sharing.hand_out(arrivals)
        self.sharing.saved.trim()
        for generation in arrivals:
            self.scheduler.add(generation)

    def share(self, wanted: Sequence[Wanted]) -> None:
        """Decode prefixes and save them, if there are room and a free slot.

        Raises:
            EngineError: llama.cpp refused a call.
        """
        missing = self.sharing.missing(wanted)
        if not missing:
            return
        needed = max(cells_needed(len(tokens), 0) for _, tokens in missing)
        too_short = needed > self.cache.layout.cells and self.cache.can_resize
        if too_short and not self.scheduler.held:
            self._resize(self.cache.layout_for(needed, self.cache.layout.slots))
        for slot in self.scheduler.free_slots()[:1]:
            self.sharing.save(missing, slot, self.cache.layout.cells)

    def make_room(self) -> tuple[Generation, str] | None:
        """Divide the cache anew if what waits needs longer slots, or could have more of them.

        Returns:
            a generation for which there can be no room, and why; None if there is none.

        Raises:
            EngineError: what was in the cache is lost.
        """
        held = self.scheduler.held
        waiting = self.waiting.next(held)
        if waiting is None or self.scheduler.is_prefilling or not self.cache.can_resize:
            return None
        cells = max(generation.cells for generation in [waiting, *held])
        slots = self.scheduler.padded(len(held) + len(self.waiting))
        now, wanted = self.cache.layout, self.cache.layout_for(cells, slots)
        too_short = waiting.cells > now.cells
        # A few more slots are not worth it while there is work to do.
        too_few = wanted.slots > now.slots and (not held or wanted.slots >= 2 * now.slots)
        if not (too_short or too_few) or len(held) > wanted.slots:
            return None
        try:
            self._resize(wanted)
        except EngineError as error:
            if self.context.closed:
                raise
            if too_short:
                return waiting, str(error)
        return None

    def next_step(self) -> Step | None:
        """What to compute next, with saved prefixes in the slots of those that are let in."""
        for generation in self.scheduler.admit():
            self.sharing.restore(generation)
        return self.scheduler.schedule()

    def keep_prompts(self, step: Step) -> None:
        """Keep the prompts that a step has completed, for requests that come meanwhile."""
        for generation in step.generations if isinstance(step, Prefill) else ():
            if generation.status in _COMPLETE:
                self.sharing.keep(generation, MIN_NEW_PROMPT)

    def free(self, generation: Generation, keep: bool) -> None:
        """Take one out that has ended, wherever it is, and free its slot.

        Args:
            keep: what the slot holds is sound, and may be kept for requests to come.
        """
        if keep and generation.status in _COMPLETE and not self.context.closed:
            self.sharing.keep(generation)
        self.scheduler.finish(generation)
        if generation.slot >= 0 and not self.context.closed:
            self.context.clear(generation.slot)

    def clear_free(self) -> None:
        """Forget what free slots hold: a call that failed may have left something there."""
        for slot in self.scheduler.free_slots():
            self.context.clear(slot)

    def change_adapters(self, wanted: Mapping[str, Path]) -> None:
        """Have the model use these adapters, and a context for them. No slot may be held.

        Raises:
            EngineError: not adapters for the model, or damaged: it has those of before. Or
                there is no room for a context any more.
        """
        before = self._model.adapters
        try:
            self._set_adapters(wanted)
            self.runner.check_numbers()
        except BaseException:
            if not self.context.closed:
                self._set_adapters(before)
            raise

    def _set_adapters(self, adapters: Mapping[str, Path]) -> None:
        self.context.close()
        try:
            set_adapters(self._model, adapters, self._may_mix)
        finally:
            self.cache.renew()
            self._share_calls()

    def _share_calls(self) -> None:
        """Have requests with different adapters share calls, where there is a stack of them."""
        mixes = self._model.stack is not None
        self.waiting.shared = mixes
        self.scheduler.least_rows = LEAST_MIXED if mixes else 1

    def _resize(self, layout: Layout) -> None:
        with self._stats.timed("resize_seconds"):
            moves = [(g.slot, slot) for slot, g in enumerate(self.scheduler.held)]
            self.cache.resize(layout, moves)
            self.scheduler.resize(layout)
            self._stats.resizes += 1
