"""`Model`: a GGUF file's weights, vocabulary and metadata, and the adapters loaded for it.

Its handle is freed exactly once, by `close()`, by garbage collection or at exit, whichever
comes first; a context keeps its model alive.
"""

from __future__ import annotations

import ctypes
import tempfile
import weakref
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import llama_cpp as llama
import numpy as np

from runtime.engine import lora_rows
from runtime.engine.calls import Callbacks, check_stop, undisturbed
from runtime.engine.grammars import Grammars
from runtime.engine.kernels import is_best_mapped
from runtime.engine.llama import (
    EngineError,
    Handle,
    captured_log,
    check_gguf,
    start_backend,
    with_log,
)
from runtime.engine.mixing import Stack, write_stack
from runtime.engine.profiles import DeviceProfile, profile_for

STACK = "(stack)"  # the name of the stacked adapter


class Model:
    """A GGUF model: weights, vocabulary, metadata and the LoRA adapters loaded for it.

    Args:
        gpu_layers: layers to offload; -1 is all, 0 keeps the model on the CPU.
        main_gpu: index of the GPU to use, or None to let llama.cpp split over all.
        progress: called with the loaded share, 0.0 to 1.0, in another thread.
        mapped: use the weights as they are in the file, which processes share, rather than a
            copy in memory; None decides by which is faster (see `kernels`). Never on a GPU.

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
        mapped: bool | None = None,
    ) -> None:
        self.path = Path(path)
        self.gpu_layers = gpu_layers
        check_gguf(self.path)
        start_backend()
        params = llama.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        self.mapped = gpu_layers == 0 and (is_best_mapped(self.path) if mapped is None else mapped)
        if self.mapped:
            params.use_extra_bufts = False
            params.load_mode = llama.LLAMA_LOAD_MODE_MMAP
        elif gpu_layers == 0:
            # The file would stay in memory beside the repacked copy.
            params.load_mode = llama.LLAMA_LOAD_MODE_NONE
        if main_gpu is not None:
            params.main_gpu = main_gpu
            params.split_mode = llama.LLAMA_SPLIT_MODE_NONE

        pointer = self._load(params, progress)
        self._handle = Handle(pointer, llama.llama_model_free)
        self._adapters: dict[str, Handle] = {}
        self._adapter_paths: dict[str, Path] = {}
        self.stack: Stack | None = None
        self._contexts: weakref.WeakSet[Any] = weakref.WeakSet()  # each context adds itself
        self._pieces: dict[tuple[int, bool], bytes] = {}
        unsupported = self._why_unsupported()
        if unsupported:
            self.close()
            raise EngineError(f"{self.path}: {unsupported}")

    @undisturbed
    def _load(self, params: Any, progress: Callable[[float], None] | None) -> Any:
        """The loaded model, as llama.cpp's pointer."""
        callbacks = Callbacks()

        def report(share: float, _: Any) -> bool:
            check_stop()
            if progress is not None:
                progress(share)
            return True

        # llama.cpp stops loading at False.
        callback = callbacks.wrap(llama.llama_progress_callback, report, failed=False)
        params.progress_callback = callback
        with captured_log() as lines:
            pointer = llama.llama_model_load_from_file(bytes(self.path), params)
        try:
            callbacks.check()
        except BaseException:
            if pointer:
                llama.llama_model_free(pointer)
            raise
        if not pointer:
            raise EngineError(f"{self.path}: llama.cpp cannot load this model{with_log(lines)}")
        return pointer

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
        self._adapter_paths.clear()
        self._handle.close()

    @property
    def _vocab(self) -> Any:
        return llama.llama_model_get_vocab(self.pointer)

    def _why_unsupported(self) -> str:
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
    def _ends(self) -> frozenset[int]:
        return frozenset(self.end_tokens.tolist())

    def is_end(self, token: int) -> bool:
        """Whether a token is an end-of-generation token."""
        return token in self._ends

    @cached_property
    def cell_values(self) -> int:
        """Numbers that one token takes in a KV cache."""
        heads = llama.llama_model_n_head(self.pointer)
        arch = self.metadata("general.architecture")
        width = llama.llama_model_n_embd(self.pointer) // max(heads, 1)
        key = int(self.metadata(f"{arch}.attention.key_length") or width)
        value = int(self.metadata(f"{arch}.attention.value_length") or width)
        kv_heads = llama.llama_model_n_head_kv(self.pointer)
        return int(llama.llama_model_n_layer(self.pointer) * kv_heads * (key + value))

    @cached_property
    def caps_attention(self) -> bool:
        """Whether attention's scores are capped, as Gemma 2's are."""
        arch = self.metadata("general.architecture")
        return bool(self.metadata(f"{arch}.attn_logit_softcapping"))

    @cached_property
    def n_layers(self) -> int:
        """Layers that can be offloaded: the repeating ones and the output."""
        return int(llama.llama_model_n_layer(self.pointer)) + 1

    @cached_property
    def profile(self) -> DeviceProfile:
        """How calls are made up for the device that its layers are on."""
        return profile_for(self.gpu_layers, self.n_layers, self.mapped)

    @cached_property
    def can_resize(self) -> bool:
        """Whether what a slot holds can move to a context of another size.

        Models with sliding windows have a second cache, saved in a form of its own.
        """
        return int(llama.llama_model_n_swa(self.pointer)) == 0

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

    @property
    def adapters(self) -> dict[str, Path]:
        """The files of the adapters that are loaded, by name, without the stack."""
        return {name: path for name, path in self._adapter_paths.items() if name != STACK}

    @cached_property
    def n_parameters(self) -> int:
        return int(llama.llama_model_n_params(self.pointer))

    @undisturbed
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
            raise EngineError(f"{path}: not a LoRA adapter for {self.path.name}{with_log(lines)}")
        # llama.cpp frees a model's adapters with the model, so the finalizer must come first.
        self._adapters[name] = Handle(pointer, llama.llama_adapter_lora_free, self._handle)
        self._adapter_paths[name] = path

    @undisturbed
    def load_stack(
        self, adapters: Mapping[str, str | Path], dtype: Literal["F32", "F16"] | None = None
    ) -> Stack:
        """Load GGUF LoRA adapters as one, for contexts made after with `mix=True`.

        Its type is F16 or F32, whichever is faster without changing a value, or `dtype`. It is
        written to a temporary file of `Stack.nbytes`, removed before this returns, and stays in
        memory as long as the model. Adapters that are loaded singly are neither needed nor freed.

        Raises:
            EngineError: a file cannot be stacked (see `write_stack`) or is not an adapter for
                this model, or there is a stack already.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "stack.gguf"
            files = {name: Path(file) for name, file in adapters.items()}
            if dtype is None and not lora_rows.available():
                dtype = "F32"  # which llama.cpp's own kernels multiply faster
            stack = write_stack(files, path, dtype)
            self.load_adapter(STACK, path)
        self.stack = stack
        return stack

    def drop_stack(self) -> None:
        """Free the stack; a context that mixes must be closed before."""
        self.stack = None
        self.unload_adapter(STACK)

    def unload_adapter(self, name: str) -> None:
        """Free an adapter; contexts that used it must be closed before."""
        self._adapters.pop(name).close()
        del self._adapter_paths[name]

    @cached_property
    def grammars(self) -> Grammars:
        """Compiles what answers must look like, for this vocabulary."""
        return Grammars(self)

    def why_damaged(self, adapter: str | None) -> str:
        """What to say where the logits with an adapter, or without one, are not numbers."""
        path = self.path if adapter is None else self._adapter_paths[adapter]
        of = "the model" if adapter is None else f"adapter {adapter!r}"
        # Products of quantized weights can hide a NaN, those of an adapter cannot.
        other = "" if adapter is None else f", or the model, {self.path}"
        return (
            f"{path}: damaged: the logits of {of} are not numbers (NaN, or all alike); export or"
            f" copy the file{other} again"
        )

    def adapter(self, name: str) -> Any:
        """The handle of a loaded adapter; still owned by the model."""
        if name not in self._adapters:
            raise EngineError(f"no adapter named {name!r} is loaded")
        return self._adapters[name].pointer

    # Tokens

    def tokenize(self, text: str, special: bool = False, follows: bool = False) -> list[int]:
        """Token ids of a text, without a beginning-of-sequence token.

        Args:
            special: "<|im_end|>" and the like are one token each.
            follows: the text continues another, so that a vocabulary that adds a space at the
                beginning of texts (SentencePiece) adds none.
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
            # No token spans this character, so what follows it is tokenized as inside a text.
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

    def piece(self, token: int, special: bool = False) -> bytes:
        """The bytes of a token; a control token has none, or with `special` its name."""
        known = self._pieces.get((token, special))
        if known is None:
            n = -64  # a negative number is minus the size that is needed
            while n < 0:
                buffer = ctypes.create_string_buffer(-n)
                n = llama.llama_token_to_piece(self._vocab, token, buffer, -n, 0, special)
            known = self._pieces[token, special] = buffer.raw[:n]
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
        """The token that the vocabulary has in front of every prompt, or None."""
        wanted = llama.llama_vocab_get_add_bos(self._vocab)
        return int(llama.llama_vocab_bos(self._vocab)) if wanted else None


def split_text(text: str, longest: int = 4000) -> list[str]:
    """Split a text into parts of at most `longest` characters, before a space if possible.

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
