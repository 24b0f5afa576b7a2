"""The slots of an engine: the cache that holds them, who has them, what is saved of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime.engine.arrivals import Arrivals
from runtime.engine.cache import Cache
from runtime.engine.context import Context
from runtime.engine.generation import Generation, Status
from runtime.engine.kernels import has_attention_kernel
from runtime.engine.llama import EngineError
from runtime.engine.mixing import worth_mixing
from runtime.engine.model import Model
from runtime.engine.options import EngineOptions
from runtime.engine.pace import Pace
from runtime.engine.runner import Runner
from runtime.engine.scheduler import Scheduler
from runtime.engine.shape import LEAST_MIXED
from runtime.engine.sharing import MIN_NEW_PROMPT, Sharing, Wanted
from runtime.engine.sizing import Layout, cells_needed
from runtime.engine.stats import Stats
from runtime.engine.step import Prefill, Result, Step
from runtime.engine.waiting import WaitingRoom

log = logging.getLogger(__name__)

# How many later requests for each slot may overtake one that waits. Eight give a list up to 2 %
# more throughput, and where adapters take turns a tenth. With two, clients that wait for each
# answer have half the longest wait, at the same throughput (lab/patience.py).
_PATIENT, _FAIR = 8, 2
# Where a prompt has been prefilled.
_COMPLETE = (Status.STAGED, Status.RUNNING)


class Slots:
    """Keeps cache, scheduler and saved prefixes in agreement; loads a model's `adapters`.

    A prompt and its answer have at most `most_cells` tokens.

    Raises:
        EngineError: an adapter cannot be loaded, no context could be made, what the files compute
            is not numbers, or answers cannot be batch-invariant on this device.
    """

    def __init__(
        self, model: Model, options: EngineOptions, adapters: Mapping[str, Path], stats: Stats
    ) -> None:
        self._model = model
        self._stats = stats
        self._options = options
        profile = model.profile
        self._may_mix = options.mix_adapters and profile.mixes_adapters
        self._load(adapters)
        self.cache = Cache(model, options)
        self._shape = self.cache.shape
        self.most_cells = options.cells_per_slot - self._shape.spare_cells
        self.runner = Runner(model, self.cache, stats, self._shape)
        try:
            self.runner.check_numbers()
        except BaseException:
            self.context.close()
            raise
        self.waiting = WaitingRoom(0)
        served = options.cache_type == "f16" and not model.caps_attention
        any_tile = served and has_attention_kernel()  # any number of tokens is equally fast
        tile = 0 if any_tile else self._shape.tile(profile.attention_tile)
        self.scheduler = Scheduler(
            self.cache.layout,
            self.context.max_tokens,
            self.waiting,
            rows_at_once=max(profile.rows_at_once, self._shape.rows_at_once),
            shape=self._shape,
            tile=tile,
        )
        self.sharing = Sharing(self.runner, options.prefix_bytes, tile)
        self.arrivals = Arrivals(self.scheduler, self.sharing, self.cache)
        self.pace = Pace(options.stream_gap)
        self._share_calls()

    def set_patience(self, in_list: bool) -> None:
        """Set how often a request may be overtaken; in a list no client waits for a single one."""
        takes_turns = self._model.adapters and not self._model.stack
        per_slot = _PATIENT if in_list or takes_turns else _FAIR
        given, slots = self._options.patience, self._options.slots
        self.waiting.patience = per_slot * slots if given is None else given

    @property
    def context(self) -> Context:
        return self.cache.context

    def run(self, step: Step) -> Result | None:
        """As `Runner.run`; notes what it cost."""
        started = self.pace.clock()
        result = self.runner.run(step)
        if result is not None:
            self.pace.note(step, started)
        return result

    def let_in(self) -> None:
        """Let newcomers wait for slots, once what they have in common is computed.

        Raises:
            EngineError: the cache could not be divided anew, and what was in it is lost.
        """
        if self.scheduler.is_prefilling:
            if not self.scheduler.is_prefilling_first:
                self.arrivals.let_in_first()
            return
        if not self.arrivals:
            return
        while (wanted := self.arrivals.next_prefix()) is not None:
            if self._begin(wanted):
                return
        self.arrivals.let_in()

    def _begin(self, wanted: Wanted) -> bool:
        """Begin to compute a prefix; False if there is no room for it."""
        needed, held, now = cells_needed(len(wanted[1]), 0), self.scheduler.held, self.cache.layout
        layout = self.cache.layout_for(max([needed, *(g.cells for g in held)]), now.slots)
        if needed > now.cells and self.cache.can_resize and len(held) <= layout.slots:
            try:
                self._resize(layout)
            except EngineError as error:
                if self.context.closed:
                    raise
                log.debug("a prefix of %d tokens is not shared: %s", len(wanted[1]), error)
        return self.arrivals.begin(wanted)

    def give_way(self) -> None:
        """Suspend background generations whose slots others need, with what they have computed."""
        for generation in self.scheduler.in_the_way():
            if self.arrivals.is_building(generation):
                self.arrivals.stop()
                continue
            if error := self._suspend(generation):
                log.warning("a background request keeps its slot: %s", error)
                return

    def _suspend(self, generation: Generation) -> str:
        """Take a generation's slot, and keep what it holds; why that cannot be done, or ""."""
        slot, n_held = generation.slot, generation.n_held
        try:
            if n_held:
                self.runner.cut(slot, n_held)
                generation.suspended = self.runner.save(slot)
        except (EngineError, MemoryError) as error:
            return str(error) or type(error).__name__
        self.scheduler.suspend(generation)
        self.context.clear(slot)
        self._stats.suspensions += 1
        return ""

    def make_room(self) -> tuple[Generation, str] | None:
        """Suspend what is in the way or has become too long for its slot; divide the cache anew if
        what waits needs longer slots, or could have more of them.

        Returns a generation for which there can be no room, and why; or None.

        Raises:
            EngineError: what was in the cache is lost.
        """
        self.give_way()
        for generation in self.scheduler.outgrown():
            if error := self._suspend(generation):
                return generation, f"there is no room for a longer answer: {error}"
            generation.reserve_more()
        held = self.scheduler.held
        waiting = self.waiting.next(held)
        if waiting is None or self.scheduler.is_prefilling or not self.cache.can_resize:
            return None
        cells = max(generation.cells for generation in [waiting, *held])
        slots = self.scheduler.padded(len(held) + len(self.waiting))
        now, wanted = self.cache.layout, self.cache.layout_for(cells, slots)
        too_short = waiting.cells > now.cells
        if too_short:  # the next turn of a conversation is longer still
            more = min(cells + cells // 4, self._options.cells_per_slot)
            roomy = self.cache.layout_for(more, slots)
            wanted = roomy if roomy.slots >= wanted.slots else wanted
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
        _ = self.context.pointer  # raises where this process is a fork
        while admitted := self.scheduler.admit():
            for generation in admitted:
                if generation.suspended is None:
                    self.sharing.restore(generation)
                    self._stats.shared_tokens += generation.n_restored
                else:
                    self.runner.restore(generation.slot, generation.suspended, generation.n_held)
                    generation.suspended = None
        watched = self.scheduler.is_watched
        return self.scheduler.schedule(self.pace.most_tokens() if watched else None)

    def update(self, step: Step) -> None:
        """Note that a step has been run; what several prompts have in common is kept."""
        self.scheduler.update(step)
        self.arrivals.update()

    def pin(self, prefixes: Sequence[Wanted]) -> None:
        """Compute prefixes, where there is room, and keep them for good. Nothing else may run.

        Raises:
            EngineError: llama.cpp refused a call.
        """
        for each in sorted(prefixes, key=lambda prefix: prefix[0] or ""):  # few changes of adapter
            try:
                if self.sharing.missing([each]):
                    self._begin(each)
                while (step := self.scheduler.schedule()) is not None:
                    if self.run(step) is not None:
                        self.update(step)
            finally:
                self.arrivals.stop()
            self.sharing.saved.pin(*each)

    def keep_prompts(self, step: Step) -> None:
        """Keep the prompts that a step has completed, for requests that come meanwhile."""
        for generation in step.generations if isinstance(step, Prefill) else ():
            if generation.status in _COMPLETE:
                self.sharing.keep(generation, MIN_NEW_PROMPT)

    def free(self, generation: Generation, keep: bool) -> None:
        """Take one out that has ended and free its slot; `keep`: what that holds may be kept."""
        if generation.status is Status.ARRIVED:
            self.arrivals.remove(generation)
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

    def _load(self, adapters: Mapping[str, Path]) -> None:
        """Load the adapters that the model lacks, free all others, and stack them if that pays.

        The model must have no context. If a file is refused, the others stay loaded.
        """
        model = self._model
        if model.stack is not None:
            model.drop_stack()
        for name in model.adapters:
            if name not in adapters:
                model.unload_adapter(name)
        for name, path in adapters.items():
            if name not in model.adapters:
                model.load_adapter(name, path)
        if not self._may_mix or len(adapters) < 2:
            return
        try:
            stack = model.load_stack(adapters)
        except EngineError as error:
            log.info("adapters take turns: %s", error)
            return
        if not worth_mixing(stack, model.n_parameters):
            log.info("adapters take turns: together they are too large to be mixed")
            model.drop_stack()

    def _set_adapters(self, adapters: Mapping[str, Path]) -> None:
        self.context.close()
        try:
            self._load(adapters)
        finally:
            self.cache.renew()
            self._share_calls()

    def _share_calls(self) -> None:
        """Have requests with different adapters share calls, where there is a stack of them."""
        mixes = self._model.stack is not None
        self.waiting.shared = mixes
        self.scheduler.least_rows = max(self._shape.least_rows, LEAST_MIXED if mixes else 1)
        self.set_patience(in_list=False)

    def _resize(self, layout: Layout) -> None:
        with self._stats.timed("resize_seconds"):
            moves = [(g.slot, slot) for slot, g in enumerate(self.scheduler.held)]
            self.cache.resize(layout, moves)
            self.scheduler.resize(layout)
            self._stats.resizes += 1
