"""The index of a base: BM25 scores by token, and where each passage begins in the base.

`{subject}_knowledge_index.npz` (numpy's format, uncompressed) holds

    header      uint8   JSON: format, subject, passages, base_sha256, chinese (whether it has
                        Chinese text, which is searched with OpenCC)
    vocabulary  uint8   the tokens in UTF-8, sorted, one a line
    indptr      int64   [tokens + 1]    token t has postings indptr[t] to indptr[t + 1]
    indices     int32   [postings]      the passage of each posting, rising within a token
    data        float32 [postings]      its BM25 score, as bm25s computes it ahead of time
    offsets     int64   [passages + 1]  passage i is line offsets[i] to offsets[i + 1] of the base
"""

from __future__ import annotations

import json
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from runtime.common.hashing import sha256
from runtime.retrieval.files import FORMAT, KnowledgeError, base_path, index_path
from runtime.retrieval.tokens import can_simplify

ARRAYS = ("header", "vocabulary", "indptr", "indices", "data", "offsets")
_KINDS = dict(zip(ARRAYS, ("u1", "u1", "i8", "i4", "f4", "i8"), strict=True))
# A token in more than this share of the passages cannot make one a candidate on its own.
_COMMON = 0.05


@dataclass(frozen=True)
class Passage:
    """A record of a base."""

    id: int  # its place in the base, from 0
    title: str  # what it is about, or ""
    section: str  # where under that title, or ""
    text: str
    tags: tuple[str, ...] = ()  # kinds of fact in it (see `runtime.retrieval.tags`)

    @property
    def heading(self) -> str:
        """Title and section as they stand before the text."""
        return " / ".join(filter(None, [self.title, self.section]))


class Index:
    """A subject's base and index, opened for searching. The base stays on disk (mmap)."""

    def __init__(self, base: Path, arrays: dict[str, np.ndarray], sha: str) -> None:
        self.base_sha256 = sha
        self.indptr, self.indices = arrays["indptr"], arrays["indices"]
        self.data, self.offsets = arrays["data"], arrays["offsets"]
        words = arrays["vocabulary"].tobytes().decode("utf-8").split("\n")
        self.vocabulary = {word: number for number, word in enumerate(words)}
        with base.open("rb") as file:
            self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @classmethod
    def load(cls, folder: Path, subject: str) -> Self:
        """Open a subject's base.

        Raises:
            KnowledgeError: names a file that is missing, damaged, half written, of another
                version or not made for the other.
        """
        base, path = base_path(folder, subject), index_path(folder, subject)
        again = f"make both again: python -m kb.preprocess --subject {subject} ..."
        arrays = _arrays(path, again)
        header = _header(arrays["header"])
        if header is None:
            raise KnowledgeError(f"{path}: damaged or not an index (its header); {again}")
        if header.get("format") != FORMAT:
            found = header.get("format")
            raise KnowledgeError(f"{path}: is of version {found}, not {FORMAT}; {again}")
        if header.get("subject") != subject:
            raise KnowledgeError(f"{path}: was made for {header.get('subject')}; {again}")
        _refuse(base, again)
        try:
            sha = sha256(base)
        except OSError as error:
            raise KnowledgeError(f"{base}: cannot be read ({error.strerror}); {again}") from None
        if header.get("base_sha256") != sha:
            raise KnowledgeError(
                f"{base}: is not the base that {path.name} was made for (half written or"
                f" altered: its SHA-256 differs); {again}"
            )
        if header.get("chinese") and not can_simplify():
            raise KnowledgeError(
                f"{path}: searching Chinese text needs opencc: pip install"
                " 'subject-lora-serve[knowledge]'"
            )
        try:
            index = cls(base, arrays, sha)
            problem = index._problem(header)
        except UnicodeDecodeError:
            problem = "its vocabulary is not UTF-8"
        if problem:
            raise KnowledgeError(f"{path}: damaged ({problem}); {again}")
        return index

    def _problem(self, header: dict[str, Any]) -> str:
        """Why the arrays do not belong together or to the base, or ""."""
        indptr, offsets = self.indptr, self.offsets
        if not len(offsets):
            return "it has no offsets"
        if header.get("passages") != len(self):
            return f"its header counts {header.get('passages')} passages, its offsets {len(self)}"
        if len(indptr) != len(self.vocabulary) + 1:
            return "its vocabulary has another length than its postings"
        if indptr[0] != 0 or (np.diff(indptr) < 0).any() or indptr[-1] != len(self.indices):
            return "its postings are not in order"
        if len(self.indices) != len(self.data) or not np.isfinite(self.data).all():
            return "its scores are not numbers, or not one for each posting"
        if len(self.indices) and not 0 <= self.indices.min() <= self.indices.max() < len(self):
            return "it names passages that are not in the base"
        if offsets[0] < 1 or (np.diff(offsets) < 1).any() or offsets[-1] > len(self._text):
            return "its offsets are not places in the base"
        if (np.frombuffer(self._text, np.uint8)[offsets - 1] != ord("\n")).any():
            return "its offsets are not beginnings of lines of the base"
        return ""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def passage(self, number: int) -> Passage:
        """Read one passage from the base. Raises ValueError if it is not well-formed."""
        line = self._text[int(self.offsets[number]) : int(self.offsets[number + 1])]
        record: dict[str, Any] = json.loads(line.rstrip().rstrip(b","))
        tags = tuple(record.get("tags", ()))
        return Passage(number, record["title"], record["section"], record["text"], tags)

    def ids(self, words: list[str]) -> list[int]:
        """The known ones of some tokens, each once, in their order."""
        known = (self.vocabulary.get(word) for word in dict.fromkeys(words))
        return [number for number in known if number is not None]

    def weight(self, word: str) -> float:
        """How rare a token is: Lucene's inverse document frequency; 0.0 if it is unknown."""
        number = self.vocabulary.get(word)
        if number is None:
            return 0.0
        n = int(self.indptr[number + 1] - self.indptr[number])
        return float(np.log1p((len(self) - n + 0.5) / (n + 0.5)))

    @property
    def weight_of_unknown(self) -> float:
        """The weight of a token that no passage has: that of the rarest."""
        return float(np.log1p((len(self) + 0.5) / 0.5))

    def search(self, words: list[str], count: int) -> list[tuple[int, float]]:
        """The passages with the highest BM25 score, best first; equal ones as in the base.

        Only passages that hold a token which is not everywhere are candidates.

        Returns:
            at most `count` pairs of a passage's number and its score.
        """
        numbers = np.asarray(self.ids(words), dtype=np.int64)
        if not len(numbers):
            return []
        starts, ends = self.indptr[numbers], self.indptr[numbers + 1]
        order = np.argsort(ends - starts, kind="stable")
        scores = np.zeros(len(self), dtype=np.float32)
        rare = [
            self.indices[starts[i] : ends[i]]
            for rank, i in enumerate(order)
            if rank == 0 or ends[i] - starts[i] <= _COMMON * len(self)
        ]
        for i in order:
            places = slice(int(starts[i]), int(ends[i]))
            scores[self.indices[places]] += self.data[places]
        candidates = np.concatenate(rare)
        found = scores[candidates]
        if len(candidates) > 4 * count:  # a passage may be named once by each of its tokens
            most = min(len(candidates), count * len(rare))
            best = np.argpartition(-found, most - 1)[:most]
            # And all others with the score of the last one: equal scores are not left to chance.
            best = np.flatnonzero(found >= found[best].min())
            candidates = candidates[best]
        candidates = np.unique(candidates)
        found = scores[candidates]
        first = np.lexsort((candidates, -found))[:count]
        return [(int(candidates[i]), float(found[i])) for i in first]


def _refuse(path: Path, again: str) -> None:
    """Raise KnowledgeError unless it is a regular file; opening a pipe would wait for a writer."""
    if not path.is_file():
        problem = "not a regular file" if path.exists() else "missing"
        raise KnowledgeError(f"{path}: {problem}; {again}")


def _arrays(path: Path, again: str) -> dict[str, np.ndarray]:
    """The arrays of an index, each of its type. Raises KnowledgeError."""
    _refuse(path, again)
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ARRAYS}
    # numpy and zipfile raise nearly anything for damaged files: ValueError, KeyError, zlib.error,
    # SyntaxError, NotImplementedError, MemoryError, ...
    except Exception as error:
        said = " ".join(str(error).split())
        raise KnowledgeError(f"{path}: damaged or not an index ({said}); {again}") from None
    for name, array in arrays.items():
        if array.dtype != np.dtype(_KINDS[name]) or array.ndim != 1:
            raise KnowledgeError(f"{path}: damaged (its {name} is {array.dtype}); {again}")
    return arrays


def _header(raw: np.ndarray) -> dict[str, Any] | None:
    """The header of an index; None if it is damaged."""
    try:
        header = json.loads(raw.tobytes())
    except (ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) else None
