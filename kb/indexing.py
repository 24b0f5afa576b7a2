"""Makes the index of a base from token ids in a file, of any number.

The scores are BM25 in Lucene's variant, as the library bm25s computes them ahead of time (Lù,
"BM25S", 2024; a test compares the two). That one holds all postings in memory several times
over; here they are sorted in portions on disk, so that a base may be larger than memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime.retrieval.files import FORMAT

# BM25's constants: these found most right answers (docs/knowledge.md).
K1, B = 1.2, 0.5
# Tokens that are held in memory at once; each takes about 50 bytes while it is sorted.
PORTION = 4_000_000


@dataclass(frozen=True)
class TokenIds:
    """The token ids of each passage, in a file.

    Attributes:
        path: int32, passage after passage.
        ends: int64 [passages], where each ends in it.
    """

    path: Path
    ends: np.ndarray

    def portions(self, size: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Whole passages of about `size` tokens at a time.

        Yields:
            the number of the first passage, the ids int32 [n], and to which passage each of
            them belongs, counted from the first, int64 [n].
        """
        first = 0
        while first < len(self.ends):
            start = int(self.ends[first - 1]) if first else 0
            after = max(first + 1, int(np.searchsorted(self.ends, start + size, "right")))
            lengths = np.diff(self.ends[first:after], prepend=start)
            count = int(self.ends[after - 1]) - start
            ids = np.fromfile(self.path, np.int32, count, offset=4 * start)
            yield first, ids, np.repeat(np.arange(after - first), lengths)
            first = after


def write_index(
    path: Path,
    subject: str,
    base_sha256: str,
    words: Sequence[str],
    passages: TokenIds,
    offsets: np.ndarray,
    portion: int = PORTION,
) -> None:
    """Write the arrays that `runtime.retrieval.index` describes.

    Args:
        path: the .npz file to write; its folder takes what is not yet in it.
        subject, base_sha256: of the base.
        words: the token of each id.
        passages: the ids of each passage.
        offsets: int64 [passages + 1], where each begins in the base.
        portion: tokens in memory at once.

    Raises:
        OSError: a file cannot be written.
    """
    n = len(passages.ends)
    order = np.array(sorted(range(len(words)), key=words.__getitem__), dtype=np.int64)
    place = np.empty(len(words), dtype=np.int64)
    place[order] = np.arange(len(words))
    frequency = np.zeros(len(words), dtype=np.int64)
    for _, ids, owners in passages.portions(portion):
        found, _, _ = _counted(place[ids], owners)
        frequency += np.bincount(found, minlength=len(words))
    indptr = np.concatenate([[0], np.cumsum(frequency)]).astype(np.int64)
    rarity = np.log1p((n - frequency + 0.5) / (frequency + 0.5))
    lengths = np.diff(passages.ends, prepend=0)
    norm = K1 * (1 - B + B * lengths / max(1e-9, lengths.mean()))
    header = {"format": FORMAT, "subject": subject, "passages": n, "base_sha256": base_sha256}
    scratch = [path.with_name(f"{path.name}.{name}") for name in ("indices", "data")]
    try:
        count = int(indptr[-1])
        indices = np.memmap(scratch[0], np.int32, "w+", shape=(max(1, count),))
        data = np.memmap(scratch[1], np.float32, "w+", shape=(max(1, count),))
        written = indptr[:-1].copy()
        for first, ids, owners in passages.portions(portion):
            found, owner, times = _counted(place[ids], owners)
            starts = np.flatnonzero(np.diff(found, prepend=-1))
            counts = np.diff(np.append(starts, len(found)))
            at = np.arange(len(found)) + np.repeat(written[found[starts]] - starts, counts)
            indices[at] = first + owner
            data[at] = rarity[found] * times / (times + norm[first + owner])
            written[found[starts]] += counts
        with path.open("wb") as file:
            np.savez(
                file,
                header=np.frombuffer(json.dumps(header, sort_keys=True).encode(), np.uint8),
                vocabulary=np.frombuffer("\n".join(words[i] for i in order).encode(), np.uint8),
                indptr=indptr,
                indices=indices[:count],
                data=data[:count],
                offsets=offsets.astype(np.int64),
            )
    finally:
        for file_path in scratch:
            file_path.unlink(missing_ok=True)


def _counted(tokens: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each different pair of a token and a passage, sorted, and how often it is there."""
    order = np.lexsort((owners, tokens))
    tokens, owners = tokens[order], owners[order]
    new = (np.diff(tokens, prepend=-1) != 0) | (np.diff(owners, prepend=-1) != 0)
    first = np.flatnonzero(new)
    return tokens[first], owners[first], np.diff(np.append(first, len(tokens)))
