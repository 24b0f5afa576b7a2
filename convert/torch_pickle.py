"""Reads tensors from files of `torch.save`, without torch and without executing them.

Such a file is a zip archive (docs.pytorch.org/docs/stable/notes/serialization.html): NAME/data.pkl
is a pickle whose tensors refer to NAME/data/0, NAME/data/1 and so on, which have the values,
uncompressed. A pickle may call any function; here it can only call the few below, which build
tensors.
"""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

from convert.errors import ConvertError
from convert.safetensors import StoredTensor, Type, item_size

_STORAGES = {
    "FloatStorage": Type.F32,
    "HalfStorage": Type.F16,
    "BFloat16Storage": Type.BF16,
}


class _Storage(NamedTuple):
    type: Type
    key: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_pickle(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file of torch, by name.

    Raises:
        ConvertError: not such a file, truncated, compressed, written by torch before 1.6, or
            with something other than tensors of floats.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = {info.filename: info for info in archive.infolist()}
            (data,) = (name for name in infos if name.endswith("/data.pkl"))
            folder = data.removesuffix("data.pkl")
            if infos.get(f"{folder}byteorder") and archive.read(f"{folder}byteorder") != b"little":
                raise ValueError("its numbers are in big-endian order")
            with archive.open(data) as file:
                loaded = _Unpickler(file).load()
            if not isinstance(loaded, dict):
                raise ValueError(f"it has a {type(loaded).__name__}, not tensors by name")
            return {
                str(name): _place(path, str(name), value, f"{folder}data/", infos)
                for name, value in loaded.items()
            }
    except zipfile.BadZipFile:
        raise ConvertError(
            f"{path}: not a complete file of torch, or written by torch before 1.6; load it and"
            " save it as safetensors"
        ) from None
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ConvertError:
        raise
    except Exception as error:  # a broken pickle may raise anything
        raise ConvertError(f"{path}: not a file of tensors ({error})") from None


class _Unpickler(pickle.Unpickler):
    """Unpickles dictionaries of tensors, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _rebuild_parameter
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch" and name.endswith("Storage"):
            raise ValueError(f"it has a {name}; only F32, F16 and BF16 can be converted")
        raise ValueError(f"it calls {module}.{name}, which is not needed to read tensors")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, type_, key, *_ = pid
        if kind != "storage" or not isinstance(type_, Type):
            raise ValueError(f"unknown reference {pid!r:.100}")
        return _Storage(type_, str(key))


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(data: _Tensor, *_: Any) -> _Tensor:
    return data


def _place(
    path: Path, name: str, value: Any, folder: str, infos: dict[str, zipfile.ZipInfo]
) -> StoredTensor:
    """Find a tensor's data in the file."""
    if not isinstance(value, _Tensor):
        raise ConvertError(f"{path}: {name} is a {type(value).__name__}, not a tensor")
    info = infos.get(folder + value.storage.key)
    if info is None or info.compress_type != zipfile.ZIP_STORED:
        raise ConvertError(f"{path}: the data of tensor {name} is missing or compressed")
    with path.open("rb") as file:  # the local header's length differs from the directory's
        file.seek(info.header_offset + 26)
        names, extra = struct.unpack("<HH", file.read(4))
    size = item_size(value.storage.type)
    start = info.header_offset + 30 + names + extra
    sizes = [value.offset, *value.shape, *value.strides]
    if len(value.shape) != len(value.strides) or not all(
        isinstance(n, int) and n >= 0 for n in sizes
    ):
        raise ConvertError(f"{path}: tensor {name} has an impossible shape")
    reach = sum((n - 1) * step for n, step in zip(value.shape, value.strides, strict=True)) + 1
    elements = reach if all(value.shape) else 0
    if (value.offset + elements) * size > info.file_size:
        raise ConvertError(f"{path}: tensor {name} reaches beyond its data")
    first = start + value.offset * size
    row_by_row = tuple(math.prod(value.shape[n + 1 :]) for n in range(len(value.shape)))
    strides = None if value.strides == row_by_row or not elements else value.strides
    return StoredTensor(
        path, name, value.storage.type, value.shape, first, first + elements * size, strides
    )
