"""Makes a subject's knowledge base of raw files, and its index.

The same files give the same base and index, byte for byte.
"""

from __future__ import annotations

import json
import logging
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kb import pages
from kb.duplicates import Seen
from kb.entries import Bad, Entry
from kb.indexing import IndexWriter
from kb.passages import Draft, drafts
from kb.reading import entries, files_of
from runtime.common.atomic import replacing, scratch_folder
from runtime.common.errors import UserError
from runtime.common.extras import require
from runtime.common.hashing import sha256
from runtime.retrieval.files import FORMAT, base_path, index_path
from runtime.retrieval.tags import tags_of
from runtime.retrieval.tokens import has_han, tokens

log = logging.getLogger(__name__)

# Bad entries that are listed one by one; the others are counted.
_NAMED = 20
# Passages of fewer tokens are left out.
_FEWEST_TOKENS = 2


@dataclass
class Summary:
    """Counts of raw entries and passages.

    Attributes:
        entries, passages: how many were read, and how many passages the base has.
        chinese: whether a passage has Chinese text.
        dropped: number of entries and passages left out, by reason.
    """

    entries: int = 0
    passages: int = 0
    chinese: bool = False
    dropped: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        lines = [f"{self.entries:,} entries gave {self.passages:,} passages"]
        lines += [f"  dropped: {count:,} {why}" for why, count in sorted(self.dropped.items())]
        return "\n".join(lines)


def make(subject: str, raw: Sequence[Path], folder: Path) -> Summary:
    """Write a subject's base and index, whole or not at all.

    Held in memory: 12 to 24 bytes for each entry and each passage to find repeats by, 30 for each
    passage and each token of the vocabulary; texts, postings and tokens are on disk.

    Args:
        subject: the subject of the base.
        raw: the files, see `kb.reading`; their order is that of the base.
        folder: where both files go.

    Raises:
        UserError: a file that cannot be understood, or no passage at all.
        OSError: a file cannot be read or written.
    """
    summary = Summary()
    raw = files_of(raw)
    folder.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder / f"{subject}_knowledge") as scratch:
        spool = scratch / "passages"
        _spool(raw, spool, summary)
        if not summary.passages:
            raise UserError(f"{', '.join(map(str, raw))}: no passage is left\n{summary}")
        with (
            replacing(base_path(folder, subject)) as base,
            replacing(index_path(folder, subject)) as index,
        ):
            writer = IndexWriter(scratch)
            offsets = _write_base(base, writer, subject, spool, summary.passages)
            header = {"subject": subject, "base_sha256": sha256(base), "chinese": summary.chinese}
            writer.write(index, header, offsets)
    return summary


def _spool(raw: Sequence[Path], spool: Path, summary: Summary) -> None:
    """Write new passages to a file, one a line, and count them."""
    passages = Seen()
    size = sum(path.stat().st_size for path in raw)
    bar = tqdm(total=size, unit="B", unit_scale=True, desc="reading", disable=None)
    with bar, spool.open("w", encoding="utf-8", newline="\n") as out:
        said = Seen()
        repeated = pages.repeated_blocks([p for p in raw if p.suffix.lower() in pages.KINDS])
        for path in raw:
            good = _good(path, entries(path, bar.update, repeated), summary, said)
            for draft in drafts(good):
                found = tokens(f"{draft.title} {draft.section} {draft.text}")
                words = " ".join(found)
                if not summary.chinese and has_han(words):
                    require("searching Chinese text", "knowledge", "opencc")
                    summary.chinese = True
                if len(found) < _FEWEST_TOKENS:
                    summary.dropped["passages without words"] += 1
                elif passages.again(draft.title, draft.section, draft.text):
                    summary.dropped["passages that repeat an earlier one"] += 1
                else:
                    summary.passages += 1
                    source = f"{path.name}, {draft.where}"
                    fields = [draft.title, draft.section, draft.text, source, words]
                    out.write(json.dumps(fields, ensure_ascii=False) + "\n")


def _good(
    path: Path, found: Iterable[Entry | Bad], summary: Summary, said: Seen
) -> Iterator[Entry]:
    """The new entries of a file; others are counted, and bad ones logged.

    Repeats are dropped before short entries are merged, or one sentence could fill a passage.
    """
    for entry in found:
        summary.entries += 1
        if isinstance(entry, Bad):
            summary.dropped["bad entries"] += 1
            if summary.dropped["bad entries"] <= _NAMED:
                log.warning("%s, %s %s: left out", path, entry.where, entry.problem)
        elif said.again(entry.title, entry.section, entry.text):
            summary.dropped["entries that repeat an earlier one"] += 1
        else:
            yield entry


def _write_base(
    base: Path, writer: IndexWriter, subject: str, spool: Path, count: int
) -> np.ndarray:
    """Write the base, and pass tokens to the index. Returns offsets, int64 [n + 1]."""
    offsets = array("q")
    head = f'{{"format": {FORMAT}, "subject": {json.dumps(subject)}, "passages": [\n'.encode()
    with (
        spool.open(encoding="utf-8", newline="\n") as lines,
        base.open("wb") as out,
        tqdm(total=count, unit=" passages", desc="writing", disable=None) as bar,
    ):
        at = out.write(head)
        for number, line in enumerate(lines):
            title, section, text, source, words = json.loads(line)
            offsets.append(at)
            record = _record(number, Draft(title, section, text, source))
            at += out.write(record + (b",\n" if number + 1 < count else b"\n"))
            writer.add(words.split(" "))
            bar.update()
        offsets.append(at)
        out.write(b"]}\n")
    return np.frombuffer(offsets, np.int64)


def _record(number: int, draft: Draft) -> bytes:
    fields = {
        "id": number,
        "title": draft.title,
        "section": draft.section,
        "text": draft.text,
        "tags": tags_of(f"{draft.title} {draft.section} {draft.text}"),
        "source": draft.where,
    }
    return json.dumps(fields, ensure_ascii=False).encode()
