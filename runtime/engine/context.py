"""`Context`: a llama.cpp context with one KV stream per slot."""

from __future__ import annotations

import ctypes
from typing import Any, Literal

import llama_cpp as llama
import numpy as np
from numpy.typing import ArrayLike

from runtime.engine.batch import Batch
from runtime.engine.calls import StopFlag, Stopped, stoppable, undisturbed
from runtime.engine.llama import EngineError, Handle, captured_log, with_log
from runtime.engine.mixing import Mixer
from runtime.engine.model import STACK, Model
from runtime.engine.rows import Rows
from runtime.engine.shortlist import Shortlist
from runtime.engine.sizing import call_tokens, round_up_cells

FlashAttention = Literal["auto", "on", "off"]
_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
CacheType = Literal["f32", "f16", "q8_0"]
_CACHE_TYPES = {
    "f32": llama.GGML_TYPE_F32,
    "f16": llama.GGML_TYPE_F16,
    "q8_0": llama.GGML_TYPE_Q8_0,
}
# Bytes of a value; q8_0 has 32 one-byte values and a two-byte scale in a block.
CACHE_BYTES: dict[CacheType, float] = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32}
# How a saved slot begins: llama.cpp's io_magic, the sequence, the number of streams.
_MAGIC = 0xAF143CD8
_HEAD_BYTES = 12
# Zeros behind a saved slot, four bytes for each stream that a context may have besides the slot's
# own (LLAMA_MAX_SEQ is 256): any context takes the state as it is, without another copy.
_MOST_STREAMS = 256
_TAIL_BYTES = 4 * (_MOST_STREAMS - 1)
_ABORTED = 2  # what llama_decode returns where the abort callback said so


class Context:
    """A llama.cpp context with one KV stream per slot; closing its model closes it.

    Args:
        staging: further slots, numbered after the others, for prompts that wait prefilled.
        cells_per_slot: tokens that each can hold (rounded up).
        max_tokens: most tokens in one call; there is always room for one of each slot.
        cache_type: of the KV cache; "f32" is for comparisons, "q8_0" needs flash attention.
        eval_callback: llama.cpp's `ggml_backend_sched_eval_callback`, to read the tensors
            of a computation. The context keeps it alive.
        mix: tokens of one call may use different adapters of the model's stack (see
            `Model.load_stack`); only on a CPU.
        shortlist: likeliest tokens of a row that a call can report instead of all; 0 is none.

    Raises:
        EngineError: llama.cpp could not allocate it, or the model has no stack to mix.
    """

    def __init__(
        self,
        model: Model,
        slots: int,
        staging: int,
        cells_per_slot: int,
        threads: int,
        *,
        flash_attention: FlashAttention = "auto",
        max_tokens: int = 512,
        cache_type: CacheType = "f16",
        eval_callback: Any = None,
        mix: bool = False,
        shortlist: int = 0,
    ) -> None:
        if slots < 1 or staging < 0 or cells_per_slot < 1 or threads < 1:
            raise ValueError(
                f"slots, cells_per_slot and threads must be at least 1 and staging 0, got"
                f" {slots}, {cells_per_slot}, {threads} and {staging}"
            )
        if mix and (model.stack is None or eval_callback is not None):
            raise EngineError(
                "mix=True needs Model.load_stack() first, and cannot be used with an eval_callback"
            )
        self._mixer = Mixer(model.stack, model.adapter(STACK)) if mix and model.stack else None
        if self._mixer is not None:
            eval_callback = self._mixer.callback
        self.model = model
        self.slots = slots
        self.staging = staging
        self.cells_per_slot = round_up_cells(cells_per_slot)
        self.max_tokens = call_tokens(max_tokens, slots + staging)
        params = llama.llama_context_default_params()
        params.n_seq_max = slots + staging
        params.n_ctx = self.cells_per_slot * params.n_seq_max
        params.kv_unified = False
        params.n_batch = params.n_ubatch = self.max_tokens
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = _FLASH_ATTENTION[flash_attention]
        params.no_perf = True
        params.type_k = params.type_v = _CACHE_TYPES[cache_type]
        if eval_callback is not None:
            params.cb_eval = eval_callback
            params.op_offload = False  # what it looks at must be in main memory
        self._stop = StopFlag()
        params.abort_callback = StopFlag.callback(llama.ggml_abort_callback)
        params.abort_callback_data = self._stop.address
        pointer, lines = _new_context(model.pointer, params)
        if not pointer:
            raise EngineError(
                f"no context of {slots} + {staging} slots with {self.cells_per_slot} cells"
                f" each could be created{with_log(lines)}"
            )
        # What llama.cpp reads and calls lives as long as the context.
        kept = (model._handle, self._stop, params.cb_eval)
        self._handle = Handle(pointer, llama.llama_free, *kept)
        model._contexts.add(self)
        self._n_streams = slots + staging
        self._shortlist = (
            Shortlist(pointer, model.n_vocab, self._n_streams, shortlist) if shortlist else None
        )
        self._adapter: str | None = None

    @property
    def pointer(self) -> Any:
        if self.closed:
            raise EngineError("this context has been closed")
        return self._handle.pointer

    @property
    def closed(self) -> bool:
        return self._handle.closed

    @property
    def _memory(self) -> Any:
        return llama.llama_get_memory(self.pointer)

    def close(self) -> None:
        """Free the context. A second call does nothing."""
        self._handle.close()
        if self._shortlist is not None:
            self._shortlist.close()

    def stop(self) -> None:
        """Have the call that runs raise Stopped. May be called from any thread."""
        self._stop.set()

    @undisturbed
    def run(
        self,
        batch: Batch,
        *,
        adapter: str | None = None,
        mixed: ArrayLike | None = None,
        n_best: int | None = None,
    ) -> Rows:
        """Compute a batch; the logits that it asks for are valid until the next call.

        Args:
            adapter: name of a loaded adapter for all tokens, or None for the bare model.
                llama.cpp plans its calls anew when it changes.
            mixed: in its place, in a context with `mix`, the adapter of each token, int
                [n_tokens], as indices of the model's stack or -1 for none. The batch must be
                one that llama.cpp computes in one pass.
            n_best: how many of a row's likeliest tokens must be reported, where this context
                has a shortlist; None is all. A change between some and all costs a new plan.

        Raises:
            EngineError: llama.cpp refused the batch, or did not compute adapters in one pass;
                the slots in it must be cleared.
            Stopped: the waiting thread was interrupted, or `stop` was called; the slots hold what
                they held before.
        """
        most = llama.llama_n_batch(self.pointer)
        if batch.struct.n_tokens > most:  # llama.cpp would abort the process
            raise EngineError(
                f"a call of {batch.struct.n_tokens} tokens, and this context takes {most}"
            )
        shortlist = self._shortlist
        if shortlist is not None:
            attach = n_best is not None and n_best <= shortlist.n_best
            if attach != shortlist.attached:
                (shortlist.attach if attach else shortlist.detach)()
        with captured_log() as lines:  # a call that is stopped logs a warning for each slot
            code = self._call(batch, adapter, mixed)
        if shortlist is not None:
            shortlist.callbacks.check()
        if code == _ABORTED:
            raise Stopped
        if code != 0:
            reason = "no room in the KV cache" if code == 1 else f"code {code}"
            raise EngineError(f"llama_decode failed: {reason}{with_log(lines)}")
        return self._rows(batch.n_outputs)

    def _call(self, batch: Batch, adapter: str | None, mixed: ArrayLike | None) -> int:
        if mixed is None:
            self._apply(adapter)
            return self._decode(batch)
        if self._mixer is None:
            raise EngineError("adapters can be mixed in a context made with mix=True only")
        # Tokens without an adapter too: llama.cpp plans anew when adapters are switched.
        self._apply(STACK)
        return self._mixer.run(lambda: self._decode(batch), mixed, batch.outputs)

    def _decode(self, batch: Batch) -> int:
        with stoppable(self._stop):
            return int(llama.llama_decode(self.pointer, batch.struct))

    def _apply(self, name: str | None) -> None:
        """Apply a loaded adapter to the whole context, or none."""
        if name == self._adapter:
            return
        if name is None:
            code = llama.llama_set_adapters_lora(self.pointer, None, 0, None)
        else:
            adapters = (llama.llama_adapter_lora_p_ctypes * 1)(self.model.adapter(name))
            scales = (ctypes.c_float * 1)(1.0)
            code = llama.llama_set_adapters_lora(self.pointer, adapters, 1, scales)
        if code != 0:
            raise EngineError(f"llama.cpp refused adapter {name!r} (code {code})")
        self._adapter = name

    def _rows(self, n_outputs: int) -> Rows:
        n_vocab = self.model.n_vocab
        if n_outputs == 0:
            return Rows(np.empty((0, n_vocab), np.float32))
        if self._shortlist is not None and self._shortlist.attached:
            return self._shortlist.read(n_outputs)
        logits = llama.llama_get_logits(self.pointer)
        return Rows(np.ctypeslib.as_array(logits, shape=(n_outputs, n_vocab)))

    # The cache of a slot

    def clear(self, slot: int, start: int = 0) -> None:
        """Drop what the slot holds from position `start` on."""
        if not llama.llama_memory_seq_rm(self._memory, slot, start, -1):
            raise EngineError(f"slot {slot} could not be cut at position {start}")

    def clear_all(self) -> None:
        """Drop what all slots hold."""
        llama.llama_memory_clear(self._memory, False)

    def state_bytes(self, slot: int) -> int:
        """Bytes that `save` takes."""
        size = int(llama.llama_state_seq_get_size(self.pointer, slot))
        return size - 4 * (self._n_streams - 1) + _TAIL_BYTES if self.model.can_resize else size

    def save(self, slot: int) -> np.ndarray:
        """Copy what the slot holds, as bytes for `restore` in this context or another."""
        size = int(llama.llama_state_seq_get_size(self.pointer, slot))
        state = np.empty(size + _TAIL_BYTES, np.uint8)
        if llama.llama_state_seq_get_data(self.pointer, _bytes(state), size, slot) != size:
            raise EngineError(f"the cache of slot {slot} could not be saved")
        if not self.model.can_resize:
            return state[:size]
        # llama.cpp (state_seq_get_data, llama_kv_cache::state_write) writes a magic number, the
        # sequence, the number of streams, and for each stream the number of its cells in the
        # sequence followed by those cells: 0 for all streams but the slot's own.
        start, after = _HEAD_BYTES + 4 * slot, 4 * (self._n_streams - 1 - slot)
        head, tail = state[:start].view("<u4"), state[size - after : size].view("<u4")
        if head[0] != _MAGIC or head[2] != self._n_streams or head[3:].any() or tail.any():
            raise EngineError("this llama.cpp saves a slot's cache in an unknown format")
        state[start - _HEAD_BYTES : start].view("<u4")[:2] = _MAGIC, 0
        state[size:] = 0
        return state[start - _HEAD_BYTES : size - after + _TAIL_BYTES]

    def restore(self, slot: int, state: np.ndarray) -> None:
        """Replace what the slot holds by a saved copy."""
        self.clear(slot)
        size = state.size
        if self.model.can_resize:
            state[:_HEAD_BYTES].view("<u4")[2] = self._n_streams
            size -= 4 * (_MOST_STREAMS - self._n_streams)
        if llama.llama_state_seq_set_data(self.pointer, _bytes(state), size, slot) == 0:
            raise EngineError(f"the cache of slot {slot} could not be restored")


@undisturbed
def _new_context(model: Any, params: Any) -> tuple[Any, list[str]]:
    """A context, or a null pointer, and what llama.cpp's log said."""
    with captured_log() as lines:
        return llama.llama_init_from_model(model, params), list(lines)


def _bytes(state: np.ndarray) -> Any:
    return ctypes.cast(state.ctypes.data, ctypes.POINTER(ctypes.c_uint8))
