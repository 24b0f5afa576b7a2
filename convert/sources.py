"""Opens a base model, whatever kind it is of."""

from __future__ import annotations

from pathlib import Path

from convert.base import Source
from convert.checkpoint import CheckpointSource
from convert.errors import ConvertError
from convert.gguf_source import GgufSource


def open_source(path: Path, name: str | None = None) -> Source:
    """A checkpoint's folder or a GGUF file as a source.

    Args:
        path: a folder with config.json and its weights, or a .gguf file.
        name: what to call it; by default as the folder or file is called.

    Raises:
        ConvertError: it cannot be read, or its architecture is not supported.
    """
    if path.is_dir():
        return CheckpointSource(path, name)
    if path.is_file():
        return GgufSource(path, name)
    raise ConvertError(f"{path}: no such file or folder")
