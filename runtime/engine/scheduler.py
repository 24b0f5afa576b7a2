"""Which sequences are prefilled or decoded next. Pure Python: no llama.cpp in it.

What it knows of llama.cpp, and why the steps look as they do (figures in
lab/NOTES.md):

- With one KV stream per sequence a call is computed in one pass only if the sequence
  ids in it are consecutive and each has the same number of tokens. So prompts of
  nearly equal length in neighbouring slots are prefilled together, the shorter ones
  padded; and decode steps keep the running sequences in the lowest slots.
- The CPU's matrix kernels take four rows at a time, and each row left over costs nearly
  as much as four. So a pass is padded to a multiple of four; what it is padded to on a
  GPU is in `profiles`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence

from runtime.engine.generation import Generation, Status
from runtime.engine.pace import LEAST_TOKENS
from runtime.engine.profiles import CPU, padded
from runtime.engine.shape import ANY_SHAPE, Shape
from runtime.engine.sizing import PADDING_CELLS, Layout
from runtime.engine.step import Decode, Prefill, Step
from runtime.engine.waiting import WaitingRoom

# What one more llama.cpp call costs, in tokens: a prompt joins the prefill of a longer one if
# padding wastes no more than that.
CALL_COST = 8


class Scheduler:
    """Hands out slots and decides each step.

    The first slots decode. Behind them are the staging slots, in which the next prompts are
    prefilled together while all others are taken; a generation that is ready there moves into
    the first slot that becomes free. So prefill has a batch of its own
    and no decode step runs with an empty slot while questions wait.

    All prompts are complete before anything is decoded, unless an answer is streamed. Then prompts
    get staging slots only, which decode steps leave alone, so that `schedule` can put decode steps
    between the pieces of a prompt.

    Args:
        layout: of the slots; `resize` changes it.
        call_tokens: most tokens of a prefill step.
        rows_at_once: a pass is padded to a multiple of it (see `DeviceProfile`), and to at least
            the attribute `least_rows`.
        shape: of the pieces that prompts are cut into.
        tile: pieces have at least this many tokens where possible (see `DeviceProfile`).
    """

    def __init__(
        self,
        layout: Layout,
        call_tokens: int,
        waiting: WaitingRoom,
        *,
        call_cost: int = CALL_COST,
        rows_at_once: int = CPU.rows_at_once,
        shape: Shape = ANY_SHAPE,
        tile: int = 0,
    ) -> None:
        self.layout = layout
        self.least_rows = 1
        self.call_tokens = call_tokens
        self.waiting = waiting
        # Another row of padding may follow, and a slot has room for PADDING_CELLS.
        self.call_cost = min(call_cost, PADDING_CELLS - rows_at_once)
        self._rows_at_once = rows_at_once
        self._shape = shape
        self._tile = tile
        self._prefilling: deque[Generation] = deque()
        self._staged: deque[Generation] = deque()
        self._running: dict[int, Generation] = {}  # slot -> generation
        self._others_next = False  # the last step was `_forced`, and not for all

    @property
    def held(self) -> list[Generation]:
        """Those that have a slot."""
        return [*self._running.values(), *self._staged, *self._prefilling]

    @property
    def is_prefilling(self) -> bool:
        """Whether some prompt is not complete yet."""
        return bool(self._prefilling)

    @property
    def is_prefilling_first(self) -> bool:
        """Whether some prompt outside the background is not complete yet."""
        return any(not generation.request.background for generation in self._prefilling)

    @property
    def is_watched(self) -> bool:
        """Whether an answer has begun that prompts must not hold up.

        It is streamed, or all prompts that are half prefilled are in the background.
        """
        begun = (*self._running.values(), *self._staged)
        yielding = not self.is_prefilling_first
        return any(g.request.streamed or (yielding and not g.request.background) for g in begun)

    def add(self, generation: Generation) -> None:
        """Let one wait for a slot. Its `n_cached` must not change while it waits."""
        self.waiting.add(generation)
        generation.status = Status.WAITING

    def schedule(self, most_tokens: int | None = None) -> Step | None:
        """The next step, or None when there is nothing to do.

        Those that it moves and lets in have their new slots from now on.

        Args:
            most_tokens: prompt tokens that the step may have; with 0 it is a decode step, if
                anything can be decoded. None is no limit.
        """
        self.admit()
        if self._prefilling and (most_tokens != 0 or not self._can_decode):
            return self._prefill(most_tokens or self.call_tokens)
        if self._staged or self._running:
            return self._forced(most_tokens) or self._decode()
        return None

    def update(self, step: Step) -> None:
        """Note that a step has been run: its tokens are cached as far as it went."""
        if isinstance(step, Decode):
            for generation in step.generations:
                generation.n_forced = max(0, generation.n_forced - step.length)
            return
        for generation in step.generations:
            generation.n_cached += min(step.length, generation.n_to_prefill)
            if generation.n_to_prefill:
                continue
            self._prefilling.remove(generation)
            self._complete(generation)

    def finish(self, generation: Generation) -> None:
        """Take one out that has ended, wherever it is, and free its slot."""
        match generation.status:
            case Status.WAITING:
                self.waiting.remove(generation)
            case Status.PREFILLING:
                self._prefilling.remove(generation)
            case Status.STAGED:
                self._staged.remove(generation)
            case Status.RUNNING:
                del self._running[generation.slot]
        generation.status = Status.ENDED

    def free_slots(self) -> list[int]:
        """Slots, staging ones included, that hold nothing."""
        taken = {generation.slot for generation in self.held}
        return [slot for slot in range(self.layout.sequences) if slot not in taken]

    def in_the_way(self) -> list[Generation]:
        """Background generations that others need the slots of, those with least done first."""
        n_waiting = self.waiting.n_first
        running = [g for g in self._running.values() if g.request.background]
        running.sort(key=lambda generation: generation.n_held)
        not_running = [g for g in [*self._staged, *self._prefilling] if g.request.background]
        background = [*reversed(not_running), *running]
        if n_waiting and background:
            following = self.waiting.next(self.held)
            if following is None or following.cells > self.layout.cells:
                return background  # of another adapter, or the cache has to be divided anew
        n_first = len(self.held) - len(background)
        n_wanted = min(n_waiting, self.layout.slots - n_first) - sum(map(len, self._usable()))
        chosen = background[: max(0, n_wanted)]
        # Those that are staged need one that decodes.
        n_staged = sum(not generation.request.background for generation in self._staged)
        n_free = sum(slot not in self._running for slot in range(self.layout.slots))
        n_running = n_staged - n_free - sum(each in running for each in chosen)
        rest = [each for each in running if each not in chosen]
        return [*chosen, *rest[: max(0, n_running)]]

    def outgrown(self) -> list[Generation]:
        """Those whose answer has become too long for their slot."""
        begun = (*self._running.values(), *self._staged)
        return [generation for generation in begun if generation.outgrows(self.layout.cells)]

    def suspend(self, generation: Generation) -> None:
        """Take the slot of a generation, which goes on when it gets another."""
        self.finish(generation)
        generation.status, generation.slot = Status.WAITING, -1
        self.waiting.put_back(generation)

    def resize(self, layout: Layout) -> None:
        """Divide the slots anew: what is `held` has slots 0, 1, ... from now on, in that order.

        Raises:
            ValueError: a prompt is half prefilled, or more generations are held than slots.
        """
        held = self.held
        if self._prefilling or len(held) > layout.slots:
            raise ValueError(f"{len(held)} generations cannot move to {layout.slots} slots now")
        self.layout = layout
        self._staged.clear()
        self._running.clear()
        for slot, generation in enumerate(held):
            generation.slot = slot
            self._run(generation)

    def padded(self, n_rows: int) -> int:
        return padded(n_rows, self._rows_at_once, self.least_rows)

    def _complete(self, generation: Generation) -> None:
        """Note that the prompt of a generation is in its slot."""
        if generation.slot < self.layout.slots:
            self._run(generation)
        else:
            self._staged.append(generation)
            generation.status = Status.STAGED

    def _run(self, generation: Generation) -> None:
        self._running[generation.slot] = generation
        generation.status = Status.RUNNING

    def begin(self, generation: Generation, slot: int) -> None:
        """Give one a free slot, and prefill what is missing of its prompt next."""
        generation.slot = slot
        generation.began = generation.began or time.perf_counter()
        if generation.n_to_prefill:
            generation.status = Status.PREFILLING
            self._prefilling.append(generation)
        else:
            self._complete(generation)

    @property
    def _can_decode(self) -> bool:
        """Whether a decode step would disturb none of the prompts that are half prefilled."""
        apart = all(generation.slot >= self.layout.slots for generation in self._prefilling)
        return apart and bool(self._staged or self._running)

    @property
    def _is_streaming(self) -> bool:
        return self.waiting.n_streamed > 0 or any(g.request.streamed for g in self.held)

    def admit(self) -> list[Generation]:
        """Give slots to those that wait: all slots if none runs, else the staging ones.

        No one gets a slot while the prompt of another that got one is incomplete. For each staged
        one a slot stays free: otherwise, where all that run end in one step, newcomers would take
        their slots, again and again. Those in the background count for none of this while others
        wait.

        Returns:
            those that have got a slot. Before `schedule`, `n_cached` may be raised to what was
            put into it.
        """
        n_first = self.waiting.n_first
        if self.is_prefilling_first or (self._prefilling and not n_first):
            return []
        ready = [*self._running.values(), *self._staged]
        if len(self._not_yielding(ready)) >= self.layout.slots:
            return []
        staging, spare = self._usable()
        slots = staging or spare if self._running else spare + staging
        admitted = []
        for slot in slots[: n_first or None]:
            generation = self.waiting.take(self.held, self.layout.cells)
            if generation is None:
                break
            admitted.append(generation)
            self.begin(generation, slot)
        return admitted

    def _usable(self) -> tuple[list[int], list[int]]:
        """The free slots that those who wait may get: staging slots, and others."""
        free = self.free_slots()
        staging = [slot for slot in free if slot >= self.layout.slots]
        n_staged = len(self._not_yielding(self._staged))
        spare = free[n_staged : len(free) - len(staging)]
        # Prompts of the background must leave decode steps alone, as all must beside streams.
        yielding = not self.waiting.n_first and any(not g.request.background for g in self.held)
        return staging, [] if self._is_streaming or yielding else spare

    def _not_yielding(self, generations: Iterable[Generation]) -> list[Generation]:
        """Those that the next ones must wait for: not the background's, if others wait."""
        first = self.waiting.n_first > 0
        return [each for each in generations if not (first and each.request.background)]

    def _n_likeliest(self) -> int | None:
        """How many of a row's likeliest tokens must be known; None is all.

        All that have a slot count, also those that are not in this step: a change makes
        llama.cpp plan its calls anew.
        """
        wanted = [generation.n_likeliest for generation in self.held]
        return None if None in wanted else max(n for n in wanted if n is not None)

    def _prefill(self, most_tokens: int) -> Prefill:
        prefilling = sorted(self._prefilling, key=_in_background)
        first = prefilling[0]
        most_tokens = min(most_tokens, self.call_tokens)
        length = self._shape.piece(first.n_to_prefill, most_tokens)
        rest = first.n_to_prefill - length
        if 0 < rest < self._tile <= length - (self._tile - rest):
            length -= self._tile - rest
        together, length = self._together(prefilling, length, most_tokens)
        sampled = [g for g in together if g.n_missing <= length and g.wants_tokens]
        return Prefill(together, length, sampled, self._n_likeliest())

    def _together(
        self, candidates: Sequence[Generation], length: int, most_tokens: int
    ) -> tuple[list[Generation], int]:
        """The first candidate, and those after it that can be computed with it.

        `length`, the tokens of each in the call, is returned raised where that costs nothing.
        """
        first = candidates[0]
        together = [first]
        for generation in candidates[1:]:
            n = len(together)
            if (
                generation.request.background != first.request.background
                or generation.slot != first.slot + n
                or generation.n_missing > length
                or length - generation.n_missing > self.call_cost
                or (n + 1) * length > most_tokens
            ):
                break
            together.append(generation)
        n = len(together)
        while self.padded(n * length) != n * length and n * (length + 1) <= most_tokens:
            length += 1
        return together, length

    def _forced(self, most_tokens: int | None) -> Decode | None:
        """A step for tokens that grammars have forced, if it is worth a call of its own.

        It is where it computes more tokens than there are running answers: a call costs the same
        whatever is in it, and a usual step computes one token of each. Otherwise they are decoded
        one by one, beside those of the others. Between two such steps the others have one.
        """
        if self._others_next:
            self._others_next = False
            return None
        # Padding after the last token must have room.
        most_held = self.layout.cells - PADDING_CELLS
        forced = [
            generation
            for _, generation in sorted(self._running.items())
            if generation.n_forced and generation.n_held + generation.n_missing <= most_held
        ]
        wanted = self.call_tokens if most_tokens is None else max(most_tokens, LEAST_TOKENS)
        most = min(wanted, self.call_tokens)
        best: list[Generation] = []
        best_length, most_computed = 0, len(self._running)
        while forced:
            length = self._shape.piece(forced[0].n_missing, most)
            together, length = self._together(forced, length, most)
            n_computed = sum(min(length, generation.n_missing) for generation in together)
            if n_computed > most_computed:
                best, best_length, most_computed = together, length, n_computed
            forced = forced[len(together) :]
        if not best:
            return None
        self._others_next = len(best) < len(self._running) or bool(self._staged)
        sampled = [generation for generation in best if generation.n_missing <= best_length]
        return Decode(best, (), (), sampled, self._n_likeliest(), best_length)

    def _decode(self) -> Decode:
        moves = []

        def move(generation: Generation, target: int) -> None:
            moves.append((generation, generation.slot, target))
            generation.slot = target
            self._run(generation)

        free = [slot for slot in range(self.layout.slots) if slot not in self._running]
        for slot, generation in zip(free, sorted(self._staged, key=_in_background), strict=False):
            self._staged.remove(generation)
            move(generation, slot)
        rows = self.padded(len(self._running))
        while self.padded(max(self._running) + 1) > rows:
            hole = next(slot for slot in range(self.layout.slots) if slot not in self._running)
            move(self._running.pop(max(self._running)), hole)
        slots = sorted(self._running)
        span = min(max(rows, slots[-1] + 1), self.layout.slots)
        idle = [slot for slot in range(span) if slot not in self._running]
        generations = [self._running[slot] for slot in slots]
        sampled = [generation for generation in generations if not generation.n_forced]
        return Decode(generations, idle, moves, sampled, self._n_likeliest())


def _in_background(generation: Generation) -> bool:
    return generation.request.background
