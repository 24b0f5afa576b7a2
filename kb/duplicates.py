"""Which passages say the same as an earlier one, nearly word for word.

MinHash (Broder, "On the resemblance and containment of documents", 1997) over shingles of
three tokens, with bands of four as locality-sensitive hashing. Passages whose titles or
numbers differ are never duplicates, however alike: "Airports: 7" is not "Airports: 8".
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np

HASHES, _BAND = 16, 4
# So many of the 16 must agree: an estimated resemblance of 0.875 or more.
_AGREE = 14
_DRAWN = np.random.Generator(np.random.PCG64(0)).integers(1, 2**63, (2, HASHES), dtype=np.uint64)
_FACTORS, _OFFSETS = _DRAWN[0] | np.uint64(1), _DRAWN[1]
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)
_NUMBER = re.compile(r"\d+")
# What is kept of a passage: 16 hashes and one of what may not differ.
SIGNATURE = np.dtype([("hashes", np.uint32, HASHES), ("strict", np.uint64)])


def signature(words: Sequence[str], title: str, text: str) -> np.ndarray:
    """The signature of a passage, a scalar of `SIGNATURE`.

    Args:
        words: its search tokens.
        title: of which not a letter may differ.
        text: whose numbers may not differ.
    """
    found = np.zeros((), dtype=SIGNATURE)
    ids = np.array([zlib.crc32(word.encode()) for word in words] or [0], dtype=np.uint64)
    ids = np.concatenate([ids, np.zeros(max(0, 3 - len(ids)), dtype=np.uint64)])
    shingles = ids[:-2] * _MIX[0] ^ ids[1:-1] * _MIX[1] ^ ids[2:] * _MIX[2]
    hashed = shingles[None, :] * _FACTORS[:, None] + _OFFSETS[:, None]
    found["hashes"] = (hashed.min(axis=1) >> np.uint64(32)).astype(np.uint32)
    strict = "\n".join([title.casefold(), *_NUMBER.findall(text)]).encode()
    found["strict"] = zlib.crc32(strict) << 32 | zlib.adler32(strict)
    return found


def duplicates(signatures: np.ndarray) -> np.ndarray:
    """Which passages resemble one before them.

    Args:
        signatures: [n], of type `SIGNATURE`.

    Returns:
        bool [n], False for the first of those that are alike.
    """
    n = len(signatures)
    dropped = np.zeros(n, dtype=bool)
    hashes, strict = signatures["hashes"], signatures["strict"]
    for start in range(0, HASHES, _BAND):
        key = strict.copy()
        for column in range(start, start + _BAND):
            key = key * _MIX[0] ^ hashes[:, column]
        order = np.argsort(key, kind="stable")
        begins = np.flatnonzero(np.diff(key[order], prepend=key[order[:1]] - np.uint64(1)))
        sizes = np.diff(np.append(begins, n))
        first = np.repeat(order[begins], sizes)
        agree = np.zeros(n, dtype=np.uint8)
        for column in range(HASHES):
            agree += hashes[order, column] == hashes[first, column]
        alike = (agree >= _AGREE) & (strict[order] == strict[first]) & (order != first)
        dropped[order[alike]] = True
    return dropped
