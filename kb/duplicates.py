"""Which entries and passages say the same as an earlier one, word for word.

Case, punctuation and articles do not count. Every other word does, and so does the order: a name,
a number or a "not" that only one of two has makes them two, and knowledge is never lost for being
told twice.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

# Numbers with their sign and point, words, and symbols that change what is said, such as "%".
_WORDS = re.compile(
    r"(?<!\w)[-+\u2212]?\d+(?:[.,]\d+)*|\w+|[^\w\s.,;:!?'\"()\[\]\u2010-\u201f\u2026\u3000-\u303f-]"
)
_ARTICLES = frozenset({"a", "an", "the"})


class Seen:
    """What has been said. It holds some 100 bytes for each different text."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def again(self, *texts: str) -> bool:
        """Whether title, section and text have been said; they count as said from now on."""
        digest = hashlib.blake2b("\n".join(map(_plain, texts)).encode(), digest_size=12).digest()
        if digest in self._digests:
            return True
        self._digests.add(digest)
        return False


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold().encode("utf-8", "replace").decode()
    return " ".join(_meant(_WORDS.findall(folded)))


def _meant(words: Iterable[str]) -> Iterable[str]:
    return (word for word in words if word not in _ARTICLES)
