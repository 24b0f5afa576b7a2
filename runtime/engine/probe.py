"""Try a GGUF file in a process of its own, where a crash of llama.cpp costs nothing.

llama.cpp checks a file's sizes but trusts much of its metadata: a damaged one can end the
process in a failed assertion. The trial decodes one token on weights that are mapped, not
copied, so that it takes a fraction of a second and leaves the file in the disk cache.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import llama_cpp as llama

_CELLS = 256
# A model on a slow disk takes its time.
_LONGEST_SECONDS = 600


def crash_reason(model: Path, adapters: Sequence[Path] = ()) -> str:
    """How llama.cpp crashed on a model with adapters, or "" if it did not.

    Whether the files can be used is not said: loading them will.
    """
    # Run as a file, so that it works wherever this package was imported from.
    command = [sys.executable or "python3", "-P", __file__, str(model), *map(str, adapters)]
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    try:
        child = subprocess.run(
            command, capture_output=True, env=environment, check=False, timeout=_LONGEST_SECONDS
        )
    except OSError:  # no processes may be started here
        return ""
    except subprocess.TimeoutExpired:
        return f"no answer in {_LONGEST_SECONDS} seconds"
    if child.returncode >= 0:
        return ""
    lines = child.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"signal {-child.returncode}"


def _try(model_path: str, adapter_paths: Sequence[str]) -> None:
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
    context = llama.llama_init_from_model(model, context_params)
    if not context:
        return
    _decode(context)
    for path in adapter_paths:
        adapter = llama.llama_adapter_lora_init(model, os.fsencode(path))
        if adapter:
            adapters = (llama.llama_adapter_lora_p_ctypes * 1)(adapter)
            llama.llama_set_adapters_lora(context, adapters, 1, (ctypes.c_float * 1)(1.0))
            _decode(context)
    # Nothing is freed: the process ends here.


def _decode(context: object) -> None:
    token = (llama.llama_token * 1)(0)
    llama.llama_decode(context, llama.llama_batch_get_one(token, 1))


if __name__ == "__main__":
    _try(sys.argv[1], sys.argv[2:])
    sys.stdout.flush()
    os._exit(0)
