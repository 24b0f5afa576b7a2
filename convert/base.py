"""The base class of base models: the tensors and metadata of their GGUF file.

A source lists the tensors of its GGUF file, with llama.cpp's names and order of rows, and writes
the metadata. Tensors are read one at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from convert.architectures import Architecture
from convert.safetensors import StoredTensor, Type, to_f32

FLOATS = (Type.F32, Type.F16, Type.BF16)
EMBEDDING, HEAD = "token_embd.weight", "output.weight"


@dataclass(frozen=True)
class SourceTensor:
    """A tensor as the GGUF file will have it.

    Attributes:
        name: its GGUF name, such as "blk.0.attn_q.weight".
        shape: rows first, as numpy has it.
        type: data type in the source.
        read: returns the stored data: float32, float16, or uint16 with BF16's bits.
    """

    name: str
    shape: tuple[int, ...]
    type: Type
    read: Callable[[], np.ndarray]

    def read_f32(self) -> np.ndarray:
        """The data as a new float32 array."""
        data = self.read()
        if self.type in FLOATS:
            return to_f32(data, self.type)
        return np.asarray(gguf.quants.dequantize(data, self.type), np.float32)


class Source(ABC):
    """A base model.

    Attributes:
        path: the folder or file.
        name: its name.
        architecture: its family.
        n_layers, n_head, n_head_kv: numbers of layers, heads, and heads for keys and values.
        tensors: by GGUF name, in the order of the file.
    """

    path: Path
    name: str
    architecture: Architecture
    n_layers: int
    n_head: int
    n_head_kv: int
    tensors: dict[str, SourceTensor]

    @abstractmethod
    def add_metadata(self, writer: gguf.GGUFWriter, file_type: int, finetune: str | None) -> None:
        """Write everything but the tensors; `finetune` is the name of a merged adapter."""

    @abstractmethod
    def files(self) -> list[Path]:
        """The files that the result depends on."""

    @property
    @abstractmethod
    def chat_template(self) -> Any:
        """The chat template; a list of {"name", "template"} if there are several, or None."""

    @property
    @abstractmethod
    def added_tokens(self) -> Collection[str]:
        """A set that contains the tokens that the tokenizer adds to its vocabulary."""

    @property
    def tied(self) -> bool:
        """Whether the output head is the embedding."""
        return HEAD not in self.tensors

    @cached_property
    def modules(self) -> dict[str, str]:
        """transformers' names of modules, and their GGUF tensors."""
        return self.architecture.modules(self.n_layers)

    def as_gguf(self, name: str, stored: StoredTensor) -> SourceTensor:
        """A tensor of transformers or peft as it will be in the GGUF file."""
        offset = self.architecture.norm_offset
        if offset and name.endswith("norm.weight"):
            return SourceTensor(
                name, stored.shape, Type.F32, lambda: stored.read_f32() + np.float32(offset)
            )
        return SourceTensor(
            name, stored.shape, stored.type, lambda: self.reorder_rows(name, stored.read())
        )

    def reorder_rows(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Reorder rows of a tensor (or its bias) from transformers' to the GGUF file's order."""
        heads = {"attn_q": self.n_head, "attn_k": self.n_head_kv}.get(name.split(".")[-2])
        if not self.architecture.interleaved_heads or heads is None:
            return rows
        halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
        return halves.swapaxes(1, 2).reshape(rows.shape)
