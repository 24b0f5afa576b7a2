"""Adapters mixed inside llama.cpp, with the functions that scripts/patches adds to it.

In place of two matrix products, a scaling and an addition llama.cpp then does LoRA in two
operations of its own, and each token of a call can have its own rows of A and columns of B.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any, Self

import llama_cpp as llama
import numpy as np

from runtime.engine.library import cpu_features

_INTS = ctypes.POINTER(ctypes.c_int32)
_BYTES = ctypes.POINTER(ctypes.c_int8)


def available() -> bool:
    """Whether this build has the functions, and was compiled for a CPU that they are for."""
    return _library() is not None and "AVX2" in cpu_features()


class LoraRows:
    """Which rows of a loaded adapter each token uses."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = ctypes.cast(adapter, ctypes.c_void_p)

    @classmethod
    def of(cls, adapter: Any) -> Self | None:
        """For an adapter's pointer; None where this build or this CPU lacks the operations.

        They are for matrices in main memory, F32 or F16.
        """
        if not available():
            return None
        rows, none = cls(adapter), np.zeros(0, np.int32)
        if not rows._set(none, none, none.astype(np.int8)):
            return None
        rows._reset()
        return rows

    def run(
        self, call: Callable[[], int], first: np.ndarray, count: np.ndarray, wanted: np.ndarray
    ) -> tuple[int, int]:
        """Do a call of llama.cpp in which each token has its own rows.

        Args:
            first, count: int [n_tokens], the first row of each token, and how many.
            wanted: bool [n_tokens], whether the token has logits.

        Returns:
            what `call` returns, and how many linear layers used the rows; -1 if llama.cpp
            did not compute the tokens in one pass.
        """
        self._set(
            np.ascontiguousarray(first, np.int32),
            np.ascontiguousarray(count, np.int32),
            np.ascontiguousarray(wanted, np.int8),
        )
        try:
            code = call()
        finally:
            computed = self._reset()
        return code, computed

    def _set(self, first: np.ndarray, count: np.ndarray, wanted: np.ndarray) -> bool:
        pointers = (a.ctypes.data_as(_INTS) for a in (first, count))
        last = wanted.ctypes.data_as(_BYTES)
        done = _library().llama_adapter_lora_set_rows(self._adapter, len(first), *pointers, last)
        return bool(done)

    def _reset(self) -> int:
        return int(_library().llama_adapter_lora_reset_rows(self._adapter))


@cache
def _library() -> Any:
    """llama.cpp's library with the two functions declared; None without the patch."""
    library = llama.llama_cpp._lib  # llama-cpp-python keeps it private, and is pinned
    if not hasattr(library, "llama_adapter_lora_set_rows"):
        return None
    set_rows = library.llama_adapter_lora_set_rows
    set_rows.restype = ctypes.c_bool
    set_rows.argtypes = (ctypes.c_void_p, ctypes.c_int32, _INTS, _INTS, _BYTES)
    reset_rows = library.llama_adapter_lora_reset_rows
    reset_rows.restype, reset_rows.argtypes = ctypes.c_int32, (ctypes.c_void_p,)
    return library
