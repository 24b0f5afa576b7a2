"""The part of ggml's own API that the project uses: tensors, and GGUF files of them.

llama-cpp-python binds llama.cpp's API alone. ggml's library is loaded with it and has its own
reader and writer of GGUF, so no other package is needed for that. `Tensor` follows
`struct ggml_tensor` of ggml.h. `library` compares it with what the library itself does, so that
a build with another layout is refused before anything depends on it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from runtime.engine.llama import EngineError

F32, F16, BF16 = 0, 1, 30
_NUMPY: dict[int, np.dtype[Any]] = {
    F32: np.dtype(np.float32),
    F16: np.dtype(np.float16),
    BF16: np.dtype(np.uint16),
}
NUMPY = {"F32": np.float32, "F16": np.float16}


class Tensor(ctypes.Structure):
    """`struct ggml_tensor`; sizes run from the fastest dimension to the slowest."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    )


class _Params(ctypes.Structure):  # struct ggml_init_params
    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


class _ReadParams(ctypes.Structure):  # struct gguf_init_params
    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.POINTER(ctypes.c_void_p)))


@cache
def library() -> Any:
    """ggml's shared library, the one that llama.cpp runs on, with its functions declared.

    Raises:
        EngineError: it has an unknown layout of tensors.
    """
    pointer, text, long, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64, ctypes.c_size_t
    lib = declared(
        ("ggml_init", pointer, _Params),
        ("ggml_free", None, pointer),
        ("ggml_tensor_overhead", size),
        ("ggml_new_tensor_2d", pointer, pointer, ctypes.c_int, long, long),
        ("ggml_mul_mat", pointer, pointer, pointer, pointer),
        ("ggml_op_name", text, ctypes.c_int),
        ("ggml_set_name", pointer, pointer, text),
        ("ggml_get_first_tensor", pointer, pointer),
        ("ggml_get_next_tensor", pointer, pointer, pointer),
        ("gguf_init_empty", pointer),
        ("gguf_init_from_file", pointer, text, _ReadParams),
        ("gguf_free", None, pointer),
        ("gguf_find_key", long, pointer, text),
        ("gguf_get_val_f32", ctypes.c_float, pointer, long),
        ("gguf_get_val_str", text, pointer, long),
        ("gguf_set_val_str", None, pointer, text, text),
        ("gguf_set_val_f32", None, pointer, text, ctypes.c_float),
        ("gguf_add_tensor", None, pointer, pointer),
        ("gguf_write_to_file", ctypes.c_bool, pointer, text, ctypes.c_bool),
    )
    _check_layout(lib)
    return lib


def declared(*functions: tuple[Any, ...]) -> Any:
    """ggml's library with functions declared, each as its name, result and arguments."""
    from llama_cpp import _ggml  # llama-cpp-python keeps it private, and is pinned

    for name, result, *arguments in functions:
        function = getattr(_ggml.libggml, name)
        function.restype, function.argtypes = result, arguments
    return _ggml.libggml


def _check_layout(lib: Any) -> None:
    """Compare `Tensor` with a product that the library builds of two known tensors."""
    memory = ctypes.create_string_buffer(4096)
    context = lib.ggml_init(_Params(len(memory), ctypes.addressof(memory), False))
    try:
        a = lib.ggml_new_tensor_2d(context, F32, 8, 3)
        b = lib.ggml_new_tensor_2d(context, F32, 8, 5)
        lib.ggml_set_name(a, b"layout.lora_a")
        first = Tensor.from_address(a)
        product = Tensor.from_address(lib.ggml_mul_mat(context, a, b))
        start, end = ctypes.addressof(memory), ctypes.addressof(memory) + len(memory)
        right = (
            list(first.ne) == [8, 3, 1, 1]
            and list(first.nb) == [4, 32, 96, 96]
            and first.name == b"layout.lora_a"
            and list(product.ne) == [3, 5, 1, 1]
            and list(product.src[:3]) == [a, b, None]
            and lib.ggml_op_name(product.op) == b"MUL_MAT"
            and start < first.data < end
            and start < product.data < end
            # An object's header of 32 bytes stands before each tensor.
            and lib.ggml_tensor_overhead() == ctypes.sizeof(Tensor) + 32
        )
    finally:
        lib.ggml_free(context)
    if not right:
        raise EngineError("this build of ggml has an unknown layout of tensors")


@dataclass(frozen=True)
class Multiplication:
    """A matrix product of a running computation, as llama.cpp shows it to an eval callback."""

    weight: str  # the matrix's name, such as "blk.0.attn_q.weight"
    _input: Tensor

    def input(self) -> np.ndarray:
        """What the matrix is multiplied with, float32 [rows, columns].

        It is llama.cpp's own memory: copy what is to outlive the callback.

        Raises:
            EngineError: it is not float32, not contiguous, or not in this machine's memory.
        """
        found, (columns, n1, n2, n3) = self._input, self._input.ne
        n_rows = n1 * n2 * n3
        contiguous = list(found.nb) == [4, 4 * columns, 4 * columns * n1, 4 * columns * n1 * n2]
        if found.type != F32 or not contiguous or not found.data:
            raise EngineError(f"the input of {self.weight} is not float32 in one piece")
        raw = (ctypes.c_float * (n_rows * columns)).from_address(found.data)
        return np.frombuffer(raw, np.float32).reshape(n_rows, columns)


def multiplication(address: int) -> Multiplication | None:
    """The matrix product at an address that an eval callback of `Context` got; None if it is none.

    Raises:
        EngineError: this build of ggml has an unknown layout of tensors.
    """
    lib = library()
    tensor = Tensor.from_address(address)
    if lib.ggml_op_name(tensor.op) != b"MUL_MAT":
        return None
    weight, other = (Tensor.from_address(source) for source in tensor.src[:2])
    return Multiplication(weight.name.decode("utf-8", "replace"), other)


@contextmanager
def read_gguf(path: Path, data: bool = True) -> Iterator[GGUF]:
    """A GGUF file with all its tensors in memory, for the length of a `with`.

    Without `data` only the metadata and the tensors' shapes are read.

    Raises:
        EngineError: ggml cannot read it.
    """
    lib = library()
    context = ctypes.c_void_p()
    gguf = lib.gguf_init_from_file(bytes(path), _ReadParams(not data, ctypes.pointer(context)))
    if not gguf:
        raise EngineError(f"{path}: not a readable GGUF file")
    try:
        yield GGUF(path, gguf, context.value)
    finally:
        lib.gguf_free(gguf)
        lib.ggml_free(context)


class GGUF:
    """An open file; see `read_gguf`."""

    def __init__(self, path: Path, gguf: int, context: int | None) -> None:
        self.path, self._gguf, self._context = path, gguf, context

    def text(self, key: str) -> str:
        """A text of the metadata, or ""."""
        at = library().gguf_find_key(self._gguf, key.encode())
        return library().gguf_get_val_str(self._gguf, at).decode() if at >= 0 else ""

    def number(self, key: str) -> float:
        """A float32 of the metadata, or 0."""
        at = library().gguf_find_key(self._gguf, key.encode())
        return float(library().gguf_get_val_f32(self._gguf, at)) if at >= 0 else 0.0

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of each tensor."""
        return {t.name.decode(): (t.ne[1], t.ne[0]) for t in self._tensors()}

    def types(self) -> dict[str, int]:
        """The `enum ggml_type` of each tensor."""
        return {t.name.decode(): t.type for t in self._tensors()}

    def sizes(self) -> dict[str, int]:
        """Bytes of each tensor."""
        return {t.name.decode(): t.nb[3] * t.ne[3] for t in self._tensors()}

    def matrices(self) -> Iterator[tuple[str, np.ndarray]]:
        """Name and float32 copy [rows, columns] of each tensor.

        Raises:
            EngineError: a tensor of another type than F32, F16 and BF16, or of another shape.
        """
        for tensor in self._tensors():
            yield tensor.name.decode(), self._matrix(tensor)

    def _tensors(self) -> Iterator[Tensor]:
        pointer = library().ggml_get_first_tensor(self._context)
        while pointer:
            tensor = Tensor.from_address(pointer)
            # With data, they are one more tensor with this name.
            if tensor.name != b"GGUF tensor data binary blob":
                yield tensor
            pointer = library().ggml_get_next_tensor(self._context, pointer)

    def _matrix(self, tensor: Tensor) -> np.ndarray:
        if tensor.type not in _NUMPY or tensor.ne[2] * tensor.ne[3] != 1:
            raise EngineError(
                f"{self.path}: {tensor.name.decode()} is not a matrix of F32, F16 or BF16"
            )
        dtype = _NUMPY[tensor.type]
        shape = (tensor.ne[1], tensor.ne[0])
        raw = (ctypes.c_uint8 * (shape[0] * shape[1] * dtype.itemsize)).from_address(tensor.data)
        values: np.ndarray = np.frombuffer(memoryview(raw), dtype).reshape(shape)
        if tensor.type == BF16:  # the upper half of a float32
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32)


def write_gguf(
    path: Path, metadata: dict[str, str | float], tensors: dict[str, np.ndarray]
) -> None:
    """Write float32 or float16 matrices [rows, columns] with text and float32 metadata.

    Raises:
        EngineError: it could not be written.
    """
    lib = library()
    types = {np.dtype(np.float32): F32, np.dtype(np.float16): F16}
    with ExitStack() as stack:
        room = (len(tensors) + 1) * lib.ggml_tensor_overhead()
        context = lib.ggml_init(_Params(room, None, True))
        stack.callback(lib.ggml_free, context)
        gguf = lib.gguf_init_empty()
        stack.callback(lib.gguf_free, gguf)
        for key, value in metadata.items():
            if isinstance(value, str):
                lib.gguf_set_val_str(gguf, key.encode(), value.encode())
            else:
                lib.gguf_set_val_f32(gguf, key.encode(), value)
        for name, matrix in tensors.items():
            assert matrix.flags.c_contiguous
            rows, columns = matrix.shape
            pointer = lib.ggml_new_tensor_2d(context, types[matrix.dtype], columns, rows)
            lib.ggml_set_name(pointer, name.encode())
            Tensor.from_address(pointer).data = matrix.ctypes.data
            lib.gguf_add_tensor(gguf, pointer)
        if not lib.gguf_write_to_file(gguf, bytes(path), False):
            raise EngineError(f"{path}: could not be written")
