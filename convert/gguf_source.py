"""A GGUF file as a base model."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from convert.architectures import ARCHITECTURES
from convert.base import Source, SourceTensor
from convert.errors import ConvertError
from convert.gguf_file import GgufFile
from convert.safetensors import Type

# llama.cpp's names for the parts of a split model.
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


class GgufSource(Source):
    """A GGUF file of any type; quantized tensors are dequantized to float32 where needed.

    For a split model, any part may be given; the others must be in the same folder.

    Raises:
        ConvertError: not a complete GGUF file, not a model, a part is missing, or the
            architecture is not supported.
    """

    def __init__(self, path: Path, name: str | None) -> None:
        self._parts = _parts(path)
        self._file = self._parts[0]
        self.path = self._file.path
        part = _PART.fullmatch(path.name)
        self.name = name or (part[1] if part else path.stem)
        if self._file.kind != "model":
            raise ConvertError(f"{path}: this GGUF file is not a model, but an {self._file.kind}")
        arch = self.field("general.architecture")
        known = {row.gguf_name: row for row in ARCHITECTURES.values()}
        if arch not in known:
            raise ConvertError(f"{path}: architecture {arch} is not supported, only {[*known]}")
        self.architecture = known[arch]
        self.n_layers = int(self.field(f"{arch}.block_count"))
        self.n_head = int(self.field(f"{arch}.attention.head_count"))
        self.n_head_kv = int(self.field(f"{arch}.attention.head_count_kv") or self.n_head)
        self.tensors = {
            tensor.name: SourceTensor(
                tensor.name,
                tuple(int(n) for n in reversed(tensor.shape)),
                tensor.tensor_type,
                lambda tensor=tensor: _stored(tensor),  # type: ignore[misc]
            )
            for file in self._parts
            for tensor in file.tensors
        }
        expected = self.field("split.tensors.count")
        if expected is not None and int(expected) != len(self.tensors):
            raise ConvertError(
                f"{path}: its parts have {len(self.tensors)} tensors instead of {expected}:"
                " a part is missing or belongs to another model"
            )

    def files(self) -> list[Path]:
        return [file.path for file in self._parts]

    def field(self, key: str) -> Any:
        """A value of the metadata, or None."""
        return self._file.field(key)

    @property
    def chat_template(self) -> Any:
        return self.field("tokenizer.chat_template")

    @cached_property
    def added_tokens(self) -> Collection[str]:
        return set(self.field("tokenizer.ggml.tokens") or ())

    def add_metadata(self, writer: gguf.GGUFWriter, file_type: int, finetune: str | None) -> None:
        ours = {"general.architecture", "general.file_type", "general.quantization_version"}
        ours |= {"general.alignment"}  # this file has the usual alignment
        for key, field in self._file.fields.items():
            if (
                key.startswith(("GGUF.", "split."))
                or key in ours
                or (finetune and key == "general.finetune")
            ):
                continue
            value_type, *inner = field.types
            writer.add_key_value(key, field.contents(), value_type, inner[-1] if inner else None)
        if finetune:
            writer.add_finetune(finetune)
        writer.add_file_type(file_type)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _parts(path: Path) -> list[GgufFile]:
    """All files of a model; the first has the metadata."""
    file = GgufFile(path)
    count = int(file.field("split.count") or 1)
    if count < 2:
        return [file]
    named = _PART.fullmatch(path.name)
    if not named or int(named[3]) != count:
        raise ConvertError(
            f"{path}: one of {count} parts of a model, but not named like one"
            f" (NAME-00001-of-{count:05}.gguf); restore the names of all parts, or join them"
            " with llama-gguf-split --merge"
        )
    names = [f"{named[1]}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise ConvertError(
            f"{path}: the model has {count} parts; {', '.join(missing[:3])} is missing"
        )
    return [GgufFile(path.parent / name) for name in names]


def _stored(tensor: gguf.ReaderTensor) -> np.ndarray:
    """A tensor's data: floats in its shape, quantized types as rows of bytes."""
    data = np.asarray(tensor.data)
    return data.view(np.uint16) if tensor.tensor_type == Type.BF16 else data
