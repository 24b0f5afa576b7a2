"""The GPUs that this build of llama.cpp can use, and their memory, as ggml's registry has them."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

from runtime.engine.calls import undisturbed
from runtime.engine.ggml import declared
from runtime.engine.llama import start_backend

_GPU = 1  # GGML_BACKEND_DEVICE_TYPE_GPU of ggml-backend.h; integrated ones are another type


@dataclass(frozen=True)
class Card:
    """A GPU. Its index among all is llama.cpp's `main_gpu`, and the N of cuda:N."""

    name: str  # llama.cpp's, such as "CUDA0"
    description: str  # such as "NVIDIA H100 80GB HBM3"
    free: int  # bytes of memory
    total: int


@undisturbed  # llama.cpp may log, and so call Python back
def find_cards() -> list[Card]:
    """The GPUs, in llama.cpp's order, with their free memory; none without a driver."""
    start_backend()
    lib, cards = _library(), []
    for index in range(lib.ggml_backend_dev_count()):
        device = lib.ggml_backend_dev_get(index)
        if lib.ggml_backend_dev_type(device) != _GPU:
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        lib.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        texts = lib.ggml_backend_dev_name(device), lib.ggml_backend_dev_description(device)
        name, description = (text.decode("utf-8", "replace") for text in texts)
        cards.append(Card(name, description, free.value, total.value))
    return cards


@cache
def _library() -> Any:
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    a_size = ctypes.POINTER(ctypes.c_size_t)
    return declared(
        ("ggml_backend_dev_count", ctypes.c_size_t),
        ("ggml_backend_dev_get", pointer, ctypes.c_size_t),
        ("ggml_backend_dev_type", ctypes.c_int, pointer),
        ("ggml_backend_dev_name", text, pointer),
        ("ggml_backend_dev_description", text, pointer),
        ("ggml_backend_dev_memory", None, pointer, a_size, a_size),
    )
