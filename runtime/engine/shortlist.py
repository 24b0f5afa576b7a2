"""The likeliest tokens of each row of logits, found on the device where the logits are.

48 rows of a vocabulary of 151,936 are 29 MB: to copy them out of a GPU at each step, and to look
through them here, takes as long as the step itself. A row is divided into blocks; its k likeliest
tokens can only be in the k blocks with the largest maxima, so only those are copied. Drawing from
them stays with `sampling`, and the results are the same.

The operations are added to llama.cpp's own by a backend sampler (`llama_sampler_i` of llama.h,
attached with `llama_set_sampler`). llama.cpp's samplers work row by row, a dozen operations for
each of 48 rows; here the sampler of the first row builds them once, for all rows of the call.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import llama_cpp as llama
import numpy as np

from runtime.engine.calls import Callbacks
from runtime.engine.ggml import Tensor, declared
from runtime.engine.llama import EngineError, Handle
from runtime.engine.rows import Rows

# CUDA sorts rows of up to 1024 in a block's own memory (ggml-cuda/argsort.cu).
_MOST_BLOCKS = 1024
_POOL_MAX = 0  # GGML_OP_POOL_MAX of ggml.h


class Shortlist:
    """Has each call of a context report the likeliest blocks of each row instead of all logits.

    Reports `n_best` blocks of a row, in which its `n_best` likeliest tokens are. The owner of the
    context, of which it has the pointer, frees that before calling `close`.
    """

    def __init__(self, context: Any, n_vocab: int, n_sequences: int, n_best: int) -> None:
        self.callbacks = Callbacks()
        self._context = context
        self._n_vocab = n_vocab
        self._width = -(-n_vocab // _MOST_BLOCKS)
        n_blocks = -(-n_vocab // self._width)
        # The last block is padded with zeros, which may get it selected wrongly.
        self.n_best = min(n_best, n_blocks - 1)
        self._k = self.n_best + 1
        # A separate object, so that this one can be freed while llama.cpp uses it.
        operations = _Operations(self._width, self._k)
        wrap = self.callbacks.wrap
        self._interface = llama.llama_sampler_i(
            name=wrap(llama.llama_sampler_i_name, lambda _: b"shortlist", failed=b""),
            apply=wrap(llama.llama_sampler_i_apply, lambda *_: None),
            backend_init=wrap(llama.llama_sampler_i_backend_init, lambda *_: True, failed=False),
            backend_apply=wrap(llama.llama_sampler_i_backend_apply, operations.apply),
            backend_reset=wrap(llama.llama_sampler_i_backend_reset, operations.reset),
        )
        self._n_sequences = n_sequences
        self._chains: list[Handle] = []

    @property
    def attached(self) -> bool:
        """Whether it is in use; a change makes llama.cpp plan its calls anew."""
        return bool(self._chains)

    def _chain(self) -> Handle:
        chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        own = llama.llama_sampler_init(ctypes.byref(self._interface), None)
        llama.llama_sampler_chain_add(chain, own)
        return Handle(chain, llama.llama_sampler_free, self._interface)

    def attach(self) -> None:
        """Report blocks from the next call on. Raises EngineError where the device cannot."""
        # llama.cpp wants a chain for each sequence, new each time; a chain frees what is in it.
        self._chains = [self._chain() for _ in range(self._n_sequences)]
        for sequence, chain in enumerate(self._chains):
            if not llama.llama_set_sampler(self._context, sequence, chain.pointer):
                self.detach()
                raise EngineError("llama.cpp cannot look for the likeliest tokens on this device")

    def detach(self) -> None:
        """Report all logits from the next call on."""
        for sequence in range(len(self._chains)):
            llama.llama_set_sampler(self._context, sequence, None)
        self.close()

    def close(self) -> None:
        """Free the samplers, after the context or once it no longer uses them."""
        for chain in self._chains:
            chain.close()
        self._chains = []

    def read(self, n_rows: int) -> Rows:
        """What the last call reported of its rows; a copy.

        Raises:
            EngineError: llama.cpp reported something else.
        """
        shape = (n_rows, self._k)
        context = self._context
        first = -n_rows  # a number below 0 counts rows from the end, others tokens of the batch
        n_blocks = llama.llama_get_sampled_candidates_count_ith(context, first)
        n_logits = llama.llama_get_sampled_logits_count_ith(context, -1)
        # llama.cpp adds a row of its own to a call's.
        if n_blocks != (n_rows + 1) * self._k or n_logits != self._k * self._width:
            raise EngineError(f"llama.cpp reported {n_blocks} blocks and {n_logits} logits")
        numbers = np.ctypeslib.as_array(
            llama.llama_get_sampled_candidates_ith(context, first), shape=shape
        )
        logits = np.ctypeslib.as_array(
            llama.llama_get_sampled_logits_ith(context, first), shape=(n_rows, self._n_vocab)
        )[:, :n_logits].reshape(*shape, self._width)
        order = np.argsort(numbers, axis=1)
        numbers = np.take_along_axis(numbers, order, axis=1)
        values = np.take_along_axis(logits, order[:, :, None], axis=1)
        # What fills the last block up, which is the last of a row that has it.
        filling = -self._n_vocab % self._width
        if filling:
            last = numbers[:, -1] == self._n_vocab // self._width
            values[last, -1, self._width - filling :] = -np.inf
        return Rows(values.reshape(n_rows, -1), numbers, self._width)


class _Operations:
    """Callbacks of llama.cpp while it builds a call's operations; see `Shortlist`."""

    def __init__(self, width: int, k: int) -> None:
        self._width, self._k = width, k
        self._built: tuple[int, int] | None = None  # the blocks' numbers and contents

    def reset(self, _: Any) -> None:
        """Before a call's operations are built."""
        self._built = None

    def apply(self, _: Any, context: int, __: int, data: Any) -> None:
        """For the row `data.logits`: choose what is copied out of the device."""
        row = Tensor.from_address(data.contents.logits)
        # All rows of the call, of which it is a view; in a trial there is but one.
        logits = row.view_src or data.contents.logits
        if self._built is None:
            self._built = self._build(context, logits)
        numbers, blocks = self._built
        stride = Tensor.from_address(blocks).nb[2]
        place = row.view_offs // Tensor.from_address(logits).nb[1]
        data.contents.logits = _library().ggml_view_1d(
            context, blocks, self._k * self._width, place * stride
        )
        # The numbers of all rows are copied at once, with the first's.
        data.contents.candidates = None if place else numbers

    def _build(self, context: int, logits: int) -> tuple[int, int]:
        """Operations on logits [rows, vocab]: the best blocks' numbers [rows, k], and their
        contents [rows, k, width]."""
        lib = _library()
        n, n_rows = Tensor.from_address(logits).ne[:2]
        n_blocks = -(-n // self._width)
        filling = n_blocks * self._width - n
        if filling:
            logits = lib.ggml_pad(context, logits, filling, 0, 0, 0)
        maxima = lib.ggml_pool_1d(context, logits, _POOL_MAX, self._width, self._width, 0)
        numbers = lib.ggml_top_k(context, maxima, self._k)
        blocks = lib.ggml_reshape_3d(context, logits, self._width, n_blocks, n_rows)
        return numbers, lib.ggml_get_rows(context, blocks, numbers)


@cache
def _library() -> Any:
    pointer, number, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    return declared(
        ("ggml_pad", pointer, pointer, pointer, number, number, number, number),
        ("ggml_pool_1d", pointer, pointer, pointer, number, number, number, number),
        ("ggml_top_k", pointer, pointer, pointer, number),
        ("ggml_reshape_3d", pointer, pointer, pointer, long, long, long),
        ("ggml_get_rows", pointer, pointer, pointer, pointer),
        ("ggml_view_1d", pointer, pointer, pointer, long, ctypes.c_size_t),
    )
