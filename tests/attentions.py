"""Flash attention by ggml, in a process of its own: `attentions.py OUT JOBS`.

Jobs are a JSON list of objects with "tokens", "heads", "kv_heads", "size", "keys", "streams",
"threads" and "dead". The last token of each stream sees all keys but the last `dead`, which hold
NaN, and each token before it one key less. OUT gets a numpy archive with "found N" [streams,
tokens, heads, size] of job N, and "exact N", the same in float64. Calls of fewer tokens or streams
have the last tokens, the first streams.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

import numpy as np

from tests.products import Init, Int, Pointer, backend_with, call, computed, library

MOST_TOKENS = 160


def attention(job: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """What ggml computes for a job, and what is right."""
    tokens, heads, kv_heads, size = (job[k] for k in ("tokens", "heads", "kv_heads", "size"))
    keys, streams, dead = (job[key] for key in ("keys", "streams", "dead"))
    random = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return random.normal(size=(4, *shape))[:streams]

    q = draw(heads, MOST_TOKENS, size)[:, :, MOST_TOKENS - tokens :].astype(np.float32)
    k, v = (draw(kv_heads, keys, size).astype(np.float16) for _ in range(2))
    first = keys - dead - tokens
    hidden = np.arange(keys) > first + np.arange(tokens)[:, None]
    mask = np.broadcast_to(np.where(hidden, -np.inf, 0), (streams, 1, tokens, keys))
    k[:, :, keys - dead :] = v[:, :, keys - dead :] = np.nan
    shown = np.ascontiguousarray(mask.astype(np.float16))
    data: list[np.ndarray] = [np.ascontiguousarray(q), k, v, shown]

    base = library("ggml-base")
    backend = backend_with(job["threads"])
    context = call(base, "ggml_init", Pointer, (Init, Init(1 << 20, None, True)))
    tensors = []
    for values in data:
        kind = (ctypes.c_int, int(values.dtype == np.float16))  # GGML_TYPE_F32, GGML_TYPE_F16
        sizes = [(Int, n) for n in reversed(values.shape)]
        tensors.append(call(base, "ggml_new_tensor_4d", Pointer, (Pointer, context), kind, *sizes))
    arguments = [(Pointer, tensor) for tensor in (context, *tensors)]
    scale = 1 / size**0.5
    factors = [(ctypes.c_float, factor) for factor in (scale, 0.0, 0.0)]
    result = call(base, "ggml_flash_attn_ext", Pointer, *arguments, *factors)
    usual = call(base, "ggml_backend_cpu_buffer_type", Pointer)
    allocate = "ggml_backend_alloc_ctx_tensors_from_buft"
    call(base, allocate, Pointer, (Pointer, context), (Pointer, usual))
    found = computed(backend, context, result, dict(zip(tensors, data, strict=True)))

    seen = slice(0, keys - dead)
    wide = [np.repeat(x[:, :, seen].astype(np.float64), heads // kv_heads, 1) for x in (k, v)]
    scores = q @ wide[0].swapaxes(2, 3) * scale + mask[..., seen]
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    exact = weights / weights.sum(axis=-1, keepdims=True) @ wide[1]
    return found.reshape(streams, tokens, heads, size), exact.swapaxes(1, 2)


def main(out: str, jobs: list[dict[str, Any]]) -> None:
    results: dict[str, Any] = {}
    for number, job in enumerate(jobs):
        results[f"found {number}"], results[f"exact {number}"] = attention(job)
    np.savez(out, **results)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
