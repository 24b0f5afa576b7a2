"""Writes GGUF files, one tensor at a time."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
from tqdm import tqdm

from convert.base import EMBEDDING, FLOATS, HEAD, Source, SourceTensor
from convert.errors import ConvertError
from convert.lora import Adapter
from convert.safetensors import NUMPY, Type, all_finite, from_f32, item_size, to_f32
from runtime.common.atomic import replacing

# Types that are written here; llama.cpp's quantizer makes all others.
FLOAT_TYPES: dict[str, tuple[Type, gguf.LlamaFileType]] = {
    "F32": (Type.F32, gguf.LlamaFileType.ALL_F32),
    "F16": (Type.F16, gguf.LlamaFileType.MOSTLY_F16),
    "BF16": (Type.BF16, gguf.LlamaFileType.MOSTLY_BF16),
}
# Rows are converted in blocks of about this many elements, which fit into the CPU's cache.
_BLOCK = 1 << 18


def own_type(source: Source) -> str:
    """The float type of most of the source's weights; F16 for a quantized GGUF."""
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
    """Write the base, with an adapter merged into it in float32, as a GGUF file, atomically.

    The type is F32, F16 or BF16; norms and other vectors are always F32, as llama.cpp expects.
    `finetune` is the name of the merged model.

    Raises:
        ConvertError: a tensor cannot be read, or has NaN or infinite values.
        OSError: the target cannot be written.
    """
    type_, file_type = FLOAT_TYPES[type_name]
    writer = gguf.GGUFWriter(None, source.architecture.gguf_name)
    tensors = list(source.tensors.values())
    if adapter is not None and adapter.unties:
        tensors.append(replace(source.tensors[EMBEDDING], name=HEAD))
    plan = [(tensor, _type_of(tensor, type_)) for tensor in tensors]
    for tensor, its_type in plan:
        n_bytes = int(np.prod(tensor.shape, dtype=np.int64)) * item_size(its_type)
        writer.add_tensor_info(
            tensor.name, tensor.shape, np.dtype(np.float32), n_bytes, raw_dtype=its_type
        )
    source.add_metadata(writer, file_type, finetune)

    def blocks() -> Iterable[np.ndarray]:
        for tensor, its_type in tqdm(plan, unit="tensor", desc=target.name, disable=None):
            yield _convert(tensor, its_type, adapter)

    try:
        _write(writer, target, blocks)
    except struct.error as error:  # too large for GGUF
        raise ConvertError(
            f"{source.path}: a number in its config is too large ({error})"
        ) from None


def write_adapter(adapter: Adapter, target: Path, type_name: str = "F32") -> None:
    """Write a GGUF LoRA adapter in F32, F16 or BF16, atomically.

    Raises:
        ConvertError: the adapter has more than LoRA matrices, so it can only be merged, or has
            values too large for the type.
        OSError: the target cannot be written.
    """
    _check_only_matrices(adapter)
    type_ = FLOAT_TYPES[type_name][0]
    writer = gguf.GGUFWriter(None, adapter.base.architecture.gguf_name)
    data = []
    for name, delta in adapter.deltas.items():
        # llama.cpp scales by alpha / rank; the rest of the factor goes into B.
        factor = np.float32(delta.scale / (adapter.config.alpha / len(delta.a)))
        a, b = delta.a, delta.b if factor == 1 else factor * delta.b
        if name == EMBEDDING:  # a lookup of rows: A transposed, B as in PEFT
            a, b = delta.b, (a if factor == 1 else factor * a).T
        for part, matrix in (("lora_a", a), ("lora_b", b)):
            matrix = from_f32(np.ascontiguousarray(matrix, np.float32), type_)
            if not all_finite(matrix, type_):
                raise ConvertError(
                    f"{adapter.folder}: {name}.{part} has values too large for {type_.name}"
                )
            full_name, dtype = f"{name}.{part}", np.dtype(np.float32)
            writer.add_tensor_info(full_name, matrix.shape, dtype, matrix.nbytes, raw_dtype=type_)
            data.append(matrix)
    _add_adapter_metadata(writer, adapter)
    _write(writer, target, lambda: data)


def _check_only_matrices(adapter: Adapter) -> None:
    """Raise ConvertError for changes that llama.cpp cannot apply to a loaded model."""
    merge = "cannot be a GGUF adapter; merge it instead (--mode merge)"
    for name in (EMBEDDING, HEAD):
        if adapter.base.tied and name in adapter.deltas:
            raise ConvertError(
                f"{adapter.folder}: LoRA on {name} of a base that ties its output head to the"
                f" embedding {merge}"
            )
    for name, delta in adapter.deltas.items():
        if delta.magnitude is not None:
            raise ConvertError(f"{adapter.folder}: DoRA ({name}) {merge}")
    for name in adapter.changes():
        raise ConvertError(f"{adapter.folder}: a tensor trained whole ({name}) {merge}")
    if not adapter.deltas:
        raise ConvertError(f"{adapter.folder}: has no LoRA matrices")


def _add_adapter_metadata(writer: gguf.GGUFWriter, adapter: Adapter) -> None:
    n_parameters, *shared = writer.get_total_parameter_count()
    metadata = gguf.Metadata.load(None, adapter.folder, None, n_parameters)
    metadata.name = metadata.name or adapter.folder.resolve().name
    if metadata.size_label is None and n_parameters > 0:
        metadata.size_label = gguf.size_label(n_parameters, *shared)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    metadata.set_gguf_meta_model(writer)
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, adapter.config.alpha)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


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
    """A tensor's data in a type, with the adapter merged."""
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
