"""Reads Parquet files as entries, one for each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from kb.entries import Bad, Entry, from_record
from runtime.common.errors import UserError
from runtime.common.extras import require

_ROWS = 1000  # at once
_BUFFER = 1 << 20


def parquet_entries(file: BinaryIO, progress: Callable[[int], object]) -> Iterator[Entry | Bad]:
    """The rows of a Parquet file; columns of bytes and of lists of numbers are not read.

    Args:
        file: a regular file, opened for reading bytes.
        progress: called with the number of bytes read since the last call.

    Raises:
        UserError: it is damaged or has no texts; names the file and the row.
        MissingLibraryError: pyarrow is not installed.
    """
    require("reading a Parquet file", "knowledge", "pyarrow")
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        stored = parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER)
        kinds = {each.name: each.type for each in stored.schema_arrow}
        names = [name for name, kind in kinds.items() if _is_read(pyarrow.types, kind)]
        if not any(_is_text(pyarrow.types, kind) for kind in kinds.values()):
            raise UserError(f"{file.name}: has no column of text")
        size, rows = file.seek(0, 2), max(1, stored.metadata.num_rows)
        for batch in stored.iter_batches(_ROWS, columns=names):
            for row in batch.to_pylist():
                number += 1
                yield from from_record(row, f"row {number}")
            progress(size * len(batch) // rows)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())[:200]
        where = f"after row {number}" if number else "at its beginning"
        raise UserError(
            f"{file.name}, {where}: damaged or not Parquet ({said}); the rest was not read"
        ) from None


def _is_text(types: Any, kind: Any) -> bool:
    if types.is_dictionary(kind) or _is_list(types, kind):
        return _is_text(types, kind.value_type)
    if types.is_struct(kind):
        return any(_is_text(types, each.type) for each in kind)
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_read(types: Any, kind: Any) -> bool:
    simple = types.is_integer(kind) or types.is_floating(kind) or types.is_temporal(kind)
    return bool(simple or _is_text(types, kind))


def _is_list(types: Any, kind: Any) -> bool:
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))
