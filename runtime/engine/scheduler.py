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

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from runtime.engine.generation import Generation
from runtime.engine.profiles import CPU
from runtime.engine.sizing import PADDING_CELLS
from runtime.engine.waiting import WaitingRoom

ROWS_AT_ONCE = CPU.rows_at_once


def padded(n_rows: int, at_once: int = ROWS_AT_ONCE) -> int:
    """How many rows to compute for `n_rows`; one or two are cheaper alone."""
    return n_rows if n_rows <= 2 else -(-n_rows // at_once) * at_once


@dataclass(frozen=True)
class Prefill:
    """Decode `length` prompt tokens of each generation, in consecutive slots.

    One with fewer tokens left is padded; one with more goes on in a later step.
    """

    generations: list[Generation]
    length: int


@dataclass(frozen=True)
class Decode:
    """Decode the last token of each generation, in order of slot.

    `moves` (generation, from slot, to slot) come first; `idle_slots` get a token whose
    result is thrown away. With the running ones they fill slots 0 to n without a gap.
    """

    generations: list[Generation]
    idle_slots: list[int]
    moves: list[tuple[Generation, int, int]]


class Scheduler:
    """Hands out slots and decides each step.

    Slots 0 to `n_slots` - 1 decode. Behind them lie `n_staging` more, in which the next
    prompts are prefilled together while all others are taken; a generation that is ready
    there moves into the first slot that becomes free. So prefill has a batch of its own
    and no decode step runs with an empty slot while questions wait.

    Args:
        n_slots: generations that are decoded at once.
        n_staging: generations that can wait prefilled, at least 1.
        max_tokens: most tokens of a prefill step.
        waiting: where the next come from.
        call_cost: what one more call costs, in tokens: a prompt joins the prefill of a
            longer one if padding wastes no more than that.
        fits: whether a slot has room for a generation.
        rows_at_once: a pass is padded to a multiple of it (see `DeviceProfile`).
    """

    def __init__(
        self,
        n_slots: int,
        n_staging: int,
        max_tokens: int,
        waiting: WaitingRoom,
        call_cost: int = 8,
        fits: Callable[[Generation], bool] = lambda _: True,
        rows_at_once: int = ROWS_AT_ONCE,
    ) -> None:
        self.n_slots = n_slots
        self.n_staging = n_staging
        self.max_tokens = max_tokens
        self.waiting = waiting
        # Padding to a row more may follow, and a slot has room for so much.
        self.call_cost = min(call_cost, PADDING_CELLS - rows_at_once)
        self._fits = fits
        self._rows_at_once = rows_at_once
        self._prefilling: deque[Generation] = deque()
        self._staged: deque[Generation] = deque()
        self._running: dict[int, Generation] = {}  # slot -> generation

    @property
    def held(self) -> list[Generation]:
        """Those that have a slot."""
        return [*self._running.values(), *self._staged, *self._prefilling]

    @property
    def is_prefilling(self) -> bool:
        return bool(self._prefilling)

    def next_step(self) -> Prefill | Decode | None:
        """The next step, or None when all is done. Its sequences have slots."""
        if not self._prefilling and len(self._running) + len(self._staged) < self.n_slots:
            self._admit()
        if self._prefilling:
            return self._prefill()
        if self._staged or self._running:
            return self._decode()
        return None

    def prefilled(self, generation: Generation, n_tokens: int) -> None:
        """Note that `n_tokens` more of a prompt are cached; with the last it is ready."""
        generation.n_cached += n_tokens
        if generation.n_to_prefill == 0:
            self._prefilling.remove(generation)
            if generation.slot < self.n_slots:
                self._running[generation.slot] = generation
            else:
                self._staged.append(generation)

    def finish(self, generation: Generation) -> None:
        """Free the slot of one that has ended, wherever it was."""
        if self._running.get(generation.slot) is generation:
            del self._running[generation.slot]
        elif generation in self._staged:
            self._staged.remove(generation)
        else:
            self._prefilling.remove(generation)

    def free_slots(self) -> list[int]:
        """Slots, staging ones included, that hold nothing."""
        taken = {generation.slot for generation in self.held}
        return [slot for slot in range(self.n_slots + self.n_staging) if slot not in taken]

    def resize(self, n_slots: int, n_staging: int) -> None:
        """Lay the slots out anew: what is `held` has slots 0, 1, ... from now on, in that order.

        Raises:
            ValueError: a prompt is half prefilled, or more generations are held than slots.
        """
        held = self.held
        if self._prefilling or len(held) > n_slots:
            raise ValueError(f"{len(held)} generations cannot move to {n_slots} slots now")
        for slot, generation in enumerate(held):
            generation.slot = slot
        self.n_slots, self.n_staging = n_slots, n_staging
        self._staged.clear()
        self._running = dict(enumerate(held))

    def padded(self, n_rows: int) -> int:
        """How many rows to compute for `n_rows` on this device."""
        return padded(n_rows, self._rows_at_once)

    def _admit(self) -> None:
        """Give slots to those that wait: all slots if none runs, else the staging ones.

        As many slots as there are staged stay free for them: where all that run end in one
        step, newcomers would else take their slots, again and again.
        """
        free = self.free_slots()
        staging = [slot for slot in free if slot >= self.n_slots]
        spare = free[len(self._staged) : len(free) - len(staging)]
        for slot in staging or spare if self._running else spare + staging:
            generation = self.waiting.take(self.held, self._fits)
            if generation is None:
                break
            generation.slot = slot
            self._prefilling.append(generation)

    def _prefill(self) -> Prefill:
        first = self._prefilling[0]
        length = min(first.n_to_prefill, self.max_tokens)
        together = [first]
        for generation in list(self._prefilling)[1:]:
            n = len(together)
            if (
                generation.slot != first.slot + n
                or generation.n_to_prefill > length
                or length - generation.n_to_prefill > self.call_cost
                or (n + 1) * length > self.max_tokens
            ):
                break
            together.append(generation)
        n = len(together)
        while self.padded(n * length) != n * length and n * (length + 1) <= self.max_tokens:
            length += 1
        return Prefill(together, length)

    def _decode(self) -> Decode:
        moves = []

        def move(generation: Generation, target: int) -> None:
            moves.append((generation, generation.slot, target))
            generation.slot = target
            self._running[target] = generation

        free = [slot for slot in range(self.n_slots) if slot not in self._running]
        for slot, generation in zip(free, list(self._staged), strict=False):
            self._staged.remove(generation)
            move(generation, slot)
        rows = self.padded(len(self._running))
        while self.padded(max(self._running) + 1) > rows:
            hole = next(slot for slot in range(self.n_slots) if slot not in self._running)
            move(self._running.pop(max(self._running)), hole)
        slots = sorted(self._running)
        span = min(max(rows, slots[-1] + 1), self.n_slots)
        idle = [slot for slot in range(span) if slot not in self._running]
        return Decode([self._running[slot] for slot in slots], idle, moves)
