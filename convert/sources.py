"""Opens a base model of any kind."""

from __future__ import annotations

from pathlib import Path

from convert.base import Source
from convert.checkpoint import CheckpointSource
from convert.errors import ConvertError
from convert.gguf_source import GgufSource


def open_source(path: Path, name: str | None = None) -> Source:
    """Open a checkpoint's folder or a GGUF file; by default its name is that of the base.

    Raises:
        ConvertError: it cannot be read, or its architecture is not supported.
    """
    if path.is_dir():
        return CheckpointSource(path, name)
    if path.is_file():
        return GgufSource(path, name)
    raise ConvertError(f"{path}: no such file or folder")
