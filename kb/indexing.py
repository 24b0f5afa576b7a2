"""Makes the index of a base with bm25s, from token ids that lie in a file."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from runtime.common.errors import UserError
from runtime.retrieval.files import FORMAT

# BM25's constants: these found most right answers (docs/knowledge.md).
K1, B = 1.2, 0.5


class TokenIds(Sequence[list[int]]):
    """The token ids of each passage, read from a file when asked for.

    Args:
        path: int32, passage after passage.
        ends: int64 [passages], where each ends in it.
    """

    def __init__(self, path: Path, ends: np.ndarray) -> None:
        count = int(ends[-1]) if len(ends) else 0
        self._ids = np.memmap(path, np.int32, "r", shape=(count,)) if count else np.zeros(0, int)
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, place: int) -> list[int]: ...
    @overload
    def __getitem__(self, place: slice) -> list[list[int]]: ...
    def __getitem__(self, place: int | slice) -> list[int] | list[list[int]]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        start = int(self._ends[place - 1]) if place else 0
        found: list[int] = self._ids[start : int(self._ends[place])].tolist()
        return found

    def __iter__(self) -> Iterator[list[int]]:
        return (self[place] for place in range(len(self)))


def bm25s_library() -> Any:
    """The library that computes the scores. Raises UserError if it is missing."""
    try:
        return importlib.import_module("bm25s")
    except ImportError as error:
        raise UserError(f"{error}: pip install 'subject-lora-serve[kb]'") from None


def write_index(
    path: Path,
    subject: str,
    base_sha256: str,
    words: Sequence[str],
    passages: TokenIds,
    offsets: np.ndarray,
) -> None:
    """Write the arrays that `runtime.retrieval.index` describes.

    Args:
        path: the .npz file to write.
        subject, base_sha256: of the base.
        words: the token of each id.
        passages: the ids of each passage.
        offsets: int64 [passages + 1], where each begins in the base.

    Raises:
        UserError: bm25s is missing.
        OSError: the file cannot be written.
    """
    bm25 = bm25s_library().BM25(k1=K1, b=B, method="lucene", backend="numpy", csc_backend="numpy")
    scores = bm25.build_index_from_ids(range(len(words)), passages, show_progress=False)
    starts, counts = scores["indptr"][:-1], np.diff(scores["indptr"])
    order = np.array(sorted(range(len(words)), key=words.__getitem__), dtype=np.int64)
    # The postings of the tokens in their sorted order.
    indptr = np.concatenate([[0], np.cumsum(counts[order])]).astype(np.int64)
    moved = np.arange(indptr[-1]) + np.repeat(starts[order] - indptr[:-1], counts[order])
    header = {
        "format": FORMAT,
        "subject": subject,
        "passages": len(passages),
        "base_sha256": base_sha256,
    }
    with path.open("wb") as file:
        np.savez(
            file,
            header=np.frombuffer(json.dumps(header, sort_keys=True).encode(), np.uint8),
            vocabulary=np.frombuffer("\n".join(words[i] for i in order).encode(), np.uint8),
            indptr=indptr,
            indices=scores["indices"][moved].astype(np.int32),
            data=scores["data"][moved].astype(np.float32),
            offsets=offsets.astype(np.int64),
        )
