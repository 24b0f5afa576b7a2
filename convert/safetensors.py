"""Reads safetensors files with numpy, one tensor at a time.

The format (huggingface.co/docs/safetensors): eight bytes with the length of a JSON header,
the header with type, shape and place of each tensor, then the data. The library's own reader
needs torch for BF16; this one needs nothing and holds no more than the tensor asked for.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from convert.errors import ConvertError

Type = gguf.GGMLQuantizationType

_TYPES: dict[str, Type] = {"F32": Type.F32, "F16": Type.F16, "BF16": Type.BF16}
NUMPY: dict[Type, Any] = {Type.F32: np.float32, Type.F16: np.float16, Type.BF16: np.uint16}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: `shape` in elements, data at bytes `start` to `end`.

    `strides`, in elements, is None for row-major data. torch saves transposed tensors with other
    strides; safetensors has none.
    """

    path: Path
    name: str
    type: Type
    shape: tuple[int, ...]
    start: int
    end: int
    strides: tuple[int, ...] | None = None

    def read(self) -> np.ndarray:
        """The data as stored: float32, float16, or uint16 with the bits of BF16."""
        dtype = np.dtype(NUMPY[self.type])
        with self.path.open("rb") as file:
            file.seek(self.start)
            data = np.fromfile(file, dtype, (self.end - self.start) // dtype.itemsize)
        if data.nbytes != self.end - self.start:
            raise ConvertError(f"{self.path}: truncated in tensor {self.name}")
        if self.strides is None:
            return data.reshape(self.shape)
        strides = [step * dtype.itemsize for step in self.strides]
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(data, self.shape, strides))

    def read_f32(self) -> np.ndarray:
        """The data as float32."""
        return to_f32(self.read(), self.type)


def item_size(type_: Type) -> int:
    """Bytes of a value of type F32, F16 or BF16."""
    return int(np.dtype(NUMPY[type_]).itemsize)


def to_f32(data: np.ndarray, type_: Type) -> np.ndarray:
    """Stored data of type F32, F16 or BF16 as float32."""
    if type_ == Type.BF16:
        wide = data.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    return data.astype(np.float32, copy=False)


def from_f32(data: np.ndarray, type_: Type) -> np.ndarray:
    """float32 data as type F32, F16 or BF16, rounded to nearest; BF16 as uint16 bits."""
    if type_ == Type.BF16:
        bits = data.view(np.uint32)
        # To nearest, ties to even.
        rounded = bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))
        return (rounded >> 16).astype(np.uint16)
    if type_ == Type.F16:
        with np.errstate(over="ignore"):
            return data.astype(np.float16)
    return data


def all_finite(data: np.ndarray, type_: Type) -> bool:
    """Whether stored data of type F32, F16 or BF16 has neither NaN nor infinity."""
    if type_ == Type.BF16:  # NaN and infinity have all exponent bits set
        return not bool(((data & 0x7F80) == 0x7F80).any())
    return bool(np.isfinite(data).all())


def read_index(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file by name.

    Raises:
        ConvertError: not a safetensors file, truncated, or a type that is not a float.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size - 8:
                raise ValueError(f"its header of {length} bytes is longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        tensors = {name: _entry(path, name, entry, 8 + length) for name, entry in header.items()}
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ConvertError(f"{path}: not a whole safetensors file ({error})") from None
    end = max((tensor.end for tensor in tensors.values()), default=8 + length)
    if end > size:
        raise ConvertError(f"{path}: truncated: it has {size} bytes, its header needs {end}")
    return tensors


def _entry(path: Path, name: str, entry: dict[str, Any], base: int) -> StoredTensor:
    type_ = _TYPES.get(entry["dtype"])
    if type_ is None:
        raise ConvertError(
            f"{path}: tensor {name} is {entry['dtype']}; only F32, F16 and BF16 can be converted"
        )
    shape = tuple(int(n) for n in entry["shape"])
    start, end = (base + int(n) for n in entry["data_offsets"])
    if end - start != int(np.prod(shape, dtype=np.int64)) * item_size(type_):
        raise ConvertError(f"{path}: tensor {name} of shape {shape} has {end - start} bytes")
    return StoredTensor(path, name, type_, shape, start, end)
