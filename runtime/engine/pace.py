"""How many prompt tokens may be computed before streamed answers must go on."""

from __future__ import annotations

import time
from collections.abc import Callable

from runtime.engine.step import Decode, Step

# Pieces are multiples of this: with fewer tokens of a prompt in a call llama.cpp's attention on a
# CPU is several times slower for each (see `shape`). One such piece follows each decode step in
# any case, so that prompts get on even where decode steps alone take longer than the gap allows.
LEAST_TOKENS = 64
# A call that was faster than expected counts this much: too low an estimate makes a gap too long.
_FASTER = 0.3


class Pace:
    """Measures what steps cost, and sizes pieces of prompts by it.

    `gap` is how many seconds may pass between two decode steps; 0 is no limit.
    """

    def __init__(self, gap: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._gap = gap
        self.clock = clock
        self._decoded_at = clock()
        self._decode_seconds = 0.0
        self._token_seconds = 0.0  # of a prompt token
        self._interrupted = False  # whether a prompt got a piece since the last decode step

    def note(self, step: Step, started: float) -> None:
        """Note that a step, which started at a time of the clock, has just been run."""
        ended = self.clock()
        if isinstance(step, Decode) and step.length > 1:
            return  # neither a token for each answer nor a piece of a prompt
        if isinstance(step, Decode):
            self._decoded_at, self._decode_seconds = ended, ended - started
            self._interrupted = False
            return
        change = (ended - started) / (step.length * len(step.generations)) - self._token_seconds
        self._token_seconds += change if change > 0 else _FASTER * change
        self._interrupted = True

    def most_tokens(self) -> int | None:
        """Prompt tokens that may be computed now; 0: a decode step is due; None: no limit."""
        if not self._gap:
            return None
        left = self._gap - (self.clock() - self._decoded_at) - self._decode_seconds
        tokens = int(left / self._token_seconds) if self._token_seconds else LEAST_TOKENS
        tokens = max(0, tokens // LEAST_TOKENS * LEAST_TOKENS)
        return tokens if tokens or self._interrupted else LEAST_TOKENS
