"""Try a GGUF file in a child process, where a crash of llama.cpp does no harm.

llama.cpp checks a file's sizes but trusts much of its metadata: a damaged one can end the
process in a failed assertion, or in an uncaught exception. So the trial does what
serving does: it loads, tokenizes text in which every byte comes that a question may have, and
decodes, a few tokens and one. Weights are mapped, not copied, so that it takes a fraction of a
second and leaves the file in the disk cache.
"""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import llama_cpp as llama

from runtime.common import child

_CELLS = 256
# Tokens of the text that are decoded together.
_DECODED = 8
# Bytes that the process may take beside the files, and more for large ones: some damaged files
# make llama.cpp take all memory, at seconds for each GiB.
_LEAST_MEMORY = 1 << 30
_MOST_MEMORY = 4 << 30
# A model on a slow disk takes its time.
_LONGEST_SECONDS = 600


def crash_reason(model: Path, adapters: Sequence[Path] = ()) -> str:
    """How llama.cpp crashed on a model with adapters, and at what; "" if it did not.

    "" does not mean that the files can be used: loading them will tell.
    """
    paths = [os.fsdecode(path) for path in (model, *adapters)]
    try:
        child.call(
            "runtime.engine.probe:try_files",
            paths,
            _LONGEST_SECONDS,
            environment={"GGML_NO_BACKTRACE": "1"},
        )
    except child.NoChildError:
        return ""
    except child.ChildEndedError as error:
        if error.status is None:
            return f"no answer in {_LONGEST_SECONDS} seconds"
        if error.status >= 0:
            return ""
        why = error.said or f"signal {-error.status}"
        return f"{error.stage}: {why}" if error.stage else why
    return ""


def try_files(paths: Sequence[str]) -> None:
    """Use a model and adapters, in a child process."""
    model_path, *adapter_paths = paths
    child.tell("loading")
    if not llama.llama_supports_gpu_offload():  # drivers of GPUs map more than they use
        _limit_memory(paths)
    silent = llama.llama_log_callback(lambda *_: None)
    llama.llama_log_set(silent, None)
    llama.llama_backend_init()
    params = llama.llama_model_default_params()
    params.n_gpu_layers = 0
    params.use_extra_bufts = False
    model = llama.llama_model_load_from_file(os.fsencode(model_path), params)
    if not model:
        return
    context_params = llama.llama_context_default_params()
    context_params.n_ctx = _CELLS
    context_params.n_batch = context_params.n_ubatch = _DECODED
    context = llama.llama_init_from_model(model, context_params)
    if not context:
        return
    child.tell("tokenizing")
    vocabulary = llama.llama_model_get_vocab(model)
    for special in (True, False):
        tokens = _tokenize(vocabulary, _text(), special)
    child.tell("decoding")
    _decode(context, tokens)
    for path in adapter_paths:
        child.tell(f"decoding with {path}")
        adapter = llama.llama_adapter_lora_init(model, os.fsencode(path))
        if adapter:
            adapters = (llama.llama_adapter_lora_p_ctypes * 1)(adapter)
            llama.llama_set_adapters_lora(context, adapters, 1, (ctypes.c_float * 1)(1.0))
            _decode(context, tokens)
    # Nothing is freed: the process ends here.


def _limit_memory(paths: Sequence[str]) -> None:
    """Let an allocation fail before the machine runs out of memory, where the system allows it."""
    with suppress(OSError, ValueError):
        size = sum(os.stat(path).st_size for path in paths)  # noqa: PTH116
        child.lower(resource.RLIMIT_DATA, size + min(_LEAST_MEMORY + 4 * size, _MOST_MEMORY))


def _text() -> str:
    """Text with every byte that UTF-8 has, most of it in characters of few vocabularies."""
    small = range(1, 0x800)  # in one byte or two
    # Behind each first byte of longer ones a character or two (U+D800 is none).
    three, four = range(0x800, 0x10000, 0x800), range(0x10000, 0x110000, 0x3FFFF)
    codes = [code for code in (*small, *three, *four) if code != 0xD800]
    return "".join(map(chr, codes)) + " What is it? 这是什么？ <s>"


def _tokenize(vocabulary: object, text: str, special: bool) -> list[int]:
    raw = text.encode()
    most = len(raw) + 16
    ids = (llama.llama_token * most)()
    count = llama.llama_tokenize(vocabulary, raw, len(raw), ids, most, False, special)
    return list(ids[: max(0, count)])


def _decode(context: object, tokens: Sequence[int]) -> None:
    """A few tokens together, as prompts are, and one by itself, as answers are."""
    for part in (tokens[-_DECODED:], tokens[:1] or [0]):
        if part:
            ids = (llama.llama_token * len(part))(*part)
            llama.llama_decode(context, llama.llama_batch_get_one(ids, len(part)))
