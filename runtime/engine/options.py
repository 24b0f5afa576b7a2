"""How an engine runs."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.engine.context import CacheType, FlashAttention
from runtime.engine.sizing import PADDING_CELLS


@dataclass(frozen=True)
class EngineOptions:
    """How an engine runs.

    Attributes:
        slots: most generations that are decoded at once.
        cells_per_slot: most tokens of one, prompt and answer together.
        cache_type: of the KV cache's numbers.
        cache_bytes: most bytes of the KV cache. With a limit the cache follows what the
            requests need: long ones run in few slots, short ones in many. None makes it
            once, for `slots` of `cells_per_slot`.
        usual_cells: what most requests are expected to need; a cache with a limit is first
            sized for that.
        call_tokens: most tokens of a prefill call.
        shortlist: how many of a row's likeliest tokens a call reports at least, where no request
            needs more (see `shortlist`); 0 is all, None takes the device profile's.
        mix_adapters: requests with different adapters share calls where that pays (see `mixing`);
            otherwise they take turns.
        prefix_bytes: most bytes of the KV states that are kept for requests that begin like earlier
            ones (see `Request.keep`); 0 keeps none.
        stream_gap: seconds for which the prompts of others may hold up an answer that is read
            while it grows (see `Request.streamed`); 0 is no limit.
        batch_invariant: an answer is the same to the bit whatever else is in the batch (see
            `shape`); on a CPU only.
        patience: how many later requests may overtake one that waits (see `WaitingRoom`); None is
            eight for each slot in a list and where adapters take turns, else two.
    """

    slots: int = 16
    cells_per_slot: int = 1024
    threads: int = 2
    flash_attention: FlashAttention = "auto"
    cache_type: CacheType = "f16"
    cache_bytes: int | None = None
    usual_cells: int = 256
    call_tokens: int = 512
    call_cost: int | None = None
    shortlist: int | None = None
    mix_adapters: bool = True
    prefix_bytes: int = 256 * 2**20
    stream_gap: float = 0.0
    batch_invariant: bool = False
    patience: int | None = None

    def __post_init__(self) -> None:
        if self.slots < 1 or self.cells_per_slot <= PADDING_CELLS:
            raise ValueError(f"at least 1 slot of {PADDING_CELLS + 1} cells is needed")
