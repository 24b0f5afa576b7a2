"""GGUF → GGUF of another quantization, with llama.cpp's own quantizer."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Before llama_cpp: sets what its libraries read when they are loaded.
import runtime.engine.library  # noqa: F401  # isort: skip

import llama_cpp as llama
import numpy as np

from runtime.common.atomic import replacing
from runtime.engine.calls import abandonable
from runtime.engine.llama import EngineError, captured_log, check_gguf, physical_cores, with_log

# Most bytes of tensor rows that the quantizer holds at once; llama.cpp's default is 8 GiB.
_MOST_BYTES = 1 << 30

# llama.cpp's names for its file types: LLAMA_FTYPE_MOSTLY_Q4_K_M -> "Q4_K_M".
_PREFIX = "LLAMA_FTYPE_"
TYPES: dict[str, int] = {
    name.removeprefix(_PREFIX).removeprefix("MOSTLY_").removeprefix("ALL_"): value
    for name, value in vars(llama).items()
    if name.startswith(_PREFIX) and isinstance(value, int) and "GUESSED" not in name
}


def quantize(
    source: Path,
    target: Path,
    type_name: str,
    threads: int = 0,
    uniform: bool = False,
    importance: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write `source` as `target` with the weights in another type, whole or not at all.

    Args:
        source: a GGUF file, perhaps quantized already.
        type_name: a key of `TYPES`, such as "Q4_K_M".
        threads: 0 is one per core that this process may use.
        uniform: all matrices get this type, but for the embeddings, which get Q8_0;
            otherwise llama.cpp gives some layers a better type.
        importance: for each weight the mean square of its input columns, float32 [columns].

    Raises:
        EngineError: an unknown type, or llama.cpp could not do it.
        OSError: the target's folder cannot be written.
    """
    if type_name not in TYPES:
        raise EngineError(f"unknown quantization {type_name!r}; known are {', '.join(TYPES)}")
    check_gguf(source)
    params = llama.llama_model_quantize_default_params()
    params.ftype = TYPES[type_name]
    params.allow_requantize = True
    params.nthread = threads or physical_cores()
    if uniform:
        params.pure = True
        params.token_embedding_type = llama.GGML_TYPE_Q8_0
    params.max_buf_size = _MOST_BYTES
    columns = {name: np.ascontiguousarray(v, np.float32) for name, v in (importance or {}).items()}
    if columns:
        entries = [
            llama.llama_model_imatrix_data(
                name.encode(), data.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), data.size
            )
            for name, data in columns.items()
        ]
        # The list ends with an entry without a name.
        params.imatrix = (llama.llama_model_imatrix_data * (len(entries) + 1))(*entries)
    with replacing(target) as partial:
        _run(source, partial, params, type_name)


@abandonable  # it takes minutes and has no way to be stopped
def _run(source: Path, target: Path, params: Any, type_name: str) -> None:
    with captured_log() as lines:
        code = llama.llama_model_quantize(bytes(source), bytes(target), ctypes.byref(params))
    if code != 0:
        raise EngineError(f"{source}: cannot be quantized to {type_name}{with_log(lines)}")
