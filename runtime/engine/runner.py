"""Carries out what the scheduler decided: steps and prefixes as llama.cpp calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runtime.engine.batch import Batch
from runtime.engine.cache import Cache
from runtime.engine.context import Context
from runtime.engine.generation import Generation
from runtime.engine.rows import Rows
from runtime.engine.sampling import score
from runtime.engine.scheduler import Decode, Prefill
from runtime.engine.stats import Stats


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
        cache: not owned; its context may change between steps.
        stats: what is done is counted here.
    """

    def __init__(self, cache: Cache, stats: Stats) -> None:
        self._cache = cache
        self._stats = stats
        self._batch = Batch(self.context.max_tokens)
        self._mixed = False

    @property
    def context(self) -> Context:
        return self._cache.context

    def prefill(self, step: Prefill) -> tuple[list[Generation], Rows]:
        """Decode a piece of each prompt; scores of prompt tokens are noted where asked for.

        Returns:
            the generations whose prompt is complete and a row of logits after it for each;
            one that wants no new token has no row.

        Raises:
            EngineError: llama.cpp refused the call; the slots in it must be cleared.
        """
        with self._stats.timed("prefill_seconds"):
            pieces = [self._piece(generation, step.length) for generation in step.generations]
            rows = self._call(pieces, step.length)
            ready, last, end = [], [], 0
            for generation, piece in zip(step.generations, pieces, strict=True):
                start, end = end, end + len(piece.wanted)
                complete = piece.start + len(piece.tokens) == generation.n_prompt
                goes_on = complete and generation.request.params.max_new_tokens > 0
                n_scored = len(piece.wanted) - goes_on
                if n_scored:
                    first = piece.start + piece.wanted[0] + 1
                    scored = generation.request.prompt[first : first + n_scored]
                    n_top = generation.request.params.logprobs or 0
                    logits = rows.logits[start : start + n_scored]
                    generation.prompt_scores += score(logits, scored, n_top)
                if goes_on:
                    ready.append(generation)
                    last.append(end - 1)
            return ready, rows[last]

    def _piece(self, generation: Generation, length: int) -> _Piece:
        if generation.prefix is not None:
            self._restore(generation.slot, generation.prefix, generation.n_cached)
            generation.prefix = None
            self._stats.shared_tokens += generation.n_cached
        request, start = generation.request, generation.n_cached
        tokens = request.prompt[start : start + length]
        end = start + len(tokens)
        wanted: list[int] = []
        if request.score_from is not None:
            # The logits at a place are the prediction of the token after it.
            first, last = max(start, request.score_from - 1), min(end, generation.n_prompt - 1)
            wanted = [place - start for place in range(first, last)]
        if end == generation.n_prompt and request.params.max_new_tokens > 0:
            wanted.append(end - 1 - start)
        return _Piece(generation.slot, start, tokens, request.adapter, wanted)

    def use(self, adapters: set[str | None], n_best: int | None = None) -> None:
        """Say what the next calls are for.

        Args:
            adapters: of their tokens; several are mixed.
            n_best: of how many of a row's likeliest tokens the logits are wanted; None is all.

        Raises:
            EngineError: llama.cpp refused it.
        """
        self.context.use_shortlist(n_best)
        self._mixed = len(adapters) > 1
        if not self._mixed:
            self.context.use_adapter(next(iter(adapters)))

    def _restore(self, slot: int, cache: np.ndarray, n_tokens: int) -> None:
        """Put the first tokens of a saved cache into a slot."""
        self.context.restore(slot, cache)
        self.context.clear(slot, n_tokens)

    def decode(self, step: Decode) -> Rows:
        """Decode the newest token of each; a row of logits for each of step.generations.

        Raises:
            EngineError: llama.cpp refused the call; the slots in it must be cleared.
        """
        with self._stats.timed("decode_seconds"):
            for _, source, target in step.moves:
                self.context.restore(target, self.context.save(source))
                self.context.clear(source)
            # A row per slot, from slot 0 on; logits of idle slots are dropped.
            n_rows = len(step.generations) + len(step.idle_slots)
            token, position = np.zeros((2, n_rows), np.int32)
            adapters: list[str | None] = [None] * n_rows
            for generation in step.generations:
                slot = generation.slot
                token[slot] = generation.tokens[-1]
                position[slot] = generation.n_prompt + len(generation.tokens) - 1
                adapters[slot] = generation.request.adapter
            self._batch.fill(token, position, np.arange(n_rows), 1)
            self._compute(adapters)
            rows = self.context.rows(n_rows)
            if step.idle_slots:
                rows = rows[[generation.slot for generation in step.generations]]
            for idle in step.idle_slots:
                self.context.clear(idle)
            self._stats.decode_calls += 1
            self._stats.decode_tokens += len(step.generations)
            self._stats.padding_tokens += len(step.idle_slots)
            return rows

    def prefix(self, prefix: Prefix, slot: int) -> np.ndarray:
        """The cache of a prefix, computed in a free slot, which is free again after.

        Raises:
            EngineError: llama.cpp refused a call.
        """
        with self._stats.timed("prefill_seconds"):
            try:
                if prefix.cache is not None:
                    self._restore(slot, prefix.cache, prefix.n_cached)
                for start in range(prefix.n_cached, len(prefix.tokens), self.context.max_tokens):
                    tokens = prefix.tokens[start : start + self.context.max_tokens]
                    self._call([_Piece(slot, start, tokens, prefix.adapter)], len(tokens))
                return self.context.save(slot)
            finally:
                if not self.context.closed:
                    self.context.clear(slot)

    def _compute(self, adapters: Sequence[str | None]) -> None:
        """Run the batch, each of its tokens with its adapter."""
        if self._mixed:
            stack = self._cache.stack
            self.context.compute(self._batch, [stack.index(name) for name in adapters])
        else:
            self.context.compute(self._batch)

    def _call(self, pieces: Sequence[_Piece], length: int) -> Rows:
        """Decode pieces of at most `length` tokens in consecutive slots, padded to that length.

        Returns the logits at their wanted places, one piece after another, valid until the
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
        self._batch.fill(tokens.ravel(), positions.ravel(), slots, outputs.ravel())
        adapters = [piece.adapter for piece in pieces for _ in range(length)]
        self._compute(adapters)
        rows = self.context.rows(sum(len(piece.wanted) for piece in pieces))
        for piece in pieces:
            if len(piece.tokens) < length:  # padding must not be seen by what follows
                self.context.clear(piece.slot, piece.start + len(piece.tokens))
        n_real = sum(len(piece.tokens) for piece in pieces)
        self._stats.prefill_calls += 1
        self._stats.prefill_tokens += n_real
        self._stats.padding_tokens += n * length - n_real
        return rows
