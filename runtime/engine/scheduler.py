"""Which sequences are prefilled or decoded next. Pure Python: no llama.cpp in it.

What it knows of llama.cpp, and why the steps look as they do (figures in
benchmarks/README.md):

- With one KV stream per sequence a call is computed in one pass only if the sequence
  ids in it are consecutive and each has the same number of tokens. So prompts of
  nearly equal length in neighbouring slots are prefilled together, the shorter ones
  padded; and decode steps keep the running sequences in the lowest slots.
- The CPU's matrix kernels take four rows at a time, and each row left over costs nearly
  as much as four. So a pass is padded to a multiple of four.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from runtime.engine.sequence import Sequence

ROWS_AT_ONCE = 4


def padded(n_rows: int) -> int:
    """How many rows to compute for `n_rows`; one or two are cheaper alone."""
    return n_rows if n_rows <= 2 else -(-n_rows // ROWS_AT_ONCE) * ROWS_AT_ONCE


@dataclass(frozen=True)
class Prefill:
    """Decode `length` prompt tokens of each sequence, in consecutive slots.

    A sequence with fewer tokens left is padded; one with more goes on in a later step.
    """

    sequences: list[Sequence]
    length: int


@dataclass(frozen=True)
class Decode:
    """Decode the last token of each sequence, in order of slot.

    `moves` (sequence, from slot, to slot) come first; `idle_slots` get a token whose
    result is thrown away. Together they are all slots from 0 to some other.
    """

    sequences: list[Sequence]
    idle_slots: list[int]
    moves: list[tuple[Sequence, int, int]]


class Scheduler:
    """Hands out slots and decides each step.

    Slots 0 to `n_slots` - 1 decode. Behind them lie `n_staging` more, in which the next
    prompts are prefilled together while all others are taken; a sequence that is ready
    there moves into the first slot that becomes free. So prefill has a batch of its own
    and no decode step runs with an empty slot while questions wait.

    Args:
        n_slots: sequences that are decoded at once.
        n_staging: sequences that can wait prefilled, at least 1.
        max_tokens: most tokens of a prefill step.
        call_cost: what one more call costs, in tokens: a prompt joins the prefill of a
            longer one if padding wastes no more than that.
    """

    def __init__(self, n_slots: int, n_staging: int, max_tokens: int, call_cost: int = 8) -> None:
        self.n_slots = n_slots
        self.n_staging = n_staging
        self.max_tokens = max_tokens
        self.call_cost = call_cost
        self._waiting: deque[Sequence] = deque()
        self._prefilling: deque[Sequence] = deque()
        self._staged: deque[Sequence] = deque()
        self._running: dict[int, Sequence] = {}  # slot -> sequence

    def add(self, sequences: Iterable[Sequence]) -> None:
        """Queue sequences. The longest go first, so that neighbours are of like length."""
        self._waiting.extend(sequences)
        self._waiting = deque(sorted(self._waiting, key=lambda s: (-s.n_to_prefill, s.index)))

    def next_step(self) -> Prefill | Decode | None:
        """The next step, or None when all is done. Its sequences have slots."""
        if not self._prefilling and len(self._running) + len(self._staged) < self.n_slots:
            self._admit()
        if self._prefilling:
            return self._prefill()
        if self._staged or self._running:
            return self._decode()
        return None

    def prefilled(self, sequence: Sequence, n_tokens: int) -> None:
        """Note that `n_tokens` more of the prompt are cached; with the last it is ready."""
        sequence.n_cached += n_tokens
        if sequence.n_to_prefill == 0:
            self._prefilling.remove(sequence)
            if sequence.slot < self.n_slots:
                self._running[sequence.slot] = sequence
            else:
                self._staged.append(sequence)

    def finish(self, sequence: Sequence) -> None:
        """Free the slot of a sequence that has ended, wherever it was."""
        if self._running.get(sequence.slot) is sequence:
            del self._running[sequence.slot]
        elif sequence in self._staged:
            self._staged.remove(sequence)
        else:
            self._prefilling.remove(sequence)

    def free_slots(self) -> list[int]:
        """Slots, staging ones included, that hold no sequence."""
        held = [*self._prefilling, *self._staged, *self._running.values()]
        taken = {sequence.slot for sequence in held}
        return [slot for slot in range(self.n_slots + self.n_staging) if slot not in taken]

    def _admit(self) -> None:
        """Give slots to waiting sequences: all slots if none runs, else the staging ones."""
        free = self.free_slots()
        if self._running and free[-1] >= self.n_slots:
            free = [slot for slot in free if slot >= self.n_slots]
        for slot in free:
            if not self._waiting:
                break
            sequence = self._waiting.popleft()
            sequence.slot = slot
            self._prefilling.append(sequence)

    def _prefill(self) -> Prefill:
        first = self._prefilling[0]
        length = min(first.n_to_prefill, self.max_tokens)
        together = [first]
        for sequence in list(self._prefilling)[1:]:
            n = len(together)
            if (
                sequence.slot != first.slot + n
                or sequence.n_to_prefill > length
                or length - sequence.n_to_prefill > self.call_cost
                or (n + 1) * length > self.max_tokens
            ):
                break
            together.append(sequence)
        n = len(together)
        while padded(n * length) != n * length and n * (length + 1) <= self.max_tokens:
            length += 1
        return Prefill(together, length)

    def _decode(self) -> Decode:
        moves = []

        def move(sequence: Sequence, target: int) -> None:
            moves.append((sequence, sequence.slot, target))
            sequence.slot = target
            self._running[target] = sequence

        free = [slot for slot in range(self.n_slots) if slot not in self._running]
        for slot, sequence in zip(free, list(self._staged), strict=False):
            self._staged.remove(sequence)
            move(sequence, slot)
        rows = padded(len(self._running))
        while padded(max(self._running) + 1) > rows:
            hole = next(slot for slot in range(self.n_slots) if slot not in self._running)
            move(self._running.pop(max(self._running)), hole)
        slots = sorted(self._running)
        span = min(max(rows, slots[-1] + 1), self.n_slots)
        idle = [slot for slot in range(span) if slot not in self._running]
        return Decode([self._running[slot] for slot in slots], idle, moves)
