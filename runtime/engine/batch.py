"""llama.cpp's batch, filled through numpy."""

from __future__ import annotations

import ctypes

import llama_cpp as llama
import numpy as np
from numpy.typing import ArrayLike


class Batch:
    """Up to `capacity` tokens for one `llama_decode`.

    numpy owns the memory and llama.cpp's struct points into it, so that there is
    nothing to free and filling it is a handful of slice assignments.

    Attributes:
        outputs: int8 [n_tokens], 1 where logits are wanted.
        n_outputs: how many those are.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._token = np.zeros(capacity, np.int32)
        self._pos = np.zeros(capacity, np.int32)
        self._n_seq_id = np.ones(capacity, np.int32)
        self._seq_id = np.zeros(capacity, np.int32)
        self._output = np.zeros(capacity, np.int8)
        self.outputs, self.n_outputs = self._output[:0], 0
        # llama.cpp needs a pointer per token; each token here has one sequence id.
        item = self._seq_id.itemsize
        self._seq_id_ptr = self._seq_id.ctypes.data + item * np.arange(capacity, dtype=np.uintp)

        def pointer(array: np.ndarray, ctype: type) -> ctypes._Pointer:
            return ctypes.cast(array.ctypes.data, ctypes.POINTER(ctype))

        self.struct = llama.llama_batch(
            n_tokens=0,
            token=pointer(self._token, ctypes.c_int32),
            embd=None,
            pos=pointer(self._pos, ctypes.c_int32),
            n_seq_id=pointer(self._n_seq_id, ctypes.c_int32),
            seq_id=pointer(self._seq_id_ptr, ctypes.POINTER(ctypes.c_int32)),
            logits=pointer(self._output, ctypes.c_int8),
        )

    def fill(self, token: ArrayLike, pos: ArrayLike, seq_id: ArrayLike, output: ArrayLike) -> Batch:
        """Replace the content: four int arrays of shape [n_tokens], n_tokens <= capacity.

        `output` is 1 where logits are wanted, 0 elsewhere. Returns the batch itself.
        """
        n = np.size(token)
        if n > self.capacity:
            raise ValueError(f"{n} tokens do not fit a batch of {self.capacity}")
        self._token[:n] = token
        self._pos[:n] = pos
        self._seq_id[:n] = seq_id
        self._output[:n] = output
        self.struct.n_tokens = n
        self.outputs = self._output[:n]
        self.n_outputs = int(self.outputs.sum())
        return self
