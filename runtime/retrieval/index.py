"""The index of a base: BM25 scores by token, and where each passage begins in the base.

`{subject}_knowledge_index.npz` (numpy's format, uncompressed) holds

    header      uint8   JSON: format, subject, passages, base_sha256
    vocabulary  uint8   the tokens in UTF-8, sorted, one a line
    indptr      int64   [tokens + 1]    token t has postings indptr[t] to indptr[t + 1]
    indices     int32   [postings]      the passage of each posting, rising within a token
    data        float32 [postings]      its BM25 score, as bm25s computes it ahead of time
    offsets     int64   [passages + 1]  passage i is line offsets[i] to offsets[i + 1] of the base
"""

from __future__ import annotations

import json
import mmap
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from runtime.common.hashing import sha256
from runtime.retrieval.errors import KnowledgeError
from runtime.retrieval.files import FORMAT, base_path, index_path

ARRAYS = ("header", "vocabulary", "indptr", "indices", "data", "offsets")
# A token in more than this share of the passages cannot make one a candidate on its own.
_COMMON = 0.05


@dataclass(frozen=True)
class Passage:
    """A record of a base.

    Attributes:
        id: its place in the base, from 0.
        title: what it is about, or "".
        section: where under that title, or "".
        text: its sentences.
        tags: what kinds of fact it holds (see `runtime.retrieval.tags`).
    """

    id: int
    title: str
    section: str
    text: str
    tags: tuple[str, ...] = ()

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
        words = arrays["vocabulary"].tobytes().decode("utf-8").splitlines()
        self.vocabulary = {word: number for number, word in enumerate(words)}
        self._base = base
        with base.open("rb") as file:
            self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @classmethod
    def load(cls, folder: Path, subject: str) -> Self:
        """Open a subject's base.

        Raises:
            KnowledgeError: a file that is missing, damaged, half written, of another version
                or not made for the other; its message names it.
        """
        base, path = base_path(folder, subject), index_path(folder, subject)
        again = f"make both again: python -m kb.preprocess --subject {subject} ..."
        for file in (base, path):
            if not file.is_file():
                raise KnowledgeError(f"{file}: missing; {again}")
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in ARRAYS}
            header = json.loads(arrays["header"].tobytes())
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise KnowledgeError(f"{path}: damaged or not an index ({error}); {again}") from None
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            found = header.get("format") if isinstance(header, dict) else header
            raise KnowledgeError(f"{path}: is of version {found}, not {FORMAT}; {again}")
        if header.get("subject") != subject:
            raise KnowledgeError(f"{path}: was made for {header.get('subject')}; {again}")
        sha = sha256(base)
        if header.get("base_sha256") != sha:
            raise KnowledgeError(
                f"{base}: is not the base that {path.name} was made for (half written or"
                f" altered: its SHA-256 differs); {again}"
            )
        return cls(base, arrays, sha)

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
            # All with the score of the last one, so that which are kept does not depend on luck.
            best = np.flatnonzero(found >= found[best].min())
            candidates = candidates[best]
        candidates = np.unique(candidates)
        found = scores[candidates]
        first = np.lexsort((candidates, -found))[:count]
        return [(int(candidates[i]), float(found[i])) for i in first]
