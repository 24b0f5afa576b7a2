"""Reads a GGUF file's metadata and tensors; damaged files give a clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf

from convert.errors import ConvertError


class GgufFile:
    """A GGUF file, mapped into memory.

    Attributes:
        path: the file.
        fields: the reader's metadata, with types.
        tensors: the reader's tensors, in the order of the file.

    Raises:
        ConvertError: the file does not exist, or is not a complete GGUF file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():  # a pipe would block
            raise ConvertError(f"{path}: no such file")
        try:
            reader = gguf.GGUFReader(path)
        # What the reader raises for damaged files.
        except (OSError, ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
            raise ConvertError(f"{path}: not a whole GGUF file ({error})") from None
        self.fields, self.tensors = reader.fields, reader.tensors

    @property
    def kind(self) -> str:
        """The file's general.type, such as "model", "adapter" or "imatrix"."""
        return str(self.field("general.type") or "model")

    def field(self, key: str) -> Any:
        """A value of the metadata, or None. Raises ConvertError if it is damaged."""
        field = self.fields.get(key)
        if field is None:
            return None
        try:
            return field.contents()
        except (ValueError, IndexError, KeyError) as error:
            raise ConvertError(f"{self.path}: {key} is damaged ({error})") from None
