"""A GGUF file as a base model."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from convert.architectures import ARCHITECTURES
from convert.base import Source, SourceTensor
from convert.errors import ConvertError
from convert.safetensors import Type


class GgufSource(Source):
    """A GGUF file of any type; quantized tensors are brought back to float32 where needed.

    Raises:
        ConvertError: not a whole GGUF file, not a model, or not of a supported architecture.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self.name = name or path.stem
        try:
            self._reader = gguf.GGUFReader(path)
        except (OSError, ValueError, IndexError, KeyError) as error:
            raise ConvertError(f"{path}: not a whole GGUF file ({error})") from None
        kind = self.field("general.type") or "model"
        if kind != "model":
            raise ConvertError(f"{path}: this GGUF file is no model, but an {kind}")
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
            for tensor in self._reader.tensors
        }

    def files(self) -> list[Path]:
        return [self.path]

    def field(self, key: str) -> Any:
        """A value of the metadata, or None."""
        field = self._reader.fields.get(key)
        return None if field is None else field.contents()

    @property
    def chat_template(self) -> Any:
        return self.field("tokenizer.chat_template")

    @cached_property
    def added_tokens(self) -> Collection[str]:
        return set(self.field("tokenizer.ggml.tokens") or ())

    def add_metadata(self, writer: gguf.GGUFWriter, file_type: int, finetune: str | None) -> None:
        ours = {"general.architecture", "general.file_type", "general.quantization_version"}
        ours |= {"general.alignment"}  # what is written here is aligned as usual
        for key, field in self._reader.fields.items():
            if key.startswith("GGUF.") or key in ours or (finetune and key == "general.finetune"):
                continue
            value_type, *inner = field.types
            writer.add_key_value(key, field.contents(), value_type, inner[-1] if inner else None)
        if finetune:
            writer.add_finetune(finetune)
        writer.add_file_type(file_type)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _stored(tensor: gguf.ReaderTensor) -> np.ndarray:
    """A tensor's data; for floats in its shape, for quantized types as rows of bytes."""
    data = np.asarray(tensor.data)
    return data.view(np.uint16) if tensor.tensor_type == Type.BF16 else data
