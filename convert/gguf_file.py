"""Reads a GGUF file's metadata and tensors; what is wrong with a file is said in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf

from convert.errors import ConvertError


class GgufFile:
    """A whole GGUF file, mapped into memory.

    Attributes:
        path: the file.
        fields: the metadata as the reader has it, with types.
        tensors: the reader's tensors, in the order of the file.

    Raises:
        ConvertError: there is no such file, or it is not a whole GGUF file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():  # also a pipe, which would be waited for
            raise ConvertError(f"{path}: no such file")
        try:
            reader = gguf.GGUFReader(path)
        # What the reader raises for damaged files, in its words.
        except (OSError, ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
            raise ConvertError(f"{path}: not a whole GGUF file ({error})") from None
        self.fields, self.tensors = reader.fields, reader.tensors

    @property
    def kind(self) -> str:
        """ "model", "adapter", "imatrix" or what else the file says it is."""
        return str(self.field("general.type") or "model")

    def field(self, key: str) -> Any:
        """A value of the metadata, or None. Raises ConvertError where it is damaged."""
        field = self.fields.get(key)
        if field is None:
            return None
        try:
            return field.contents()
        except (ValueError, IndexError, KeyError) as error:
            raise ConvertError(f"{self.path}: {key} is damaged ({error})") from None
