"""The owners of llama.cpp's handles: `Model` (with its adapters) and `Context`.

Each handle is freed exactly once, by `close()`, by garbage collection or at exit,
whichever comes first; a context keeps its model alive.
"""

from __future__ import annotations

import ctypes
import logging
import struct
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import llama_cpp as llama
import numpy as np
import psutil

from runtime.engine.batch import Batch

log = logging.getLogger(__name__)

FlashAttention = Literal["auto", "on", "off"]
_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
# llama.cpp rounds what a sequence can hold up to this many cells.
_CELL_STEP = 256


class EngineError(RuntimeError):
    """llama.cpp could not do what was asked; the message says what and why."""


# --- llama.cpp's log -------------------------------------------------------------


_log_lock = threading.RLock()
_log_lines: list[str] = []
# llama.cpp's levels: 3 is a warning, 4 an error, 5 goes on with the line before.
_LOUD = (3, 4)
_CONTINUED = 5
_last_level = 0


@llama.llama_log_callback  # type: ignore[untyped-decorator]
def _collect(level: int, text: bytes, _: Any) -> None:
    global _last_level
    level = _last_level if level == _CONTINUED else level
    _last_level = level
    message = text.decode("utf-8", "replace").strip()
    if message:
        log.debug("llama.cpp: %s", message)
        if level in _LOUD:
            _log_lines.append(message)


@contextmanager
def captured_log() -> Iterator[list[str]]:
    """Collect llama.cpp's warnings and errors instead of printing them.

    The logger is global in llama.cpp, so what was set before is put back after.
    """
    before = llama.llama_log_callback()
    user_data = ctypes.c_void_p()
    with _log_lock:
        _log_lines.clear()
        llama.llama_log_get(ctypes.byref(before), ctypes.byref(user_data))
        llama.llama_log_set(_collect, ctypes.c_void_p(0))
        try:
            yield _log_lines
        finally:
            llama.llama_log_set(before, user_data)


def _said(lines: list[str]) -> str:
    return f" (llama.cpp: {'; '.join(lines[-3:])})" if lines else ""


def _start_backend() -> None:
    # llama-cpp-python prints every line of llama.cpp's log unless a level is set.
    printer = logging.getLogger("llama-cpp-python")
    if printer.level == logging.NOTSET:
        printer.setLevel(logging.ERROR)
    # llama_backend_init is idempotent; freeing it would pull the rug from under other
    # users of llama.cpp in this process, so nobody does.
    with captured_log():
        llama.llama_backend_init()


class _Handle:
    """Something of llama.cpp's with exactly one owner."""

    def __init__(self, pointer: Any, free: Callable[[Any], None], *keep_alive: Any) -> None:
        self.pointer = pointer
        # `keep_alive` is held by the finalizer, so that what this handle needs outlives it.
        self._finalizer = weakref.finalize(self, lambda p, *_: free(p), pointer, *keep_alive)

    @property
    def closed(self) -> bool:
        return not self._finalizer.alive

    def close(self) -> None:
        """Free it. A second call does nothing."""
        self._finalizer()
        self.pointer = None


# --- model -----------------------------------------------------------------------


class Model:
    """A GGUF model: weights, vocabulary, metadata and the LoRA adapters loaded for it.

    Args:
        path: the GGUF file.
        gpu_layers: layers to offload; -1 is all, 0 keeps the model on the CPU.
        main_gpu: index of the GPU to use, or None to let llama.cpp split over all.
        progress: called with the loaded share, 0.0 to 1.0.

    Raises:
        EngineError: no such file, not a whole GGUF file, or a model that llama.cpp
            does not know.
    """

    def __init__(
        self,
        path: str | Path,
        gpu_layers: int = 0,
        main_gpu: int | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        self.path = Path(path)
        check_gguf(self.path)
        _start_backend()
        params = llama.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        if main_gpu is not None:
            params.main_gpu = main_gpu
            params.split_mode = llama.LLAMA_SPLIT_MODE_NONE

        interrupted: list[BaseException] = []

        def report(share: float, _: Any) -> bool:
            # An exception cannot pass through llama.cpp: stop loading and raise it after.
            try:
                if progress is not None:
                    progress(share)
            except BaseException as error:
                interrupted.append(error)
            return not interrupted

        callback = llama.llama_progress_callback(report)
        params.progress_callback = callback
        with captured_log() as lines:
            pointer = llama.llama_model_load_from_file(bytes(self.path), params)
        if interrupted:
            if pointer:
                llama.llama_model_free(pointer)
            raise interrupted[0]
        if not pointer:
            raise EngineError(f"{self.path}: llama.cpp cannot load this model{_said(lines)}")
        self._handle = _Handle(pointer, llama.llama_model_free)
        self._adapters: dict[str, _Handle] = {}
        self._contexts: weakref.WeakSet[Context] = weakref.WeakSet()
        self._pieces: dict[int, bytes] = {}
        unfit = self._unfit()
        if unfit:
            self.close()
            raise EngineError(f"{self.path}: {unfit}")

    @property
    def pointer(self) -> Any:
        if self._handle.closed:
            raise EngineError(f"{self.path}: this model has been closed")
        return self._handle.pointer

    def close(self) -> None:
        """Free contexts, adapters and the model. A second call does nothing."""
        for context in list(self._contexts):
            context.close()
        for adapter in self._adapters.values():
            adapter.close()
        self._adapters.clear()
        self._handle.close()

    @property
    def _vocab(self) -> Any:
        return llama.llama_model_get_vocab(self.pointer)

    def _unfit(self) -> str:
        """Why this engine cannot run the model, or ""."""
        if llama.llama_vocab_type(self._vocab) == llama.LLAMA_VOCAB_TYPE_NONE:
            return "this model has no tokenizer"
        if llama.llama_model_has_encoder(self.pointer) or not llama.llama_model_has_decoder(
            self.pointer
        ):
            return "this model has an encoder; only decoder-only models can be served"
        if llama.llama_model_is_recurrent(self.pointer) or llama.llama_model_is_hybrid(
            self.pointer
        ):
            return "this model is recurrent, so a prompt's prefix cannot be shared or padded"
        return ""

    @cached_property
    def n_vocab(self) -> int:
        return int(llama.llama_vocab_n_tokens(self._vocab))

    @cached_property
    def n_ctx_train(self) -> int:
        return int(llama.llama_model_n_ctx_train(self.pointer))

    @cached_property
    def end_tokens(self) -> np.ndarray:
        """Ids of the end-of-generation tokens, int array [n]."""
        vocab, is_end = self._vocab, llama.llama_vocab_is_eog
        return np.array([t for t in range(self.n_vocab) if is_end(vocab, t)], np.int64)

    @cached_property
    def cell_bytes(self) -> int:
        """Bytes that one token takes in an F16 KV cache."""
        heads = llama.llama_model_n_head(self.pointer)
        arch = self.metadata("general.architecture")
        width = llama.llama_model_n_embd(self.pointer) // max(heads, 1)
        key = int(self.metadata(f"{arch}.attention.key_length") or width)
        value = int(self.metadata(f"{arch}.attention.value_length") or width)
        kv_heads = llama.llama_model_n_head_kv(self.pointer)
        return int(2 * llama.llama_model_n_layer(self.pointer) * kv_heads * (key + value))

    def metadata(self, key: str) -> str | None:
        """A value of the GGUF's metadata as text, or None."""
        size = 256
        while True:
            buffer = ctypes.create_string_buffer(size)
            n = llama.llama_model_meta_val_str(self.pointer, key.encode(), buffer, size)
            if n < 0:
                return None
            if n < size:
                return buffer.value.decode("utf-8", "replace")
            size = n + 1

    def describe(self) -> str:
        """Architecture, size and quantization in a few words."""
        buffer = ctypes.create_string_buffer(256)
        llama.llama_model_desc(self.pointer, buffer, 256)
        return buffer.value.decode("utf-8", "replace")

    # Adapters

    def load_adapter(self, name: str, path: str | Path) -> None:
        """Load a GGUF LoRA adapter under a name; requests choose it by that name.

        Raises:
            EngineError: not a whole GGUF file, or not an adapter for this model.
        """
        if name in self._adapters:
            raise EngineError(f"an adapter named {name!r} is loaded already")
        path = Path(path)
        check_gguf(path)
        with captured_log() as lines:
            pointer = llama.llama_adapter_lora_init(self.pointer, bytes(path))
        if not pointer:
            raise EngineError(f"{path}: not a LoRA adapter for {self.path.name}{_said(lines)}")
        # llama.cpp frees a model's adapters with the model, so the finalizer must come first.
        self._adapters[name] = _Handle(pointer, llama.llama_adapter_lora_free, self._handle)

    def adapter(self, name: str) -> Any:
        """The handle of a loaded adapter; still owned by the model."""
        if name not in self._adapters:
            raise EngineError(f"no adapter named {name!r} is loaded")
        return self._adapters[name].pointer

    # Tokens

    def tokenize(self, text: str, special: bool = False, follows: bool = False) -> list[int]:
        """Token ids of a text, nothing added.

        Args:
            text: any text.
            special: "<|im_end|>" and the like are one token each.
            follows: the text goes on after another, so that a vocabulary that begins texts
                with a space (SentencePiece) adds none.
        """
        first, *rest = split_text(text)
        ids = self._tokenize(first, special, follows)
        for part in rest:
            ids += self._tokenize(part, special, follows=True)
        return ids

    @cached_property
    def _separator(self) -> list[int]:
        return self._tokenize("\x01", special=False)

    def _tokenize(self, text: str, special: bool, follows: bool = False) -> list[int]:
        if follows and llama.llama_vocab_type(self._vocab) == llama.LLAMA_VOCAB_TYPE_SPM:
            # Nothing merges with this character, so what follows it is as it is inside a text.
            before = self._separator
            return self._tokenize("\x01" + text, special)[len(before) :]
        raw = text.encode("utf-8", "replace")
        n = len(raw) + 16
        while True:
            ids = (llama.llama_token * n)()
            got = llama.llama_tokenize(self._vocab, raw, len(raw), ids, n, False, special)
            if got >= 0:
                return list(ids[:got])
            n = -got

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for; control tokens stand for none."""
        known = self._pieces.get(token)
        if known is None:
            size = 64
            while True:
                buffer = ctypes.create_string_buffer(size)
                n = llama.llama_token_to_piece(self._vocab, token, buffer, size, 0, False)
                if n >= 0:
                    break
                size = -n
            known = self._pieces[token] = buffer.raw[:n]
        return known

    def special_text(self, name: Literal["bos", "eos"]) -> str:
        """Text of the begin- or end-of-sequence token, "" if there is none."""
        find = {"bos": llama.llama_vocab_bos, "eos": llama.llama_vocab_eos}[name]
        token = find(self._vocab)
        text = llama.llama_vocab_get_text(self._vocab, token) if token >= 0 else b""
        return text.decode("utf-8", "replace")

    @cached_property
    def chat_template(self) -> str | None:
        """The model's Jinja chat template, or None."""
        return self.metadata("tokenizer.chat_template")

    @property
    def bos_to_add(self) -> int | None:
        """The token that the vocabulary wants in front of every prompt, or None."""
        wanted = llama.llama_vocab_get_add_bos(self._vocab)
        return int(llama.llama_vocab_bos(self._vocab)) if wanted else None


def split_text(text: str, longest: int = 4000) -> list[str]:
    """A text in parts of at most so many characters, cut before a space where there is one.

    Some of llama.cpp's tokenizers split words with std::regex, which recurses for every
    character and overflows the stack on long texts. Tokens start with the space before a
    word, so such a cut changes no token.
    """
    parts = []
    while len(text) > longest:
        at = text.rfind(" ", longest // 2, longest)
        while at > 0 and text[at - 1].isspace():  # runs of spaces stay whole
            at -= 1
        at = at if at > 0 else longest
        parts.append(text[:at])
        text = text[at:]
    return [*parts, text]


def check_gguf(path: Path) -> None:
    """Refuse what is plainly no whole GGUF file before llama.cpp sees it.

    The magic, version and counts are those of the GGUF specification
    (github.com/ggml-org/ggml/blob/master/docs/gguf.md).
    """
    if not path.is_file():
        raise EngineError(f"{path}: no such file")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(24)
    if len(head) < 24 or head[:4] != b"GGUF":
        raise EngineError(f"{path}: not a GGUF file ({size} bytes, starts with {head[:4]!r})")
    version, n_tensors, n_values = struct.unpack("<IQQ", head[4:])
    if version not in (2, 3):
        raise EngineError(f"{path}: GGUF version {version} is not supported, only 2 and 3")
    # Every tensor and every value takes at least this much; more means a broken header.
    if n_tensors * 24 + n_values * 12 > size:
        raise EngineError(f"{path}: broken GGUF header or truncated file ({size} bytes)")


# --- context ---------------------------------------------------------------------


class Context:
    """A llama.cpp context with one KV stream per slot.

    Args:
        model: the model; closing it closes the context.
        slots: sequences that can be decoded at once.
        staging: further slots, numbered behind them, for prompts that wait prefilled.
        cells_per_slot: tokens that each can hold (rounded up).
        threads: CPU threads.
        flash_attention: "auto" lets llama.cpp decide.
        max_tokens: most tokens in one call.
        exact: keep the KV cache in float32 instead of float16, for comparisons.
        eval_callback: llama.cpp's `ggml_backend_sched_eval_callback`, to look at the tensors
            of a computation; kept alive by the context.

    Raises:
        EngineError: llama.cpp could not allocate it.
    """

    def __init__(
        self,
        model: Model,
        slots: int,
        staging: int,
        cells_per_slot: int,
        threads: int,
        flash_attention: FlashAttention = "auto",
        max_tokens: int = 512,
        exact: bool = False,
        eval_callback: Any = None,
    ) -> None:
        if slots < 1 or staging < 0 or cells_per_slot < 1 or threads < 1:
            raise ValueError(
                f"slots, cells_per_slot and threads must be at least 1 and staging 0, got"
                f" {slots}, {cells_per_slot}, {threads} and {staging}"
            )
        self.model = model
        self.slots = slots
        self.staging = staging
        self.cells_per_slot = round_up_cells(cells_per_slot)
        self.max_tokens = max(max_tokens, slots)
        params = llama.llama_context_default_params()
        params.n_seq_max = slots + staging
        params.n_ctx = self.cells_per_slot * params.n_seq_max
        params.kv_unified = False
        params.n_batch = params.n_ubatch = self.max_tokens
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = _FLASH_ATTENTION[flash_attention]
        params.no_perf = True
        if exact:
            params.type_k = params.type_v = llama.GGML_TYPE_F32
        if eval_callback is not None:
            self._eval_callback = params.cb_eval = eval_callback
            params.op_offload = False  # what it looks at must lie in this machine's memory
        with captured_log() as lines:
            pointer = llama.llama_init_from_model(model.pointer, params)
        if not pointer:
            raise EngineError(
                f"no context of {slots} + {staging} slots with {self.cells_per_slot} cells"
                f" each could be made{_said(lines)}"
            )
        self._handle = _Handle(pointer, llama.llama_free, model._handle)
        model._contexts.add(self)
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

    def use_adapter(self, name: str | None) -> None:
        """Apply a loaded adapter to the calls that follow, or none. Costs no reload."""
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

    def decode(self, batch: Batch, n_outputs: int) -> np.ndarray:
        """Run a batch; float32 logits [n_outputs, vocab], valid until the next call.

        Raises:
            EngineError: llama.cpp refused the batch; the slots in it must be cleared.
        """
        code = llama.llama_decode(self.pointer, batch.struct)
        if code != 0:
            reason = "no room in the KV cache" if code == 1 else "see llama.cpp's log"
            raise EngineError(f"llama_decode failed with code {code} ({reason})")
        n_vocab = self.model.n_vocab
        if n_outputs == 0:
            return np.empty((0, n_vocab), np.float32)
        logits = llama.llama_get_logits(self.pointer)
        return np.ctypeslib.as_array(logits, shape=(n_outputs, n_vocab))

    # The cache of a slot

    def clear(self, slot: int, start: int = 0) -> None:
        """Forget what the slot holds from position `start` on."""
        if not llama.llama_memory_seq_rm(self._memory, slot, start, -1):
            raise EngineError(f"slot {slot} could not be cut at position {start}")

    def clear_all(self) -> None:
        """Forget what all slots hold."""
        llama.llama_memory_clear(self._memory, False)

    def save(self, slot: int) -> np.ndarray:
        """A copy of what the slot holds, as bytes for `restore`."""
        size = llama.llama_state_seq_get_size(self.pointer, slot)
        state = np.empty(size, np.uint8)
        if llama.llama_state_seq_get_data(self.pointer, _bytes(state), size, slot) != size:
            raise EngineError(f"the cache of slot {slot} could not be saved")
        return state

    def restore(self, slot: int, state: np.ndarray) -> None:
        """Replace what the slot holds by a saved copy."""
        self.clear(slot)
        if llama.llama_state_seq_set_data(self.pointer, _bytes(state), state.size, slot) == 0:
            raise EngineError(f"the cache of slot {slot} could not be restored")


def round_up_cells(cells: int) -> int:
    """Cells that llama.cpp will give a sequence when asked for `cells`."""
    return -(-cells // _CELL_STEP) * _CELL_STEP


def kv_bytes(model: Model, slots: int, cells_per_slot: int) -> int:
    """Bytes of the KV cache of a context."""
    return slots * round_up_cells(cells_per_slot) * model.cell_bytes


def physical_cores() -> int:
    """Cores that this process may use, not counting hyper-threads."""
    physical = psutil.cpu_count(logical=False) or 1
    allowed = psutil.Process().cpu_affinity() if hasattr(psutil.Process, "cpu_affinity") else None
    return min(physical, len(allowed)) if allowed else physical


def _bytes(state: np.ndarray) -> Any:
    return ctypes.cast(state.ctypes.data, ctypes.POINTER(ctypes.c_uint8))
