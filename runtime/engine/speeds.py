"""Times single llama.cpp calls, for tuning and as the ceiling of benchmarks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Self

import numpy as np

from runtime.engine.batch import Batch
from runtime.engine.context import CacheType, Context
from runtime.engine.model import Model

# Calls before any is counted: threads start, weights are read, llama.cpp plans its graphs.
_WARM_UP = 2


class SingleCalls:
    """Times calls on a context of its own; close it, or use it in a `with`.

    It has `slots` sequences of `cells` tokens; `average` reduces the times of repeated calls.

    Raises:
        EngineError: no context could be made, or, in each method, a call failed.
    """

    def __init__(
        self,
        model: Model,
        slots: int,
        cells: int,
        threads: int,
        call_tokens: int = 512,
        cache_type: CacheType = "f16",
        average: Callable[[Iterable[float]], float] = statistics.median,
    ) -> None:
        self._average = average
        self._vocab = model.n_vocab
        self._context = Context(
            model, slots, 0, cells, threads, max_tokens=call_tokens, cache_type=cache_type
        )
        self._batch = Batch(self._context.max_tokens)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the context. A second call does nothing."""
        self._context.close()

    def prefill(self, sequences: int, length: int, prefix: int = 0, repeats: int = 3) -> float:
        """Tokens per second of calls with `length` tokens of each sequence.

        Each has `prefix` tokens in the cache before; `repeats` calls count.
        """

        def call() -> float:
            self._fill(sequences, prefix)
            position = np.tile(np.arange(prefix, prefix + length), sequences)
            return self._call(position, np.repeat(np.arange(sequences), length), last_only=True)

        return sequences * length / self._time(call, repeats)

    def decode(self, sequences: int, depth: int, repeats: int = 6) -> float:
        """Tokens per second of steps with one token of each sequence, about `depth` deep."""
        position = max(0, depth - (repeats + _WARM_UP) // 2)
        self._fill(sequences, position)
        slots = np.arange(sequences)

        def call() -> float:
            nonlocal position
            position += 1
            return self._call(np.full(sequences, position - 1), slots, last_only=False)

        return sequences / self._time(call, repeats)

    def _fill(self, sequences: int, length: int) -> None:
        """Fill the cache with `length` tokens of each sequence, and nothing else."""
        self._context.clear_all()
        for slot in range(sequences):
            for first in range(0, length, self._batch.capacity):
                piece = np.arange(first, min(length, first + self._batch.capacity))
                self._call(piece, np.full(len(piece), slot), last_only=True)

    def _call(self, position: np.ndarray, slot: np.ndarray, last_only: bool) -> float:
        """Seconds of a call; logits for each token, or for the last of each slot."""
        token = np.arange(len(position)) * 7919 % (self._vocab // 2) + 100
        output = np.ones(len(position), np.int8)
        if last_only:
            output[:-1] = np.diff(slot) != 0
        self._batch.fill(token, position, slot, output)
        started = time.perf_counter()
        self._context.run(self._batch)
        return time.perf_counter() - started

    def _time(self, call: Callable[[], float], repeats: int) -> float:
        for _ in range(_WARM_UP):
            call()
        return self._average([call() for _ in range(repeats)])
