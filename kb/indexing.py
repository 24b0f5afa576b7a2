"""Makes the index of a base from the tokens of any number of passages.

The scores are BM25 in Lucene's variant, as the library bm25s computes them ahead of time (Lù,
"BM25S", 2024; a test compares the two). That library holds all postings in memory several times
over. Here they are sorted in runs on disk, which are then merged ("single-pass in-memory indexing",
Heinz and Zobel, 2003), so that neither postings nor vocabulary need fit into memory.
"""

from __future__ import annotations

import heapq
import json
import shutil
import sys
import zipfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from runtime.retrieval.files import FORMAT

# BM25's constants: these gave the most right answers (docs/knowledge.md).
K1, B = 1.2, 0.5
# Tokens, and later postings, that are held in memory at once; each takes about 50 bytes while it
# is sorted.
PORTION = 2_000_000


@dataclass(frozen=True)
class _Run:
    """Postings of some consecutive passages, in files, sorted by token and passage."""

    name: Path

    def file(self, what: str) -> Path:
        """The file of

        words: the tokens in UTF-8, sorted, one a line;
        counts: int32, the postings of each token;
        places: int32, the number of each token among those of all runs, rising;
        owners: int32, the passage of each posting;
        times: int32, how often the token is in it.
        """
        return self.name.with_suffix(f".{what}")

    def array(self, what: str) -> np.ndarray:
        """The contents of one of the files, int32, read as needed."""
        return np.memmap(self.file(what), np.int32, "r")

    def numbered(self, run: int) -> Iterator[tuple[str, int, int]]:
        """Each token with a run's number and its count."""
        counts = self.array("counts")
        with self.file("words").open(encoding="utf-8", newline="\n") as lines:
            for place, line in enumerate(lines):
                yield line.rstrip("\n"), run, int(counts[place])


class IndexWriter:
    """Takes the tokens of passages, in the order of the base, and writes their index.

    In memory are about 12 bytes for each passage and 24 for each token of the vocabulary.

    Args:
        scratch: a folder for temporary files.
        portion: tokens that are held in memory at once.
    """

    def __init__(self, scratch: Path, portion: int = PORTION) -> None:
        self._scratch, self._portion = scratch, portion
        self._runs: list[_Run] = []
        self._lengths = array("i")
        self._begin()

    def _begin(self) -> None:
        self._first = len(self._lengths)  # passage of the run that is being filled
        self._vocabulary: dict[str, int] = {}
        self._ids = array("i")

    def add(self, words: Sequence[str]) -> None:
        """Add the tokens of the next passage. Raises OSError."""
        known = self._vocabulary
        self._ids.extend(known.setdefault(word, len(known)) for word in words)
        self._lengths.append(len(words))
        if len(self._ids) >= self._portion:
            self._end_run()

    def _end_run(self) -> None:
        """Sort the tokens in memory and write them to disk."""
        order = sorted(self._vocabulary)
        place = np.empty(len(order), dtype=np.int32)
        place[[self._vocabulary[word] for word in order]] = np.arange(len(order))
        lengths = self._lengths[self._first :]
        owners = np.repeat(np.arange(self._first, len(self._lengths), dtype=np.int32), lengths)
        tokens = place[np.frombuffer(self._ids, dtype=np.int32)]
        by_token = np.argsort(tokens, kind="stable")  # passages stay in order within a token
        tokens, owners = tokens[by_token], owners[by_token]
        new = (np.diff(tokens, prepend=-1) != 0) | (np.diff(owners, prepend=-1) != 0)
        first = np.flatnonzero(new)
        times = np.diff(np.append(first, len(tokens))).astype(np.int32)
        counts = np.bincount(tokens[first], minlength=len(order)).astype(np.int32)
        run = _Run(self._scratch / f"run{len(self._runs)}")
        words = "".join(f"{word}\n" for word in order)
        run.file("words").write_text(words, "utf-8", newline="\n")
        for what, values in (("counts", counts), ("owners", owners[first]), ("times", times)):
            values.tofile(run.file(what))
        self._runs.append(run)
        self._begin()

    def write(self, path: Path, header: Mapping[str, Any], offsets: np.ndarray) -> None:
        """Write the arrays that `runtime.retrieval.index` describes.

        Args:
            path: the .npz file to write.
            header: subject, base_sha256 and chinese, see there.
            offsets: int64 [passages + 1], where each begins in the base.

        Raises:
            OSError: a file cannot be written.
        """
        if len(self._ids) or not self._runs:
            self._end_run()
        words, indices, data = (
            self._scratch / name for name in ("vocabulary", "indices", "scores")
        )
        indptr = self._merge_words(words)
        self._merge_postings(indptr, indices, data)
        n = len(self._lengths)
        said = json.dumps({**header, "format": FORMAT, "passages": n}, sort_keys=True)
        with zipfile.ZipFile(path, "w") as archive:
            _store(archive, "header", np.frombuffer(said.encode(), np.uint8))
            _store_file(archive, "vocabulary", np.uint8, words)
            _store(archive, "indptr", indptr)
            _store_file(archive, "indices", np.int32, indices)
            _store_file(archive, "data", np.float32, data)
            _store(archive, "offsets", offsets)

    def _merge_words(self, target: Path) -> np.ndarray:
        """Write the tokens of all runs, sorted, each once, and their places in the runs' files.

        Returns:
            where the postings of each token begin and end among all, int64 [tokens + 1].
        """
        indptr = array("q", [0])
        streams = [run.numbered(number) for number, run in enumerate(self._runs)]
        with ExitStack() as stack:
            out = stack.enter_context(target.open("w", encoding="utf-8", newline="\n"))
            places = [stack.enter_context(run.file("places").open("wb")) for run in self._runs]
            for word, group in groupby(heapq.merge(*streams), key=lambda each: each[0]):
                number = len(indptr) - 1
                out.write(f"\n{word}" if number else word)
                postings = 0
                for _, run, count in group:
                    places[run].write(number.to_bytes(4, sys.byteorder))
                    postings += count
                indptr.append(indptr[-1] + postings)
        return np.frombuffer(indptr, np.int64)

    def _merge_postings(self, indptr: np.ndarray, indices: Path, data: Path) -> None:
        """Write passages and scores of all postings, for a portion of the tokens at a time."""
        n = len(self._lengths)
        lengths = np.frombuffer(self._lengths, np.int32)
        mean = max(1e-9, float(lengths.mean()))
        first, begun = 0, [(0, 0)] * len(self._runs)  # a token and a posting of each run
        with indices.open("wb") as index_file, data.open("wb") as data_file:
            while first < len(indptr) - 1:
                fits = np.searchsorted(indptr, indptr[first] + self._portion, "right") - 1
                after = max(first + 1, int(fits))
                parts = []
                for number, run in enumerate(self._runs):
                    low, start = begun[number]
                    places = run.array("places")
                    high = low + int(np.searchsorted(places[low:], after))
                    counts = np.array(run.array("counts")[low:high])
                    tokens = np.repeat(places[low:high], counts)
                    owners, times = (
                        np.fromfile(run.file(what), np.int32, len(tokens), offset=4 * start)
                        for what in ("owners", "times")
                    )
                    parts.append((tokens, owners, times))
                    begun[number] = high, start + len(tokens)
                tokens, owners, times = map(np.concatenate, zip(*parts, strict=True))
                order = np.argsort(tokens, kind="stable")  # runs are in the order of the passages
                tokens, owners, times = tokens[order], owners[order], times[order]
                frequency = np.diff(indptr[first : after + 1])
                rarity = np.log1p((n - frequency + 0.5) / (frequency + 0.5))
                norm = K1 * (1 - B + B * lengths[owners] / mean)
                owners.tofile(index_file)
                scores = rarity[tokens - first] * times / (times + norm)
                scores.astype(np.float32).tofile(data_file)
                first = after


def _store(archive: zipfile.ZipFile, name: str, values: np.ndarray) -> None:
    """Add an array to an .npz file, uncompressed."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as out:
        np.lib.format.write_array(out, values, allow_pickle=False)


def _store_file(archive: zipfile.ZipFile, name: str, kind: type[np.generic], raw: Path) -> None:
    """Add an array whose values are in a file, which is not read into memory."""
    shape = (raw.stat().st_size // np.dtype(kind).itemsize,)
    about = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as out, raw.open("rb") as source:
        np.lib.format.write_array_header_1_0(out, about)
        shutil.copyfileobj(source, out, 1 << 20)
