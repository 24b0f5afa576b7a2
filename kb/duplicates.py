"""Finds entries and passages that repeat an earlier one, word for word.

Case, punctuation and articles do not count, but every other word and the order of words do: texts
that differ in a name, a number or a "not" are both kept.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from array import array

# Numbers with sign and decimal point, words, and symbols that change the meaning, such as "%".
_WORDS = re.compile(
    r"(?<!\w)[-+\u2212]?\d+(?:[.,]\d+)*|\w+|[^\w\s.,;:!?'\"()\[\]\u2010-\u201f\u2026\u3000-\u303f-]"
)
_ARTICLES = frozenset({"a", "an", "the"})
_FIRST_SIZE = 1 << 12


class Seen:
    """The texts so far: a hash table of 64-bit digests, 12 to 24 bytes for each (a set takes 80).

    The probability that two of ten million texts have the same digest is 3 in a million.
    """

    def __init__(self) -> None:
        self._count = 0
        self._slots = array("Q", bytes(8 * _FIRST_SIZE))  # 0: empty

    def again(self, *texts: str) -> bool:
        """Whether title, section and text were seen before; adds them."""
        digest = hashlib.blake2b("\n".join(map(_plain, texts)).encode(), digest_size=8).digest()
        number = int.from_bytes(digest, "little") or 1
        slot = _slot(self._slots, number)
        if self._slots[slot]:
            return True
        self._slots[slot] = number
        self._count += 1
        if 3 * self._count > 2 * len(self._slots):
            self._grow()
        return False

    def _grow(self) -> None:
        larger = array("Q", bytes(2 * 8 * len(self._slots)))
        for number in self._slots:
            if number:
                larger[_slot(larger, number)] = number
        self._slots = larger


def _slot(slots: array[int], number: int) -> int:
    """The slot of a number, or the free one for it. There are a power of two, not all taken."""
    mask = len(slots) - 1
    slot = number & mask
    while slots[slot] and slots[slot] != number:
        slot = (slot + 1) & mask
    return slot


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold().encode("utf-8", "replace").decode()
    return " ".join(word for word in _WORDS.findall(folded) if word not in _ARTICLES)
