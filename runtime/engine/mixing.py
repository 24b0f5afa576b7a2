"""Several LoRA adapters in one call, each token with its own.

llama.cpp applies an adapter to every token of a call: a linear layer W becomes
W x + scale * B (A x). So adapters are stacked into one, of the sum of their ranks: their A's are
stacked vertically, their B's side by side, and A x holds the products of all of them. With the
functions that scripts/patches adds (`lora_rows`) each token is multiplied with its own
adapter's rows only. An unmodified llama.cpp multiplies it with all, and before B is applied, an
evaluation callback sets the others' products to zero.

    stack = write_stack({"history": path, "algebra": other}, stacked_path)
    mixer = Mixer(stack, pointer)      # one for each context; mixer.callback is its cb_eval
    # adapter and output flag of each token; raises what went wrong inside
    mixer.run(lambda: llama_decode(...), [0, 0, -1, 1], [0, 1, 1, 1])

It works only where A x is in main memory, so not with layers on a GPU, and for calls
that llama.cpp computes in one pass, its tokens in the order of the batch: with one KV
stream per sequence, that is sequences of equally many tokens with consecutive ids.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from runtime.engine import ggml, lora_rows
from runtime.engine.calls import Callbacks
from runtime.engine.llama import EngineError, check_gguf
from runtime.engine.lora_rows import LoraRows

BARE = -1  # in `Mixer.run`: a token that uses no adapter
# llama.cpp's fast kernels for F32 and F16 (llamafile's sgemm) take ranks in multiples of 16;
# others are computed dot product by dot product. The rows added are zero.
RANK_STEP = 16
# Tensors of graphs of many shapes are remembered; beyond this many, start afresh.
_MOST_REMEMBERED = 50_000
# Of the model's parameters, what a stack may have for each adapter in it.
_MOST_SHARE = 0.04

_EvalCallback = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p)
# Places in `ggml_tensor`, counted in words of 8 bytes.
_WORDS = ctypes.sizeof(ggml.Tensor) // 8
_ROWS, _COLUMNS = ggml.Tensor.ne.offset // 8, ggml.Tensor.ne.offset // 8 + 1
_DATA = ggml.Tensor.data.offset // 8
_WEIGHT = ggml.Tensor.src.offset // 8


@dataclass(frozen=True)
class Stack:
    """What a stacked adapter holds; the numbers include padding."""

    names: tuple[str, ...]  # of the adapters, in the order of their indices
    rows: tuple[slice, ...]  # the rows of A x that belong to each of them
    rank: int  # of the whole, rounded up to a multiple of `RANK_STEP`
    n_modules: int  # linear layers that at least one of them adapts
    n_parameters: int
    nbytes: int

    def index(self, name: str | None) -> int:
        """The index of an adapter for `Mixer.run`; None is `BARE`. Raises EngineError."""
        if name is None:
            return BARE
        if name not in self.names:
            raise EngineError(f"no adapter named {name!r} is in the stack")
        return self.names.index(name)


def write_stack(
    paths: Mapping[str, Path], out: Path, dtype: Literal["F32", "F16"] | None = "F32"
) -> Stack:
    """Write the GGUF adapters as one stacked adapter.

    Their scales (alpha / rank) go into B, so that the whole is applied with a scale of 1. A
    linear layer that an adapter lacks is zero in its rows. All matrices are held in memory
    meanwhile, once as they are and once stacked. A `dtype` of None is F16 where that changes no
    value, else F32.

    Raises:
        EngineError: a file is not a LoRA adapter of matrices for linear layers, is damaged or
            for another architecture than the first, or has values that are not finite.
    """
    adapters = [_Adapter(path) for path in paths.values()]
    if not adapters:
        raise EngineError("there are no adapters to stack")
    for adapter in adapters:
        if adapter.architecture != adapters[0].architecture:
            raise EngineError(
                f"{adapter.path}: for architecture {adapter.architecture!r}, but"
                f" {adapters[0].path} is for {adapters[0].architecture!r}"
            )
    ends = np.cumsum([adapter.rank for adapter in adapters]).tolist()
    rows = tuple(slice(e - a.rank, e) for e, a in zip(ends, adapters, strict=True))
    rank = -(-ends[-1] // RANK_STEP) * RANK_STEP
    if dtype is None:
        dtype = "F16" if all(adapter.fits_f16() for adapter in adapters) else "F32"
    tensors: dict[str, np.ndarray] = {}
    for adapter, own in zip(adapters, rows, strict=True):
        for name, (a, b) in adapter.modules.items():
            at = slice(own.start, own.start + len(a))
            for key, matrix in ((f"{name}.lora_a", a.T), (f"{name}.lora_b", b)):
                if key not in tensors:
                    tensors[key] = np.zeros((rank, len(matrix)), ggml.NUMPY[dtype])
                whole = tensors[key]
                if whole.shape[1] != len(matrix):
                    raise EngineError(f"{adapter.path}: {key} differs in shape from the others'")
                with np.errstate(over="ignore"):
                    whole[at] = matrix.T
                # Infinity times a masked 0 would reach the tokens of other adapters.
                if not np.isfinite(whole[at]).all():
                    raise EngineError(f"{adapter.path}: {key} is not finite in {dtype}")
    for key, matrix in tensors.items():
        if key.endswith(".lora_b"):
            tensors[key] = np.ascontiguousarray(matrix.T)
    metadata: dict[str, str | float] = {
        "general.type": "adapter",
        "general.architecture": adapters[0].architecture,
        "adapter.type": "lora",
        "adapter.lora.alpha": 0.0,  # to llama.cpp: a scale of 1
    }
    ggml.write_gguf(out, metadata, tensors)
    nbytes = sum(matrix.nbytes for matrix in tensors.values())
    size = sum(matrix.size for matrix in tensors.values())
    return Stack(tuple(paths), rows, rank, len(tensors) // 2, size, nbytes)


class _Adapter:
    """A GGUF adapter's A [rank, columns] and B [rows, rank], scaled, by the layer's name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        check_gguf(path)
        with ggml.read_gguf(path) as file:
            self.architecture = file.text("general.architecture")
            kind = file.text("general.type"), file.text("adapter.type")
            if kind != ("adapter", "lora"):
                raise EngineError(f"{path}: not a LoRA adapter")
            alpha = file.number("adapter.lora.alpha")
            matrices = dict(file.matrices())
        self.modules: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for key, a in matrices.items():
            name, _, part = key.rpartition(".lora_")
            if not name or part not in ("a", "b"):
                raise EngineError(f"{path}: {key} is neither a lora_a nor a lora_b")
            if name == "token_embd.weight":
                raise EngineError(f"{path}: it adapts the embedding, which cannot be stacked")
            b = matrices.get(f"{name}.lora_b")
            if part == "a":
                if b is None or b.shape[1] != len(a):
                    raise EngineError(f"{path}: {name} has no lora_b that fits its lora_a")
                self.modules[name] = a, b * np.float32(alpha / len(a) if alpha else 1)
        if not self.modules:
            raise EngineError(f"{path}: no LoRA matrices in it")
        self.rank = max(len(a) for a, _ in self.modules.values())

    def fits_f16(self) -> bool:
        """Whether F16 holds all values exactly."""
        with np.errstate(over="ignore"):
            return all(
                np.array_equal(matrix, matrix.astype(np.float16))
                for pair in self.modules.values()
                for matrix in pair
            )


class Mixer:
    """Has the tokens of a call in one context use parts of a stacked adapter.

    Give `callback` to the context as its cb_eval (None if it needs none), apply the stacked
    adapter, and make each call through `run`. Other calls use everything that is applied.
    `adapter` is the pointer to the stacked adapter.
    """

    def __init__(self, stack: Stack, adapter: Any) -> None:
        self.stack = stack
        self._rows = LoraRows.of(adapter)
        # Of each adapter and, last, of none.
        self._first = np.array([*(rows.start for rows in stack.rows), 0], np.int32)
        self._count = np.array([*(r.stop - r.start for r in stack.rows), 0], np.int32)
        self._callbacks = Callbacks()
        # An object of its own, so that this one can be freed while llama.cpp has the callback.
        self._masks = _Masks(stack.rank)
        self.callback: Any = None
        if self._rows is None:
            masking = self._masks.callback()
            self.callback = self._callbacks.wrap(_EvalCallback, masking, failed=False)

    def run(self, call: Callable[[], int], adapters: ArrayLike, outputs: ArrayLike) -> int:
        """Do a llama.cpp call in which each token uses its own adapter; returns the call's code.

        Args:
            adapters: int [n_tokens], indices of the stack's adapters or `BARE`, in the batch's
                order.
            outputs: [n_tokens], not 0 where logits are wanted.

        Raises:
            ValueError: an unknown index, or the two differ in length.
            EngineError: the call was not computed in one pass, or masking failed, so its result
                is worthless.
        """
        index, wanted = np.asarray(adapters, np.intp), np.asarray(outputs) != 0
        if index.ndim != 1 or index.shape != wanted.shape or not index.size:
            raise ValueError("adapters and outputs must have one entry for each token")
        if index.min() < BARE or index.max() >= len(self.stack.rows):
            raise ValueError(f"adapters must be {BARE} to {len(self.stack.rows) - 1}")
        run = self._mask if self._rows is None else self._rows.run
        code, computed = run(call, self._first[index], self._count[index], wanted)
        whole = computed == self.stack.n_modules
        if self._rows is not None and not wanted.any():
            # After the last layer's attention there is nothing to compute.
            whole = whole or computed > 0
        if code == 0 and not whole:
            raise EngineError(
                f"adapters could not be mixed: llama.cpp computed {computed} products for"
                f" {self.stack.n_modules} linear layers, so not in one pass"
            )
        return code

    def _mask(
        self, call: Callable[[], int], first: np.ndarray, count: np.ndarray, wanted: np.ndarray
    ) -> tuple[int, int]:
        """What `LoraRows.run` does, on an unmodified llama.cpp."""
        place = np.arange(self.stack.rank) - first[:, None]
        mask = ((place >= 0) & (place < count[:, None])).astype(np.float32)
        # After the last layer's attention only the tokens with an output go on.
        self._masks.start({int(wanted.sum()): mask[wanted], len(mask): mask})
        try:
            code = call()
        finally:
            n_masked = self._masks.stop()
        try:
            self._callbacks.check()
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(f"adapters could not be mixed: {error}") from error
        return code, n_masked


class _Masks:
    """What llama.cpp's callback works with."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._masks: dict[int, np.ndarray] = {}  # by number of columns; empty: do not mask
        self._n_masked = 0
        self._views: dict[int, memoryview] = {}  # the words of a tensor's struct, by its address
        self._is_a: dict[int, bool] = {}  # whether a tensor is some lora_a, by its address
        self._products: dict[tuple[int, int], np.ndarray] = {}  # by address and columns

    def start(self, masks: dict[int, np.ndarray]) -> None:
        """Mask from now on: float32 [columns, rank] by number of columns."""
        self._masks, self._n_masked = masks, 0
        for remembered in (self._views, self._is_a, self._products):
            if len(remembered) > _MOST_REMEMBERED:
                remembered.clear()

    def stop(self) -> int:
        """Stop masking; returns the number of masked products."""
        self._masks = {}
        return self._n_masked

    def callback(self) -> Callable[[int, bool, Any], bool]:
        """What llama.cpp calls for each tensor of a call."""
        # There are some 2,000 of them, so every look-up counts.
        views, is_a = self._views, self._is_a

        def callback(address: int, ask: bool, _: Any) -> bool:
            if not self._masks:
                return False
            view = views.get(address)
            if view is None:
                view = views[address] = _words(address)
            weight = view[_WEIGHT]
            found = is_a.get(weight)
            if found is None:
                name = ggml.Tensor.from_address(weight).name if weight else b""
                found = is_a[weight] = name.endswith(b".lora_a")
            if found and not ask:
                self.apply(view)
            return found

        return callback

    def apply(self, product: memoryview) -> None:
        """Apply the mask to A x, float32 [columns, rank] in memory."""
        rank, columns, address = product[_ROWS], product[_COLUMNS], product[_DATA]
        mask = self._masks.get(columns)
        if mask is None or rank != self._rank:
            raise EngineError(
                f"adapters could not be mixed: a product of {rank} x {columns} in a call of"
                f" {max(self._masks)} tokens"
            )
        self._n_masked += 1
        if not columns:
            return
        values = self._products.get((address, columns))
        if values is None:
            raw = (ctypes.c_float * (columns * rank)).from_address(address)
            values = np.ctypeslib.as_array(raw).reshape(columns, rank)
            self._products[address, columns] = values
        np.multiply(values, mask, out=values)


def _words(address: int) -> memoryview:
    """A live view of a tensor's struct as unsigned words."""
    return memoryview((ctypes.c_uint64 * _WORDS).from_address(address)).cast("B").cast("Q")


def worth_mixing(stack: Stack, model_parameters: int) -> bool:
    """Whether the adapters of a stack cost less in one batch than one after another.

    Always where each token is multiplied with its own adapter only (`lora_rows`). Elsewhere
    mixing costs the whole stack's multiplications for every token; taking turns costs a smaller
    batch for each adapter. Measured on two models with 4 to 16 adapters of rank 4 to 64
    (lab/NOTES.md), the two are about equal where the stack has 4 % of the model's parameters
    for each adapter in it.
    """
    most = _MOST_SHARE * len(stack.names) * model_parameters
    return lora_rows.available() or stack.n_parameters <= most
