"""Counters and times of an engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields


@dataclass
class Stats:
    """Counters since the engine was made or `reset`; times in seconds.

    `prefill_tokens` are prompt tokens computed, `shared_tokens` those taken from a saved
    prefix, `decode_tokens` those computed one per generation and step, `padding_tokens`
    those computed for nothing; `resizes` counts new divisions of the cache, and `suspensions`
    how often a background request gave up its slot.
    """

    prefill_tokens: int = 0
    shared_tokens: int = 0
    decode_tokens: int = 0
    padding_tokens: int = 0
    new_tokens: int = 0
    prefill_calls: int = 0
    decode_calls: int = 0
    resizes: int = 0
    suspensions: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    sampling_seconds: float = 0.0
    resize_seconds: float = 0.0

    def reset(self) -> None:
        for field in fields(self):
            setattr(self, field.name, field.default)

    def as_dict(self) -> dict[str, float]:
        return asdict(self)

    def __add__(self, other: Stats) -> Stats:
        mine, theirs = self.as_dict(), other.as_dict()
        return Stats(**{name: mine[name] + theirs[name] for name in mine})  # type: ignore[arg-type]

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds that the block takes to the field of that name."""
        started = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + time.perf_counter() - started)
