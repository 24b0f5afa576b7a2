"""Reads the tensors of a safetensors or torch file."""

from __future__ import annotations

from pathlib import Path

from convert.safetensors import StoredTensor, read_index
from convert.torch_pickle import read_pickle

_UNUSED = (".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")


def read_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file, or of a ".bin" file of torch, by name.

    Unused buffers of old versions of transformers are left out.

    Raises:
        ConvertError: see `read_index` and `read_pickle`.
    """
    found = read_pickle(path) if path.suffix == ".bin" else read_index(path)
    return {name: stored for name, stored in found.items() if not name.endswith(_UNUSED)}
