"""Runs what the scheduler decided: steps and prefixes as llama.cpp calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runtime.engine.batch import Batch
from runtime.engine.cache import Cache
from runtime.engine.calls import Stopped
from runtime.engine.context import Context
from runtime.engine.generation import Generation
from runtime.engine.llama import EngineError
from runtime.engine.model import Model
from runtime.engine.rows import Rows
from runtime.engine.sampling import Choice, score
from runtime.engine.shape import LEAST_MIXED, Shape
from runtime.engine.stats import Stats
from runtime.engine.step import Decode, Prefill, Result, Step


@dataclass(frozen=True)
class _Piece:
    """Tokens for one slot, from a position on; `wanted` are the places whose logits matter."""

    slot: int
    start: int
    tokens: Sequence[int]
    adapter: str | None
    wanted: Sequence[int] = ()


class Runner:
    """Runs steps on the cache's context, which may change between them, and counts in `stats`."""

    def __init__(self, model: Model, cache: Cache, stats: Stats, shape: Shape) -> None:
        self._model = model
        self._shape = shape
        self._cache = cache
        self._stats = stats
        self._batch = Batch(cache.context.max_tokens)
        self._may_stop = False
        self._asked_to_stop = False

    @property
    def _context(self) -> Context:
        return self._cache.context

    def run(self, step: Step) -> Result | None:
        """Compute a step, which changes only the contents of slots.

        Returns None if `give_way` stopped it: the same step can be run again.

        Raises:
            EngineError: llama.cpp refused the call; the slots in it must be cleared.
            Stopped: the same step can be run again.
        """
        self._may_stop = all(generation.request.background for generation in step.generations)
        try:
            if isinstance(step, Decode):  # also if it is not run now: the next one has no moves
                for _, source, target in step.moves:
                    self._context.restore(target, self._context.save(source))
                    self._context.clear(source)
            if self._may_stop and self._asked_to_stop:
                return None
            if isinstance(step, Prefill):
                with self._stats.timed("prefill_seconds"):
                    result = self._in_pieces(step)
                self._stats.prefill_calls += 1
                self._stats.prefill_tokens += _n_tokens(step)
                return result
            with self._stats.timed("decode_seconds"):
                several = step.length > 1
                result = self._in_pieces(step) if several else Result(self._decode(step), ())
            self._stats.decode_calls += 1
            self._stats.decode_tokens += _n_tokens(step)
            return result
        except Stopped:
            if not (self._may_stop and self._asked_to_stop):
                raise
            return None
        finally:
            self._may_stop = self._asked_to_stop = False

    def give_way(self) -> None:
        """Have the step that runs stop if it is for background requests alone; else the next one.

        May be called from any thread.
        """
        self._asked_to_stop = True
        if self._may_stop:
            self._context.stop()

    @property
    def cells(self) -> int:
        """Tokens that a slot can hold now."""
        return self._context.cells_per_slot

    def restore(self, slot: int, state: np.ndarray, n_tokens: int) -> None:
        """Put the first tokens of a saved state into a free slot.

        Raises:
            EngineError: llama.cpp refused it; the slot is free.
        """
        with self._stats.timed("prefill_seconds"):
            try:
                self._context.restore(slot, state)
                self._context.clear(slot, n_tokens)
            except EngineError:
                self._context.clear(slot)
                raise

    def cut(self, slot: int, n_tokens: int) -> int:
        """Keep only a slot's first tokens; returns the bytes that `save` would take.

        Raises:
            EngineError: llama.cpp refused it.
        """
        self._context.clear(slot, n_tokens)
        return self._context.state_bytes(slot)

    def save(self, slot: int) -> np.ndarray:
        """A copy of what a slot holds. Raises EngineError."""
        return self._context.save(slot)

    def check_numbers(self) -> None:
        """Compute a token with the bare model and with each adapter. All slots must be free.

        Raises:
            EngineError: the logits are not numbers; it names the file.
        """
        all_names = [None, *self._model.adapters]
        at_once = self._cache.layout.sequences if self._model.stack else 1
        for first in range(0, len(all_names), at_once):
            names = all_names[first : first + at_once]
            pieces = [_Piece(slot, 0, [0], name, [0]) for slot, name in enumerate(names)]
            logits = self._call(pieces, 1).logits
            good = np.isfinite(logits).all(axis=1) & (logits.min(axis=1) < logits.max(axis=1))
            self._context.clear_all()
            if not good.all():
                raise EngineError(self._model.why_damaged(names[int(good.argmin())]))

    def _in_pieces(self, step: Step) -> Result:
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
                logits = rows.logits[start : start + n_scored]
                ranked = generation.request.score_top is not None
                scores[-1] = score(logits, scored, generation.n_rivals, ranked)
            if generation in step.sampled:
                last.append(end - 1)
        return Result(rows[last], scores)

    def _piece(self, generation: Generation, length: int) -> _Piece:
        request, start = generation.request, generation.n_held
        tokens = generation.missing[:length]
        end = start + len(tokens)
        wanted: list[int] = []
        if request.score_from is not None:
            # The logits at a place are the prediction of the token after it.
            first, last = max(start, request.score_from - 1), min(end, generation.n_prompt - 1)
            wanted = [place - start for place in range(first, last)]
        if len(tokens) == generation.n_missing and generation.wants_tokens:
            wanted.append(end - 1 - start)
        return _Piece(generation.slot, start, tokens, request.adapter, wanted)

    def _decode(self, step: Decode) -> Rows:
        """The next token of each; a row of logits for each of step.sampled."""
        context = self._context
        # A row per slot, from slot 0 on; logits of idle slots are dropped.
        n_slots = len(step.generations) + len(step.idle_slots)
        length = self._shape.row_tokens(n_slots)
        token, position = np.zeros((2, n_slots, length), np.int32)
        position += np.arange(length, dtype=np.int32)
        adapters = [step.generations[0].request.adapter] * n_slots
        for generation in step.generations:
            slot = generation.slot
            token[slot, 0] = generation.missing[0]
            position[slot] += generation.n_held
            adapters[slot] = generation.request.adapter
        slots = np.repeat(np.arange(n_slots), length)
        self._batch.fill(token.ravel(), position.ravel(), slots, 1)
        rows = self._compute(adapters, length, step.n_likeliest)
        if n_slots * length > len(step.sampled):
            rows = rows[[generation.slot * length for generation in step.sampled]]
        for generation in step.generations if length > 1 else ():
            context.clear(generation.slot, generation.n_held + 1)
        for idle in step.idle_slots:
            context.clear(idle)
        self._stats.padding_tokens += n_slots * length - len(step.generations)
        return rows

    def _call(self, pieces: Sequence[_Piece], length: int, n_likeliest: int | None = None) -> Rows:
        """Compute pieces, padded to `length` tokens, in consecutive slots.

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
        places = self._more_outputs(flags)
        self._batch.fill(tokens.ravel(), positions.ravel(), slots, flags)
        rows = self._compute([piece.adapter for piece in pieces], length, n_likeliest)
        if places is not None:
            rows = rows[places]
        for piece in pieces:
            if len(piece.tokens) < length:  # padding must not be seen by what follows
                self._context.clear(piece.slot, piece.start + len(piece.tokens))
        self._stats.padding_tokens += n * length - sum(len(piece.tokens) for piece in pieces)
        return rows

    def _more_outputs(self, flags: np.ndarray) -> np.ndarray | None:
        """Flag more outputs if the shape of calls needs them; the rows of those flagged before."""
        wanted = np.flatnonzero(flags)
        least = 1 if self._model.stack is None else LEAST_MIXED
        n_more = self._shape.outputs(len(wanted), least) - len(wanted)
        if not len(wanted) or not n_more:
            return None
        flags[np.flatnonzero(flags == 0)[:n_more]] = 1
        return np.searchsorted(np.flatnonzero(flags), wanted)

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


def _n_tokens(step: Step) -> int:
    """Tokens that a step is to compute, without padding."""
    return sum(min(step.length, generation.n_missing) for generation in step.generations)
