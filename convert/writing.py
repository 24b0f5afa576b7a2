"""Writes GGUF files, one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import gguf
import numpy as np
from tqdm import tqdm

from convert.errors import ConvertError
from convert.lora import Adapter
from convert.safetensors import NUMPY, Type, all_finite, from_f32, to_f32
from convert.sources import FLOATS, Source, SourceTensor
from runtime.common.atomic import replacing

# Types that are written here; all others are llama.cpp's quantizer's.
FLOAT_TYPES: dict[str, tuple[Type, gguf.LlamaFileType]] = {
    "F32": (Type.F32, gguf.LlamaFileType.ALL_F32),
    "F16": (Type.F16, gguf.LlamaFileType.MOSTLY_F16),
    "BF16": (Type.BF16, gguf.LlamaFileType.MOSTLY_BF16),
}
# Rows are converted in blocks of about so many elements, which stay in the CPU's cache.
_BLOCK = 1 << 18


def own_type(source: Source) -> str:
    """The float type that most of the source's weights have; F16 for a quantized GGUF."""
    sizes: dict[str, int] = {}
    for tensor in source.tensors.values():
        name = tensor.type.name if tensor.type in FLOATS else "F16"
        if len(tensor.shape) > 1:
            sizes[name] = sizes.get(name, 0) + int(np.prod(tensor.shape))
    return max(sizes, key=lambda name: sizes[name], default="F16")


def write_model(
    source: Source,
    target: Path,
    type_name: str,
    adapter: Adapter | None = None,
    finetune: str | None = None,
) -> None:
    """Write the base, with an adapter merged into it, as a float GGUF file; whole or not at all.

    Norms and other vectors are always F32, as llama.cpp wants them.

    Args:
        source: the base.
        target: replaced if it exists.
        type_name: F32, F16 or BF16.
        adapter: merged in float32.
        finetune: what the merged model is called.

    Raises:
        ConvertError: a tensor cannot be read, or has values that are not finite.
        OSError: the target cannot be written.
    """
    type_, file_type = FLOAT_TYPES[type_name]
    writer = gguf.GGUFWriter(None, gguf.MODEL_ARCH_NAMES[source.arch])
    plan = [(tensor, _type_of(tensor, type_)) for tensor in source.tensors.values()]
    for tensor, its_type in plan:
        itemsize = 4 if its_type == Type.F32 else 2
        n_bytes = int(np.prod(tensor.shape, dtype=np.int64)) * itemsize
        writer.add_tensor_info(
            tensor.name, tensor.shape, np.dtype(np.float32), n_bytes, raw_dtype=its_type
        )
    source.add_metadata(writer, file_type, finetune)

    def blocks() -> Iterable[np.ndarray]:
        for tensor, its_type in tqdm(plan, unit="tensor", desc=target.name, disable=None):
            yield _convert(tensor, its_type, adapter)

    _write(writer, target, blocks)


def write_adapter(
    adapter: Adapter, arch: gguf.MODEL_ARCH, target: Path, type_name: str = "F32"
) -> None:
    """Write a GGUF LoRA adapter in F32, F16 or BF16, whole or not at all.

    Raises as `write_model`.
    """
    writer = gguf.GGUFWriter(None, gguf.MODEL_ARCH_NAMES[arch])
    data = adapter.add_to(writer, FLOAT_TYPES[type_name][0])
    _write(writer, target, lambda: data)


def _write(writer: gguf.GGUFWriter, target: Path, data: Callable[[], Iterable[np.ndarray]]) -> None:
    with replacing(target) as partial:
        try:
            writer.write_header_to_file(partial)
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for array in data():
                writer.write_tensor_data(array)
            writer.flush()
        finally:
            writer.close()


def _type_of(tensor: SourceTensor, wanted: Type) -> Type:
    if len(tensor.shape) < 2 or tensor.name.endswith("_norm.weight"):
        return Type.F32
    return wanted


def _convert(tensor: SourceTensor, type_: Type, adapter: Adapter | None) -> np.ndarray:
    """A tensor's data in the type wanted, with the adapter merged."""
    delta = adapter.deltas.get(tensor.name) if adapter else None
    if adapter:
        tensor = adapter.replaced.get(tensor.name, tensor)
    if tensor.type in FLOATS:
        data, stored = tensor.read(), tensor.type
    else:
        data, stored = tensor.read_f32(), Type.F32
    result = data if stored == type_ and delta is None else np.empty(data.shape, NUMPY[type_])
    n_rows = max(1, _BLOCK // max(1, data[0].size))
    for start in range(0, len(data), n_rows):
        rows = slice(start, start + n_rows)
        if result is not data:
            block = to_f32(data[rows], stored)
            if delta is not None:
                block = delta.merge_into(block if stored != Type.F32 else block.copy(), rows)
            result[rows] = from_f32(block, type_)
        if not all_finite(result[rows], type_):
            raise ConvertError(
                f"{tensor.name}: NaN or infinite values, or values too large for {type_.name}"
            )
    return result
