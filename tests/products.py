"""Products of quantized matrices by ggml, in a process of its own: `products.py OUT JOBS`.

Jobs are a JSON list of {"type", "repacked", "k", "rows", "threads", "columns": [n, ...]}. OUT gets
a numpy archive with the product [n, rows] for each number of columns as "JOB n", and "JOB exact",
the product of the dequantized matrix in float64 for the largest; JOB is the place in the list. The
activations of fewer columns are the first of the largest.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

LIBRARIES = Path(os.environ.get("LLAMA_CPP_LIB_PATH") or Path(llama_cpp.__file__).parent / "lib")
Pointer, Size, Int = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64


def library(name: str) -> ctypes.CDLL:
    return ctypes.CDLL(str(LIBRARIES / f"lib{name}.so"), mode=ctypes.RTLD_GLOBAL)


class Init(ctypes.Structure):
    """ggml's `ggml_init_params`."""

    _fields_ = (("mem_size", Size), ("mem_buffer", Pointer), ("no_alloc", ctypes.c_bool))


def call(library: ctypes.CDLL, name: str, result: Any, *arguments: tuple[Any, Any]) -> Any:
    """Call a function of a library; each argument is its type and its value."""
    function = getattr(library, name)
    function.restype = result
    function.argtypes = [kind for kind, _ in arguments]
    return function(*[value for _, value in arguments])


def backend_with(threads: int) -> int:
    """The CPU as a backend of ggml, with so many threads."""
    cpu = library("ggml-cpu")
    backend: int = call(cpu, "ggml_backend_cpu_init", Pointer)
    set_threads = "ggml_backend_cpu_set_n_threads"
    call(cpu, set_threads, None, (Pointer, backend), (ctypes.c_int, threads))
    return backend


def computed(backend: int, context: int, tensor: int, inputs: dict[int, np.ndarray]) -> np.ndarray:
    """The bytes of a tensor's result as float32, once its inputs have their data.

    Args:
        backend: computes it.
        context: has the tensor.
        tensor: what to compute.
        inputs: data by tensor; all have their memory.
    """
    base = library("ggml-base")
    for each, data in inputs.items():
        values = (Pointer, each), (Pointer, data.ctypes.data), (Size, 0), (Size, data.nbytes)
        call(base, "ggml_backend_tensor_set", None, *values)
    graph = call(base, "ggml_new_graph", Pointer, (Pointer, context))
    call(base, "ggml_build_forward_expand", None, (Pointer, graph), (Pointer, tensor))
    call(base, "ggml_backend_graph_compute", ctypes.c_int, (Pointer, backend), (Pointer, graph))
    size = call(base, "ggml_nbytes", Size, (Pointer, tensor))
    result = np.zeros(size // 4, np.float32)
    values = (Pointer, tensor), (Pointer, result.ctypes.data), (Size, 0), (Size, size)
    call(base, "ggml_backend_tensor_get", None, *values)
    return result


def main(out: str, jobs: list[dict[str, Any]]) -> None:
    found = {
        f"{place} {name}": values
        for place, job in enumerate(jobs)
        for name, values in products(job).items()
    }
    np.savez(out, **found)


def products(job: dict[str, Any]) -> dict[str, Any]:
    """The products of a job, by the number of columns; and "exact"."""
    base, cpu = library("ggml-base"), library("ggml-cpu")
    k, rows, most = job["k"], job["rows"], max(job["columns"])
    kind = llama_cpp.__dict__[f"GGML_TYPE_{job['type']}"]
    random = np.random.default_rng(0)
    weights = random.normal(size=(rows, k)).astype(np.float32)
    columns = (random.normal(size=(most, k)) * 3 ** random.normal(size=(most, 1))).astype(
        np.float32
    )
    row_size = call(base, "ggml_row_size", Size, (ctypes.c_int, kind), (Int, k))
    packed = np.zeros(row_size * rows, np.uint8)
    quantize = (
        (ctypes.c_int, kind),
        (Pointer, weights.ctypes.data),
        (Pointer, packed.ctypes.data),
        (Int, 0),
        (Int, rows),
        (Int, k),
        (Pointer, None),
    )
    call(base, "ggml_quantize_chunk", Size, *quantize)

    plain = dequantize(packed.reshape(rows, row_size), GGMLQuantizationType[job["type"]])
    found: dict[str, Any] = {"exact": columns.astype(np.float64) @ plain.astype(np.float64).T}

    backend = backend_with(job["threads"])
    buffers = call(cpu, "ggml_backend_cpu_buffer_type", Pointer)
    usual = call(base, "ggml_backend_cpu_buffer_type", Pointer)
    if job["repacked"]:
        device = call(base, "ggml_backend_get_device", Pointer, (Pointer, backend))
        registry = call(base, "ggml_backend_dev_backend_reg", Pointer, (Pointer, device))
        name = (ctypes.c_char_p, b"ggml_backend_dev_get_extra_bufts")
        address = call(
            base, "ggml_backend_reg_get_proc_address", Pointer, (Pointer, registry), name
        )
        extra = ctypes.CFUNCTYPE(ctypes.POINTER(Pointer), Pointer)(address)(device)
        place = 0
        while extra[place]:
            called = call(base, "ggml_backend_buft_name", ctypes.c_char_p, (Pointer, extra[place]))
            if called == b"CPU_REPACK":
                buffers = extra[place]
            place += 1
    for n in job["columns"]:
        contexts = [
            call(base, "ggml_init", Pointer, (Init, Init(1 << 20, None, True))) for _ in range(2)
        ]
        make = "ggml_new_tensor_2d"
        a = call(
            base, make, Pointer, (Pointer, contexts[0]), (ctypes.c_int, kind), (Int, k), (Int, rows)
        )
        b = call(base, make, Pointer, (Pointer, contexts[1]), (ctypes.c_int, 0), (Int, k), (Int, n))
        c = call(base, "ggml_mul_mat", Pointer, (Pointer, contexts[1]), (Pointer, a), (Pointer, b))
        for context, where in zip(contexts, (buffers, usual), strict=True):
            allocate = "ggml_backend_alloc_ctx_tensors_from_buft"
            call(base, allocate, Pointer, (Pointer, context), (Pointer, where))
        inputs = {a: packed, b: np.ascontiguousarray(columns[:n])}
        found[str(n)] = computed(backend, contexts[1], c, inputs).reshape(n, rows)
    return found


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
