"""Runs what the scheduler decided: steps and prefixes as llama.cpp calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runtime.engine.batch import Batch
from runtime.engine.cache import Cache
from runtime.engine.context import Context
from runtime.engine.generation import Generation
from runtime.engine.llama import EngineError
from runtime.engine.model import Model
from runtime.engine.rows import Rows
from runtime.engine.sampling import Choice, score
from runtime.engine.stats import Stats
from runtime.engine.step import Decode, Prefill, Result, Step

# llama.cpp multiplies a single row with a float matrix by another kernel than several rows, and
# rounding decides between near ties. So calls that go through a stack of adapters have at least
# two rows and two rows of logits: an answer is the same alone and among others.
LEAST_MIXED = 2


@dataclass(frozen=True)
class _Piece:
    """Tokens for one slot, from a position on; `wanted` are the places whose logits matter."""

    slot: int
    start: int
    tokens: Sequence[int]
    adapter: str | None
    wanted: Sequence[int] = ()


@dataclass(frozen=True)
class Prefix:
    """A prefix to compute: its first `n_cached` tokens are there already, in `cache`."""

    tokens: Sequence[int]
    adapter: str | None = None
    n_cached: int = 0
    cache: np.ndarray | None = None


class Runner:
    """Runs steps on the cache's context.

    Args:
        model: not owned.
        cache: not owned; its context may change between steps.
        stats: what is done is counted here.
    """

    def __init__(self, model: Model, cache: Cache, stats: Stats) -> None:
        self._model = model
        self._cache = cache
        self._stats = stats
        self._batch = Batch(cache.context.max_tokens)

    @property
    def _context(self) -> Context:
        return self._cache.context

    def run(self, step: Step) -> Result:
        """Compute a step. Changes nothing but the contents of slots.

        Raises:
            EngineError: llama.cpp refused the call; the slots in it must be cleared.
            Stopped: the same step can be run again.
        """
        if isinstance(step, Prefill):
            with self._stats.timed("prefill_seconds"):
                return self._prefill(step)
        with self._stats.timed("decode_seconds"):
            return Result(self._decode(step), ())

    def prefix(self, prefix: Prefix, slot: int) -> np.ndarray:
        """The cache of a prefix, computed in a free slot, which is free again after.

        Raises:
            EngineError: llama.cpp refused a call.
        """
        with self._stats.timed("prefill_seconds"):
            try:
                if prefix.cache is not None:
                    self._restore(slot, prefix.cache, prefix.n_cached)
                for start in range(prefix.n_cached, len(prefix.tokens), self._batch.capacity):
                    tokens = prefix.tokens[start : start + self._batch.capacity]
                    self._call([_Piece(slot, start, tokens, prefix.adapter)], len(tokens))
                return self._context.save(slot)
            finally:
                if not self._context.closed:
                    self._context.clear(slot)

    @property
    def cells(self) -> int:
        """Tokens that a slot can hold at present."""
        return self._context.cells_per_slot

    def restore(self, slot: int, state: np.ndarray, n_tokens: int) -> None:
        """Put the first tokens of a saved state into a free slot.

        Raises:
            EngineError: llama.cpp refused it; the slot is free.
        """
        with self._stats.timed("prefill_seconds"):
            try:
                self._restore(slot, state, n_tokens)
            except EngineError:
                self._context.clear(slot)
                raise
            self._stats.shared_tokens += n_tokens

    def cut(self, slot: int, n_tokens: int) -> int:
        """Drop what a slot holds beyond its first tokens; bytes that `save` of the rest takes.

        Raises:
            EngineError: llama.cpp refused it.
        """
        self._context.clear(slot, n_tokens)
        return self._context.state_bytes(slot)

    def save(self, slot: int) -> np.ndarray:
        """A copy of what a slot holds. Raises EngineError where it cannot be made."""
        return self._context.save(slot)

    def check_numbers(self) -> None:
        """Compute a token with the bare model and with each adapter. All slots must be free.

        Raises:
            EngineError: the logits are not numbers; it names the file.
        """
        for names in self._calls([None, *self._model.adapters]):
            pieces = [_Piece(slot, 0, [0], name, [0]) for slot, name in enumerate(names)]
            logits = self._call(pieces, 1).logits
            good = np.isfinite(logits).all(axis=1) & (logits.min(axis=1) < logits.max(axis=1))
            self._context.clear_all()
            if not good.all():
                raise EngineError(self._model.why_damaged(names[int(good.argmin())]))

    def _calls(self, names: list[str | None]) -> list[list[str | None]]:
        """Adapters, by those that can be in one call."""
        at_once = self._cache.layout.sequences if self._model.stack else 1
        return [names[first : first + at_once] for first in range(0, len(names), at_once)]

    def _prefill(self, step: Prefill) -> Result:
        pieces = [self._piece(generation, step.length) for generation in step.generations]
        rows = self._call(pieces, step.length, step.n_likeliest)
        scores: list[list[Choice]] = []
        last, end = [], 0
        for generation, piece in zip(step.generations, pieces, strict=True):
            start, end = end, end + len(piece.wanted)
            n_scored = len(piece.wanted) - (generation in step.sampled)
            scores.append([])
            if n_scored:
                first = piece.start + piece.wanted[0] + 1
                scored = generation.request.prompt[first : first + n_scored]
                n_top = generation.request.params.logprobs or 0
                scores[-1] = score(rows.logits[start : start + n_scored], scored, n_top)
            if generation in step.sampled:
                last.append(end - 1)
        return Result(rows[last], scores)

    def _piece(self, generation: Generation, length: int) -> _Piece:
        request, start = generation.request, generation.n_cached
        tokens = request.prompt[start : start + length]
        end = start + len(tokens)
        wanted: list[int] = []
        if request.score_from is not None:
            # The logits at a place are the prediction of the token after it.
            first, last = max(start, request.score_from - 1), min(end, generation.n_prompt - 1)
            wanted = [place - start for place in range(first, last)]
        if end == generation.n_prompt and generation.wants_tokens:
            wanted.append(end - 1 - start)
        return _Piece(generation.slot, start, tokens, request.adapter, wanted)

    def _restore(self, slot: int, cache: np.ndarray, n_tokens: int) -> None:
        """Put the first tokens of a saved cache into a slot."""
        self._context.restore(slot, cache)
        self._context.clear(slot, n_tokens)

    def _decode(self, step: Decode) -> Rows:
        """The newest token of each; a row of logits for each of step.generations."""
        context = self._context
        for _, source, target in step.moves:
            context.restore(target, context.save(source))
            context.clear(source)
        # A row per slot, from slot 0 on; logits of idle slots are dropped.
        n_rows = len(step.generations) + len(step.idle_slots)
        token, position = np.zeros((2, n_rows), np.int32)
        adapters = [step.generations[0].request.adapter] * n_rows
        for generation in step.generations:
            slot = generation.slot
            token[slot] = generation.tokens[-1]
            position[slot] = generation.n_prompt + len(generation.tokens) - 1
            adapters[slot] = generation.request.adapter
        self._batch.fill(token, position, np.arange(n_rows), 1)
        rows = self._compute(adapters, 1, step.n_likeliest)
        if step.idle_slots:
            rows = rows[[generation.slot for generation in step.generations]]
        for idle in step.idle_slots:
            context.clear(idle)
        self._stats.decode_calls += 1
        self._stats.decode_tokens += len(step.generations)
        self._stats.padding_tokens += len(step.idle_slots)
        return rows

    def _call(self, pieces: Sequence[_Piece], length: int, n_likeliest: int | None = None) -> Rows:
        """Prefill pieces of at most `length` tokens in consecutive slots, shorter ones padded.

        Returns the logits of the wanted places, in order of piece and place; valid until the
        next call.
        """
        n = len(pieces)
        tokens = np.zeros((n, length), np.int32)
        outputs = np.zeros((n, length), np.int8)
        for row, piece in enumerate(pieces):
            tokens[row, : len(piece.tokens)] = piece.tokens
            outputs[row, list(piece.wanted)] = 1
        starts = np.array([piece.start for piece in pieces])
        positions = starts[:, None] + np.arange(length)
        slots = np.repeat([piece.slot for piece in pieces], length)
        flags = outputs.ravel()
        added = self._second_output(flags)
        self._batch.fill(tokens.ravel(), positions.ravel(), slots, flags)
        rows = self._compute([piece.adapter for piece in pieces], length, n_likeliest)
        if added is not None:
            rows = rows[1 - added : 2 - added]
        for piece in pieces:
            if len(piece.tokens) < length:  # padding must not be seen by what follows
                self._context.clear(piece.slot, piece.start + len(piece.tokens))
        n_real = sum(len(piece.tokens) for piece in pieces)
        self._stats.prefill_calls += 1
        self._stats.prefill_tokens += n_real
        self._stats.padding_tokens += n * length - n_real
        return rows

    def _second_output(self, flags: np.ndarray) -> int | None:
        """Flag a second output where adapters are mixed; its row, or None if there is none."""
        if self._model.stack is None or flags.sum() != 1 or len(flags) < LEAST_MIXED:
            return None
        wanted = int(flags.argmax())
        flags[wanted - 1 if wanted else 1] = 1
        return 0 if wanted else 1

    def _compute(self, adapters: Sequence[str | None], length: int, likeliest: int | None) -> Rows:
        """Run the batch: `length` tokens with each of the adapters.

        Where the model has a stack, all calls go through it, so that the arithmetic of a row
        does not depend on which other adapters are in its call.
        """
        n_best = None if likeliest is None else likeliest + len(self._model.end_tokens)
        stack = self._model.stack
        if stack is not None:
            mixed = np.repeat([stack.index(name) for name in adapters], length)
            return self._context.run(self._batch, mixed=mixed, n_best=n_best)
        if len(set(adapters)) != 1:
            raise EngineError("different adapters in one call cannot be mixed")
        return self._context.run(self._batch, adapter=adapters[0], n_best=n_best)
