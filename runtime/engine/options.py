"""How an engine runs."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.engine.context import CacheType, FlashAttention
from runtime.engine.sizing import PADDING_CELLS


@dataclass(frozen=True)
class EngineOptions:
    """How an engine runs."""

    slots: int = 16  # most generations that are decoded at once
    cells_per_slot: int = 1024  # most tokens of one, prompt and answer together
    threads: int = 2
    flash_attention: FlashAttention = "auto"
    cache_type: CacheType = "f16"  # of the KV cache's numbers
    # Most bytes of the KV cache. With a limit the cache follows what the requests need: long ones
    # run in few slots, short ones in many. None makes it once, for `slots` of `cells_per_slot`.
    cache_bytes: int | None = None
    usual_cells: int = 256  # that most requests need; a cache with a limit is first sized for that
    call_tokens: int = 512  # most tokens of a prefill call
    # How many of a row's likeliest tokens a call reports at least, where no request needs more
    # (see `shortlist`); 0 is all, None takes the device profile's.
    shortlist: int | None = None
    # Requests with different adapters share calls where that pays (see `mixing`); otherwise they
    # take turns.
    mix_adapters: bool = True
    # Most bytes of the KV states that are kept for requests that begin like earlier ones (see
    # `Request.keep`); 0 keeps none.
    prefix_bytes: int = 256 * 2**20
    # Seconds for which the prompts of others may hold up an answer that is read while it grows (see
    # `Request.streamed`); 0 is no limit.
    stream_gap: float = 0.0
    # An answer is the same to the bit whatever else is in the batch (see `shape`); on a CPU only.
    batch_invariant: bool = False
    # How many later requests may overtake one that waits (see `WaitingRoom`); None is eight for
    # each slot in a list and where adapters take turns, else two.
    patience: int | None = None

    def __post_init__(self) -> None:
        if self.slots < 1 or self.cells_per_slot <= PADDING_CELLS:
            raise ValueError(f"at least 1 slot of {PADDING_CELLS + 1} cells is needed")
